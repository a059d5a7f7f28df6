"""The compact 2D U-Net of the mycobacteria system: 4.418 million parameters, bilinear upsampling."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn


class CompactUNetConfig(ModelPart):
    """Compact 2D U-Net: 24 to 384 channels, bilinear upsampling, made for bacteria."""

    kind: Literal["compact_unet"] = "compact_unet"
    start_channels: int = Field(
        24, ge=4, le=128, title="Start channels", description="Of the first of five levels; each has twice as many."
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("down.",)

    @property
    def stride(self) -> Stride:
        return (1, 16, 16)

    @property
    def is_flat(self) -> bool:
        return True


def build(config: CompactUNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The network a config describes."""
    from seglib.models.networks.compact import CompactUNet
    from seglib.models.networks.planes import Planes

    return Planes(CompactUNet(config.start_channels, inputs=inputs, outputs=outputs))


ARCHITECTURES = (Architecture(CompactUNetConfig, build),)
