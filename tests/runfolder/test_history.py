"""Tables and curves follow the events, and nothing that goes wrong with them ends a training."""

import csv
import errno
import os

import pytest

import seglib.runfolder.history as module
from seglib.events import CheckpointMade, Ended, EpochDone, Note, Started, StepDone, ValidationDone
from seglib.runfolder.history import FLUSH_ROWS, History


def step_done(step, **changes):
    given = {"epoch": -(-step // 4), "loss": 1 / step, "learning_rate": 1e-3, "patches": 2, "seconds": 0.1}
    return StepDone(step, **(given | {"gradient_norm": 0.5} | changes))


def events(last, first=1):
    """Steps, epochs of four of them, and a validation every second epoch."""
    for step in range(first, last + 1):
        yield step_done(step)
        if step % 4 == 0:
            yield EpochDone(step, step // 4, {"loss": 0.5 / step, "dice": 0.25})
        if step % 8 == 0:
            yield ValidationDone(step, step // 4, {"loss": 2 / step, "dice/a, b\n": 0.5, "iou": float("nan")}, 1.0)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def history(workspace):
    return History(workspace, 1, best_by="dice")


def take_all(history, those):
    return [text for event in those for text in history.take(event)]


def test_tables_hold_what_the_events_say(workspace, history):
    assert take_all(history, [Started(16), Note("x"), *events(16), Ended("finished")]) == []
    steps = read(workspace.steps(1))
    assert [int(row["step"]) for row in steps] == list(range(1, 17))
    assert [float(row["loss"]) for row in steps] == [1 / step for step in range(1, 17)]
    assert {(row["learning_rate"], row["gradient_norm"]) for row in steps} == {("0.001", "0.5")}
    rows = read(workspace.history(1))
    assert [(row["step"], row["epoch"]) for row in rows] == [("4", "1"), ("8", "2"), ("12", "3"), ("16", "4")]
    assert list(rows[0])[:3] == ["step", "epoch", "time"]
    assert [row["val/loss"] for row in rows] == ["", "0.25", "", "0.125"]
    assert rows[1]["val/dice/a, b"] == "0.5"
    assert rows[1]["val/iou"] == "nan"
    assert rows[0]["train/dice"] == "0.25"
    for name in ("curves.png", "curves.svg"):
        assert (workspace.run(1) / name).stat().st_size > 1000


def test_every_row_is_on_disk_as_soon_as_it_is_known(workspace, history):
    take_all(history, [Started(16), *events(4)])
    assert [row["step"] for row in read(workspace.history(1))] == ["4"]
    assert len(read(workspace.steps(1))) == 4


def test_steps_are_written_many_at_a_time_and_all_of_them_before_a_checkpoint(workspace, history, monkeypatch):
    flushed = []
    flush = module.Table.flush
    monkeypatch.setattr(module.Table, "flush", lambda table, **how: (flushed.append(how), flush(table, **how))[1])
    monkeypatch.setattr(module, "FLUSH_S", 1e9)
    take_all(history, [Started(10_000), *(step_done(step) for step in range(1, 2 * FLUSH_ROWS + 7))])
    assert len(flushed) <= 8
    assert len(read(workspace.steps(1))) < 2 * FLUSH_ROWS + 6
    history.take(CheckpointMade("last", None))
    assert flushed[-1] == {"durable": True}
    assert len(read(workspace.steps(1))) == 2 * FLUSH_ROWS + 6


@pytest.mark.parametrize(
    ("checkpoint", "crash"), [(step, crash) for step in (0, 4, 8) for crash in (1, 5, 8, 11, 12, 15) if step <= crash]
)
def test_a_run_that_goes_on_leaves_what_an_undisturbed_one_does(workspace, checkpoint, crash, monkeypatch):
    monkeypatch.setattr(module, "local_time", lambda _: "then")
    monkeypatch.setattr(module, "save_curves", lambda *_, **__: None)
    take_all(History(workspace, 1, best_by="dice"), [Started(16), *events(16), Ended("finished")])
    take_all(History(workspace, 2, best_by="dice"), [Started(16), *events(crash)])
    again = [Started(16, checkpoint), *events(16, checkpoint + 1), Ended("finished")]
    take_all(History(workspace, 2, best_by="dice"), again)
    for path_of in (workspace.history, workspace.steps):
        assert path_of(2).read_bytes() == path_of(1).read_bytes()


def test_a_validation_made_up_for_after_a_stop_joins_the_row_of_its_epoch(workspace):
    *before, validation = events(8)
    take_all(History(workspace, 1, best_by="dice"), [Started(16), *before, CheckpointMade("last", None)])
    take_all(History(workspace, 1, best_by="dice"), [Started(16, 8), validation])
    assert [(row["step"], row["train/dice"], row["val/loss"]) for row in read(workspace.history(1))] == [
        ("4", "0.25", ""),
        ("8", "0.25", "0.25"),
    ]


def test_a_new_start_within_a_run_begins_its_tables_anew(workspace, history):
    take_all(history, [Started(16), *events(9), Started(16), step_done(1, loss=7.0), Ended("finished")])
    assert [(row["step"], row["loss"]) for row in read(workspace.steps(1))] == [("1", "7.0")]
    assert read(workspace.history(1)) == []


def test_a_full_disk_is_told_once_a_file_and_caught_up_with(workspace, history, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    take_all(history, [Started(16), *events(4)])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        patched.setattr(os, "replace", full)
        told = take_all(history, [*events(8, 5), CheckpointMade("last", None), *events(16, 9), Ended("finished")])
    assert sorted(text.split(" cannot")[0] for text in told[:2]) == ["history.csv", "steps.csv"]
    assert told[2].startswith("The curves could not be drawn")
    assert len(told) == 3
    assert all("No space left on device" in text for text in told)
    assert history.close() == []
    assert [row["step"] for row in read(workspace.history(1))] == ["4", "8", "12", "16"]
    assert len(read(workspace.steps(1))) == 16
    assert workspace.curves(1).exists()


def test_curves_are_drawn_at_most_once_a_minute_and_at_the_end(workspace, history, monkeypatch):
    now, drawn = [1000.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "save_curves", lambda *_, **__: drawn.append(now[0]))
    for seconds in (0, 30, 59, 61, 100, 130):
        now[0] = 1000.0 + seconds
        history.draw()
    assert drawn == [1000.0, 1061.0, 1130.0]
    history.take(Ended("stopped"))
    assert drawn[-2:] == [1130.0, 1130.0]


def test_a_picture_that_cannot_be_drawn_is_a_sentence(history, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("within the library")

    monkeypatch.setattr(module, "save_curves", broken)
    assert history.draw() == [
        "The curves could not be drawn (ZeroDivisionError('within the library') in broken); it is tried again later."
    ]
    assert history.draw(at_most_every_s=0) == []
