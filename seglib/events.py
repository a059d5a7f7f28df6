"""What a job says while it runs. Whoever drives a job pulls these and does with them what it likes."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from seglib.checkpoints import Checkpoint


@dataclass(frozen=True)
class Started:
    """The job is set up. total: steps or tiles in all; done: those an earlier attempt made.

    steps_per_validation: how many steps lie between two validations of a training.
    """

    total: int
    done: int = 0
    steps_per_validation: int = 0


@dataclass(frozen=True)
class StepDone:
    """One optimiser step. step: counted from 1 over the whole run; seconds: since the step before.

    gradient_norm: length of all gradients together, before they were clipped; waited_s: for the batch, of `seconds`.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    patches: int
    seconds: float
    gradient_norm: float = 0.0
    waited_s: float = 0.0


@dataclass(frozen=True)
class EpochDone:
    """One epoch on training patches. scores: name -> value, over all patches of the epoch."""

    step: int
    epoch: int
    scores: dict[str, float]


@dataclass(frozen=True)
class ValidationDone:
    """The validation part was segmented whole. scores: name -> value over all of it.

    details: what is no single number, as JSON has it: `names` of the classes, `confusion` (truth × prediction, voxels),
    `thresholds` a class, and the names of classes `absent` from the labels.
    """

    step: int
    epoch: int
    scores: dict[str, float]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationProgress:
    """A validation is under way. done, total: tiles."""

    done: int
    total: int


@dataclass(frozen=True)
class PreviewMade:
    """A small piece of the validation part with its prediction.

    image: (C, Z, Y, X) as stored; labels, prediction: (Z, Y, X) class ids, 0 is background.
    """

    step: int
    epoch: int
    image: NDArray[Any]
    labels: NDArray[np.uint16]
    prediction: NDArray[np.uint16]
    voxel_size_nm: tuple[float, float, float]
    contrast: tuple[float, float]


@dataclass(frozen=True)
class CheckpointMade:
    """A state worth keeping. It must be written before the next event is pulled: training goes on in place."""

    kind: Literal["last", "best"]
    checkpoint: "Checkpoint"


@dataclass(frozen=True)
class Saving:
    """A checkpoint is about to be written: whoever keeps what was said before must have it on disk first.

    A resumed run starts after the checkpoint's step and says nothing of the steps before it again.
    """

    kind: str


@dataclass(frozen=True)
class Saved:
    """A file is on disk. sha256: of its bytes; score: what a checkpoint was chosen by."""

    kind: str
    step: int
    epoch: int
    sha256: str
    score: float | None = None


@dataclass(frozen=True)
class Discarded:
    """A kept checkpoint is about to be deleted: whoever registered it must forget it first. kind: as in `Saved`."""

    kind: str


@dataclass(frozen=True)
class PreviewSaved:
    """A preview's prediction is on disk. layer: its name in the run's preview volume."""

    step: int
    epoch: int
    layer: str


@dataclass(frozen=True)
class Measured:
    """A prediction was compared with the volume's labels. scores: name -> value over the whole volume.

    details: as `ValidationDone` has them.
    """

    scores: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Tiles predicted so far."""

    done: int
    total: int


@dataclass(frozen=True)
class Warned:
    """Something is wrong with the run, though it goes on: what, and what to do."""

    text: str


@dataclass(frozen=True)
class Restarted:
    """The run collapsed and begins again from its first step. text: why, and with what."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence for the log."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The last event. reason: `finished`, or `stopped` where it was asked to."""

    reason: Literal["finished", "stopped"]
    text: str = ""


Event = (
    Started
    | StepDone
    | EpochDone
    | ValidationDone
    | ValidationProgress
    | PreviewMade
    | PreviewSaved
    | CheckpointMade
    | Saving
    | Saved
    | Discarded
    | Measured
    | Progress
    | Note
    | Warned
    | Restarted
    | Ended
)
