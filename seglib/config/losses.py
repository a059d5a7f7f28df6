"""Settings of the losses that networks learn by."""

from typing import Annotated, Literal

from pydantic import Field

from seglib.part import Part


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
