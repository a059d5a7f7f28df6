"""A prediction as a job: a trained run over one volume, written plane by plane, compared with labels if any."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config import PredictConfig, parse_predict_config, parse_run_config
from seglib.data.volumes import Array, create_labels, fitting_uint, open_labels, open_volume
from seglib.errors import ConfigError, SeglibError
from seglib.events import Ended, Event, Note, Progress, Started
from seglib.inference.devices import out_of_memory_as
from seglib.inference.predict import Slab, count_tiles, decide, predict_slabs
from seglib.store import Store
from seglib.store.datasets import get_volume
from seglib.store.runs import RunRow, get_run
from seglib.tasks.measuring import find_comparison, seen_in_training
from seglib.tasks.trained import TrainedModel, load_model, trained_checkpoint
from seglib.workspace import Workspace

PREDICTION_LAYER = "prediction"
Stop = Callable[[], bool]


def prediction_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a prediction, see `run_task`."""
    config = parse_predict_config(run.config)
    row = get_volume(store, config.volume)
    model = load_model(trained_checkpoint(workspace, store, config), config)
    volume = open_volume(workspace.volume(row.id))
    trained = parse_run_config(get_run(store, config.run).config)
    with workspace.scratch() as scratch:
        target = create_labels(
            scratch / "labels.zarr",
            PREDICTION_LAYER,
            shape_zyx=volume.shape_zyx,
            dtype=fitting_uint(max(model.values)),
            voxel_size_nm=volume.voxel_size_nm,
        )
        compare = find_comparison(store, row, volume, trained, model)

        def write(z: int, planes: NDArray[Any]) -> None:
            target[z : z + len(planes)] = planes.astype(target.dtype)
            if compare:
                compare.add(z, planes)

        for event in predict_labels(model, volume.image, config, write=write, stop=stop):
            if isinstance(event, Ended) and event.reason == "finished":
                _place(scratch / "labels.zarr", workspace.prediction(run.id))
                made = open_labels(workspace.prediction(run.id) / "labels.zarr", PREDICTION_LAYER)
                if compare:
                    yield from compare.measured(made, surfaces=config.surfaces)
                    yield Note(f"Scores are over {compare.extent}. {seen_in_training(store, row, trained)}")
                elif volume.labels is not None:
                    yield Note("The labels of the volume have other classes than the run learned: nothing is measured.")
            yield event


def _with_memory(slabs: Iterator[Slab], config: PredictConfig) -> Iterator[Slab]:
    advice = f"Predicting {config.batch_size} tiles at once does not fit into the memory: take a smaller batch."
    with out_of_memory_as(advice):
        yield from slabs


def predict_labels(
    model: TrainedModel,
    image: Array,
    config: PredictConfig,
    *,
    write: Callable[[int, NDArray[Any]], None],
    stop: Stop,
) -> Iterator[Event]:
    """Segments an image (C, Z, Y, X) and hands finished planes on; Progress after each slab, Ended at the end.

    write: called with (first plane, unsigned labels (dz, Y, X)), every plane once, in order.
    Raises ConfigError where the image has another number of channels than the network takes.
    """
    expected = model.predictor.normalisation.image_channels
    if image.shape[0] != expected:
        raise ConfigError(f"The volume has {image.shape[0]} channel(s); the network was trained on {expected}.")
    yield Started(count_tiles(image.shape[1:], model.tile, model.predictor.stride, config.overlap))
    table = np.array([0, *model.values], fitting_uint(max(model.values)))
    thresholds = config.threshold or model.thresholds
    if not config.threshold:
        named = zip(model.names, model.thresholds, strict=True)
        said = ", ".join(f"{name} above {threshold:g}" for name, threshold in named)
        yield Note(f"Thresholds that were best on the validation part of the run: {said}.")
    slabs = predict_slabs(model.predictor, image, tile=model.tile, overlap=config.overlap, batch_size=config.batch_size)
    for slab in _with_memory(slabs, config):
        write(slab.z, table[decide(slab.probabilities, model.predictor.activation, thresholds)])
        yield Progress(slab.tiles_done, slab.tiles)
        if stop() and slab.tiles_done < slab.tiles:
            yield Ended("stopped", "Stopped; an unfinished prediction is not kept.")
            return
    yield Ended("finished")


def _place(made: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / made.name
    if final.exists():
        raise SeglibError(f"{final} exists already; it was left as it is.")
    os.replace(made, final)
