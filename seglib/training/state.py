"""Where a training is: the moving parts that a checkpoint keeps and a resumed run goes on from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from seglib.checkpoints import Checkpoint
from seglib.metrics.overlap import Counts, no_counts
from seglib.training.setup import Setup
from seglib.training.watch import Watch


@dataclass
class EpochSums:
    """What gathered since the epoch began. losses: of steps; counts: of patches, over `voxels` annotated ones."""

    counts: Counts
    losses: list[float] = field(default_factory=list)
    voxels: int = 0

    def add(self, loss: float, counts: Counts, voxels: int) -> None:
        """Adds one step."""
        self.losses.append(loss)
        self.counts += counts
        self.voxels += voxels

    def state(self) -> dict[str, object]:
        """Plain numbers that `from_state` goes on from."""
        counts = {name: getattr(self.counts, name).tolist() for name in ("hits", "false_alarms", "misses")}
        return {"losses": self.losses, "voxels": self.voxels, **counts}

    @classmethod
    def from_state(cls, state: dict[str, object]) -> "EpochSums":
        """Sums that go on from what `state` gave."""
        counts = Counts(*(np.array(state[name], np.int64) for name in ("hits", "false_alarms", "misses")))
        return cls(counts, list(state["losses"]), int(state.get("voxels", 0)))  # type: ignore[call-overload]


class Training:
    """A run under way.

    step: steps done. micro: patches computed at once, fewer than a batch once memory ran out.
    score, best_score: of the last validation and the best one so far, higher is better; None before the first.
    since_best: validations since then. thresholds: best ones of the last validation, one a class.
    validation_due: True from when a validation was due until it is done; a run stopped in between catches up.
    collapsed: why it is of no use to go on, once it is.
    """

    def __init__(self, setup: Setup, stop: Callable[[], bool], restarts: int) -> None:
        self.setup = setup
        self.stop = stop
        self.restarts = restarts
        self.step, self.since_best = 0, 0
        self.score: float | None = None
        self.best_score: float | None = None
        self.thresholds: tuple[float, ...] = ()
        self.micro = setup.config.patches.batch_size
        self.sums = EpochSums(no_counts(len(setup.names)))
        self.watch = Watch(setup.config.optimiser.learning_rate)
        self.validation_due = False
        self.collapsed: str | None = None
        if setup.resumed:
            self._go_on(setup.resumed)

    def _go_on(self, checkpoint: Checkpoint) -> None:
        self.step, self.score = checkpoint.step, checkpoint.score
        self.best_score, self.thresholds = checkpoint.best_score, checkpoint.thresholds
        partial = checkpoint.partial
        if not partial:
            return
        self.sums = EpochSums.from_state(partial)
        self.validation_due = bool(partial["validation_due"])
        self.micro = int(partial.get("micro", self.micro))
        # A run that was made longer has as much patience as a new one.
        longer = self.setup.total_steps > int(partial.get("total", self.setup.total_steps))
        self.since_best = 0 if longer else int(partial.get("since_best", 0))
        if "watch" in partial:
            self.watch = Watch.from_state(self.watch.learning_rate, dict(partial["watch"]))

    @property
    def epoch(self) -> int:
        """The epoch under way, or just ended, counted from 1."""
        return max(1, math.ceil(self.step / self.setup.steps_per_epoch))

    @property
    def impatient(self) -> bool:
        """Whether too many validations in a row were no better than the best one."""
        patience = self.setup.config.length.patience
        return bool(patience) and self.since_best >= patience

    def judged(self, score: float) -> bool:
        """Takes the score of a validation; whether it is the best so far, as the first one always is."""
        self.score = score
        better = self.best_score is None or score > self.best_score
        self.best_score = score if better else self.best_score
        self.since_best = 0 if better else self.since_best + 1
        return better

    def checkpoint(self) -> Checkpoint:
        """Everything to go on from exactly, and to predict with."""
        setup = self.setup
        partial = {
            **self.sums.state(),
            "validation_due": self.validation_due,
            "micro": self.micro,
            "total": setup.total_steps,
            "since_best": self.since_best,
            "restarts": self.restarts,
            "channels_last": setup.layout is torch.channels_last_3d,
            "watch": self.watch.state(),
            "scaler": setup.scaler.state_dict(),
            "averaged": setup.average.updates if setup.average else 0,
        }
        return Checkpoint(
            config=setup.config,
            values=setup.values,
            names=setup.names,
            channels=setup.predictor.normalisation.channels,
            normalisation=setup.predictor.normalisation,
            voxel_size_nm=setup.voxel_size_nm,
            step=self.step,
            epoch=self.epoch,
            score=self.score,
            best_score=self.best_score,
            thresholds=self.thresholds,
            network=setup.predictor.network.state_dict(),
            learning=setup.network.state_dict() if setup.average else {},
            optimiser=setup.optimiser.state_dict(),
            schedule=setup.schedule.state_dict(),
            random=_random_state(setup.device),
            partial=partial,
        )


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state
