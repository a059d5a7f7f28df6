"""What every architecture in the zoo has: settings, and a function that builds the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seglib.part import Part

if TYPE_CHECKING:
    from torch import Tensor, nn

Stride = tuple[int, int, int]


class ModelPart(Part):
    """The settings of an architecture. A class of its own for each, with a `kind` that names it.

    Its docstring's first line is its title in the form.
    """

    if TYPE_CHECKING:
        kind: str

    @property
    def stride(self) -> Stride:
        """What each side (z, y, x) of the network's input must be a multiple of."""
        return (1, 1, 1)

    @property
    def smallest(self) -> Stride:
        """The smallest input (z, y, x) the network can train on."""
        return self.stride

    @property
    def is_flat(self) -> bool:
        """Whether it works plane by plane, so that its patches have z = 1."""
        return False

    @property
    def needs_labels(self) -> bool:
        """False for a network that learns from images alone and judges itself; see `SelfJudged`."""
        return True

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """How the names of the encoder's tensors begin; nothing where it has no encoder of its own."""
        return ()


@dataclass(frozen=True)
class SelfJudged:
    """What a network that needs no labels gives while it trains, and whenever its method `judge` is called.

    logits: (N, outputs, Z, Y, X); loss: its own, a scalar, float32.
    """

    logits: "Tensor"
    loss: "Tensor"


@dataclass(frozen=True)
class Architecture:
    """One entry of the zoo.

    build: called with (config, inputs=, outputs=, shape=); gives a network (N, inputs, Z, Y, X) -> logits
    (N, outputs, Z, Y, X). In training mode it may give a list of logits instead, the last of which counts;
    `loss_weights`, an attribute of the network, are what the losses of each are multiplied by before they add up.
    shape: (z, y, x) of the patches it will train on, which only transformers of a fixed size need.
    """

    config: type[ModelPart]
    build: "Callable[..., nn.Module]"

    @property
    def kind(self) -> str:
        kind: Any = self.config.model_fields["kind"].default
        return str(kind)
