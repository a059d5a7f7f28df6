"""Grey values and patches: how images are scaled, and which pieces of them the network sees while it learns."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from seglib.part import Part

Side = Annotated[int, Field(ge=1, le=4096)]


class PercentileConfig(Part):
    """Percentiles: the darkest and brightest few voxels set the range; right for most images."""

    kind: Literal["percentiles"] = "percentiles"
    low: float = Field(
        0.5, ge=0, lt=50, title="Low", description="This percentile becomes −1.", json_schema_extra={"unit": "%"}
    )
    high: float = Field(
        99.5, gt=50, le=100, title="High", description="This percentile becomes +1.", json_schema_extra={"unit": "%"}
    )


class ZScoreConfig(Part):
    """Z-score: mean 0, standard deviation 1."""

    kind: Literal["z_score"] = "z_score"


class MinMaxConfig(Part):
    """Min–max: the darkest voxel becomes −1, the brightest +1; a single hot pixel spoils it."""

    kind: Literal["min_max"] = "min_max"


class FixedRangeConfig(Part):
    """Fixed range: you say which grey values become −1 and +1."""

    kind: Literal["fixed"] = "fixed"
    low: float = Field(0.0, ge=-1e9, le=1e9, title="Black", description="This grey value becomes −1.")
    high: float = Field(255.0, ge=-1e9, le=1e9, title="White", description="This grey value becomes +1.")

    @model_validator(mode="after")
    def _white_is_above_black(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"white ({self.high:g}) must be above black ({self.low:g})")
        return self


class EncoderRangeConfig(Part):
    """Of a pretrained encoder: scaled to 0 … 1, then as its own training images were; grey becomes three channels."""

    kind: Literal["encoder"] = "encoder"
    statistics: Literal["imagenet", "half"] = Field(
        "imagenet",
        title="Statistics",
        description="ImageNet: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225 (VGG, ResNet, DenseNet, most "
        "others). Half: 0.5 and 0.5 (Inception, DPN 107 and alike).",
    )
    low: float = Field(
        0.5, ge=0, lt=50, title="Low", description="This percentile becomes 0.", json_schema_extra={"unit": "%"}
    )
    high: float = Field(
        99.5, gt=50, le=100, title="High", description="This percentile becomes 1.", json_schema_extra={"unit": "%"}
    )


NormalisationConfig = Annotated[
    PercentileConfig | ZScoreConfig | MinMaxConfig | FixedRangeConfig | EncoderRangeConfig,
    Field(discriminator="kind"),
]


class PatchConfig(Part):
    """How large the pieces are that the network sees at once, and how many."""

    shape: tuple[Side, Side, Side] = Field(
        (16, 96, 96),
        title="Patch size (z, y, x)",
        description="The piece of a volume the network sees at once. It should hold a whole object and some of its "
        "surroundings. Larger needs more memory. A 2D network takes z = 1. Volumes that are smaller are mirrored at "
        "their edges; what is added is not learned from.",
        json_schema_extra={"unit": "voxels"},
    )
    batch_size: int = Field(
        2,
        ge=1,
        le=256,
        title="Batch size",
        description="Patches the network sees at once. More is steadier and needs more memory.",
        json_schema_extra={"unit": "patches"},
    )
    accumulation: int = Field(
        1,
        ge=1,
        le=256,
        title="Batches per step",
        description="So many batches are added up before the network is improved: as steady as a larger batch, in the "
        "memory of a small one.",
        json_schema_extra={"unit": "batches"},
    )


class _Drawn(Part):
    """Patches drawn by chance."""

    per_epoch: int = Field(
        64,
        ge=1,
        le=100_000,
        title="Patches per epoch",
        description="How many patches make one epoch. Metrics are summed up once an epoch.",
        json_schema_extra={"unit": "patches"},
    )
    per_volume: int = Field(
        0,
        ge=0,
        le=10_000,
        title="Patches per volume",
        description="How many of every volume make one epoch; 0 counts them over all volumes, as said above.",
        json_schema_extra={"unit": "patches"},
    )
    background_most: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Background at most",
        description="A patch with more background than this share is drawn again; 1 takes all. 0.95 suits sparse "
        "objects.",
    )


def _foreground_share(value: float, title: str, description: str) -> Any:
    return Field(value, ge=0, le=1, title=title, description=description)


class RandomSamplingConfig(_Drawn):
    """Random: anywhere, some centred on something labelled."""

    kind: Literal["random"] = "random"
    foreground_share: float = _foreground_share(
        0.5,
        "Foreground share",
        "This share of the patches is centred on a labelled voxel; the others are placed at random. Raise it where "
        "objects are rare.",
    )


class ClassSamplingConfig(_Drawn):
    """By class: as random, but every class equally often, however rare."""

    kind: Literal["classes"] = "classes"
    foreground_share: float = _foreground_share(
        0.67,
        "Class share",
        "This share of the patches is centred on a voxel of a class, each class as often as the others; the rest is "
        "placed at random.",
    )


class GridSamplingConfig(Part):
    """Grid: a window slides over all volumes; every place once an epoch, in random order."""

    kind: Literal["grid"] = "grid"
    overlap: float = Field(
        0.0, ge=0, le=0.9, title="Overlap", description="How much neighbouring places share, as a share of the patch."
    )


class WholeSamplingConfig(Part):
    """Whole volumes: every volume at once; the patch size only counts for validation and prediction."""

    kind: Literal["whole"] = "whole"


SamplingConfig = Annotated[
    RandomSamplingConfig | ClassSamplingConfig | GridSamplingConfig | WholeSamplingConfig, Field(discriminator="kind")
]
