"""Puts runs into the queue: new ones, the folds of a cross-validation, and those that go on."""

import time
from collections.abc import Sequence

from pydantic import ValidationError

from seglib.config import (
    CleaningConfig,
    FoldSplitConfig,
    LengthConfig,
    PredictConfig,
    RunConfig,
    parse_predict_config,
    parse_run_config,
)
from seglib.data.splits import Member, split_data
from seglib.errors import CheckpointError, ConfigError
from seglib.store import Store
from seglib.store.datasets import DatasetSummary, get_dataset, get_summary, get_volume
from seglib.store.groups import create_group
from seglib.store.metrics import add_batch
from seglib.store.runs import checkpoints, create_run, get_run, requeue
from seglib.training.advice import learned_volumes, with_labels

LONGEST_NAME = 200
# Labels are made beside whatever a device is busy with.
LABELS_QUEUE = "labels"


def submit_training(store: Store, config: RunConfig) -> int:
    """Queues a training and returns its run id. An empty name becomes data set and network.

    Where the config does not say how label values are read, the run keeps how the data set reads them now.
    """
    from seglib.inference.devices import choose_device

    config = _named(config, get_summary(store, config.data.dataset))
    device = choose_device(config.compute.device)
    return create_run(store, "train", name=config.name, config=config.model_dump(mode="json"), device=device)


def submit_cross_validation(store: Store, config: RunConfig, folds: int) -> tuple[int, list[int]]:
    """Queues one training for each fold, which judges while the others train; returns the ids of group and runs.

    The config's own split gives way, but for the share that is kept for the end.
    Raises ConfigError where there are fewer volumes, or groups of volumes, than folds.
    """
    from seglib.inference.devices import choose_device

    dataset = get_dataset(store, config.data.dataset)
    config = _named(config, dataset)
    members = [Member(row.name, row.shape_zyx, row.group) for row in learned_volumes(dataset, config)]
    runs = []
    for fold in range(1, folds + 1):
        try:
            split = FoldSplitConfig(folds=folds, fold=fold, test_share=getattr(config.split, "test_share", 0.0))
        except ValidationError as error:
            raise ConfigError(f"Cross-validation has 2 to 50 folds, not {folds}.") from error
        split_data(members, split, config.length.seed)
        ending = f" · fold {fold} of {folds}"
        name = config.name[: LONGEST_NAME - len(ending)] + ending
        runs.append((name, config.model_copy(update={"split": split, "name": name}).model_dump(mode="json")))
    if not runs:
        raise ConfigError(f"Cross-validation has 2 to 50 folds, not {folds}.")
    return create_group(store, name=config.name, runs=runs, device=choose_device(config.compute.device))


def _named(config: RunConfig, dataset: DatasetSummary) -> RunConfig:
    """The config with a name, and with how its data set's label values are read."""
    kinds = [config.model.kind, *([config.loss.kind] if config.model.needs_labels else [])]
    name = config.name.strip() or " · ".join([dataset.name, *(kind.replace("_", " ") for kind in kinds)])
    return with_labels(config, dataset.labels).model_copy(update={"name": name[:LONGEST_NAME]})


def submit_prediction(store: Store, config: PredictConfig) -> int:
    """Queues a prediction and returns its run id."""
    from seglib.inference.devices import choose_device

    run, volume = get_run(store, config.run), get_volume(store, config.volume)
    if run.kind != "train":
        raise CheckpointError(f"Run {run.id} is a prediction; choose a training run.")
    name = f"{volume.name} by run {run.id} ({run.name})"[:LONGEST_NAME]
    device = choose_device(config.compute.device)
    return create_run(store, "predict", name=name, config=config.model_dump(mode="json"), device=device)


def submit_predictions(store: Store, config: PredictConfig, volumes: Sequence[int]) -> list[int]:
    """Queues a prediction of each volume with the same settings; returns their run ids."""
    return [submit_prediction(store, config.model_copy(update={"volume": volume})) for volume in volumes]


def submit_cleaning(store: Store, run_id: int, cleaning: CleaningConfig) -> None:
    """Queues a prediction that is over to make its labels anew, with other thresholds or another clean-up.

    It waits in a queue of its own, as it does not need the device. Raises ConfigError where no probabilities were
    kept, StoreError where the prediction is not over.
    """
    run = get_run(store, run_id)
    config = parse_predict_config(run.config)
    if run.kind != "predict" or config.keep == "classes":
        raise ConfigError("This prediction kept no probabilities: predict again to change its thresholds.")
    changed = config.model_copy(update={"cleaning": cleaning})
    requeue(store, run_id, config=changed.model_dump(mode="json"), device=LABELS_QUEUE)


def resume_run(store: Store, run_id: int) -> None:
    """Queues a run that was stopped, paused, failed or was interrupted; it goes on from where it was.

    A training goes on from its last checkpoint, a prediction after the last block that was written. One that was
    paused goes on before all runs that wait. Raises StoreError where the run is not over.
    """
    requeue(store, run_id)


def extend_run(store: Store, run_id: int, *, epochs: int = 0, iterations: int = 0) -> None:
    """Queues a training that is over to go on from its last checkpoint, longer than its settings said.

    epochs, iterations: how many more, one of them; iterations are single steps.
    The run keeps its new length. Raises ConfigError where it has no checkpoint or the length is none, StoreError
    where it is not over.
    """
    run = get_run(store, run_id)
    if run.kind != "train" or "last" not in checkpoints(store, run_id):
        raise ConfigError(f"Run {run_id} has no checkpoint to go on from.")
    config = parse_run_config(run.config)
    longer = _longer(config.length, epochs, iterations, run.total)
    requeue(store, run_id, config=config.model_copy(update={"length": longer}).model_dump(mode="json"))
    before, after = _in_words(config.length), _in_words(longer)
    add_batch(store, run_id, lines=[(time.time(), f"Made longer: {after} in all instead of {before}.")])


def _longer(length: LengthConfig, epochs: int, iterations: int, steps: int) -> LengthConfig:
    """The length with so much more. steps: what it came to so far."""
    if (epochs > 0) == (iterations > 0):
        raise ConfigError("Say how many epochs or how many iterations more, one of them, at least 1.")
    if epochs and length.iterations:
        raise ConfigError("The length of this run is counted in iterations: say how many of them more.")
    more = {"epochs": length.epochs + epochs}
    if iterations:
        more = {"iterations": (length.iterations or steps) + iterations}
    try:
        return LengthConfig.model_validate(length.model_dump() | more)
    except ValidationError as error:
        raise ConfigError(f"No run can be that long: {error.errors()[0]['msg']}.") from error


def _in_words(length: LengthConfig) -> str:
    return f"{length.iterations} iterations" if length.iterations else f"{length.epochs} epochs"
