"""Settings of the networks and of the losses they learn by. A new architecture is one more class here."""

from typing import Annotated, Literal

from pydantic import Field

from seglib.config.part import Part


class _UNet(Part):
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
    norm: Literal["batch", "instance", "group", "none"] = Field(
        "batch",
        title="Normalisation",
        description="How activations are normalised. Batch suits most data. Instance and group treat each patch by "
        "itself, for batches of one; on patches without objects they amplify noise.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.8,
        title="Dropout",
        description="Share of channels switched off at random while training. A little helps on small data sets.",
    )


class UNet3DConfig(_UNet):
    """3D U-Net: sees depth."""

    kind: Literal["unet_3d"] = "unet_3d"


class UNet2DConfig(_UNet):
    """2D U-Net: works plane by plane."""

    kind: Literal["unet_2d"] = "unet_2d"


ModelConfig = Annotated[UNet3DConfig | UNet2DConfig, Field(discriminator="kind")]


class DiceLossConfig(Part):
    """Dice: overlap of prediction and label."""

    kind: Literal["dice"] = "dice"
    smooth: float = Field(
        1.0, ge=0, le=100, title="Smoothing", description="Added above and below the line; keeps empty patches calm."
    )


class BCELossConfig(Part):
    """BCE: binary cross-entropy per voxel."""

    kind: Literal["bce"] = "bce"
    positive_weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        title="Foreground weight",
        description="How much more a missed foreground voxel counts than a false one.",
    )


class DiceBCELossConfig(Part):
    """Dice + BCE: overlap with steady gradients; a good first choice."""

    kind: Literal["dice_bce"] = "dice_bce"
    dice_weight: float = Field(
        0.5, ge=0, le=1, title="Dice weight", description="Weight of Dice; BCE gets the rest, 1 − this."
    )
    smooth: float = Field(
        1.0, ge=0, le=100, title="Smoothing", description="Added above and below Dice's line; keeps empty patches calm."
    )


class CrossEntropyLossConfig(Part):
    """Cross-entropy: every voxel belongs to exactly one class."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        0.0, ge=0, le=0.5, title="Label smoothing", description="Trust in the labels; 0 believes them fully."
    )


LossConfig = Annotated[
    DiceBCELossConfig | DiceLossConfig | BCELossConfig | CrossEntropyLossConfig, Field(discriminator="kind")
]
