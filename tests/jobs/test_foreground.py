"""A run in the caller's own thread."""

import os
import threading

import pytest

from seglib.errors import StoreError
from seglib.events import Ended, EpochDone, Saved, Started, StepDone
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import resume_run, submit_training
from seglib.store.runs import checkpoints, claim, get_run
from tests.conftest import LengthConfig, small_config


def test_a_training_runs_to_its_end_and_shows_its_events(workspace, store, dataset):
    run = submit_training(store, small_config(dataset))
    events = []
    row = run_in_foreground(workspace, store, run, stop=lambda: False, on_event=events.append)
    assert row == get_run(store, run)
    assert (row.status, row.owner) == ("finished", None)
    assert isinstance(events[-1], Ended)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2]
    assert {Started, EpochDone, Saved} <= {type(event) for event in events}


def test_a_run_that_somebody_else_holds_is_refused(workspace, store, dataset):
    run = submit_training(store, small_config(dataset))
    claim(store, run, owner="dashboard")
    with pytest.raises(StoreError, match="taken by the dashboard"):
        run_in_foreground(workspace, store, run, stop=lambda: False, on_event=lambda event: None)
    assert get_run(store, run).owner == "dashboard"


def test_stopping_leaves_a_run_that_can_go_on(workspace, store, dataset):
    run = submit_training(store, small_config(dataset, length=LengthConfig(epochs=3)))
    seen = []
    row = run_in_foreground(workspace, store, run, stop=lambda: len(seen) > 0, on_event=seen.append)
    assert row.status == "interrupted"
    assert checkpoints(store, run)["last"].step < 6
    resume_run(store, run)
    row = run_in_foreground(workspace, store, run, stop=lambda: False, on_event=lambda event: None)
    assert (row.status, row.done, row.attempt) == ("finished", 6, 2)


def test_a_second_ctrl_c_ends_the_heartbeat_and_leaves_the_run_to_be_found_as_an_orphan(workspace, store, dataset):
    run = submit_training(store, small_config(dataset))

    def ctrl_c(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_foreground(workspace, store, run, stop=lambda: False, on_event=ctrl_c)
    row = get_run(store, run)
    assert row.status in ("starting", "running")
    # Its owner is this process, so that it is interrupted as soon as the process is gone.
    assert row.owner.split("|")[1] == str(os.getpid())
    assert "seglib-heartbeat" not in {thread.name for thread in threading.enumerate()}
