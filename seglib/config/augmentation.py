"""How training patches are varied, so that a network learns what objects look like and not where they happened to lie.

Every variation has a probability, drawn for each patch by itself, and most an amount. The presets are classes with
the same fields and other defaults; any value of a preset can be changed.
"""

from copy import copy
from typing import Annotated, Any, Literal

from pydantic import Field

from seglib.part import Part


def _probability(value: float, title: str, description: str) -> Any:
    return Field(value, ge=0, le=1, title=title, description=f"{description} How often, for each patch (0 is never).")


class _Augmentation(Part):
    """What all presets can do. Amounts are the largest ones drawn; grey values are normalised ones."""

    flip: float = _probability(0.5, "Flip", "Mirrors the patch along each of its axes.")
    turn: float = _probability(
        0.5, "Quarter turns", "Turns by 90°, 180° or 270° in the plane, and in all directions where voxels are cubes."
    )
    rotate: float = _probability(0.0, "Rotate", "Turns by any angle, as quarter turns do.")
    rotate_degrees: float = Field(
        30.0, ge=0, le=180, title="… by up to", description="Largest angle.", json_schema_extra={"unit": "°"}
    )
    scale: float = _probability(0.0, "Scale", "Makes everything larger or smaller.")
    scale_by: float = Field(
        0.2, ge=0, le=1, title="… by up to", description="0.2 makes objects up to 1.2 times as large, or as small."
    )
    shear: float = _probability(0.0, "Shear", "Slants the patch.")
    shear_degrees: float = Field(
        10.0, ge=0, le=45, title="… by up to", description="Largest slant.", json_schema_extra={"unit": "°"}
    )
    elastic: float = _probability(0.0, "Elastic", "Bends the patch smoothly, as soft tissue bends.")
    elastic_shift: float = Field(
        4.0, ge=0, le=64, title="… by up to", description="Largest shift.", json_schema_extra={"unit": "px"}
    )
    elastic_spacing: float = Field(
        24.0,
        ge=4,
        le=512,
        title="… over",
        description="How far apart points are that shift independently; smaller is more crumpled.",
        json_schema_extra={"unit": "px"},
    )
    brightness: float = _probability(0.0, "Brightness", "Makes everything brighter or darker.")
    brightness_by: float = Field(
        0.2, ge=0, le=2, title="… by up to", description="Added to normalised grey values, which lie about −1 … 1."
    )
    contrast: float = _probability(0.0, "Contrast", "Spreads grey values about their mean, or brings them closer.")
    contrast_by: float = Field(0.25, ge=0, le=0.95, title="… by up to", description="0.25 is 75 % to 125 %.")
    gamma: float = _probability(0.0, "Gamma", "Brightens or darkens middle tones.")
    gamma_by: float = Field(
        0.3, ge=0, le=2, title="… by up to", description="0.3 draws exponents between 1/1.3 and 1.3."
    )
    noise: float = _probability(0.0, "Noise", "Adds Gaussian noise.")
    noise_by: float = Field(
        0.1, ge=0, le=2, title="… by up to", description="Largest standard deviation, in normalised grey values."
    )
    blur: float = _probability(0.0, "Blur", "Blurs by a Gaussian, in the plane.")
    blur_by: float = Field(
        1.5, ge=0, le=5, title="… by up to", description="Largest sigma.", json_schema_extra={"unit": "px"}
    )
    missing: float = _probability(0.0, "Missing sections", "Blanks single planes of a 3D patch, as lost sections are.")
    missing_most: int = Field(
        2, ge=1, le=16, title="… up to", description="How many planes.", json_schema_extra={"unit": "planes"}
    )
    misalign: float = _probability(
        0.0,
        "Slipped sections",
        "Shifts all planes above a random one sideways, labels too, as badly aligned sections are.",
    )
    misalign_by: float = Field(
        8.0, ge=0, le=64, title="… by up to", description="Largest shift.", json_schema_extra={"unit": "px"}
    )
    motion: float = _probability(0.0, "Motion blur", "Smears single planes in one direction, as a moving stage does.")
    motion_length: int = Field(
        7, ge=3, le=31, title="… over up to", description="The longest smear.", json_schema_extra={"unit": "px"}
    )
    cutout: float = _probability(
        0.0, "Cut-out", "Fills a box with the mean grey value; the label stays, so that context has to tell."
    )
    cutout_share: float = Field(
        0.3, gt=0, le=0.9, title="… up to", description="Largest side of the box, as a share of the patch."
    )


def _usual(name: str, probability: float) -> Any:
    """The field of that name with another default."""
    info = copy(_Augmentation.model_fields[name])
    info.default = probability
    return info


class NoAugmentationConfig(Part):
    """Off: patches as they are."""

    kind: Literal["off"] = "off"


class LightAugmentationConfig(_Augmentation):
    """Light: flips, quarter turns, brightness and contrast."""

    kind: Literal["light"] = "light"
    brightness: float = _usual("brightness", 0.3)
    contrast: float = _usual("contrast", 0.3)


class StandardAugmentationConfig(_Augmentation):
    """Standard: also rotates, scales, bends, blurs and adds noise; right for most data."""

    kind: Literal["standard"] = "standard"
    rotate: float = _usual("rotate", 0.3)
    scale: float = _usual("scale", 0.3)
    elastic: float = _usual("elastic", 0.2)
    brightness: float = _usual("brightness", 0.3)
    contrast: float = _usual("contrast", 0.3)
    gamma: float = _usual("gamma", 0.2)
    noise: float = _usual("noise", 0.2)
    blur: float = _usual("blur", 0.1)


class EMAugmentationConfig(_Augmentation):
    """EM: standard, and what goes wrong with electron microscopy sections."""

    kind: Literal["em"] = "em"
    rotate: float = _usual("rotate", 0.3)
    scale: float = _usual("scale", 0.3)
    elastic: float = _usual("elastic", 0.3)
    brightness: float = _usual("brightness", 0.3)
    contrast: float = _usual("contrast", 0.3)
    gamma: float = _usual("gamma", 0.3)
    noise: float = _usual("noise", 0.2)
    missing: float = _usual("missing", 0.2)
    misalign: float = _usual("misalign", 0.2)
    motion: float = _usual("motion", 0.2)
    cutout: float = _usual("cutout", 0.2)


AugmentationConfig = Annotated[
    StandardAugmentationConfig | LightAugmentationConfig | EMAugmentationConfig | NoAugmentationConfig,
    Field(discriminator="kind"),
]
Varied = LightAugmentationConfig | StandardAugmentationConfig | EMAugmentationConfig
