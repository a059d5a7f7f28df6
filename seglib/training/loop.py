"""The training loop, the only one: a generator of events that knows nothing of threads, pages or databases."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from seglib.checkpoints import Checkpoint
from seglib.config import RunConfig
from seglib.config.training import LOWER_IS_BETTER, CheckpointConfig, ValidationConfig
from seglib.data.patches import Batch
from seglib.data.prefetch import Prefetcher
from seglib.data.volumes import Volume
from seglib.errors import OutOfMemory, TrainingError
from seglib.events import (
    CheckpointMade,
    Ended,
    EpochDone,
    Event,
    Note,
    PreviewMade,
    Restarted,
    Started,
    StepDone,
    ValidationDone,
    Warned,
)
from seglib.inference.devices import memory_used, out_of_memory_as
from seglib.metrics.overlap import dice, iou, mean_score, no_counts
from seglib.training.followers import gathered
from seglib.training.preview import predict_crop
from seglib.training.setup import prepare
from seglib.training.state import EpochSums, Training
from seglib.training.step import StepResult, freeze_encoder, make_step, read_batches
from seglib.training.validate import Judging, validate
from seglib.training.watch import restarted


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
    restarts = int(resume.partial.get("restarts", 0)) if resume else 0
    while True:
        attempt = restarted(config, restarts)
        with out_of_memory_as(_too_large(config)), gathered(attempt, volumes, resume) as ranks:
            setup = prepare(attempt, volumes, resume=resume, weights=weights, ranks=ranks)
            training = Training(setup, stop or _never, restarts)
            yield from _run(training)
            ranks.order_end(len(setup.optimiser.param_groups), setup.device)
        if training.collapsed is None:
            return
        restarts, resume = restarts + 1, None
        again = restarted(config, restarts)
        yield Restarted(
            f"{training.collapsed} Starting again ({restarts} of {config.watch.restarts}) with seed "
            f"{again.length.seed} and a learning rate of {again.optimiser.learning_rate:.1e}."
        )


def _run(training: Training) -> Iterator[Event]:
    setup = training.setup
    yield Started(setup.total_steps, training.step, _between_validations(training))
    yield from (Note(text) for text in setup.notes)
    if training.validation_due:
        yield from _validation(training)
        yield CheckpointMade("last", training.checkpoint())
        if training.validation_due:  # stopped again before it was done; a step now would change what is judged
            yield _stopped(training)
            return
    with read_batches(setup, training.step) as batches:
        yield from _steps(training, batches)


def _steps(training: Training, batches: Prefetcher[Batch]) -> Iterator[Event]:
    setup = training.setup
    before = time.perf_counter()
    while training.step < setup.total_steps and not training.impatient:
        freeze_encoder(setup, training.step)
        batch = batches.take()
        waited = time.perf_counter() - before
        try:
            result = yield from _step(training, batch)
        except TrainingError as error:
            if not _may_restart(training):
                raise
            training.collapsed = str(error)
            return
        now = time.perf_counter()
        yield StepDone(
            training.step,
            training.epoch,
            result.loss,
            result.learning_rate,
            setup.patches_per_step,
            now - before,
            gradient_norm=result.gradient_norm,
            waited_s=waited,
        )
        yield from _told(training, training.watch.after_step(result.loss))
        if training.collapsed is None:
            yield from _after_step(training)
        if training.collapsed is not None:
            return
        # What came between is no part of the next step, unless it was so little that steps are what is waited for.
        before = time.perf_counter() if _is_milestone(training) else now
        if training.stop():
            yield CheckpointMade("last", training.checkpoint())
            yield _stopped(training)
            return
    yield from _finished(training)


def _step(training: Training, batch: Batch) -> Generator[Event, None, StepResult]:
    """One optimiser step, in smaller and smaller pieces where memory does not suffice for larger ones."""
    setup = training.setup
    rates = [float(group["lr"]) for group in setup.optimiser.param_groups]
    while True:
        setup.ranks.order_step(training.micro, rates, setup.device)
        result = make_step(setup, batch, step=training.step, micro=training.micro)
        if result is not None:
            break
        if setup.config.watch.memory == "fail" or training.micro == 1:
            raise OutOfMemory(f"{_too_large(setup.config)} {memory_used(setup.device)}")
        training.micro //= 2
        yield Warned(
            f"Memory ran out ({memory_used(setup.device)}): from now on {training.micro} patch(es) are computed at a "
            f"time. A step still learns from {setup.patches_per_step}; it only takes longer."
        )
    setup.schedule.after_step()
    training.step += 1
    training.sums.add(result.loss, result.counts, result.voxels)
    return result


def _after_step(training: Training) -> Iterator[Event]:
    """What is due after a step: the end of an epoch, a validation, a checkpoint."""
    if _is_due(training, training.setup.steps_per_epoch):
        yield from _end_epoch(training)
    if _is_due(training, _between_validations(training)):
        training.validation_due = True
        yield from _validation(training)
    if training.collapsed is not None:
        return
    if _is_due(training, _between_saves(training)):
        yield CheckpointMade("last", training.checkpoint())


def _is_milestone(training: Training) -> bool:
    """Whether more than a step was just done."""
    spans = (training.setup.steps_per_epoch, _between_validations(training), _between_saves(training))
    return any(_is_due(training, span) for span in spans)


def _between_validations(training: Training) -> int:
    return _in_steps(training, training.setup.config.validation)


def _between_saves(training: Training) -> int:
    return _in_steps(training, training.setup.config.checkpoints)


def _in_steps(training: Training, spaced: ValidationConfig | CheckpointConfig) -> int:
    return spaced.interval * (training.setup.steps_per_epoch if spaced.unit == "epochs" else 1)


def _is_due(training: Training, every: int) -> bool:
    """Whether so many steps are done again, or all of them."""
    return training.step % every == 0 or training.step == training.setup.total_steps


def _stopped(training: Training) -> Ended:
    total = training.setup.total_steps
    return Ended("stopped", f"Stopped after step {training.step} of {total}; everything is saved.")


def _finished(training: Training) -> Iterator[Event]:
    if training.step < training.setup.total_steps:
        yield CheckpointMade("last", training.checkpoint())
        yield Ended(
            "finished",
            f"Ended early after step {training.step}: the last {training.since_best} validations were no better than "
            "the best one.",
        )
        return
    yield Ended("finished")


def _end_epoch(training: Training) -> Iterator[Event]:
    config, sums = training.setup.config, training.sums
    scores = {"loss": float(np.mean(sums.losses))}
    if config.model.needs_labels:
        scores |= {"dice": mean_score(dice(sums.counts)), "iou": mean_score(iou(sums.counts))}
    yield EpochDone(training.step, training.epoch, scores)
    if config.model.needs_labels:
        found = training.watch.after_judgement(sums.counts, sums.voxels, what="the training patches")
        yield from _told(training, found)
    training.sums = EpochSums(no_counts(len(training.setup.names)))


def _told(training: Training, collapse: str | None) -> Iterator[Event]:
    """Says that a run has collapsed, and marks it for a new start where that is wanted."""
    if collapse is None:
        return
    if _may_restart(training):
        training.collapsed = collapse
    else:
        yield Warned(collapse)


def _may_restart(training: Training) -> bool:
    watch = training.setup.config.watch
    return watch.collapse == "restart" and training.restarts < watch.restarts


def _validation(training: Training) -> Iterator[Event]:
    setup, config, began = training.setup, _as_small(training), time.perf_counter()
    setup.network.eval()
    try:
        judging = Judging(config, setup.names, setup.loss, setup.voxel_size_nm)
        verdict = yield from validate(setup.predictor, setup.validation, judging, stop=training.stop)
        if verdict is None:
            yield Note("Stopped during validation; it is made up for when the run goes on.")
            return
        prediction = predict_crop(setup.predictor, setup.crop, config)
    finally:
        setup.network.train()
    training.validation_due = False
    training.thresholds = verdict.thresholds
    better = training.judged(_score(config, verdict.scores))
    setup.schedule.after_validation(training.score or 0.0)
    yield ValidationDone(training.step, training.epoch, verdict.scores, time.perf_counter() - began, verdict.details)
    yield PreviewMade(
        training.step,
        training.epoch,
        setup.crop.image,
        setup.crop.labels,
        prediction,
        setup.voxel_size_nm,
        setup.contrast,
    )
    found = training.watch.after_judgement(verdict.counts, verdict.voxels, what="the validation part")
    yield from _told(training, found)
    # The first validation always makes a best checkpoint, also at Dice 0.
    if better:
        yield CheckpointMade("best", training.checkpoint())


def _as_small(training: Training) -> RunConfig:
    """The run's config, with no more patches at once than memory was found to hold."""
    config = training.setup.config
    batch = min(config.patches.batch_size, training.micro)
    return config.model_copy(update={"patches": config.patches.model_copy(update={"batch_size": batch})})


def _score(config: RunConfig, scores: Mapping[str, float]) -> float:
    """What the best checkpoint is chosen by, higher is better; without annotated foreground it is the loss."""
    name = config.validation.best_by
    value = scores.get(name, np.nan)
    if np.isnan(value):
        return -scores["loss"]
    return -value if name in LOWER_IS_BETTER else value


def _too_large(config: RunConfig) -> str:
    sizes = " × ".join(map(str, config.patches.shape))
    return (
        f"A batch of {config.patches.batch_size} patches of {sizes} does not fit into the memory of the device, beside "
        "the volumes. Take a smaller batch first, then smaller patches or fewer start channels, and start again."
    )


def _never() -> bool:
    return False
