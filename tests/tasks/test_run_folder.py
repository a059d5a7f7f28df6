"""What a training leaves in its folder, and that a crash or a full disk at any moment leaves it readable."""

import csv
import errno
import json
import os
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

import seglib.tasks.training as module
from seglib.checkpoints import Checkpoint, load_checkpoint
from seglib.config import CheckpointConfig, LengthConfig
from seglib.data.normalise import Normalisation
from seglib.errors import TrainingError
from seglib.events import (
    CheckpointMade,
    Discarded,
    Ended,
    EpochDone,
    Note,
    Saved,
    Saving,
    Started,
    StepDone,
    ValidationDone,
)
from seglib.runfolder import history as history_module
from seglib.runfolder.states import kept_steps
from seglib.store.datasets import get_dataset
from seglib.store.runs import claim, create_run
from seglib.tasks import run_task
from tests.conftest import small_config

PER_EPOCH = 2


def never() -> bool:
    return False


@pytest.fixture
def new_run(store, dataset):
    def make(epochs=2, **checkpoints):
        config = small_config(dataset, length=LengthConfig(epochs=epochs), checkpoints=CheckpointConfig(**checkpoints))
        number = create_run(store, "train", name="n", config=config.model_dump(mode="json"), device="cpu")
        return claim(store, number, owner="me")

    return make


def checkpoint(config, step, best_score) -> Checkpoint:
    losses = [] if step % PER_EPOCH == 0 else [0.5]
    return Checkpoint(
        config=config,
        values=(1, 2),
        names=("a", "b"),
        channels=1,
        normalisation=Normalisation((0.0,), (1.0,), (3.0,), (0,)),
        voxel_size_nm=(40.0, 10.0, 10.0),
        step=step,
        epoch=max(1, -(-step // PER_EPOCH)),
        score=best_score,
        best_score=best_score,
        network={"w": torch.full((3,), float(step))},
        partial={"losses": losses},
    )


@pytest.fixture
def quick(monkeypatch):
    """The events of a training of two steps an epoch, in no time; without pictures."""
    monkeypatch.setattr(history_module, "save_curves", lambda *_, **__: None)
    monkeypatch.setattr(history_module, "local_time", lambda _: "then")

    def train(config, volumes, *, resume, weights, stop):
        total, first = config.length.epochs * PER_EPOCH, resume.step if resume else 0
        yield Started(total, first, PER_EPOCH)
        for step in range(first + 1, total + 1):
            epoch = -(-step // PER_EPOCH)
            yield StepDone(step, epoch, 1 / step, 1e-3, 1, 0.1, gradient_norm=0.5)
            saved = config.checkpoints.interval * (PER_EPOCH if config.checkpoints.unit == "epochs" else 1)
            if step % PER_EPOCH == 0:
                yield EpochDone(step, epoch, {"loss": 2 / step})
                yield ValidationDone(step, epoch, {"loss": 3 / step, "dice": step / 100}, 0.1)
                yield CheckpointMade("best", checkpoint(config, step, step / 100))
            if step % saved == 0 or step == total:
                yield CheckpointMade("last", checkpoint(config, step, step / 100))
            if stop():
                yield CheckpointMade("last", checkpoint(config, step, step / 100))
                yield Ended("stopped")
                return
        yield Ended("finished")

    monkeypatch.setattr(module, "train", train)


@pytest.fixture
def perform(workspace, store):
    """Runs a training to its end, or to its n-th event, and returns the events."""

    def run(row, *, stop=never, events=None):
        taken, task = [], run_task(workspace, store, row, stop)
        for event in task:
            taken.append(event)
            if events is not None and len(taken) == events:
                task.close()
        return taken

    return run


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def registered(events) -> set[str]:
    """Kinds of checkpoints that whoever follows the events knows of."""
    kinds = set()
    for event in events:
        if isinstance(event, Saved):
            kinds.add(event.kind)
        if isinstance(event, Discarded):
            kinds.discard(event.kind)
    return kinds


def notes(events) -> str:
    return " ".join(event.text for event in events if isinstance(event, Note))


def test_a_real_run_leaves_tables_curves_and_its_environment(workspace, store, new_run, perform, dataset):
    run = new_run()
    events = perform(run)
    folder = workspace.run(run.id)
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "environment.json",
        "history.csv",
        "steps.csv",
        "curves.png",
        "curves.svg",
        "checkpoints",
        "preview.zarr",
    }
    assert [float(row["loss"]) for row in read(workspace.steps(run.id))] == [
        event.loss for event in events if isinstance(event, StepDone)
    ]
    rows = read(workspace.history(run.id))
    for part, kind in (("train", EpochDone), ("val", ValidationDone)):
        said = [event for event in events if isinstance(event, kind)]
        assert [int(row["step"]) for row in rows] == [event.step for event in said]
        for name in said[0].scores:
            assert [row[f"{part}/{name}"] for row in rows] == [str(event.scores[name]) for event in said]
    environment = json.loads(workspace.environment(run.id).read_text())
    assert environment["compute"]["device"] == "cpu"
    assert environment["compute"]["threads"] == 1
    assert environment["compute"]["precision"] in ("float32", "bfloat16")
    volumes = get_dataset(store, dataset).volumes
    assert [volume["sha256"] for volume in environment["data"]] == [volume.fingerprint for volume in volumes]
    assert not list(folder.rglob("*.tmp"))


def test_a_real_run_that_was_stopped_leaves_the_tables_of_one_that_was_not(workspace, new_run, perform, monkeypatch):
    monkeypatch.setattr(history_module, "save_curves", lambda *_, **__: None)
    monkeypatch.setattr(history_module, "local_time", lambda _: "then")
    whole, parts = new_run(keep="all"), new_run(keep="all")
    perform(whole)
    asked = iter([False, False, False, True])
    perform(parts, stop=lambda: next(asked, True))
    perform(replace(parts, attempt=2))
    for path_of in (workspace.history, workspace.steps):
        assert path_of(parts.id).read_bytes() == path_of(whole.id).read_bytes()
    assert kept_steps(workspace, parts.id) == kept_steps(workspace, whole.id) == [2, 4]


def test_all_states_are_kept_each_able_to_go_on_or_predict(workspace, new_run, perform, quick):
    run = new_run(epochs=4, keep="all")
    events = perform(run)
    assert kept_steps(workspace, run.id) == [2, 4, 6, 8]
    saved = {event.kind: event for event in events if isinstance(event, Saved)}
    for step in (2, 4, 6, 8):
        kind = f"step-{step:07d}"
        found = load_checkpoint(workspace.checkpoint(run.id, kind), sha256=saved[kind].sha256)
        assert (found.step, saved[kind].step, saved[kind].score) == (step, step, step / 100)
        assert found.network["w"].tolist() == [step] * 3
    assert registered(events) == {"last", "best", *(f"step-{step:07d}" for step in (2, 4, 6, 8))}


def test_beyond_the_most_the_oldest_goes_but_never_best_or_last(workspace, new_run, perform, quick):
    run = new_run(epochs=6, keep="all", every=2, most=2)
    assert Discarded("step-0000004") in perform(run)
    assert kept_steps(workspace, run.id) == [8, 12]
    for kind in ("best", "last"):
        assert load_checkpoint(workspace.checkpoint(run.id, kind)).step == 12


def test_a_state_is_said_to_go_while_it_is_still_there(workspace, store, new_run, quick):
    """So whoever registered it never knows of a file that is gone."""
    run = new_run(epochs=3, keep="all", most=1)
    seen = []
    for event in run_task(workspace, store, run, never):
        if isinstance(event, Discarded):
            seen.append(event.kind)
            assert workspace.checkpoint(run.id, event.kind).exists()
    assert seen == ["step-0000002", "step-0000004"]
    assert kept_steps(workspace, run.id) == [6]


def test_with_the_last_only_no_best_one_is_written(workspace, new_run, perform, quick):
    run = new_run(keep="last")
    assert registered(perform(run)) == {"last"}
    names = {path.name for path in workspace.checkpoint(run.id, "last").parent.iterdir()}
    assert names == {"last.pt", "previous.pt"}


@pytest.mark.parametrize(
    ("keep", "stride"), [({"keep": "all", "most": 2}, 1), ({"keep": "all", "unit": "iterations", "every": 3}, 3)]
)
def test_cut_off_after_any_event_the_run_goes_on_to_the_same_files(workspace, new_run, perform, quick, keep, stride):
    whole = new_run(epochs=3, **keep)
    count = len(perform(whole))
    for cut in range(1, count, stride):
        run = new_run(epochs=3, **keep)
        first = perform(run, events=cut)
        for path in workspace.checkpoint(run.id, "last").parent.glob("*.pt"):
            load_checkpoint(path)
        for path_of in (workspace.history, workspace.steps):
            if path_of(run.id).exists():
                assert all(row["step"].isdigit() and None not in row.values() for row in read(path_of(run.id)))
        second = perform(replace(run, attempt=2))
        for path_of in (workspace.history, workspace.steps):
            assert path_of(run.id).read_bytes() == path_of(whole.id).read_bytes()
        assert kept_steps(workspace, run.id) == kept_steps(workspace, whole.id)
        there = {path.stem for path in workspace.checkpoint(run.id, "last").parent.glob("*.pt")} - {"previous"}
        assert registered([*first, *second]) == there
        assert not list(workspace.run(run.id).rglob("*.tmp"))


def test_states_later_than_where_it_goes_on_are_made_again(workspace, new_run, perform, quick):
    run = new_run(epochs=3, keep="all")
    perform(run)
    last = workspace.checkpoint(run.id, "last")
    last.unlink()  # the file of step 6 has another name still, but is damaged
    workspace.checkpoint(run.id, "step-0000006").write_bytes(b"damaged")
    events = perform(replace(run, attempt=2))
    assert "Going on after step 4." in notes(events)
    assert Discarded("step-0000006") in events
    assert load_checkpoint(workspace.checkpoint(run.id, "step-0000006")).step == 6


def test_where_last_and_previous_are_damaged_the_newest_kept_state_is_taken(workspace, new_run, perform, quick):
    run = new_run(epochs=4, keep="all", interval=1, every=2)
    perform(run)
    for kind in ("last", "previous", "step-0000008"):
        path = workspace.checkpoint(run.id, kind)
        path.unlink()
        path.write_bytes(b"damaged")
    assert "Going on after step 4." in notes(perform(replace(run, attempt=2)))


@contextmanager
def full_disk_for(names, monkeypatch):
    """Nothing can be renamed into a file of such a name."""
    rename = os.replace

    def refuse(source, target):
        if any(name in str(target) for name in names):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        yield


def test_a_full_disk_for_what_is_not_a_checkpoint_is_noted_and_nothing_else(
    workspace, new_run, perform, quick, monkeypatch
):
    run = new_run(keep="all")
    with full_disk_for(("history.csv", "steps.csv", "environment.json", "config.json", "step-0"), monkeypatch):
        events = perform(run)
    said = notes(events)
    for name in ("history.csv", "steps.csv", "environment.json", "config.json"):
        assert said.count(f"{name} cannot be written (No space left on device)") == 1
    assert said.count("could not be kept beside the last one (No space left on device)") == 2
    assert events[-1] == Ended("finished")
    assert load_checkpoint(workspace.checkpoint(run.id, "last")).step == 4
    assert registered(events) == {"last", "best"}


def test_a_kept_state_that_cannot_be_deleted_is_noted_and_tried_again(workspace, new_run, perform, quick, monkeypatch):
    run = new_run(epochs=3, keep="all", most=1)
    path = workspace.checkpoint(run.id, "step-0000002")
    unlink = type(path).unlink

    def refuse(self, missing_ok=False):
        if self == path and load_checkpoint(workspace.checkpoint(run.id, "last")).step < 6:
            raise PermissionError(errno.EACCES, "in use")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(type(path), "unlink", refuse)
    assert "The state of step 2 could not be deleted (in use)." in notes(perform(run))
    assert kept_steps(workspace, run.id) == [6]


def test_a_run_that_fails_leaves_its_tables_and_curves(workspace, new_run, perform, monkeypatch):
    def train(*_, **__):
        yield Started(4)
        yield StepDone(1, 1, 0.5, 1e-3, 1, 0.1)
        raise TrainingError("The loss became nan.")

    monkeypatch.setattr(module, "train", train)
    run = new_run()
    with pytest.raises(TrainingError, match="became nan"):
        perform(run)
    assert [row["loss"] for row in read(workspace.steps(run.id))] == ["0.5"]
    assert workspace.curves(run.id).exists()


def test_curves_that_cannot_be_drawn_are_noted_before_the_end(new_run, perform, quick, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(history_module, "save_curves", broken)
    events = perform(new_run())
    assert notes(events).count("no fonts") == 1
    assert events[-1] == Ended("finished")


def test_what_is_kept_of_the_last_needs_no_saving_of_its_own(new_run, perform, quick):
    events = perform(new_run(keep="all"))
    for event in events:
        if isinstance(event, Saving):
            assert event.kind in ("last", "best")
