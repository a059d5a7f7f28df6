"""What the processes of a run tell each other where several GPUs learn from one batch.

Data parallelism with averaged gradients (Li et al. 2020), one process a GPU: each has a copy of the network, takes its
share of every batch, and makes the same step from the mean of all gradients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist

from seglib.metrics.overlap import Counts


@dataclass(frozen=True)
class Ranks:
    """One process of a run and how many there are; rank 0 leads. Alone it has nothing to tell."""

    rank: int = 0
    world: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def share(self, patches: int) -> slice:
        """Which patches of a batch are this process's."""
        return slice(self.rank * patches // self.world, (self.rank + 1) * patches // self.world)

    def all_fit(self, fits: bool, device: torch.device) -> bool:
        """Whether every process had memory enough."""
        if self.alone:
            return fits
        flag = torch.tensor([1.0 if fits else 0.0], device=device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag.item())

    def average_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Gives every process the mean of all gradients."""
        if self.alone:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        # All of them in one message.
        whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(whole)
        whole /= self.world
        pieces = whole.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def gather(self, loss: float, counts: Counts, voxels: int, device: torch.device) -> tuple[float, Counts, int]:
        """The mean loss, and the sums of what was counted, over all processes."""
        if self.alone:
            return loss, counts, voxels
        rows = [counts.hits, counts.false_alarms, counts.misses]
        told = torch.tensor([loss, voxels, *np.concatenate(rows)], dtype=torch.float64, device=device)
        dist.all_reduce(told)
        numbers: NDArray[np.int64] = told[1:].cpu().numpy().round().astype(np.int64)
        return float(told[0]) / self.world, Counts(*numbers[1:].reshape(3, -1)), int(numbers[0])

    def copy_network(self, network: nn.Module) -> None:
        """Gives every process the weights of the first one."""
        if self.alone:
            return
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)

    def order_step(self, micro: int, rates: Sequence[float], device: torch.device) -> None:
        """The leader's word to make a step, `micro` patches at a time, with these learning rates."""
        if not self.alone:
            dist.broadcast(torch.tensor([1.0, micro, *rates], dtype=torch.float64, device=device), 0)

    def order_end(self, groups: int, device: torch.device) -> None:
        """The leader's word that there are no more steps. groups: learning rates an order has."""
        if not self.alone:
            dist.broadcast(torch.zeros(2 + groups, dtype=torch.float64, device=device), 0)

    def take_order(self, groups: int, device: torch.device) -> tuple[int, list[float]] | None:
        """What the leader says next: patches at a time and learning rates, or None at the end."""
        order: Tensor = torch.empty(2 + groups, dtype=torch.float64, device=device)
        dist.broadcast(order, 0)
        go, micro, *rates = order.tolist()
        return (int(micro), rates) if go else None
