"""Training and prediction as whole jobs: a stored run in, events out, files in the workspace.

The generators here turn what the loops make (checkpoints, previews, slabs) into files and say so; they do not
write to the store. Whoever drives them does.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seglib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from seglib.config import PredictConfig, RunConfig, parse_predict_config, parse_run_config
from seglib.data.targets import class_ids
from seglib.data.volumes import (
    Array,
    Volume,
    VoxelSize,
    create_labels,
    create_volume,
    fitting_uint,
    open_volume,
    set_contrast,
)
from seglib.errors import CheckpointError, ConfigError, SeglibError
from seglib.events import (
    CheckpointMade,
    Ended,
    Event,
    Measured,
    Note,
    PreviewMade,
    PreviewSaved,
    Progress,
    Saved,
    Started,
)
from seglib.inference.devices import choose_device, set_threads, use_half
from seglib.inference.predict import Predictor, count_tiles, decide, predict_slabs
from seglib.losses import activation_of, outputs_of
from seglib.metrics.overlap import Counts, count_overlap, dice, iou, mean_score, no_counts
from seglib.models import build_model, model_stride
from seglib.store import Store
from seglib.store.datasets import DatasetRow, get_dataset, get_volume
from seglib.store.runs import RunRow, checkpoints, get_run
from seglib.training.loop import train
from seglib.workspace import Workspace

PREDICTION_LAYER = "prediction"
Stop = Callable[[], bool]


def run_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a stored run; files appear in the workspace as it goes.

    stop: asked after every batch or slab. Raises SeglibError with a sentence for whatever a person can mend.
    """
    if run.kind == "train":
        yield from _train(workspace, store, run, stop)
    else:
        yield from _predict(workspace, store, run, stop)


def classes_of(dataset: DatasetRow, config: RunConfig) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Label values and names of the classes a run learns.

    Raises ConfigError where the data set's labels are not classes and the task asks for them.
    """
    if config.data.task == "foreground":
        return (1,), ("foreground",)
    if dataset.label_kind != "classes":
        raise ConfigError(
            f"The labels of {dataset.name} are {'ids of single objects' if dataset.volumes else 'missing'}, "
            "not classes: choose the task Foreground."
        )
    values = dataset.label_values
    return values, tuple(dataset.class_names.get(value, f"class {value}") for value in values)


def open_dataset(workspace: Workspace, dataset: DatasetRow) -> list[Volume]:
    """The labelled volumes of a data set, nothing read yet. Raises ConfigError where there are none."""
    labelled = [row for row in dataset.volumes if row.has_labels]
    if not labelled:
        raise ConfigError(f"{dataset.name} has no labels, and training needs them: import it with labels.")
    return [open_volume(workspace.volume(row.id), group=row.group) for row in labelled]


def latest_checkpoint(workspace: Workspace, run_id: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a run that is whole, or None; and a sentence for each that is damaged."""
    problems = []
    for kind in ("last", "previous"):
        path = workspace.checkpoint(run_id, kind)
        if not path.exists():
            continue
        try:
            return load_checkpoint(path), problems
        except CheckpointError as error:
            problems.append(f"{error} An older one is tried.")
    return None, problems


def _train(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    config = parse_run_config(run.config)
    dataset = get_dataset(store, config.data.dataset)
    values, names = classes_of(dataset, config)
    _write_config(workspace.run(run.id), run)
    resume, problems = latest_checkpoint(workspace, run.id)
    yield from (Note(text) for text in problems)
    if resume:
        yield Note(f"Going on after step {resume.step}.")
    elif run.attempt > 1:
        yield Note("There is no checkpoint yet: starting from the beginning.")
    volumes = open_dataset(workspace, dataset)
    for event in train(config, volumes, values=values, names=names, resume=resume, stop=stop):
        match event:
            case CheckpointMade(kind, checkpoint):
                yield _save(workspace, run.id, kind, checkpoint)
            case PreviewMade():
                yield _save_preview(workspace.preview(run.id), event)
            case _:
                yield event


def _write_config(folder: Path, run: RunRow) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "config.json.tmp"
    temporary.write_text(json.dumps(run.config, indent=2), encoding="utf-8")
    os.replace(temporary, folder / "config.json")


def _save(workspace: Workspace, run_id: int, kind: str, checkpoint: Checkpoint) -> Saved:
    keep = workspace.checkpoint(run_id, "previous") if kind == "last" else None
    digest = save_checkpoint(checkpoint, workspace.checkpoint(run_id, kind), keep=keep)
    return Saved(kind, checkpoint.step, checkpoint.epoch, digest, checkpoint.score)


def _save_preview(path: Path, event: PreviewMade) -> PreviewSaved:
    depth, height, width = event.labels.shape
    if not path.exists():
        # Under another name until it is whole, as a crash may come between the image and its labels.
        unfinished = path.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        image = create_volume(
            unfinished,
            name="preview",
            shape_czyx=(event.image.shape[0], depth, height, width),
            dtype=event.image.dtype,
            voxel_size_nm=event.voxel_size_nm,
        )
        image[:] = event.image
        set_contrast(unfinished, event.contrast)
        _add_layer(unfinished, "labels", event.labels, event.voxel_size_nm)
        os.replace(unfinished, path)
    layer = f"step-{event.step:07d}"
    _add_layer(path, layer, event.prediction, event.voxel_size_nm)
    return PreviewSaved(event.step, event.epoch, layer)


def _add_layer(path: Path, layer: str, labels: np.ndarray, voxel_size_nm: VoxelSize) -> None:
    depth, height, width = labels.shape
    array = create_labels(
        path, layer, shape_zyx=(depth, height, width), dtype=fitting_uint(int(labels.max(initial=0))), voxel_size_nm=voxel_size_nm
    )
    array[:] = labels.astype(array.dtype)


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
    network = build_model(run.model, inputs=checkpoint.channels, outputs=outputs_of(run.loss, len(checkpoint.names)))
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint's weights do not fit its own settings: {error}") from error
    predictor = Predictor(
        network=network.to(device).eval(),
        normalisation=checkpoint.normalisation,
        activation=activation_of(run.loss),
        stride=model_stride(run.model),
        device=device,
        half=use_half(device, config.compute.precision),
    )
    return TrainedModel(predictor, run.patches.shape, checkpoint.values, checkpoint.names)


def predict_labels(
    model: TrainedModel, image: Array, config: PredictConfig, *, write: Callable[[int, np.ndarray], None], stop: Stop
) -> Iterator[Event]:
    """Segments an image (C, Z, Y, X) and hands finished planes on; Progress after each slab, Ended at the end.

    write: called with (first plane, uint16 labels (dz, Y, X)), every plane once, in order.
    Raises ConfigError where the image has another number of channels than the network takes.
    """
    expected = len(model.predictor.normalisation.low)
    if image.shape[0] != expected:
        raise ConfigError(f"The volume has {image.shape[0]} channel(s); the network was trained on {expected}.")
    yield Started(count_tiles(image.shape[1:], model.tile, model.predictor.stride, config.overlap))
    table = np.array([0, *model.values], np.uint16)
    slabs = predict_slabs(
        model.predictor, image, tile=model.tile, overlap=config.overlap, batch_size=config.batch_size
    )
    for slab in slabs:
        write(slab.z, table[decide(slab.probabilities, model.predictor.activation, config.threshold)])
        yield Progress(slab.tiles_done, slab.tiles)
        if stop() and slab.tiles_done < slab.tiles:
            yield Ended("stopped", "Stopped; an unfinished prediction is not kept.")
            return
    yield Ended("finished")


def _predict(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    config = parse_predict_config(run.config)
    row = get_volume(store, config.volume)
    model = load_model(trained_checkpoint(workspace, store, config), config)
    volume = open_volume(workspace.volume(row.id))
    trained_on = parse_run_config(get_run(store, config.run).config).data.dataset
    with workspace.scratch() as scratch:
        target = create_labels(
            scratch / "labels.zarr",
            PREDICTION_LAYER,
            shape_zyx=volume.shape_zyx,
            dtype=fitting_uint(max(model.values)),
            voxel_size_nm=volume.voxel_size_nm,
        )
        compare = _Comparison(volume, model, row.dataset_id == trained_on)

        def write(z: int, planes: np.ndarray) -> None:
            target[z : z + len(planes)] = planes.astype(target.dtype)
            compare.add(z, planes)

        for event in predict_labels(model, volume.image, config, write=write, stop=stop):
            if isinstance(event, Ended) and event.reason == "finished":
                _place(scratch / "labels.zarr", workspace.prediction(run.id))
                yield from compare.events()
            yield event


class _Comparison:
    """Counts a prediction against the volume's labels while it is written, where there are labels."""

    def __init__(self, volume: Volume, model: TrainedModel, same_dataset: bool) -> None:
        self._truth = volume.labels
        self._model = model
        self._same_dataset = same_dataset
        self._counts: Counts = no_counts(len(model.values))

    def add(self, z: int, planes: np.ndarray) -> None:
        if self._truth is None:
            return
        truth = np.asarray(self._truth[z : z + len(planes)])
        if len(self._model.values) == 1:
            found, real = (planes > 0).astype(np.uint8), (truth > 0).astype(np.uint8)
        else:
            known = np.where(np.isin(truth, self._model.values), truth, 0)
            found, real = (class_ids(labels, "classes", self._model.values) for labels in (planes, known))
        self._counts += count_overlap(found, real, len(self._model.values))

    def events(self) -> Iterator[Event]:
        if self._truth is None:
            return
        per_class = dice(self._counts)
        scores = {"dice": mean_score(per_class), "iou": mean_score(iou(self._counts))}
        if len(per_class) > 1:
            scores |= {f"dice/{name}": float(value) for name, value in zip(self._model.names, per_class, strict=True)}
        yield Measured(scores)
        if self._same_dataset:
            yield Note("The run was trained on this data set: these scores include voxels it learned from.")


def trained_checkpoint(workspace: Workspace, store: Store, config: PredictConfig) -> Checkpoint:
    """The checkpoint a prediction asks for, checked. Raises CheckpointError where the run has none yet."""
    known = checkpoints(store, config.run)
    if config.checkpoint not in known:
        raise CheckpointError(
            f"Run {config.run} has no {config.checkpoint} checkpoint yet: it appears after the first validation."
        )
    return load_checkpoint(
        workspace.checkpoint(config.run, config.checkpoint), sha256=known[config.checkpoint].sha256
    )


def _place(made: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / made.name
    if final.exists():
        raise SeglibError(f"{final} exists already; it was left as it is.")
    os.replace(made, final)
