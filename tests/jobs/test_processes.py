"""A run in a process of its own: real processes, really killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from seglib.config import ComputeConfig
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.lease import is_dead, new_owner
from seglib.jobs.manager import JobManager
from seglib.jobs.processes import run_in_process, wants_process
from seglib.jobs.recorder import Recorder
from seglib.jobs.submit import submit_training
from seglib.store.metrics import log_tail, points_since
from seglib.store.runs import (
    checkpoints,
    claim,
    create_run,
    get_run,
    interrupt_orphans,
    request_pause,
    request_stop,
    requeue,
)
from tests.conftest import LengthConfig, small_config

SCRIPTED = "tests.jobs.scripted_child"
LIMIT_S = 300.0
DEATHS = [
    (signal.SIGKILL, r"killed \(SIGKILL\)\..* probably ran out of memory: it held 0\.[0-9]+ GB"),
    (signal.SIGSEGV, r"crashed \(SIGSEGV\)"),
]


def until(condition):
    """Waits for what another process does; fails where it takes too long."""
    pause, deadline = threading.Event(), time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.02)
    return found


def process_of(run) -> psutil.Process:
    return psutil.Process(int(run.owner.split("|")[1]))


class Driven:
    """A claimed run, driven in a thread as the manager does."""

    def __init__(self, workspace, store, name: str) -> None:
        self.store, self.owner, self.closing = store, new_owner(), threading.Event()
        config = small_config(1).model_dump(mode="json")
        run = create_run(store, "train", name=name, config=config, device="cpu")
        self.run = claim(store, run, owner=self.owner)
        self.thread = threading.Thread(target=self._drive, args=(workspace,), daemon=True)
        self.thread.start()

    def _drive(self, workspace) -> None:
        recorder = Recorder(self.store, self.run.id, self.owner)
        run_in_process(
            workspace, self.store, self.run, recorder, owner=self.owner, closing=self.closing.is_set, module=SCRIPTED
        )

    def now(self):
        return get_run(self.store, self.run.id)

    def going(self):
        """The run once its child works on it."""
        return until(lambda: (run := self.now()).done == 1 and run)

    def over(self):
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()
        return self.now()


@pytest.fixture
def driven(workspace, store):
    made = []

    def go(name: str = "waits") -> Driven:
        made.append(Driven(workspace, store, name))
        return made[-1]

    yield go
    for one in made:
        one.closing.set()
        one.thread.join(LIMIT_S)


def test_the_child_holds_the_run_and_ends_it_itself(driven):
    run = driven("ends").over()
    assert (run.status, run.message, run.owner) == ("finished", "All done.", None)


def test_the_store_names_the_process_that_works(driven):
    job = driven()
    run = job.going()
    assert run.owner != job.owner
    assert process_of(run).pid != os.getpid()
    assert process_of(run).ppid() == os.getpid()
    assert not is_dead(run.owner, 0.0)


@pytest.mark.parametrize(("ask", "status"), [(request_stop, "stopped"), (request_pause, "paused")])
def test_a_request_in_the_store_reaches_the_child(store, driven, ask, status):
    job = driven()
    ask(store, job.going().id)
    run = job.over()
    assert (run.status, run.owner) == (status, None)
    assert run.message.startswith("Saved.")


def test_a_server_that_closes_lets_the_child_save(driven):
    job = driven()
    job.going()
    job.closing.set()
    run = job.over()
    assert run.status == "interrupted"
    assert "Everything is saved" in run.message


def test_ctrl_c_in_the_terminal_is_left_to_the_server_and_sigterm_saves(driven):
    job = driven()
    process = process_of(job.going())
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert job.over().status == "interrupted"


@pytest.mark.parametrize(("by", "said"), DEATHS)
def test_a_child_that_is_killed_fails_its_run_and_says_by_what(store, driven, by, said):
    job = driven()
    process_of(job.going()).send_signal(by)
    run = job.over()
    assert (run.status, run.owner) == ("failed", None)
    assert re.search(said, run.message), run.message
    log = "\n".join(text for _, text in log_tail(store, run.id))
    # Where it crashed is only known to a process that could still say so.
    assert ("Segmentation fault" in log and "in task" in log) == (by == signal.SIGSEGV)


def test_an_exit_of_its_own_fails_the_run_with_what_was_said_last(store, driven):
    run = driven("leaves").over()
    assert run.status == "failed"
    assert "exit status 7: the licence server is gone" in run.message
    assert "the licence server is gone" in [text for _, text in log_tail(store, run.id)]


def test_a_child_that_cannot_be_started_fails_its_run(workspace, store, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    run = claim(store, create_run(store, "train", name="n", config={}, device="cpu"), owner="me")
    run_in_process(workspace, store, run, Recorder(store, run.id, "me"), owner="me", closing=lambda: False)
    now = get_run(store, run.id)
    assert (now.status, now.owner) == ("failed", None)
    assert "could not be started" in now.message


def test_a_run_that_is_not_held_is_not_touched_by_a_child(workspace, store):
    run = create_run(store, "train", name="ends", config={}, device="cpu")
    claim(store, run, owner="somebody")
    command = [sys.executable, "-m", SCRIPTED, str(workspace.root), str(run), "me"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, "not held by me" in done.stderr) == (4, True)
    assert (get_run(store, run).status, get_run(store, run).owner) == ("starting", "somebody")


PARENT = """
import sys, threading
from pathlib import Path
from seglib.jobs.processes import run_in_process
from seglib.jobs.lease import new_owner
from seglib.jobs.recorder import Recorder
from seglib.store import open_store
from seglib.store.runs import claim
from seglib.workspace import open_workspace
workspace = open_workspace(sys.argv[1])
store, owner = open_store(workspace), new_owner()
run = claim(store, int(sys.argv[2]), owner=owner)
recorder = Recorder(store, run.id, owner)
run_in_process(workspace, store, run, recorder, owner=owner, closing=lambda: False, module=sys.argv[3])
"""


def test_a_child_whose_server_was_killed_saves_and_is_no_orphan_before(workspace, store):
    run = create_run(store, "train", name="waits", config=small_config(1).model_dump(mode="json"), device="cpu")
    command = [sys.executable, "-c", PARENT, str(workspace.root), str(run), SCRIPTED]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as server:
        held = until(lambda: (row := get_run(store, run)).done == 1 and row)
        child = process_of(held)
        child.suspend()
        server.kill()
        server.wait()
        # Its server is gone, but it still holds the run: nobody else may go on with its files.
        assert interrupt_orphans(store, is_dead) == []
        child.resume()
    row = until(lambda: (row := get_run(store, run)).is_over and row)
    assert (row.status, "Everything is saved" in row.message) == ("interrupted", True)
    psutil.wait_procs([child], timeout=LIMIT_S)
    assert not child.is_running()


@pytest.mark.parametrize("by", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)])
def test_a_training_whose_process_is_killed_fails_and_goes_on_from_its_checkpoint(workspace, store, dataset, by):
    compute = ComputeConfig(device="cpu", threads=1, where="process")
    run = submit_training(store, small_config(dataset, compute=compute, length=LengthConfig(epochs=100_000)))
    manager = JobManager(workspace, store)
    manager.start()
    try:
        held = until(lambda: (row := get_run(store, run)).done >= 4 and "last" in checkpoints(store, run) and row)
        process_of(held).send_signal(by)
        failed = until(lambda: (row := get_run(store, run)).is_over and row)
        assert (failed.status, failed.owner) == ("failed", None)
        assert by.name in failed.message
    finally:
        manager.close()
    saved = checkpoints(store, run)["last"].step
    config = {**failed.config, "length": {**failed.config["length"], "epochs": saved // 2 + 2}}
    requeue(store, run, config=config)
    row = run_in_foreground(workspace, store, run, stop=lambda: False, on_event=lambda event: None)
    assert (row.status, row.attempt) == ("finished", 2)
    steps = [point.step for point in points_since(store, run)[0] if point.name == "step/loss"]
    assert steps == list(range(1, row.total + 1))


def test_settings_say_which_runs_have_a_process_of_their_own(store, dataset):
    own, shared = (
        submit_training(store, small_config(dataset, compute=ComputeConfig(device="cpu", where=where)))
        for where in ("process", "thread")
    )
    assert wants_process(get_run(store, own))
    assert not wants_process(get_run(store, shared))
    older = create_run(store, "train", name="n", config={}, device="cpu")
    assert not wants_process(get_run(store, older))
