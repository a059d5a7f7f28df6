"""A training as a job: files in the workspace, and going on from them."""

import json
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import zarr

import seglib.tasks.training
from seglib.checkpoints import load_checkpoint
from seglib.config import LengthConfig
from seglib.data.volumes import TRUTH, open_labels, open_volume
from seglib.errors import CheckpointError, ConfigError
from seglib.events import Ended, Note, PreviewSaved, Saved, Saving, Started, StepDone
from seglib.store.datasets import get_dataset
from seglib.store.runs import claim, create_run
from seglib.tasks import run_task
from tests.conftest import import_two_classes, small_config


@pytest.fixture
def new_run(store, dataset):
    def make(**changes):
        config = small_config(dataset, length=LengthConfig(epochs=2), **changes)
        number = create_run(store, "train", name="n", config=config.model_dump(mode="json"), device="cpu")
        return claim(store, number, owner="me")

    return make


def never() -> bool:
    return False


def notes(events) -> str:
    return " ".join(event.text for event in events if isinstance(event, Note))


def test_a_run_leaves_its_settings_checkpoints_and_previews(workspace, store, new_run):
    run = new_run()
    events = list(run_task(workspace, store, run, never))
    folder = workspace.run(run.id)
    assert json.loads((folder / "config.json").read_text()) == run.config
    saved = {event.kind: event for event in events if isinstance(event, Saved)}
    for kind in ("best", "last"):
        found = load_checkpoint(workspace.checkpoint(run.id, kind), sha256=saved[kind].sha256)
        assert (found.step, found.epoch, found.score) == (saved[kind].step, saved[kind].epoch, saved[kind].score)
        assert (found.values, found.names) == ((1, 2), ("class 1", "class 2"))
        assert found.voxel_size_nm == (40.0, 10.0, 10.0)
    assert load_checkpoint(workspace.checkpoint(run.id, "previous")).step == 2
    assert events[-1] == Ended("finished")
    assert not list(folder.rglob("*.tmp"))


def test_previews_are_layers_of_one_volume(workspace, store, new_run, dataset):
    run = new_run()
    layers = [e.layer for e in run_task(workspace, store, run, never) if isinstance(e, PreviewSaved)]
    assert layers == ["step-0000002", "step-0000004"]
    shown = open_volume(workspace.preview(run.id))
    (first, *_) = get_dataset(store, dataset).volumes
    truth = open_labels(workspace.volume(first.id), TRUTH)
    assert shown.voxel_size_nm == (40.0, 10.0, 10.0)
    # The validation block is the last fifth (7 rows) along y.
    assert shown.image.shape == (1, 8, 7, 32)
    assert np.array_equal(shown.labels[:], truth[:, 25:])
    for layer in layers:
        assert open_labels(workspace.preview(run.id), layer).shape == (8, 7, 32)
    names = zarr.open_group(str(workspace.preview(run.id)), mode="r")["labels"].attrs["ome"]["labels"]
    assert names == sorted([TRUTH, *layers])


def test_before_each_checkpoint_the_recorder_is_told(workspace, store, new_run):
    events = list(run_task(workspace, store, new_run(), never))
    before = [(earlier, later) for earlier, later in pairwise(events) if isinstance(later, Saved)]
    assert before
    assert all(earlier == Saving(later.kind) for earlier, later in before)


def test_a_second_attempt_goes_on_after_the_last_checkpoint(workspace, store, new_run):
    run = new_run()
    stopped = list(run_task(workspace, store, run, lambda: True))
    assert stopped[-1].reason == "stopped"
    assert [e.step for e in stopped if isinstance(e, StepDone)] == [1]
    events = list(run_task(workspace, store, replace(run, attempt=2), never))
    assert "Going on after step 1." in notes(events)
    assert next(e for e in events if isinstance(e, Started)) == Started(total=4, done=1, steps_per_validation=2)
    assert [e.step for e in events if isinstance(e, StepDone)] == [2, 3, 4]


def test_a_damaged_last_checkpoint_is_told_and_the_one_before_taken(workspace, store, new_run):
    run = new_run()
    list(run_task(workspace, store, run, never))
    last = workspace.checkpoint(run.id, "last")
    last.write_bytes(last.read_bytes()[:1000])
    events = list(run_task(workspace, store, replace(run, attempt=2), never))
    assert "last.pt is damaged or cut short. An older one is tried. Going on after step 2." in notes(events)
    assert [e.step for e in events if isinstance(e, StepDone)] == [3, 4]


def test_without_any_checkpoint_a_second_attempt_says_that_it_begins_anew(workspace, store, new_run):
    events = list(run_task(workspace, store, replace(new_run(), attempt=2), never))
    assert "There is no checkpoint yet: starting from the beginning." in notes(events)


def test_a_crash_while_the_preview_is_made_leaves_no_half_preview(workspace, store, new_run, monkeypatch):
    run = new_run()

    def crash(*_):
        raise OSError("the process ended here")

    with monkeypatch.context() as patched:
        patched.setattr(seglib.tasks.training, "set_contrast", crash)
        with pytest.raises(OSError, match="ended here"):
            list(run_task(workspace, store, run, never))
    assert not workspace.preview(run.id).exists()
    list(run_task(workspace, store, run, never))
    assert open_volume(workspace.preview(run.id)).labels is not None


def test_a_full_disk_at_the_checkpoint_is_an_error_with_the_folder_in_it(workspace, store, new_run, monkeypatch):
    run = new_run()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=f"could not be written to .*runs.{run.id}.checkpoints.*No space left"):
        list(run_task(workspace, store, run, never))


def test_a_data_set_without_labels_is_refused_by_name(workspace, store, tmp_path):
    bare = import_two_classes(workspace, store, tmp_path / "bare", name="Bare", labelled=False)
    config = small_config(bare)
    config = config.model_copy(update={"data": config.data.model_copy(update={"task": "foreground"})})
    number = create_run(store, "train", name="n", config=config.model_dump(mode="json"), device="cpu")
    with pytest.raises(ConfigError, match="Bare has no labels"):
        list(run_task(workspace, store, claim(store, number, owner="me"), never))
