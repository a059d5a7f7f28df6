"""A running average of a network's weights, which is steadier than the weights themselves."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """A copy of a network whose weights are the exponential moving average of those it had after each step.

    Early on less is kept, so that the average soon forgets how it began, see `warm_decay`.
    Buffers, such as the means a batch norm keeps, are those of the network after its last step.

    decay: share of the average that is kept at a step, above 0 and below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        def average(kept: Sequence[Tensor], found: Sequence[Tensor], updates: Tensor | int) -> None:
            get_ema_multi_avg_fn(warm_decay(decay, int(updates)))(kept, found, updates)

        # The copy never learns and never drops anything out.
        self._copy = AveragedModel(network, multi_avg_fn=average).eval().requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The averaged network, ready to predict; before the first update it is as it was copied. Not to be changed."""
        module: nn.Module = self._copy.module
        return module

    @property
    def updates(self) -> int:
        """How many steps it took in."""
        return int(self._copy.n_averaged)

    def update(self, network: nn.Module) -> None:
        """Takes in the weights of the network after a step."""
        self._copy.update_parameters(network)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on: tensors that later updates change, and how many updates there were."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave. Raises RuntimeError where it is of another network."""
        self.network.load_state_dict(state["network"])
        self._copy.n_averaged.fill_(state["updates"])


def warm_decay(decay: float, updates: int) -> float:
    """The share of the average that is kept after so many updates: at most `decay`, and (1 + n) / (10 + n) before."""
    return min(decay, (1 + updates) / (10 + updates))
