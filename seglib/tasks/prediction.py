"""A prediction as a job: a trained run over one volume, written plane by plane, compared with labels if any."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seglib.checkpoints import Checkpoint, load_checkpoint
from seglib.config import PredictConfig, RunConfig, parse_predict_config, parse_run_config
from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.splits import Member, Region, split_data
from seglib.data.targets import learn, margin
from seglib.data.volumes import Array, Volume, create_labels, fitting_uint, open_volume
from seglib.errors import CheckpointError, ConfigError, SeglibError
from seglib.events import Ended, Event, Measured, Note, Progress, Started
from seglib.inference.devices import choose_device, out_of_memory_as, set_threads
from seglib.inference.predict import Predictor, Slab, count_tiles, decide, predict_slabs
from seglib.losses import outputs_of
from seglib.metrics.overlap import count_overlap, dice, iou, mean_score, no_counts
from seglib.models import build_model
from seglib.store import Store
from seglib.store.datasets import VolumeRow, get_dataset, get_summary, get_volume
from seglib.store.runs import RunRow, checkpoints, get_run
from seglib.training.advice import learned_volumes
from seglib.training.setup import make_predictor
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
    origin = _seen_in_training(store, row, trained)
    with workspace.scratch() as scratch:
        target = create_labels(
            scratch / "labels.zarr",
            PREDICTION_LAYER,
            shape_zyx=volume.shape_zyx,
            dtype=fitting_uint(max(model.values)),
            voxel_size_nm=volume.voxel_size_nm,
        )
        compare = _comparison(store, row, volume, trained, model)

        def write(z: int, planes: NDArray[Any]) -> None:
            target[z : z + len(planes)] = planes.astype(target.dtype)
            if compare:
                compare.add(z, planes)

        for event in predict_labels(model, volume.image, config, write=write, stop=stop):
            if isinstance(event, Ended) and event.reason == "finished":
                _place(scratch / "labels.zarr", workspace.prediction(run.id))
                if compare:
                    yield Measured(compare.scores())
                    yield Note(f"Scores are over {compare.extent}. {origin}")
                elif volume.labels is not None:
                    yield Note("The labels of the volume have other classes than the run learned: nothing is measured.")
            yield event


def trained_checkpoint(workspace: Workspace, store: Store, config: PredictConfig) -> Checkpoint:
    """The checkpoint a prediction asks for, checked. Raises CheckpointError where the run has none yet."""
    known = checkpoints(store, config.run)
    if config.checkpoint not in known:
        raise CheckpointError(
            f"Run {config.run} has no {config.checkpoint} checkpoint yet: it appears after the first validation."
        )
    return load_checkpoint(workspace.checkpoint(config.run, config.checkpoint), sha256=known[config.checkpoint].sha256)


def _with_memory(slabs: Iterator[Slab], config: PredictConfig) -> Iterator[Slab]:
    advice = f"Predicting {config.batch_size} tiles at once does not fit into the memory: take a smaller batch."
    with out_of_memory_as(advice):
        yield from slabs


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict, with what its run knew. tile: the training patch (z, y, x)."""

    predictor: Predictor
    tile: tuple[int, int, int]
    values: tuple[int, ...]
    names: tuple[str, ...]


def load_model(checkpoint: Checkpoint, config: PredictConfig) -> TrainedModel:
    """The network of a checkpoint on the device a prediction asks for. Raises CheckpointError where they differ."""
    device = torch.device(choose_device(config.compute.device))
    set_threads(config.compute)
    run = checkpoint.config
    outputs = outputs_of(run.loss, len(checkpoint.names))
    network = build_model(run.model, inputs=checkpoint.channels, outputs=outputs, shape=run.patches.shape)
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint's weights do not fit its own settings: {error}") from error
    network = network.to(device).eval()
    predictor = make_predictor(run, network, checkpoint.normalisation, device, config.compute.precision)
    return TrainedModel(predictor, run.patches.shape, checkpoint.values, checkpoint.names)


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
    slabs = predict_slabs(model.predictor, image, tile=model.tile, overlap=config.overlap, batch_size=config.batch_size)
    for slab in _with_memory(slabs, config):
        write(slab.z, table[decide(slab.probabilities, model.predictor.activation, config.threshold)])
        yield Progress(slab.tiles_done, slab.tiles)
        if stop() and slab.tiles_done < slab.tiles:
            yield Ended("stopped", "Stopped; an unfinished prediction is not kept.")
            return
    yield Ended("finished")


class Comparison:
    """Counts a prediction against a volume's labels while it is written.

    truth: (Z, Y, X) raw labels; scheme: how they are read; task: of the run.
    Classes are compared by their names, or as they come where there is one on both sides; voxels that were not
    annotated are left out.
    """

    def __init__(self, truth: Array, scheme: LabelScheme, task: Task, model: TrainedModel) -> None:
        self._truth, self._scheme, self._task, self._model = truth, scheme, task, model
        names = scheme.names(task)
        # Class id of the labels -> class id of the model; classes the model does not know are background to it.
        if len(names) == len(model.names) == 1:
            known = [1]
        else:
            known = [model.names.index(name) + 1 if name in model.names else 0 for name in names]
        self.comparable = any(known)
        self._ids = np.zeros(256, np.uint8)
        self._ids[1 : len(known) + 1] = known
        self._ids[IGNORE] = IGNORE
        self._counts = no_counts(len(model.values))

    def add(self, z: int, planes: NDArray[Any]) -> None:
        """Adds planes z … of predicted label values (dz, Y, X)."""
        more, depth = margin(self._scheme), self._truth.shape[0]
        low, high = max(0, z - more), min(depth, z + len(planes) + more)
        ids = learn(np.asarray(self._truth[low:high]), self._scheme, self._task)
        real = self._ids[ids[z - low : z - low + len(planes)]]
        table = np.zeros(max(self._model.values) + 1, np.uint8)
        table[list(self._model.values)] = np.arange(1, len(self._model.values) + 1)
        self._counts += count_overlap(table[planes], real, len(self._model.values))

    @property
    def extent(self) -> str:
        """What the scores are over, in words."""
        return "all annotated voxels of the volume" if self._scheme.ignore else "the whole volume"

    def scores(self) -> dict[str, float]:
        """Mean Dice and IoU, and Dice per class where there are several."""
        per_class = dice(self._counts)
        scores = {"dice": mean_score(per_class), "iou": mean_score(iou(self._counts))}
        if len(per_class) > 1:
            scores |= {f"dice/{name}": float(value) for name, value in zip(self._model.names, per_class, strict=True)}
        return scores


def _comparison(
    store: Store, row: VolumeRow, volume: Volume, config: RunConfig, model: TrainedModel
) -> Comparison | None:
    """What a prediction is measured against: the labels as the run read them, or as their own data set does."""
    if volume.labels is None:
        return None
    own = row.dataset_id == config.data.dataset
    scheme = config.data.scheme if own else get_summary(store, row.dataset_id).labels
    try:
        comparison = Comparison(volume.labels, scheme, config.data.task, model)
    except ConfigError:  # labels of another kind than the run learned
        return None
    return comparison if comparison.comparable else None


def _seen_in_training(store: Store, volume: VolumeRow, config: RunConfig) -> str:
    """A sentence that says whether the run learned from the volume, so that scores are not taken for more."""
    if volume.dataset_id != config.data.dataset:
        return "The run has never seen this volume."
    learned = learned_volumes(get_dataset(store, config.data.dataset), config)
    members = [Member(row.name, row.shape_zyx, row.group) for row in learned]
    split = split_data(members, config.split, config.length.seed)

    def holds(regions: tuple[Region, ...]) -> bool:
        return any(learned[region.volume].id == volume.id for region in regions)

    if holds(split.training) and holds(split.validation):
        return "The run learned from one part of this volume and chose its best checkpoint on the other."
    if holds(split.training):
        return "The run learned from this volume, so they say little about new data."
    if holds(split.validation):
        return "The run chose its best checkpoint on this volume, but did not learn from it."
    return "The run has never seen this volume: it was kept for the end."


def _place(made: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / made.name
    if final.exists():
        raise SeglibError(f"{final} exists already; it was left as it is.")
    os.replace(made, final)
