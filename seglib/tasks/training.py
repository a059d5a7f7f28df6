"""A training run as a job: opens its data, goes on from its last checkpoint, writes what the loop makes."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from seglib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from seglib.config import DeviceConfig, RunConfig, parse_run_config
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
from seglib.events import CheckpointMade, Discarded, Event, Note, PreviewMade, PreviewSaved, Saved, Saving, Started
from seglib.inference.devices import choose_device, half_type
from seglib.runfolder.environment import write_environment
from seglib.runfolder.files import write_atomically
from seglib.runfolder.history import History
from seglib.runfolder.states import is_kept, keep_last, kept_steps, state_path, surplus
from seglib.store import Store
from seglib.store.datasets import DatasetRow, VolumeRow, get_dataset
from seglib.store.runs import RunRow
from seglib.tasks.weights import starting_weights
from seglib.training.advice import learned_volumes, with_labels
from seglib.training.loop import train
from seglib.training.setup import NEEDS_LABELS
from seglib.workspace import Workspace, step_name

Stop = Callable[[], bool]


def training_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a training run, see `run_task`."""
    config = parse_run_config(run.config)
    dataset = get_dataset(store, config.data.dataset)
    # A run from before there were label schemes does not say how labels are read.
    config = with_labels(config, dataset.labels)
    yield from _write_config(workspace.config(run.id), run)
    resume, problems = latest_checkpoint(workspace, run.id)
    yield from (Note(text) for text in problems)
    if resume:
        yield Note(f"Going on after step {resume.step}.")
    elif run.attempt > 1:
        yield Note("There is no checkpoint yet: starting from the beginning.")
    volumes = open_dataset(workspace, dataset, config)
    weights = None if resume else starting_weights(workspace, store, config)
    history = History(workspace, run.id, best_by=config.validation.best_by)
    try:
        for event in train(config, volumes, resume=resume, weights=weights, stop=stop):
            yield from _notes(history.take(event))
            match event:
                case Started(done=done):
                    yield event
                    yield from _write_environment(workspace, run.id, config, learned_volumes(dataset, config))
                    yield from _discard_after(workspace, run.id, config, done)
                    if resume and done == resume.step and not problems:
                        yield from _keep(workspace, run.id, config, resume)
                case CheckpointMade():
                    yield from _save(workspace, run.id, config, event)
                    yield from _notes(history.draw())
                case PreviewMade():
                    yield _save_preview(workspace.preview(run.id), event)
                case _:
                    yield event
    except Exception:  # the curves of a run that failed are looked at the most
        yield from _notes(history.close())
        raise


def open_dataset(workspace: Workspace, dataset: DatasetRow, config: RunConfig) -> list[Volume]:
    """The volumes a run is about, nothing read yet. Raises ConfigError where there are none."""
    rows = learned_volumes(dataset, config)
    if not rows:
        raise ConfigError(f"{dataset.name} has no labels, and {NEEDS_LABELS}")
    return [open_volume(workspace.volume(row.id), group=row.group) for row in rows]


def latest_checkpoint(workspace: Workspace, run_id: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a run that is whole, or None; and a sentence for each that is damaged."""
    problems: list[str] = []
    for kind in ("last", "previous", *map(step_name, reversed(kept_steps(workspace, run_id)))):
        path = workspace.checkpoint(run_id, kind)
        if not path.exists():
            continue
        try:
            return load_checkpoint(path), problems
        except CheckpointError as error:
            problems.append(f"{error} An older one is tried.")
    return None, problems


def _notes(texts: Iterable[str]) -> Iterator[Event]:
    yield from (Note(text) for text in texts)


def _write_config(path: Path, run: RunRow) -> Iterator[Event]:
    try:
        write_atomically(path, json.dumps(run.config, indent=2).encode())
    except OSError as error:
        yield Note(f"{path.name} cannot be written ({error.strerror or error}).")


def _write_environment(
    workspace: Workspace, run_id: int, config: RunConfig, volumes: Sequence[VolumeRow]
) -> Iterator[Event]:
    data = [
        {
            "id": volume.id,
            "name": volume.name,
            "shape_czyx": volume.shape_czyx,
            "dtype": volume.dtype,
            "voxel_size_nm": volume.voxel_size_nm,
            "sha256": volume.fingerprint,
        }
        for volume in volumes
    ]
    try:
        write_environment(workspace.environment(run_id), compute=_computed_with(config.compute), data=data)
    except OSError as error:
        yield Note(f"environment.json cannot be written ({error.strerror or error}).")


def _computed_with(compute: DeviceConfig) -> dict[str, Any]:
    """What `auto` came to, once the training is set up."""
    device = torch.device(choose_device(compute.device))
    precision = half_type(device, compute.precision) or torch.float32
    return {
        "device": str(device),
        "precision": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _save(workspace: Workspace, run_id: int, config: RunConfig, made: CheckpointMade) -> Iterator[Event]:
    kind, checkpoint = made.kind, made.checkpoint
    if kind == "best" and config.checkpoints.keep == "last":
        return
    yield Saving(kind)
    keep = workspace.checkpoint(run_id, "previous") if kind == "last" else None
    digest = save_checkpoint(checkpoint, workspace.checkpoint(run_id, kind), keep=keep)
    yield Saved(kind, checkpoint.step, checkpoint.epoch, digest, checkpoint.score)
    if kind == "last":
        yield from _keep(workspace, run_id, config, checkpoint)


def _keep(workspace: Workspace, run_id: int, config: RunConfig, checkpoint: Checkpoint) -> Iterator[Event]:
    """Keeps the last checkpoint under its step, where it is one that stays; the oldest beyond the most go.

    Also done when a run goes on, as a crash may have come between the checkpoint and this.
    """
    step, epoch, last = checkpoint.step, checkpoint.epoch, workspace.checkpoint(run_id, "last")
    # The sums of an epoch are empty once it has ended.
    epoch_ended = not checkpoint.partial.get("losses")
    if not is_kept(config.checkpoints, step=step, epoch=epoch, epoch_ended=epoch_ended) or not last.exists():
        return
    try:
        keep_last(workspace, run_id, step)
        with last.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        yield Note(f"The state of step {step} could not be kept beside the last one ({error.strerror or error}).")
        return
    yield Saved(step_name(step), step, epoch, digest, checkpoint.score)
    yield from _discard(workspace, run_id, surplus(config.checkpoints, kept_steps(workspace, run_id)))


def _discard_after(workspace: Workspace, run_id: int, config: RunConfig, step: int) -> Iterator[Event]:
    """Deletes kept states later than `step`, which the run will make again."""
    if config.checkpoints.keep == "all":
        yield from _discard(workspace, run_id, [kept for kept in kept_steps(workspace, run_id) if kept > step])


def _discard(workspace: Workspace, run_id: int, steps: Iterable[int]) -> Iterator[Event]:
    for step in steps:
        yield Discarded(step_name(step))
        try:
            state_path(workspace, run_id, step).unlink(missing_ok=True)
        except OSError as error:  # Windows deletes no file that something reads; the next save tries again
            yield Note(f"The state of step {step} could not be deleted ({error.strerror or error}).")


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
    layer = step_name(event.step)
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
