"""Puts runs into the queue."""

from seglib.config import PredictConfig, RunConfig
from seglib.errors import CheckpointError, StoreError
from seglib.store import Store
from seglib.store.datasets import get_summary, get_volume
from seglib.store.runs import create_run, get_run, requeue
from seglib.training.advice import with_labels


def submit_training(store: Store, config: RunConfig) -> int:
    """Queues a training and returns its run id. An empty name becomes data set and network.

    Where the config does not say how label values are read, the run keeps how the data set reads them now.
    """
    from seglib.inference.devices import choose_device

    dataset = get_summary(store, config.data.dataset)
    kinds = [config.model.kind, *([config.loss.kind] if config.model.needs_labels else [])]
    name = config.name.strip() or " · ".join([dataset.name, *(kind.replace("_", " ") for kind in kinds)])
    config = with_labels(config, dataset.labels).model_copy(update={"name": name[:200]})
    device = choose_device(config.compute.device)
    return create_run(store, "train", name=config.name, config=config.model_dump(mode="json"), device=device)


def submit_prediction(store: Store, config: PredictConfig) -> int:
    """Queues a prediction and returns its run id."""
    from seglib.inference.devices import choose_device

    run, volume = get_run(store, config.run), get_volume(store, config.volume)
    if run.kind != "train":
        raise CheckpointError(f"Run {run.id} is a prediction; choose a training run.")
    name = f"{volume.name} by run {run.id} ({run.name})"[:200]
    device = choose_device(config.compute.device)
    return create_run(store, "predict", name=name, config=config.model_dump(mode="json"), device=device)


def resume_run(store: Store, run_id: int) -> None:
    """Queues a run that was stopped, failed or was interrupted; a training goes on from its last checkpoint.

    Raises StoreError where the run is not over.
    """
    if get_run(store, run_id).kind == "predict":
        raise StoreError("A prediction starts anew: start it again on the Predict page.")
    requeue(store, run_id)
