"""The networks there are, by the `kind` of their config."""

from collections.abc import Callable
from typing import Any

from torch import nn

from seglib.config import ModelConfig
from seglib.models.convolution import guard_convolutions
from seglib.models.unet import build_unet, unet_stride

BUILDERS: dict[str, Callable[..., nn.Module]] = {"unet_2d": build_unet, "unet_3d": build_unet}
STRIDES: dict[str, Callable[[Any], tuple[int, int, int]]] = {"unet_2d": unet_stride, "unet_3d": unet_stride}


def build_model(config: ModelConfig, *, inputs: int, outputs: int) -> nn.Module:
    """The network a config describes: (N, inputs, Z, Y, X) -> logits (N, outputs, Z, Y, X).

    Its weights come from torch's global generator.
    """
    return guard_convolutions(BUILDERS[config.kind](config, inputs=inputs, outputs=outputs))


def model_stride(config: ModelConfig) -> tuple[int, int, int]:
    """What each side (z, y, x) of the network's input must be a multiple of."""
    return STRIDES[config.kind](config)


def is_flat(config: ModelConfig) -> bool:
    """True for a network that works plane by plane (its patches have z = 1)."""
    return config.kind == "unet_2d"
