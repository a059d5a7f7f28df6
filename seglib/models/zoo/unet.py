"""The U-Net family, 2D and 3D from one description.

After Ronneberger et al. 2015 (doi:10.1007/978-3-319-24574-4_28) and Çiçek et al. 2016
(doi:10.1007/978-3-319-46723-8_49); residual levels as in He et al. 2016, deep supervision as in Lee et al. 2015.
"""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn

Norm = Literal["batch", "instance", "group", "none"]
Activation = Literal["relu", "leaky_relu", "elu", "gelu"]


def norm_field(default: Norm = "batch") -> Any:
    """The choice of a normalisation."""
    return Field(
        default,
        title="Normalisation",
        description="How activations are normalised. Batch suits most data. Instance and group treat each patch by "
        "itself, for batches of one; on patches without objects they amplify noise.",
    )


class _UNet(ModelPart):
    depth: int = Field(
        4,
        ge=2,
        le=7,
        title="Depth",
        description="Number of levels. Each further level sees twice as far and doubles the channels.",
        json_schema_extra={"unit": "levels"},
    )
    start_channels: int = Field(
        16,
        ge=2,
        le=256,
        title="Start channels",
        description="Channels of the first level. Twice as many are about four times the parameters.",
    )
    kernel_size: Literal[3, 5, 7] = Field(
        3, title="Kernel size", description="Side of the convolution kernels.", json_schema_extra={"unit": "voxels"}
    )
    residual: bool = Field(
        False, title="Residual", description="Each level adds its input to its output, which helps deep networks learn."
    )
    norm: Norm = norm_field()
    activation: Activation = Field(
        "relu", title="Activation", description="What follows each convolution. ReLU is the usual one."
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.8,
        title="Dropout",
        description="Share of channels switched off at random while training. A little helps on small data sets.",
    )
    deepest_dropout: float = Field(
        0.0,
        ge=0,
        le=0.8,
        title="Dropout, deepest level",
        description="Dropout rises to this from level to level, as from 0.1 to 0.5 in the axon notebooks; 0 keeps it "
        "the same everywhere.",
    )
    upsampling: Literal["transposed", "linear"] = Field(
        "transposed",
        title="Upsampling",
        description="Transposed convolutions learn how to enlarge; linear interpolation has fewer parameters and no "
        "checkerboard patterns.",
    )
    deep_supervision: bool = Field(
        False,
        title="Deep supervision",
        description="Coarser levels predict too, and their losses count half as much each; steadies deep networks.",
    )


class UNet3DConfig(_UNet):
    """3D U-Net: sees depth."""

    kind: Literal["unet_3d"] = "unet_3d"
    flat_levels: int = Field(
        0,
        ge=0,
        le=6,
        title="Flat levels",
        description="So many of the first levels look and shrink in the plane only. Right where voxels are deeper than "
        "wide: 1 for twice as deep, 2 for four times, 3 for eight times.",
        json_schema_extra={"unit": "levels"},
    )

    @model_validator(mode="after")
    def _some_level_sees_depth(self) -> Self:
        if self.flat_levels >= self.depth:
            raise ValueError(f"flat_levels ({self.flat_levels}) must be fewer than the {self.depth} levels there are")
        return self

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("down.",)

    @property
    def stride(self) -> Stride:
        side = 2 ** (self.depth - 1)
        return (2 ** (self.depth - 1 - self.flat_levels), side, side)


class UNet2DConfig(_UNet):
    """2D U-Net: works plane by plane."""

    kind: Literal["unet_2d"] = "unet_2d"

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("down.",)

    @property
    def stride(self) -> Stride:
        side = 2 ** (self.depth - 1)
        return (1, side, side)

    @property
    def is_flat(self) -> bool:
        return True


def build(config: UNet2DConfig | UNet3DConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The U-Net a config describes."""
    from seglib.models.networks.unet import UNet, UNetPlan

    flat = config.depth if isinstance(config, UNet2DConfig) else config.flat_levels
    plan = UNetPlan(
        widths=tuple(config.start_channels * 2**level for level in range(config.depth)),
        kernel_size=config.kernel_size,
        flat_levels=flat,
        residual=config.residual,
        norm=config.norm,
        activation=config.activation,
        dropout=config.dropout,
        deepest_dropout=config.deepest_dropout or config.dropout,
        upsampling=config.upsampling,
        deep_supervision=config.deep_supervision,
    )
    return UNet(plan, inputs=inputs, outputs=outputs)


ARCHITECTURES = (Architecture(UNet3DConfig, build), Architecture(UNet2DConfig, build))
