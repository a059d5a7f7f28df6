"""Earlier states of a run that are kept beside the last and the best one: which, and where."""

from collections.abc import Sequence
from pathlib import Path

from seglib.config import CheckpointConfig
from seglib.runfolder.files import duplicate
from seglib.workspace import Workspace, step_name


def is_kept(config: CheckpointConfig, *, step: int, epoch: int, epoch_ended: bool) -> bool:
    """Whether a saved state is one of those that stay.

    epoch_ended: whether the step is the last one of its epoch. It follows from the step alone, so that a run that was
    stopped and went on keeps what an undisturbed one would; a state saved only because of a stop does not stay.
    """
    if config.keep != "all" or (config.unit == "epochs" and not epoch_ended):
        return False
    return (epoch if config.unit == "epochs" else step) % (config.interval * config.every) == 0


def kept_steps(workspace: Workspace, run_id: int) -> list[int]:
    """Steps of the states that are kept, the oldest first."""
    folder = workspace.checkpoint(run_id, "last").parent
    names = (path.stem for path in folder.glob("step-*.pt"))
    steps = ((name, name.removeprefix("step-")) for name in names)
    return sorted(int(number) for name, number in steps if number.isdecimal() and step_name(int(number)) == name)


def keep_last(workspace: Workspace, run_id: int, step: int) -> None:
    """Gives the last checkpoint, which is of `step`, a name of its own. Raises OSError; the last one stays as it is."""
    duplicate(workspace.checkpoint(run_id, "last"), state_path(workspace, run_id, step))


def surplus(config: CheckpointConfig, steps: Sequence[int]) -> list[int]:
    """Which of the kept steps, the oldest first, are too many."""
    return list(steps[: -config.most]) if config.most else []


def state_path(workspace: Workspace, run_id: int, step: int) -> Path:
    """Path of the state that is kept of a step."""
    return workspace.checkpoint(run_id, step_name(step))
