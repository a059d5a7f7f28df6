"""What a job is: RunConfig for a training, PredictConfig for a prediction.

One frozen pydantic tree describes a job everywhere: the form on a page, the CLI's JSON, the row in the database,
the checkpoint, the comparison. Every field carries a title, a help text, bounds and, where it has one, a unit, so
a field added here shows up in the form by itself. `widget` in the schema extra names a choice only the page can
offer (which data sets there are, which devices).
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from seglib.config.augmentation import (
    AugmentationConfig,
    EMAugmentationConfig,
    LightAugmentationConfig,
    NoAugmentationConfig,
    StandardAugmentationConfig,
    Varied,
)
from seglib.config.labels import LabelScheme
from seglib.config.losses import (
    BCELossConfig,
    CrossEntropyLossConfig,
    DiceBCELossConfig,
    DiceLossConfig,
    LossConfig,
)
from seglib.config.optimisers import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OptimiserConfig,
    PlateauConfig,
    ScheduleConfig,
    SGDConfig,
)
from seglib.config.patches import (
    ClassSamplingConfig,
    EncoderRangeConfig,
    FixedRangeConfig,
    GridSamplingConfig,
    MinMaxConfig,
    NormalisationConfig,
    PatchConfig,
    PercentileConfig,
    RandomSamplingConfig,
    SamplingConfig,
    WholeSamplingConfig,
    ZScoreConfig,
)
from seglib.config.splits import (
    AutoSplitConfig,
    BlockSplitConfig,
    FoldSplitConfig,
    GroupSplitConfig,
    HandSplitConfig,
    SplitConfig,
    VolumeSplitConfig,
)
from seglib.config.versions import upgraded
from seglib.config.weights import (
    FileWeightsConfig,
    ImageNetConfig,
    RunWeightsConfig,
    ScratchConfig,
    WeightsConfig,
)
from seglib.errors import ConfigError
from seglib.models import ModelConfig
from seglib.models.zoo.unet import UNet2DConfig, UNet3DConfig
from seglib.part import Part

__all__ = [
    "AdamConfig",
    "AdamWConfig",
    "AugmentationConfig",
    "AutoSplitConfig",
    "BCELossConfig",
    "BlockSplitConfig",
    "CheckpointConfig",
    "ClassSamplingConfig",
    "ComputeConfig",
    "ConstantConfig",
    "CosineConfig",
    "CrossEntropyLossConfig",
    "DataConfig",
    "DiceBCELossConfig",
    "DiceLossConfig",
    "EMAugmentationConfig",
    "EncoderRangeConfig",
    "FileWeightsConfig",
    "FixedRangeConfig",
    "FoldSplitConfig",
    "GridSamplingConfig",
    "GroupSplitConfig",
    "HandSplitConfig",
    "ImageNetConfig",
    "LabelScheme",
    "LengthConfig",
    "LightAugmentationConfig",
    "LossConfig",
    "MinMaxConfig",
    "ModelConfig",
    "NoAugmentationConfig",
    "NormalisationConfig",
    "OptimiserConfig",
    "Part",
    "PatchConfig",
    "PercentileConfig",
    "PlateauConfig",
    "PredictConfig",
    "RandomSamplingConfig",
    "RunConfig",
    "RunWeightsConfig",
    "SGDConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "ScratchConfig",
    "SplitConfig",
    "StandardAugmentationConfig",
    "UNet2DConfig",
    "UNet3DConfig",
    "ValidationConfig",
    "Varied",
    "VolumeSplitConfig",
    "WeightsConfig",
    "WholeSamplingConfig",
    "ZScoreConfig",
    "parse_predict_config",
    "parse_run_config",
]

C = TypeVar("C", bound=Part)


class DataConfig(Part):
    """What is learned from."""

    dataset: int = Field(
        ge=1,
        title="Data set",
        description="The images and labels to learn from.",
        json_schema_extra={"widget": "dataset"},
    )
    labels: LabelScheme | None = Field(
        None,
        title="Labels",
        description="How label values are read; left out, a run takes and keeps what its data set says when it starts.",
        json_schema_extra={"widget": "hidden"},
    )
    task: Literal["foreground", "classes"] = Field(
        "foreground",
        title="Task",
        description="Foreground: everything labelled against the rest. Classes: every class of the data set by itself "
        "(where labels are classes, or instances with borders).",
    )

    @property
    def scheme(self) -> LabelScheme:
        """How label values are read; where nothing is said, everything but 0 is foreground."""
        return self.labels or LabelScheme()


class LengthConfig(Part):
    """How long, and from which random numbers."""

    epochs: int = Field(
        50, ge=1, le=100_000, title="Epochs", description="Training length.", json_schema_extra={"unit": "epochs"}
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="Start of all random numbers. The same seed and settings on the same CPU give the same run.",
    )


class ValidationConfig(Part):
    """How the network is judged on the part it never learns from."""

    interval: int = Field(
        1,
        ge=1,
        le=10_000,
        title="Validate every",
        description="The whole validation part is segmented each time.",
        json_schema_extra={"unit": "epochs"},
    )
    overlap: float = Field(
        0.25, ge=0, le=0.75, title="Tile overlap", description="How much neighbouring tiles share at validation."
    )
    best_by: Literal["dice", "iou"] = Field(
        "dice", title="Best by", description="Validation score (mean over classes) that picks the best checkpoint."
    )


class CheckpointConfig(Part):
    """How often the state is saved, to go on from after a stop or a crash."""

    interval: int = Field(
        1,
        ge=1,
        le=10_000,
        title="Save every",
        description="A crash loses at most this much. Stopping always saves.",
        json_schema_extra={"unit": "epochs"},
    )


class ComputeConfig(Part):
    """Where and in which precision it computes."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        title="Device",
        description="Auto takes the first GPU, or the CPU without one.",
        json_schema_extra={"widget": "device"},
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        title="Precision",
        description="bf16 is faster where the device has it (auto checks). fp32 is exact everywhere.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        title="CPU threads",
        description="Threads for CPU computation; 0 takes one per core.",
        json_schema_extra={"unit": "threads"},
    )
    memory_gb: float = Field(
        0.0,
        ge=0,
        le=10_000,
        title="Memory for volumes",
        description="Volumes are kept in main memory as far as this allows, the others are read from disk while the "
        "network learns; 0 takes half of what is free at the start.",
        json_schema_extra={"unit": "GB"},
    )
    most_parameters: float = Field(
        1000.0,
        gt=0,
        le=100_000,
        title="Parameters at most",
        description="A network with more is refused before it starts.",
        json_schema_extra={"unit": "million"},
    )
    least_parameters: float = Field(
        0.0,
        ge=0,
        le=100_000,
        title="Parameters at least",
        description="A network with fewer is refused before it starts.",
        json_schema_extra={"unit": "million"},
    )


class RunConfig(Part):
    """One training run, whole."""

    version: Literal[2] = 2
    name: str = Field(
        "",
        max_length=200,
        title="Name",
        description="What the run is called in lists. Left empty, it is named after the data set and the network.",
    )
    data: DataConfig
    split: SplitConfig = AutoSplitConfig()
    normalisation: NormalisationConfig = PercentileConfig()
    patches: PatchConfig = PatchConfig()
    sampling: SamplingConfig = RandomSamplingConfig()
    augmentation: AugmentationConfig = StandardAugmentationConfig()
    model: ModelConfig = UNet3DConfig()
    weights: WeightsConfig = ScratchConfig()
    loss: LossConfig = DiceBCELossConfig()
    optimiser: OptimiserConfig = AdamConfig()
    schedule: ScheduleConfig = CosineConfig()
    length: LengthConfig = LengthConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    compute: ComputeConfig = ComputeConfig()


class PredictConfig(Part):
    """One prediction: a trained run over one volume."""

    version: Literal[1] = 1
    run: int = Field(
        ge=1, title="Run", description="The trained run to predict with.", json_schema_extra={"widget": "run"}
    )
    volume: int = Field(
        ge=1, title="Volume", description="The volume to segment.", json_schema_extra={"widget": "volume"}
    )
    checkpoint: Literal["best", "last"] = Field(
        "best", title="Checkpoint", description="Best: highest validation score. Last: end of the training."
    )
    overlap: float = Field(
        0.25,
        ge=0,
        le=0.75,
        title="Tile overlap",
        description="How much neighbouring tiles share. More is smoother and slower.",
    )
    batch_size: int = Field(
        2, ge=1, le=256, title="Batch size", description="Tiles computed at once.", json_schema_extra={"unit": "tiles"}
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, title="Threshold", description="A voxel is labelled where its most likely class is above this."
    )
    compute: ComputeConfig = ComputeConfig()


def parse_run_config(data: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from plain data. Raises ConfigError that names every field that is unknown or out of range."""
    return _parse(RunConfig, upgraded(data))


def parse_predict_config(data: Mapping[str, Any]) -> PredictConfig:
    """A PredictConfig from plain data. Raises ConfigError that names every field that is unknown or out of range."""
    return _parse(PredictConfig, data)


def _parse(kind: type[C], data: Mapping[str, Any]) -> C:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = [
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']} (got {e['input']!r:.80})" for e in error.errors()
        ]
        raise ConfigError("These settings cannot be used: " + "; ".join(found)) from error
