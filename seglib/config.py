"""What a job is: RunConfig for a training, PredictConfig for a prediction.

One frozen pydantic tree describes a job everywhere: the form on a page, the CLI's JSON, the row in the database,
the checkpoint, the comparison. Every field carries a title, a help text, bounds and, where it has one, a unit, so
a field added here shows up in the form by itself. `widget` in the schema extra names a choice only the page can
offer (which data sets there are, which devices).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seglib.errors import ConfigError

Shape = tuple[int, int, int]
PositiveInt = Annotated[int, Field(ge=1, le=4096)]
C = TypeVar("C", bound="Part")


class Part(BaseModel):
    """A frozen part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Part):
    """What is learned from, and which part of it only judges."""

    dataset: int = Field(
        ge=1,
        title="Data set",
        description="The images and labels to learn from.",
        json_schema_extra={"widget": "dataset"},
    )
    task: Literal["foreground", "classes"] = Field(
        "foreground",
        title="Task",
        description="Foreground: everything labelled against the rest. Classes: every label value is a class of its "
        "own (only where the labels are classes).",
    )
    split: Literal["auto", "volumes", "block"] = Field(
        "auto",
        title="Validation is",
        description="Volumes: whole volumes are kept for validation. Block: the end of each volume along one axis "
        "is. Auto: volumes where there are at least four, otherwise a block.",
    )
    validation_share: float = Field(
        0.2,
        ge=0.05,
        le=0.5,
        title="Validation share",
        description="How much of the data is kept for validation. Training never sees it.",
    )
    block_axis: Literal["auto", "z", "y", "x"] = Field(
        "auto",
        title="Block axis",
        description="Along which axis a block is cut off for validation. Auto takes the longest one.",
    )


class PatchConfig(Part):
    """Which pieces of the volumes the network sees while it learns."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (16, 96, 96),
        title="Patch size (z, y, x)",
        description="The piece of a volume the network sees at once. It should hold a whole object and some of its "
        "surroundings. Larger needs more memory. A 2D network takes z = 1.",
        json_schema_extra={"unit": "voxels"},
    )
    batch_size: int = Field(
        2,
        ge=1,
        le=256,
        title="Batch size",
        description="Patches per training step. More is steadier and needs more memory.",
        json_schema_extra={"unit": "patches"},
    )
    per_epoch: int = Field(
        64,
        ge=1,
        le=100_000,
        title="Patches per epoch",
        description="How many patches make one epoch. Metrics are summed up once an epoch.",
        json_schema_extra={"unit": "patches"},
    )
    foreground_share: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Foreground share",
        description="This share of the patches is centred on a labelled voxel; the others are placed at random. Raise "
        "it where objects are rare.",
    )


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
        "instance",
        title="Normalisation",
        description="How activations are normalised. Instance suits small batches; batch needs about eight patches.",
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


class _Optimiser(Part):
    learning_rate: float = Field(
        1e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="Step size. Lower it tenfold where the loss jumps or Dice stays at 0.",
        json_schema_extra={"format": "%.2e"},
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pulls weights towards zero; a little works against overfitting.",
        json_schema_extra={"format": "%.2e"},
    )


class AdamConfig(_Optimiser):
    """Adam"""

    kind: Literal["adam"] = "adam"


class AdamWConfig(_Optimiser):
    """AdamW: Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(
        1e-2,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pulls weights towards zero; a little works against overfitting.",
        json_schema_extra={"format": "%.2e"},
    )


class SGDConfig(_Optimiser):
    """SGD with Nesterov momentum"""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=10,
        title="Learning rate",
        description="Step size. Lower it tenfold where the loss jumps or Dice stays at 0.",
        json_schema_extra={"format": "%.2e"},
    )
    momentum: float = Field(0.9, gt=0, lt=1, title="Momentum", description="How much of the last step is kept.")


OptimiserConfig = Annotated[AdamConfig | AdamWConfig | SGDConfig, Field(discriminator="kind")]


class CosineConfig(Part):
    """Cosine: falls smoothly to almost zero at the last epoch."""

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(
        0.01, ge=0, le=1, title="Final share", description="Learning rate at the end, as a share of the first."
    )


class ConstantConfig(Part):
    """Constant learning rate"""

    kind: Literal["constant"] = "constant"


class PlateauConfig(Part):
    """Plateau: lowered when the validation score stops rising."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.1, gt=0, lt=1, title="Factor", description="What the learning rate is multiplied by.")
    patience: int = Field(
        10,
        ge=0,
        le=1000,
        title="Patience",
        description="How many validations without a better score are waited for.",
        json_schema_extra={"unit": "validations"},
    )


ScheduleConfig = Annotated[CosineConfig | ConstantConfig | PlateauConfig, Field(discriminator="kind")]


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


class RunConfig(Part):
    """One training run, whole."""

    version: Literal[1] = 1
    name: str = Field(
        "",
        max_length=200,
        title="Name",
        description="What the run is called in lists. Left empty, it is named after the data set and the network.",
    )
    data: DataConfig
    patches: PatchConfig = PatchConfig()
    model: ModelConfig = UNet3DConfig()
    loss: LossConfig = DiceBCELossConfig()
    optimiser: OptimiserConfig = AdamConfig()
    schedule: ScheduleConfig = CosineConfig()
    length: LengthConfig = LengthConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    compute: ComputeConfig = ComputeConfig()

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch; the last one is a full batch too."""
        return -(-self.patches.per_epoch // self.patches.batch_size)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.length.epochs


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
    return _parse(RunConfig, data)


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
