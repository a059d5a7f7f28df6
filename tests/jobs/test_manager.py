"""The queue of a process: order, stop, close, failures it survives, and a heartbeat that never stalls."""

import queue
import threading

import pytest

import seglib.tasks
from seglib.errors import DataError
from seglib.events import Ended, Note, Saved, Started, StepDone
from seglib.jobs import manager as module
from seglib.jobs import threads
from seglib.jobs.manager import JobManager
from seglib.jobs.submit import resume_run, submit_training
from seglib.store.metrics import log_tail, points_since
from seglib.store.runs import checkpoints, claim, create_run, get_run, request_stop
from tests.conftest import LengthConfig, small_config

LIMIT_S = 30.0


@pytest.fixture
def manager(workspace, store, monkeypatch):
    """A manager that looks often; not started yet, closed at the end."""
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(threads, "STOP_CHECK_S", -1.0)
    manager = JobManager(workspace, store)
    yield manager
    manager.close()


@pytest.fixture
def ends(monkeypatch):
    """Hands out (run id, state) as runs end, in that order."""
    found: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    end = threads.end_run

    def told(store, run_id, status, **more):
        end(store, run_id, status, **more)
        found.put((run_id, status))

    monkeypatch.setattr(threads, "end_run", told)
    return lambda: found.get(timeout=LIMIT_S)


@pytest.fixture
def tasks(monkeypatch):
    """Takes the place of run_task."""
    return lambda task: monkeypatch.setattr(seglib.tasks, "run_task", task)


class Gate:
    """Holds a task at a place until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.reached.set()
        assert self.opened.wait(LIMIT_S)

    def wait(self) -> None:
        assert self.reached.wait(LIMIT_S)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


def held_after(kind, gate, run_task=seglib.tasks.run_task):
    """The real task, held once after its first event of a kind."""

    def task(*arguments):
        for event in run_task(*arguments):
            yield event
            if isinstance(event, kind) and not gate.opened.is_set():
                gate.hold()

    return task


def queued(store, device: str = "cpu") -> int:
    config = small_config(1).model_dump(mode="json")
    return create_run(store, "train", name="n", config=config, device=device)


def test_a_queued_training_runs_to_the_end_by_itself(workspace, store, dataset, manager, ends):
    run = submit_training(store, small_config(dataset))
    manager.start()
    assert ends() == (run, "finished")
    row = get_run(store, run)
    assert (row.done, row.total, row.attempt) == (2, 2, 1)
    assert set(checkpoints(store, run)) == {"best", "last"}
    assert workspace.checkpoint(run, "best").is_file()
    steps = [point.step for point in points_since(store, run)[0] if point.name == "step/loss"]
    assert steps == [1, 2]


def test_a_run_queued_later_is_found_too(store, manager, ends, tasks):
    tasks(lambda *_: iter([Started(1), Ended("finished")]))
    manager.start()
    for _ in range(3):
        run = queued(store)
        assert ends() == (run, "finished")


def test_runs_of_one_device_go_one_after_the_other(store, manager, ends, tasks):
    said = []

    def task(workspace, store, run, stop):
        said.append(("starts", run.id))
        yield Started(1)
        said.append(("ends", run.id))
        yield Ended("finished")

    tasks(task)
    runs = [queued(store) for _ in range(3)]
    manager.start()
    assert [ends() for _ in runs] == [(run, "finished") for run in runs]
    assert said == [(what, run) for run in runs for what in ("starts", "ends")]


def test_runs_of_two_devices_go_side_by_side(store, manager, ends, tasks):
    together = threading.Barrier(2)

    def task(*_):
        yield Started(1)
        together.wait(LIMIT_S)  # broken unless both are here at once
        yield Ended("finished")

    tasks(task)
    runs = {queued(store, "cpu"), queued(store, "cuda:0")}
    manager.start()
    assert {ends(), ends()} == {(run, "finished") for run in runs}


def test_a_stopped_training_has_saved_and_goes_on_to_its_end(workspace, store, dataset, manager, ends, tasks, gate):
    run_task = seglib.tasks.run_task
    tasks(held_after(StepDone, gate, run_task))
    run = submit_training(store, small_config(dataset, length=LengthConfig(epochs=3)))
    manager.start()
    gate.wait()
    assert get_run(store, run).status == "running"
    request_stop(store, run)
    assert get_run(store, run).status == "stopping"
    gate.opened.set()
    assert ends() == (run, "stopped")
    stopped = get_run(store, run)
    saved = checkpoints(store, run)["last"].step
    assert 1 <= saved == stopped.done < stopped.total == 6
    assert workspace.checkpoint(run, "last").is_file()
    resume_run(store, run)
    assert ends() == (run, "finished")
    row = get_run(store, run)
    assert (row.done, row.attempt) == (6, 2)
    steps = [point.step for point in points_since(store, run)[0] if point.name == "step/loss"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert any(f"Going on after step {saved}" in text for _, text in log_tail(store, run))


def test_closing_interrupts_a_running_training_with_a_checkpoint(workspace, store, dataset, manager, ends, tasks, gate):
    tasks(held_after(StepDone, gate, seglib.tasks.run_task))
    run = submit_training(store, small_config(dataset, length=LengthConfig(epochs=3)))
    later = queued(store)
    manager.start()
    gate.wait()
    closing = threading.Thread(target=manager.close)
    closing.start()
    assert manager._closing.wait(LIMIT_S)
    gate.opened.set()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    assert ends() == (run, "interrupted")
    row = get_run(store, run)
    assert "Resume" in row.message
    assert row.owner is None
    assert checkpoints(store, run)["last"].step >= 1
    assert workspace.checkpoint(run, "last").is_file()
    assert get_run(store, later).status == "queued"


def test_an_error_a_person_can_mend_fails_the_run_with_its_sentence(store, manager, ends, tasks):
    def task(*_):
        yield Started(1)
        raise DataError("leaf1.tif is gone: import it again.")

    tasks(task)
    run = queued(store)
    manager.start()
    assert ends() == (run, "failed")
    assert get_run(store, run).message == "leaf1.tif is gone: import it again."


def test_a_bug_fails_its_run_and_the_next_one_runs(store, manager, ends, tasks):
    broken, fine = queued(store), queued(store)

    def task(workspace, store, run, stop):
        yield Started(1)
        if run.id == broken:
            raise RuntimeError("a bug")
        yield Ended("finished")

    tasks(task)
    manager.start()
    assert [ends(), ends()] == [(broken, "failed"), (fine, "finished")]
    log = "\n".join(text for _, text in log_tail(store, broken))
    assert "Traceback" in log
    assert "RuntimeError: a bug" in log


def test_a_run_whose_settings_cannot_be_read_fails_and_the_next_one_runs(store, dataset, manager, ends):
    """Such a row can come from a newer program on the same workspace."""
    config = small_config(dataset).model_dump(mode="json")
    unreadable = create_run(store, "train", name="n", config={**config, "colour": "blue"}, device="cpu")
    fine = create_run(store, "train", name="n", config=config, device="cpu")
    manager.start()
    assert [ends(), ends()] == [(unreadable, "failed"), (fine, "finished")]
    assert "colour" in get_run(store, unreadable).message


def test_the_heart_beats_and_points_arrive_while_a_step_takes_long(store, manager, ends, tasks, gate, monkeypatch):
    beats: queue.SimpleQueue[None] = queue.SimpleQueue()
    beat = module.heartbeat

    def told(*arguments):
        beat(*arguments)
        beats.put(None)

    monkeypatch.setattr(module, "heartbeat", told)

    def task(*_):
        yield Started(9)
        yield Note("a long step begins")
        gate.hold()
        yield Ended("finished")

    tasks(task)
    run = queued(store)
    manager.start()
    gate.wait()
    with store.writing() as db:
        db.execute("UPDATE runs SET heartbeat_at = 1.0 WHERE id = ?", [run])
    while not beats.empty():
        beats.get()
    # The one that may be under way can have been before the change; the next cannot, and the flush of the one
    # before it is over when it comes.
    for _ in range(3):
        beats.get(timeout=LIMIT_S)
    assert get_run(store, run).heartbeat_at > 1e9
    assert [text for _, text in log_tail(store, run)] == ["a long step begins"]
    gate.opened.set()
    assert ends() == (run, "finished")


def test_a_heartbeat_that_fails_is_followed_by_the_next(store, manager, ends, tasks, gate, monkeypatch):
    beats: queue.SimpleQueue[None] = queue.SimpleQueue()

    def failing(*_):
        beats.put(None)
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "heartbeat", failing)

    def task(*_):
        yield Started(1)
        gate.hold()
        yield Ended("finished")

    tasks(task)
    run = queued(store)
    manager.start()
    for _ in range(3):
        beats.get(timeout=LIMIT_S)
    gate.opened.set()
    assert ends() == (run, "finished")


def test_what_a_killed_program_left_is_interrupted_at_the_start(store, manager):
    run = queued(store)
    claim(store, run, owner="elsewhere|1|1.00|x")
    with store.writing() as db:
        db.execute("UPDATE runs SET heartbeat_at = 1.0")
    manager.start()
    assert get_run(store, run).status == "interrupted"


def test_every_checkpoint_row_has_its_file_when_it_is_written(workspace, store, dataset, manager, ends, tasks):
    seen = []
    run_task = seglib.tasks.run_task

    def task(*arguments):
        for event in run_task(*arguments):
            if isinstance(event, Saved):
                seen.append(workspace.checkpoint(1, event.kind).is_file())
            yield event

    tasks(task)
    submit_training(store, small_config(dataset))
    manager.start()
    assert ends() == (1, "finished")
    assert seen
    assert all(seen)
