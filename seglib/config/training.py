"""Settings of how long is trained, how it is judged, what is kept, and what happens when something goes wrong."""

from typing import Literal

from pydantic import Field

from seglib.part import Part

Unit = Literal["epochs", "iterations"]
BestBy = Literal[
    "dice",
    "iou",
    "precision",
    "recall",
    "specificity",
    "accuracy",
    "total_error",
    "hausdorff95",
    "surface_dice",
    "loss",
]
# Of these the smaller one is the better one.
LOWER_IS_BETTER = ("total_error", "hausdorff95", "loss")
SURFACE_SCORES = ("hausdorff95", "surface_dice")


class LengthConfig(Part):
    """How long, and from which random numbers."""

    epochs: int = Field(
        50, ge=1, le=100_000, title="Epochs", description="Training length.", json_schema_extra={"unit": "epochs"}
    )
    iterations: int = Field(
        0,
        ge=0,
        le=100_000_000,
        title="Iterations",
        description="Training length in steps, each of one batch; 0 lets the epochs decide.",
        json_schema_extra={"unit": "iterations"},
    )
    patience: int = Field(
        0,
        ge=0,
        le=10_000,
        title="Stop early after",
        description="Ends the training when so many validations in a row were not better than the best one; 0 never "
        "does.",
        json_schema_extra={"unit": "validations"},
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
        le=1_000_000,
        title="Validate every",
        description="The whole validation part is segmented each time.",
    )
    unit: Unit = Field("epochs", title="… counted in", description="Epochs, or iterations: single steps.")
    overlap: float = Field(
        0.25, ge=0, le=0.75, title="Tile overlap", description="How much neighbouring tiles share at validation."
    )
    best_by: BestBy = Field(
        "dice",
        title="Best by",
        description="Validation score that picks the best checkpoint: a mean over the foreground classes on the whole "
        "validation part. Dice suits most; distances (hausdorff95) need surfaces to be measured.",
    )
    surfaces: bool = Field(
        False,
        title="Measure surfaces too",
        description="Distances between the borders found and the labelled ones, in nanometres. It takes longer.",
    )
    tolerance_nm: float = Field(
        0.0,
        ge=0,
        le=1e9,
        title="Tolerance of surfaces",
        description="Surfaces closer than this count as the same in the surface Dice; 0 takes the largest side of a "
        "voxel.",
        json_schema_extra={"unit": "nm"},
    )


class CheckpointConfig(Part):
    """How often the state is saved, to go on from after a stop or a crash, and what is kept."""

    interval: int = Field(
        1,
        ge=1,
        le=1_000_000,
        title="Save every",
        description="A crash loses at most this much. Stopping always saves.",
    )
    unit: Unit = Field("epochs", title="… counted in", description="Epochs, or iterations: single steps.")
    keep: Literal["best", "last", "all"] = Field(
        "best",
        title="Keep",
        description="Best: the best and the last state. Last: the last one only. All: those two, and earlier states "
        "as well, each of which can predict.",
    )
    every: int = Field(
        1,
        ge=1,
        le=100_000,
        title="Keep every",
        description="With Keep set to all: only every so-manieth saved state is kept.",
        json_schema_extra={"unit": "saves"},
    )
    most: int = Field(
        0,
        ge=0,
        le=100_000,
        title="Earlier states at most",
        description="With Keep set to all: when there are more, the oldest is deleted; 0 deletes none.",
        json_schema_extra={"unit": "states"},
    )


class WatchConfig(Part):
    """What is done when a run goes wrong."""

    collapse: Literal["tell", "restart"] = Field(
        "tell",
        title="When it collapses",
        description="Dice stuck at 0, the same answer everywhere, or a loss that explodes: tell so in the log, or "
        "start again with another seed and a lower learning rate.",
    )
    restarts: int = Field(
        2,
        ge=0,
        le=100,
        title="Restarts at most",
        description="How often a run starts again by itself; after that it goes on, or fails.",
    )
    memory: Literal["fail", "halve"] = Field(
        "halve",
        title="When memory runs out",
        description="Halve: smaller batches, with the gradients of several added up, so that a step learns from as "
        "many patches as before. Fail: end the run.",
    )
    stalled_minutes: float = Field(
        10.0,
        gt=0,
        le=100_000,
        title="Stalled after",
        description="A run that gets no further for so long is shown as stalled.",
        json_schema_extra={"unit": "minutes"},
    )
