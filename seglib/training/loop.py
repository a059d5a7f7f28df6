"""The training loop, the only one: a generator of events that knows nothing of threads, pages or databases."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from seglib.checkpoints import Checkpoint
from seglib.config import RunConfig, ScratchConfig
from seglib.data.patches import Batch
from seglib.data.prefetch import Prefetcher
from seglib.data.volumes import Volume
from seglib.errors import TrainingError
from seglib.events import (
    CheckpointMade,
    Ended,
    EpochDone,
    Event,
    Note,
    PreviewMade,
    Started,
    StepDone,
    ValidationDone,
)
from seglib.inference.devices import out_of_memory_as
from seglib.losses import total_loss
from seglib.metrics.overlap import Counts, dice, iou, mean_score, no_counts
from seglib.training.preview import predict_crop
from seglib.training.setup import Setup, prepare
from seglib.training.validate import foreground_counts, validate


def train(
    config: RunConfig,
    volumes: Sequence[Volume],
    *,
    resume: Checkpoint | None = None,
    weights: Mapping[str, Tensor] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """Trains a network and says what happens; the last event is `Ended`.

    volumes: with labels; split into training and validation, and their label values read, as the config says.
    resume: go on from this state; the rest of the run is then what it would have been.
    weights: tensors by name that the network starts with, as far as they fit.
    stop: asked after every batch; when it answers true the state is given out and the run ends.
    Raises ConfigError for settings that do not fit the data, TrainingError for a loss that is not finite,
    OutOfMemory where a batch does not fit.
    """
    with out_of_memory_as(_too_large(config)):
        setup = prepare(config, volumes, resume=resume, weights=weights)
        yield from _run(_Training(setup, stop or _never))


class _Training:
    """The moving parts of a run: where it is, and the sums of the epoch under way."""

    def __init__(self, setup: Setup, stop: Callable[[], bool]) -> None:
        self.setup = setup
        self.stop = stop
        self.step = setup.resumed.step if setup.resumed else 0
        self.best_score = setup.resumed.best_score if setup.resumed else None
        self.score: float | None = setup.resumed.score if setup.resumed else None
        self.losses: list[float] = []
        self.counts = no_counts(len(setup.names))
        # True from the end of an epoch until it was judged: a run stopped in between catches up when it goes on.
        self.validation_due = False
        if setup.resumed and setup.resumed.partial:
            partial = setup.resumed.partial
            self.losses = list(partial["losses"])
            self.validation_due = bool(partial["validation_due"])
            self.counts = Counts(*(np.array(partial[name], np.int64) for name in ("hits", "false_alarms", "misses")))

    @property
    def epoch(self) -> int:
        """The epoch under way, or just ended, counted from 1."""
        return max(1, math.ceil(self.step / self.setup.steps_per_epoch))

    def checkpoint(self) -> Checkpoint:
        setup = self.setup
        partial = {
            "losses": self.losses,
            "validation_due": self.validation_due,
            "hits": self.counts.hits.tolist(),
            "false_alarms": self.counts.false_alarms.tolist(),
            "misses": self.counts.misses.tolist(),
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
            network=setup.network.state_dict(),
            optimiser=setup.optimiser.state_dict(),
            schedule=setup.schedule.state_dict(),
            random=_random_state(setup.device),
            partial=partial,
        )


def _run(training: _Training) -> Iterator[Event]:
    setup, config = training.setup, training.setup.config
    steps_per_validation = setup.steps_per_epoch * config.validation.interval
    yield Started(setup.total_steps, training.step, steps_per_validation)
    yield from (Note(text) for text in setup.notes)
    if training.validation_due:
        yield from _validation(training)
        yield CheckpointMade("last", training.checkpoint())
        if training.validation_due:  # stopped again before it was done; a step now would change what is judged
            yield _stopped(training)
            return
    with _batches(training) as batches:
        yield from _steps(training, batches)


def _batches(training: _Training) -> Prefetcher[Batch]:
    """The batches of all steps to come, read ahead."""
    setup = training.setup
    size = setup.config.patches.batch_size
    return Prefetcher(
        lambda step: setup.sampler.batch(step, size),
        first=training.step,
        last=setup.total_steps,
        threads=setup.readers,
        ahead=2 * setup.readers,
    )


def _steps(training: _Training, batches: Prefetcher[Batch]) -> Iterator[Event]:
    setup, config = training.setup, training.setup.config
    before = time.perf_counter()
    while training.step < setup.total_steps:
        _freeze(training)
        loss, rate = _step(training, batches.take())
        now = time.perf_counter()
        yield StepDone(training.step, training.epoch, loss, rate, config.patches.batch_size, now - before)
        before = now
        if training.step % setup.steps_per_epoch == 0:
            yield from _end_epoch(training)
            before = time.perf_counter()
        if training.stop():
            yield CheckpointMade("last", training.checkpoint())
            yield _stopped(training)
            return
    yield Ended("finished")


def _freeze(training: _Training) -> None:
    """Whether the encoder learns follows from the epoch alone, so that a resumed run goes on as it was."""
    weights = training.setup.config.weights
    if isinstance(weights, ScratchConfig) or not weights.freeze_epochs:
        return
    learns = training.step // training.setup.steps_per_epoch >= weights.freeze_epochs
    for weight in training.setup.encoder:
        weight.requires_grad_(learns)


def _stopped(training: _Training) -> Ended:
    total = training.setup.total_steps
    return Ended("stopped", f"Stopped after step {training.step} of {total}; everything is saved.")


def _step(training: _Training, batch: Batch) -> tuple[float, float]:
    """One optimiser step; returns its loss and the learning rate it was made with."""
    setup = training.setup
    images = torch.from_numpy(batch.images).to(setup.device, non_blocking=True)
    target = torch.from_numpy(batch.targets).to(setup.device, non_blocking=True)
    if setup.augmentation:
        rng = np.random.default_rng([setup.config.length.seed, 3, training.step])
        images, target = setup.augmentation(images, target, rng)
    rate = setup.optimiser.param_groups[0]["lr"]
    with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.predictor.half):
        found = setup.network(images)
    logits, loss = total_loss(setup.loss, found, target, setup.network)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"The loss became {value} at step {training.step + 1}. Usual causes: a learning rate that is too high "
            f"(it is {rate:.1e}; try a tenth) or broken grey values. The last checkpoint is kept."
        )
    setup.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    setup.optimiser.step()
    setup.schedule.after_step()
    training.step += 1
    training.losses.append(value)
    training.counts += foreground_counts(logits.detach(), target, setup.predictor.activation, len(setup.names))
    return value, rate


def _end_epoch(training: _Training) -> Iterator[Event]:
    config, epoch = training.setup.config, training.epoch
    scores = {"loss": float(np.mean(training.losses))}
    if config.model.needs_labels:
        scores |= {"dice": mean_score(dice(training.counts)), "iou": mean_score(iou(training.counts))}
    yield EpochDone(training.step, epoch, scores)
    training.losses, training.counts = [], no_counts(len(training.setup.names))
    last = epoch == config.length.epochs
    if epoch % config.validation.interval == 0 or last:
        training.validation_due = True
        yield from _validation(training)
    if epoch % config.checkpoints.interval == 0 or last:
        yield CheckpointMade("last", training.checkpoint())


def _validation(training: _Training) -> Iterator[Event]:
    setup, config, began = training.setup, training.setup.config, time.perf_counter()
    setup.network.eval()
    try:
        verdict = validate(
            setup.predictor,
            setup.validation,
            config,
            loss=setup.loss,
            classes=len(setup.names),
            stop=training.stop,
        )
        if verdict is None:
            yield Note("Stopped during validation; it is made up for when the run goes on.")
            return
        prediction = predict_crop(setup.predictor, setup.crop, config)
    finally:
        setup.network.train()
    training.validation_due = False
    scores = verdict.scores(setup.names)
    training.score = scores.get(config.validation.best_by, -scores["loss"])
    setup.schedule.after_validation(training.score)
    yield ValidationDone(training.step, training.epoch, scores, time.perf_counter() - began)
    yield PreviewMade(
        training.step,
        training.epoch,
        setup.crop.image,
        setup.crop.labels,
        prediction,
        setup.voxel_size_nm,
        setup.contrast,
    )
    # The first validation always makes a best checkpoint, also at Dice 0.
    if training.best_score is None or training.score > training.best_score:
        training.best_score = training.score
        yield CheckpointMade("best", training.checkpoint())


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _too_large(config: RunConfig) -> str:
    sizes = " × ".join(map(str, config.patches.shape))
    return (
        f"A batch of {config.patches.batch_size} patches of {sizes} does not fit into the memory of the device, beside "
        "the volumes. Take a smaller batch first, then smaller patches or fewer start channels, and start again."
    )


def _never() -> bool:
    return False
