"""Keeps a run's tables and curves up to date with what the training says."""

import time
import traceback
from collections.abc import Mapping
from typing import Literal

from seglib.events import CheckpointMade, Ended, EpochDone, Event, Started, StepDone, ValidationDone
from seglib.runfolder.curves import save_curves
from seglib.runfolder.files import local_time
from seglib.runfolder.table import Table
from seglib.workspace import Workspace

STEPS = ("step", "epoch", "loss", "learning_rate", "gradient_norm")
FLUSH_S, FLUSH_ROWS = 2.0, 500
DRAW_S = 60.0


class History:
    """Writes history.csv, steps.csv and the curves of one run.

    Nothing here ends a training: what cannot be written is said once and tried again later.
    """

    def __init__(self, workspace: Workspace, run_id: int, *, best_by: str) -> None:
        """best_by: validation score that the best epoch is marked by."""
        self._history = Table(workspace.history(run_id), ("step", "epoch", "time"))
        self._steps = Table(workspace.steps(run_id), STEPS)
        self._picture = workspace.curves(run_id)
        self._best_by = best_by
        self._flushed_at = time.monotonic()
        self._drawn_at: float | None = None
        self._said: set[str] = set()

    def take(self, event: Event) -> list[str]:
        """Takes an event of the training; returns what must be told of what could not be written.

        `Started` drops what lies after the step it goes on from. Before a checkpoint all is on disk.
        """
        match event:
            case Started(done=done):
                self._history.keep(done)
                self._steps.keep(done)
                return self._flush()
            case StepDone():
                return self._step(event)
            case EpochDone(step=step, epoch=epoch, scores=scores):
                return self._scores("train", step, epoch, scores)
            case ValidationDone(step=step, epoch=epoch, scores=scores):
                return self._scores("val", step, epoch, scores)
            case CheckpointMade():
                return self._flush(durable=True)
            case Ended():
                return self.close()
        return []

    def close(self) -> list[str]:
        """Writes and draws all there is; returns what must be told."""
        return [*self._flush(), *self.draw(at_most_every_s=0)]

    def draw(self, *, at_most_every_s: float = DRAW_S) -> list[str]:
        """Draws the curves, if it is so long since the last time; returns what must be told."""
        now = time.monotonic()
        if self._drawn_at is not None and now - self._drawn_at < at_most_every_s:
            return []
        self._drawn_at = now
        try:
            save_curves(self._history.path, self._steps.path, self._picture, best_by=self._best_by)
        except Exception as error:  # a picture is not worth a training, whatever is wrong with it
            where = traceback.extract_tb(error.__traceback__)[-1].name
            return self._once(
                "curves", f"The curves could not be drawn ({error!r} in {where}); it is tried again later."
            )
        return []

    def _step(self, event: StepDone) -> list[str]:
        self._steps.put({name: getattr(event, name) for name in STEPS})
        if self._steps.waiting % FLUSH_ROWS and time.monotonic() - self._flushed_at < FLUSH_S:
            return []
        return self._flush()

    def _scores(self, part: Literal["train", "val"], step: int, epoch: int, scores: Mapping[str, float]) -> list[str]:
        # A class may be called anything; a line end in it would tear the table's header.
        named = {f"{part}/{' '.join(name.split())}": float(value) for name, value in scores.items()}
        self._history.put({"step": step, "epoch": epoch, "time": local_time(time.time()), **named})
        return self._flush()

    def _flush(self, *, durable: bool = False) -> list[str]:
        self._flushed_at = time.monotonic()
        said = []
        for table in (self._steps, self._history):
            try:
                table.flush(durable=durable)
            except OSError as error:
                why = error.strerror or error
                text = f"{table.path.name} cannot be written ({why}): the training goes on, and it is tried again."
                said += self._once(table.path.name, text)
        return said

    def _once(self, what: str, text: str) -> list[str]:
        if what in self._said:
            return []
        self._said.add(what)
        return [text]
