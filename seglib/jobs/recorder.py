"""Takes the events of one run and keeps the store told, in batches."""

import math
import threading
import time
from collections import deque

from seglib.events import (
    Discarded,
    Ended,
    EpochDone,
    Event,
    Measured,
    Note,
    PreviewSaved,
    Progress,
    Restarted,
    Saved,
    Saving,
    Started,
    StepDone,
    ValidationDone,
    ValidationProgress,
    Warned,
)
from seglib.runfolder.log import RunLog
from seglib.store import Store
from seglib.store import metrics as metrics_store
from seglib.store.details import add_details
from seglib.store.metrics import Point
from seglib.store.runs import CheckpointRow, RunRow, forget_checkpoint, mark_running, set_checkpoint
from seglib.workspace import Workspace

FLUSH_S = 0.5
FLUSH_POINTS = 1000
RECENT_STEPS = 30
# How lines of the log begin that a person should see.
WARNING = "Warning. "
# Scores of a validation that the log tells; all of them are in the curves.
TOLD = ("loss", "dice", "iou", "dice_at_best_threshold")


class Recorder:
    """Buffers points, log lines and progress of a run. `flush` may be called from another thread.

    log: a file that is given every line of the log, too.
    """

    def __init__(self, store: Store, run_id: int, owner: str, log: RunLog | None = None) -> None:
        self._store = store
        self._log = log
        self._run_id = run_id
        self._owner = owner
        self._steps_per_validation = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._points: list[Point] = []
        self._lines: list[tuple[float, str]] = []
        self._progress: metrics_store.Progress | None = None
        self._moved = False
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_STEPS)
        self._validation_s = 0.0
        self._flushed_at = time.monotonic()
        self._total = 0
        self._tiles_began = (0.0, 0)

    def take(self, event: Event) -> None:
        """Records one event; previews and checkpoints at once, the rest soon, and all of it before a checkpoint."""
        with self._lock:
            self._take(event)
        if isinstance(event, Saving):
            self.flush(durable=True)
        elif isinstance(event, Restarted):
            # What was said before is forgotten when it starts again, and must not come after that.
            self.flush()
        elif len(self._points) >= FLUSH_POINTS or time.monotonic() - self._flushed_at > FLUSH_S:
            self.flush()

    def say(self, text: str) -> None:
        """Adds a line to the run's log."""
        with self._lock:
            self._lines.append((time.time(), text))

    def flush(self, *, durable: bool = False) -> None:
        """Writes what gathered. durable: and waits until it would survive a power cut."""
        # One at a time from start to end, or an older batch could land after a newer one, or after the run's end.
        with self._writing:
            with self._lock:
                points, lines, progress, moved = self._points, self._lines, self._progress, self._moved
                self._points, self._lines, self._progress, self._moved = [], [], None, False
                self._flushed_at = time.monotonic()
            if not (points or lines or progress or moved or durable):
                return
            try:
                metrics_store.add_batch(
                    self._store,
                    self._run_id,
                    points=points,
                    lines=lines,
                    progress=progress,
                    moved=moved,
                    durable=durable,
                )
            except BaseException:  # a full disk may have room again at the next flush
                with self._lock:
                    self._points, self._lines = points + self._points, lines + self._lines
                raise
            problem = self._log.add(lines) if self._log and lines else None
            if problem:
                self.say(problem)

    def _take(self, event: Event) -> None:
        now = time.time()
        match event:
            case Started(total=total, done=done, steps_per_validation=steps):
                self._total, self._steps_per_validation = total, steps
                metrics_store.forget_after(self._store, self._run_id, done)
                mark_running(self._store, self._run_id, owner=self._owner, total=total)
                self._tiles_began = (time.monotonic(), done)
            case StepDone():
                self._step(event, now)
            case EpochDone(step=step, epoch=epoch, scores=scores):
                self._scores("train", step, epoch, scores, now)
            case ValidationDone(step=step, epoch=epoch, scores=scores, seconds=seconds, details=details):
                self._validation_s = seconds
                self._scores("val", step, epoch, scores, now)
                add_details(self._store, self._run_id, "val", step, details)
                shown = ", ".join(f"{name.replace('_', ' ')} {scores[name]:.4f}" for name in TOLD if name in scores)
                self._lines.append((now, f"Epoch {epoch}, validation in {seconds:.1f} s: {shown}"))
            case PreviewSaved(step=step, epoch=epoch, layer=layer):
                metrics_store.add_preview(self._store, self._run_id, step=step, epoch=epoch, layer=layer)
            case Saved(kind=kind, step=step, epoch=epoch, sha256=sha256, score=score):
                set_checkpoint(self._store, CheckpointRow(self._run_id, kind, step, epoch, score, sha256, now))
                self._lines.append((now, f"Saved the {kind} checkpoint of step {step}."))
            case Discarded(kind=kind):
                forget_checkpoint(self._store, self._run_id, kind)
            case Measured(scores=scores, details=details):
                self._scores("volume", self._total, 0, scores, now)
                add_details(self._store, self._run_id, "volume", self._total, details)
            case Progress(done=done, total=total):
                self._tiles(done, total)
            case ValidationProgress():
                self._moved = True
            case Warned(text=text):
                self._lines.append((now, f"{WARNING}{text}"))
            case Note(text=text) | Restarted(text=text) | Ended(text=text):
                if text:
                    self._lines.append((now, text))

    def _step(self, event: StepDone, now: float) -> None:
        self._points.append(_point(event.step, event.epoch, "step/loss", event.loss, now))
        self._points.append(_point(event.step, event.epoch, "step/learning_rate", event.learning_rate, now))
        self._points.append(_point(event.step, event.epoch, "step/gradient_norm", event.gradient_norm, now))
        self._recent.append((event.patches, event.seconds))
        seconds = sum(s for _, s in self._recent)
        left = self._total - event.step
        validations = left // self._steps_per_validation if self._steps_per_validation else 0
        self._progress = metrics_store.Progress(
            done=event.step,
            total=self._total,
            epoch=event.epoch,
            patches_per_s=sum(n for n, _ in self._recent) / max(seconds, 1e-9),
            seconds_left=left * seconds / len(self._recent) + validations * self._validation_s,
        )

    def _tiles(self, done: int, total: int) -> None:
        began, before = self._tiles_began
        rate = (done - before) / max(time.monotonic() - began, 1e-9)
        self._progress = metrics_store.Progress(
            done=done, total=total, epoch=0, patches_per_s=rate, seconds_left=(total - done) / max(rate, 1e-9)
        )

    def _scores(self, part: str, step: int, epoch: int, scores: dict[str, float], now: float) -> None:
        self._points += [_point(step, epoch, f"{part}/{name}", value, now) for name, value in scores.items()]


def recorder_of(workspace: Workspace, store: Store, run: RunRow, owner: str) -> Recorder:
    """What records a run that `owner` holds; the log of a training is in its folder, too."""
    log = RunLog(workspace.log(run.id)) if run.kind == "train" else None
    return Recorder(store, run.id, owner, log)


def _point(step: int, epoch: int, name: str, value: float, now: float) -> Point:
    # NaN has no place in JSON or SQLite; a curve shows a gap for None.
    return Point(step, epoch, name, value if math.isfinite(value) else None, now)
