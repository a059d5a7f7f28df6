"""The networks there are.

Each file of `zoo` holds the settings of an architecture and the function that builds it, and is found by itself:
the form, the command line, the comparison of runs and the catalogue follow. Nothing here imports torch before a
network is built, as the pages and the database need the settings alone.
"""

import functools
import importlib
import operator
import pkgutil
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from seglib.models import zoo
from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn

FIRST = ("unet", "hourglass", "compact")


def _found() -> tuple[Architecture, ...]:
    """All architectures of the zoo, our own first."""
    names = [module.name for module in pkgutil.iter_modules(zoo.__path__)]
    ordered = [*(name for name in FIRST if name in names), *sorted(set(names) - set(FIRST))]
    modules = [importlib.import_module(f"{zoo.__name__}.{name}") for name in ordered]
    return tuple(one for module in modules for one in module.ARCHITECTURES)


ARCHITECTURES = _found()
_BY_KIND = {architecture.kind: architecture for architecture in ARCHITECTURES}

if TYPE_CHECKING:
    ModelConfig = ModelPart
else:
    _union: Any = functools.reduce(operator.or_, (architecture.config for architecture in ARCHITECTURES))
    ModelConfig = Annotated[_union, Field(discriminator="kind")]


def build_model(config: ModelPart, *, inputs: int, outputs: int, shape: Stride | None = None) -> "nn.Module":
    """The network a config describes: (N, inputs, Z, Y, X) -> logits (N, outputs, Z, Y, X).

    shape: (z, y, x) of the patches it trains on, for those built for one size.
    Its weights come from torch's global generator.
    Raises ConfigError where the settings do not fit each other.
    """
    from seglib.models.networks.convolution import guard_convolutions

    network = _BY_KIND[config.kind].build(config, inputs=inputs, outputs=outputs, shape=shape or config.smallest)
    return guard_convolutions(network)


def model_stride(config: ModelPart) -> Stride:
    """What each side (z, y, x) of the network's input must be a multiple of."""
    return config.stride


def is_flat(config: ModelPart) -> bool:
    """True for a network that works plane by plane (its patches have z = 1)."""
    return config.is_flat


def config_class(kind: str) -> type[ModelPart]:
    """The settings of an architecture, by its kind."""
    return _BY_KIND[kind].config
