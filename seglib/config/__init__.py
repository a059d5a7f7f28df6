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
from seglib.config.compute import ComputeConfig, DeviceConfig
from seglib.config.labels import LabelScheme
from seglib.config.losses import (
    BCELossConfig,
    BoundaryDiceLossConfig,
    CategoricalFocalLossConfig,
    ClDiceLossConfig,
    CrossEntropyLossConfig,
    DiceBCELossConfig,
    DiceCategoricalFocalLossConfig,
    DiceCELossConfig,
    DiceFocalLossConfig,
    DiceLossConfig,
    FocalLossConfig,
    FocalTverskyLossConfig,
    GeneralisedDiceLossConfig,
    JaccardLossConfig,
    LossConfig,
    LovaszLossConfig,
    SumLossConfig,
    TverskyLossConfig,
    WeightedBCELossConfig,
    WeightedLossConfig,
)
from seglib.config.optimisers import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    OptimiserConfig,
    PlateauConfig,
    PolynomialConfig,
    RMSpropConfig,
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
from seglib.config.predicting import CleaningConfig, EnsembleConfig, PredictConfig, TilesConfig
from seglib.config.splits import (
    AutoSplitConfig,
    BlockSplitConfig,
    FoldSplitConfig,
    GroupSplitConfig,
    HandSplitConfig,
    SplitConfig,
    VolumeSplitConfig,
)
from seglib.config.training import CheckpointConfig, LengthConfig, ValidationConfig, WatchConfig
from seglib.config.versions import upgraded, upgraded_prediction
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
    "BoundaryDiceLossConfig",
    "CategoricalFocalLossConfig",
    "CheckpointConfig",
    "ClDiceLossConfig",
    "ClassSamplingConfig",
    "CleaningConfig",
    "ComputeConfig",
    "ConstantConfig",
    "CosineConfig",
    "CrossEntropyLossConfig",
    "DataConfig",
    "DeviceConfig",
    "DiceBCELossConfig",
    "DiceCELossConfig",
    "DiceCategoricalFocalLossConfig",
    "DiceFocalLossConfig",
    "DiceLossConfig",
    "EMAugmentationConfig",
    "EncoderRangeConfig",
    "EnsembleConfig",
    "FileWeightsConfig",
    "FixedRangeConfig",
    "FocalLossConfig",
    "FocalTverskyLossConfig",
    "FoldSplitConfig",
    "GeneralisedDiceLossConfig",
    "GridSamplingConfig",
    "GroupSplitConfig",
    "HandSplitConfig",
    "ImageNetConfig",
    "JaccardLossConfig",
    "LabelScheme",
    "LengthConfig",
    "LightAugmentationConfig",
    "LossConfig",
    "LovaszLossConfig",
    "MinMaxConfig",
    "ModelConfig",
    "NoAugmentationConfig",
    "NormalisationConfig",
    "OneCycleConfig",
    "OptimiserConfig",
    "Part",
    "PatchConfig",
    "PercentileConfig",
    "PlateauConfig",
    "PolynomialConfig",
    "PredictConfig",
    "RMSpropConfig",
    "RandomSamplingConfig",
    "RunConfig",
    "RunWeightsConfig",
    "SGDConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "ScratchConfig",
    "SplitConfig",
    "StandardAugmentationConfig",
    "SumLossConfig",
    "TilesConfig",
    "TverskyLossConfig",
    "UNet2DConfig",
    "UNet3DConfig",
    "ValidationConfig",
    "Varied",
    "VolumeSplitConfig",
    "WatchConfig",
    "WeightedBCELossConfig",
    "WeightedLossConfig",
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
    watch: WatchConfig = WatchConfig()
    compute: ComputeConfig = ComputeConfig()


def parse_run_config(data: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from plain data. Raises ConfigError that names every field that is unknown or out of range."""
    return _parse(RunConfig, upgraded(data))


def parse_predict_config(data: Mapping[str, Any]) -> PredictConfig:
    """A PredictConfig from plain data. Raises ConfigError that names every field that is unknown or out of range."""
    return _parse(PredictConfig, upgraded_prediction(data))


def _parse(kind: type[C], data: Mapping[str, Any]) -> C:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = [
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg'].removeprefix('Value error, ')}"
            # Of a whole part the settings are on the page; of one of them what it was says what is wrong.
            + ("" if isinstance(e["input"], Mapping) else f" (got {e['input']!r:.80})")
            for e in error.errors()
        ]
        raise ConfigError("These settings cannot be used: " + "; ".join(found)) from error
