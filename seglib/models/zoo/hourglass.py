"""Stacked hourglass: several U-Nets after one another, each judged (Newell et al. 2016).

The layout is the 3dsegmentation toolkit's: between two stacks the features of one and its scores are brought to the
width of the input by 1 × 1 × 1 convolutions and added to it. The losses of all stacks add up; the last one counts.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn


class HourglassConfig(ModelPart):
    """Stacked hourglass: U-Nets after one another, each correcting the one before."""

    kind: Literal["hourglass"] = "hourglass"
    dimensions: Literal["3D", "2D"] = Field(
        "3D", title="Dimensions", description="3D sees depth; 2D works plane by plane, and its patches have z = 1."
    )
    stacks: int = Field(2, ge=1, le=8, title="Stacks", description="How many U-Nets. Each costs as much as the first.")
    depth: int = Field(
        4, ge=2, le=7, title="Depth", description="Levels of each U-Net.", json_schema_extra={"unit": "levels"}
    )
    start_channels: int = Field(
        16, ge=2, le=128, title="Start channels", description="Channels of the first level of each U-Net."
    )
    kernel_size: Literal[3, 5, 7] = Field(
        3, title="Kernel size", description="Side of the convolution kernels.", json_schema_extra={"unit": "voxels"}
    )
    residual: bool = Field(
        False, title="Residual", description="Each level adds its input to its output, which helps deep networks learn."
    )

    @property
    def stride(self) -> Stride:
        side = 2 ** (self.depth - 1)
        return (1 if self.is_flat else side, side, side)

    @property
    def is_flat(self) -> bool:
        return self.dimensions == "2D"


def build(config: HourglassConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The hourglass a config describes."""
    from seglib.models.networks.hourglass import Hourglass
    from seglib.models.networks.unet import UNetPlan

    plan = UNetPlan(
        widths=tuple(config.start_channels * 2**level for level in range(config.depth)),
        kernel_size=config.kernel_size,
        flat_levels=config.depth if config.is_flat else 0,
        residual=config.residual,
    )
    return Hourglass(plan, stacks=config.stacks, inputs=inputs, outputs=outputs)


ARCHITECTURES = (Architecture(HourglassConfig, build),)
