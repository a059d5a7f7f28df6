"""A training run as a job: opens its data, goes on from its last checkpoint, writes what the loop makes."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from seglib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from seglib.config import RunConfig, parse_run_config
from seglib.data.volumes import (
    TRUTH,
    Volume,
    VoxelSize,
    create_labels,
    create_volume,
    fitting_uint,
    open_volume,
    set_contrast,
)
from seglib.errors import CheckpointError, ConfigError
from seglib.events import CheckpointMade, Event, Note, PreviewMade, PreviewSaved, Saved, Saving
from seglib.store import Store
from seglib.store.datasets import DatasetRow, get_dataset
from seglib.store.runs import RunRow
from seglib.tasks.weights import starting_weights
from seglib.training.advice import learned_volumes, with_labels
from seglib.training.loop import train
from seglib.training.setup import NEEDS_LABELS
from seglib.workspace import Workspace

Stop = Callable[[], bool]


def training_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a training run, see `run_task`."""
    config = parse_run_config(run.config)
    dataset = get_dataset(store, config.data.dataset)
    # A run from before there were label schemes does not say how labels are read.
    config = with_labels(config, dataset.labels)
    _write_config(workspace.run(run.id), run)
    resume, problems = latest_checkpoint(workspace, run.id)
    yield from (Note(text) for text in problems)
    if resume:
        yield Note(f"Going on after step {resume.step}.")
    elif run.attempt > 1:
        yield Note("There is no checkpoint yet: starting from the beginning.")
    volumes = open_dataset(workspace, dataset, config)
    weights = None if resume else starting_weights(workspace, store, config)
    for event in train(config, volumes, resume=resume, weights=weights, stop=stop):
        match event:
            case CheckpointMade(kind, checkpoint):
                yield Saving(kind)
                yield _save(workspace, run.id, kind, checkpoint)
            case PreviewMade():
                yield _save_preview(workspace.preview(run.id), event)
            case _:
                yield event


def open_dataset(workspace: Workspace, dataset: DatasetRow, config: RunConfig) -> list[Volume]:
    """The volumes a run is about, nothing read yet. Raises ConfigError where there are none."""
    rows = learned_volumes(dataset, config)
    if not rows:
        raise ConfigError(f"{dataset.name} has no labels, and {NEEDS_LABELS}")
    return [open_volume(workspace.volume(row.id), group=row.group) for row in rows]


def latest_checkpoint(workspace: Workspace, run_id: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a run that is whole, or None; and a sentence for each that is damaged."""
    problems: list[str] = []
    for kind in ("last", "previous"):
        path = workspace.checkpoint(run_id, kind)
        if not path.exists():
            continue
        try:
            return load_checkpoint(path), problems
        except CheckpointError as error:
            problems.append(f"{error} An older one is tried.")
    return None, problems


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
        _add_layer(unfinished, TRUTH, event.labels, event.voxel_size_nm)
        os.replace(unfinished, path)
    layer = f"step-{event.step:07d}"
    _add_layer(path, layer, event.prediction, event.voxel_size_nm)
    return PreviewSaved(event.step, event.epoch, layer)


def _add_layer(path: Path, layer: str, labels: NDArray[Any], voxel_size_nm: VoxelSize) -> None:
    depth, height, width = labels.shape
    array = create_labels(
        path,
        layer,
        shape_zyx=(depth, height, width),
        dtype=fitting_uint(int(labels.max(initial=0))),
        voxel_size_nm=voxel_size_nm,
    )
    array[:] = labels.astype(array.dtype)
