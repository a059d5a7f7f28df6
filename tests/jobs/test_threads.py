"""One run driven in this thread: how it ends, and what is left to read afterwards."""

import pytest

import seglib.tasks
from seglib.errors import DataError, StoreError
from seglib.events import Ended, Note, Started
from seglib.jobs import threads
from seglib.jobs.recorder import Recorder
from seglib.jobs.threads import CLOSED, run_job
from seglib.store.metrics import log_tail
from seglib.store.runs import claim, create_run, get_run, request_pause, request_stop
from tests.conftest import small_config


@pytest.fixture
def run(store):
    config = small_config(1).model_dump(mode="json")
    return claim(store, create_run(store, "train", name="n", config=config, device="cpu"), owner="me")


@pytest.fixture
def drive(workspace, store, run, monkeypatch):
    """Runs a made-up task as the claimed run; returns the state it ended in."""
    monkeypatch.setattr(threads, "STOP_CHECK_S", -1.0)

    def go(task, *, closing=lambda: False, on_event=None, owner="me"):
        monkeypatch.setattr(seglib.tasks, "run_task", task)
        recorder = Recorder(store, run.id, owner)
        return run_job(workspace, store, run, recorder, owner=owner, closing=closing, on_event=on_event)

    return go


def lines(store, run) -> list[str]:
    return [text for _, text in log_tail(store, run.id)]


def test_a_task_that_ends_is_finished_and_every_event_was_shown(store, run, drive):
    events = [Started(2), Note("half way"), Ended("finished", "All done.")]
    shown = []
    assert drive(lambda *_: iter(events), on_event=shown.append) == "finished"
    assert shown == events
    row = get_run(store, run.id)
    assert (row.status, row.message, row.owner) == ("finished", "All done.", None)
    assert lines(store, run)[-1] == "Finished. All done."


def test_an_error_a_person_can_mend_is_the_runs_message(store, run, drive):
    def task(*_):
        yield Started(2)
        raise DataError("leaf.tif is cut short: copy it again.")

    assert drive(task) == "failed"
    assert get_run(store, run.id).message == "leaf.tif is cut short: copy it again."
    assert lines(store, run) == ["Failed. leaf.tif is cut short: copy it again."]


def test_a_bug_leaves_its_traceback_in_the_log(store, run, drive):
    def task(*_):
        yield Started(2)
        raise RuntimeError("index 7 is out of order")

    assert drive(task) == "failed"
    assert "index 7 is out of order" in get_run(store, run.id).message
    assert "Traceback" in lines(store, run)[0]
    assert "in task" in lines(store, run)[0]


def test_an_event_that_cannot_be_shown_fails_the_run_and_not_the_caller(store, run, drive):
    def broken(event):
        raise OSError("pipe closed")

    assert drive(lambda *_: iter([Started(1), Ended("finished")]), on_event=broken) == "failed"
    assert "pipe closed" in get_run(store, run.id).message


def stops_when_asked(workspace, store, run, stop):
    yield Started(2)
    request_stop(store, run.id)
    yield Ended("stopped", "Stopped as asked.") if stop() else Ended("finished")


def test_a_run_that_was_asked_to_stop_is_stopped(store, run, drive):
    assert drive(stops_when_asked) == "stopped"
    assert get_run(store, run.id).message == "Stopped as asked."


def pauses_when_asked(workspace, store, run, stop):
    yield Started(2)
    request_pause(store, run.id)
    yield Ended("stopped", "Stopped after step 1 of 2.") if stop() else Ended("finished")


@pytest.mark.parametrize("closing", [True, False])
def test_a_run_that_was_asked_to_pause_is_paused(store, run, drive, closing):
    assert drive(pauses_when_asked, closing=lambda: closing) == "paused"
    row = get_run(store, run.id)
    assert row.owner is None
    assert row.message.startswith("Stopped after step 1 of 2. Go on ")
    assert lines(store, run)[-1].startswith("Paused. ")


def test_a_pause_that_becomes_a_stop_is_a_stop(store, run, drive):
    def task(workspace, store, run, stop):
        yield Started(2)
        request_pause(store, run.id)
        request_stop(store, run.id)
        yield Ended("stopped") if stop() else Ended("finished")

    assert drive(task) == "stopped"


def test_a_run_that_finishes_before_it_could_pause_is_finished(store, run, drive):
    def task(workspace, store, run, stop):
        yield Started(2)
        request_pause(store, run.id)
        yield Ended("finished")

    assert drive(task) == "finished"


def test_a_run_that_was_asked_to_stop_is_stopped_also_where_the_program_ends(store, run, drive):
    assert drive(stops_when_asked, closing=lambda: True) == "stopped"


def test_a_run_that_ends_because_the_program_does_is_interrupted(store, run, drive):
    def task(workspace, store, run, stop):
        yield Started(2)
        yield Ended("stopped") if stop() else Ended("finished")

    assert drive(task, closing=lambda: True) == "interrupted"
    assert get_run(store, run.id).message == CLOSED


def test_a_run_that_finished_before_the_program_closed_is_finished(store, run, drive):
    assert drive(lambda *_: iter([Started(1), Ended("finished")]), closing=lambda: True) == "finished"


def test_a_run_that_was_taken_over_is_left_to_its_new_owner(store, run, drive):
    def task(*_):
        yield Started(2)
        with store.writing() as db:
            db.execute("UPDATE runs SET owner = 'new' WHERE id = ?", [run.id])
        yield Ended("finished")

    with pytest.raises(StoreError, match="not held by me"):
        drive(task)
    row = get_run(store, run.id)
    assert (row.status, row.owner) == ("running", "new")


def test_the_store_is_not_asked_after_every_batch(store, run, drive, monkeypatch):
    asked = []
    monkeypatch.setattr(threads, "stop_requested", lambda *what: bool(asked.append(what)))

    def task(workspace, store, run, stop):
        yield Started(2)
        monkeypatch.setattr(threads, "STOP_CHECK_S", 3600.0)
        for _ in range(50):
            assert not stop()
        monkeypatch.setattr(threads, "STOP_CHECK_S", -1.0)
        assert not stop()
        yield Ended("finished")

    assert drive(task) == "finished"
    assert 1 <= len(asked) <= 2
