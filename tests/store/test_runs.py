"""States of runs: every change is a compare-and-swap, and only the owner ends a run."""

import os
import socket
import threading
import time

import psutil
import pytest

from seglib.errors import StoreError
from seglib.jobs.lease import FOREIGN_SILENCE_S, is_dead, new_owner
from seglib.store.metrics import Point, add_batch, add_preview, list_previews, log_tail, points_since
from seglib.store.runs import (
    CheckpointRow,
    checkpoints,
    claim,
    claim_next,
    create_run,
    delete_run,
    end_run,
    forget_checkpoint,
    get_run,
    heartbeat,
    interrupt_orphans,
    list_runs,
    mark_running,
    rename_run,
    request_pause,
    request_stop,
    requeue,
    set_checkpoint,
    stop_requested,
    take_over,
)

ME = "me"
HOSTILE = [
    "Robert'); DROP TABLE runs;--",
    '"; DELETE FROM runs; --',
    "Zellkern Ä 細胞 🧬 e\u0301",
    "before\x00after",
    "line\nline\t'",
    "% _ ? :name $1",
]


def new_run(store, **changes) -> int:
    return create_run(store, **{"kind": "train", "name": "n", "config": {}, "device": "cpu", **changes})


def in_state(store, status: str) -> int:
    """A run brought to a state by the ways the program has."""
    run = new_run(store)
    if status == "queued":
        return run
    assert claim(store, run, owner=ME)
    if status == "starting":
        return run
    mark_running(store, run, owner=ME, total=10)
    if status == "stopping":
        request_stop(store, run)
    elif status == "pausing":
        request_pause(store, run)
    elif status != "running":
        end_run(store, run, status, owner=ME)
    assert get_run(store, run).status == status
    return run


def test_two_threads_that_claim_one_run_do_not_both_get_it(store):
    for _ in range(20):
        run = new_run(store)
        together, got = threading.Barrier(2), list[str]()

        def take(owner, run=run, together=together, got=got):
            together.wait()
            row = claim(store, run, owner=owner)
            if row:
                got.append(row.owner)

        threads = [threading.Thread(target=take, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        row = get_run(store, run)
        assert (row.owner, row.attempt, row.status) == (got[0], 1, "starting")


def test_the_oldest_queued_run_of_a_device_comes_first(store):
    other = new_run(store, device="cuda:0")
    first, second = new_run(store), new_run(store)
    assert claim_next(store, device="cpu", owner=ME).id == first
    assert claim_next(store, device="cpu", owner=ME).id == second
    assert claim_next(store, device="cpu", owner=ME) is None
    assert get_run(store, other).status == "queued"


@pytest.mark.parametrize("status", ["starting", "running", "stopping", "pausing"])
def test_only_the_owner_ends_a_run(store, status):
    run = in_state(store, status)
    before = get_run(store, run)
    with pytest.raises(StoreError, match=f"Run {run} is not held by somebody"):
        end_run(store, run, "finished", owner="somebody")
    assert get_run(store, run) == before
    end_run(store, run, "finished", owner=ME, message="done")
    after = get_run(store, run)
    assert (after.status, after.owner, after.message, after.seconds_left) == ("finished", None, "done", None)
    assert after.ended_at >= after.started_at


def test_a_run_that_is_over_cannot_be_ended_again(store):
    run = in_state(store, "stopped")
    with pytest.raises(StoreError, match="not held"):
        end_run(store, run, "finished", owner=ME)
    assert get_run(store, run).status == "stopped"


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("queued", "stopped"),
        ("starting", "stopping"),
        ("running", "stopping"),
        ("stopping", "stopping"),
        ("pausing", "stopping"),
        ("finished", "finished"),
        ("stopped", "stopped"),
        ("paused", "stopped"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
    ],
)
def test_asking_to_stop_from_each_state(store, status, after):
    run = in_state(store, status)
    request_stop(store, run)
    assert get_run(store, run).status == after
    assert stop_requested(store, run) == (after == "stopping")


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("queued", "paused"),
        ("starting", "pausing"),
        ("running", "pausing"),
        ("pausing", "pausing"),
        ("stopping", "stopping"),
        ("finished", "finished"),
        ("stopped", "stopped"),
        ("paused", "paused"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
    ],
)
def test_asking_to_pause_from_each_state(store, status, after):
    run = in_state(store, status)
    request_pause(store, run)
    assert get_run(store, run).status == after
    assert stop_requested(store, run) == (after in ("pausing", "stopping"))


def test_a_prediction_cannot_pause(store):
    queued, running = new_run(store, kind="predict"), new_run(store, kind="predict")
    claim(store, running, owner=ME)
    for run in (queued, running):
        request_pause(store, run)
    assert [get_run(store, run).status for run in (queued, running)] == ["queued", "starting"]


def test_a_paused_run_goes_on_before_older_ones_that_wait_and_only_once(store):
    first, second, paused = new_run(store), new_run(store), in_state(store, "paused")
    requeue(store, paused)
    order = [claim_next(store, device="cpu", owner=ME).id for _ in range(3)]
    assert order == [paused, first, second]
    end_run(store, paused, "stopped", owner=ME)
    waiting = new_run(store)
    with store.writing() as db:  # as if it had been made before the one that was paused once
        db.execute("UPDATE runs SET id = 0 WHERE id = ?", [waiting])
    requeue(store, paused)
    assert claim_next(store, device="cpu", owner=ME).id == 0


def test_new_settings_let_a_finished_run_go_on_and_are_kept(store):
    run = in_state(store, "finished")
    requeue(store, run, config={"length": 7})
    row = get_run(store, run)
    assert (row.status, row.config, row.message, row.ended_at) == ("queued", {"length": 7}, "", None)


@pytest.mark.parametrize("status", ["queued", "starting", "running", "stopping", "pausing"])
def test_new_settings_are_refused_while_a_run_is_not_over(store, status):
    run = in_state(store, status)
    with pytest.raises(StoreError, match=f"cannot be resumed: it is {status}"):
        requeue(store, run, config={"length": 7})
    assert get_run(store, run).config == {}


@pytest.mark.parametrize("status", ["starting", "running", "stopping", "pausing"])
def test_the_lease_of_an_active_run_is_handed_on_by_who_holds_it(store, status):
    run = in_state(store, status)
    assert take_over(store, run, owner="somebody", to="child") is None
    row = take_over(store, run, owner=ME, to="child")
    assert (row.owner, row.status, row.attempt) == ("child", status, 1)
    assert take_over(store, run, owner=ME, to="child 2") is None
    with pytest.raises(StoreError, match="not held by me"):
        end_run(store, run, "finished", owner=ME)
    end_run(store, run, "finished", owner="child")


@pytest.mark.parametrize("status", ["queued", "finished"])
def test_nobody_takes_over_what_is_not_active(store, status):
    run = in_state(store, status)
    assert take_over(store, run, owner=ME, to="child") is None


@pytest.mark.parametrize(
    ("status", "silent_s", "stalled"),
    [
        ("running", 121, True),
        ("running", 119, False),
        ("starting", 1e6, False),
        ("pausing", 1e6, False),
        ("finished", 1e6, False),
    ],
)
def test_a_run_that_gets_no_further_for_as_long_as_its_settings_say_is_stalled(store, status, silent_s, stalled):
    run = in_state(store, status)
    with store.writing() as db:
        db.execute('UPDATE runs SET config = \'{"watch": {"stalled_minutes": 2}}\', progressed_at = 1000')
    heartbeat(store, ME)
    assert get_run(store, run).is_stalled(1000 + silent_s) == stalled


def test_a_run_without_such_a_setting_is_stalled_after_ten_minutes(store):
    row = get_run(store, in_state(store, "running"))
    assert not row.is_stalled(row.progressed_at + 599)
    assert row.is_stalled(row.progressed_at + 601)


def test_reading_the_data_is_not_held_against_a_run(store):
    """Between its claim and its first step a run may have much to read."""
    run = in_state(store, "starting")
    with store.writing() as db:
        db.execute("UPDATE runs SET progressed_at = 1000")
    mark_running(store, run, owner=ME, total=7)
    assert not get_run(store, run).is_stalled(time.time())


def test_a_run_stopped_while_it_starts_does_not_become_running(store):
    run = in_state(store, "starting")
    request_stop(store, run)
    mark_running(store, run, owner=ME, total=7)
    row = get_run(store, run)
    assert (row.status, row.total, row.stop_requested) == ("stopping", 7, True)


def test_marking_as_running_needs_the_owner(store):
    run = in_state(store, "starting")
    mark_running(store, run, owner="somebody", total=7)
    assert (get_run(store, run).status, get_run(store, run).total) == ("starting", 0)


@pytest.mark.parametrize("status", ["stopped", "paused", "failed", "interrupted"])
def test_what_ended_early_can_be_queued_again(store, status):
    run = in_state(store, status)
    requeue(store, run)
    row = get_run(store, run)
    assert (row.status, row.ended_at, row.message) == ("queued", None, "")
    assert claim(store, run, owner="next").attempt == 2
    assert not stop_requested(store, run)


@pytest.mark.parametrize("status", ["queued", "starting", "running", "stopping", "finished"])
def test_nothing_else_can_be_queued_again(store, status):
    run = in_state(store, status)
    with pytest.raises(StoreError, match=f"cannot be resumed: it is {status}"):
        requeue(store, run)
    assert get_run(store, run).status == status


def owned_by(store, owner: str, heartbeat_at: float | None = None) -> int:
    run = new_run(store)
    claim(store, run, owner=owner)
    mark_running(store, run, owner=owner, total=10)
    if heartbeat_at is not None:
        with store.writing() as db:
            db.execute("UPDATE runs SET heartbeat_at = ? WHERE id = ?", [heartbeat_at, run])
    return run


def free_pid() -> int:
    return next(pid for pid in range(4_000_000, 5_000_000) if not psutil.pid_exists(pid))


def test_only_runs_whose_program_is_gone_are_interrupted(store):
    host, now = socket.gethostname(), time.time()
    started = psutil.Process().create_time()
    alive = owned_by(store, new_owner())
    dead = owned_by(store, f"{host}|{free_pid()}|{started:.2f}|0")
    reused = owned_by(store, f"{host}|{os.getpid()}|{started - 1000:.2f}|0")
    foreign_fresh = owned_by(store, "elsewhere|1|1.00|0", now)
    foreign_stale = owned_by(store, "elsewhere|1|1.00|1", now - FOREIGN_SILENCE_S - 5)
    queued, over = new_run(store), in_state(store, "finished")
    assert sorted(interrupt_orphans(store, is_dead)) == [dead, reused, foreign_stale]
    for run in (dead, reused, foreign_stale):
        row = get_run(store, run)
        assert (row.status, row.owner) == ("interrupted", None)
        assert "Resume" in row.message
        assert row.ended_at == row.heartbeat_at
    assert [get_run(store, run).status for run in (alive, foreign_fresh, queued, over)] == [
        "running",
        "running",
        "queued",
        "finished",
    ]
    assert interrupt_orphans(store, is_dead) == []


def test_a_run_that_changed_hands_while_it_was_looked_at_is_left_alone(store):
    run = owned_by(store, "old")

    def dead_and_taken_over(owner: str, heartbeat_at: float) -> bool:
        with store.writing() as db:
            db.execute("UPDATE runs SET owner = 'new' WHERE id = ?", [run])
        return True

    assert interrupt_orphans(store, dead_and_taken_over) == []
    assert get_run(store, run).status == "running"


def test_a_heartbeat_moves_only_its_owners_runs(store):
    mine, others = owned_by(store, "a", 5.0), owned_by(store, "b", 5.0)
    heartbeat(store, "a")
    assert get_run(store, mine).heartbeat_at > 1e9
    assert get_run(store, others).heartbeat_at == 5.0


@pytest.mark.parametrize("status", ["queued", "starting", "running", "stopping", "pausing"])
def test_a_run_that_is_not_over_is_not_deleted(store, status):
    run = in_state(store, status)
    with pytest.raises(StoreError, match=f"Run {run} is {status}: stop it"):
        delete_run(store, run)
    assert get_run(store, run).status == status


def test_deleting_takes_all_rows_of_a_run_and_no_others(store):
    keep, gone = in_state(store, "finished"), in_state(store, "failed")
    for run in (keep, gone):
        add_batch(store, run, points=[Point(1, 1, "a", 1.0, 0.0)], lines=[(0.0, "hello")])
        add_preview(store, run, step=1, epoch=1, layer="step-1")
        set_checkpoint(store, CheckpointRow(run, "best", 1, 1, 0.5, "0" * 64, 0.0))
    delete_run(store, gone)
    with pytest.raises(StoreError, match=f"no run {gone}"):
        get_run(store, gone)
    for run, count in ((gone, 0), (keep, 1)):
        assert len(points_since(store, run)[0]) == count
        assert len(log_tail(store, run)) == count
        assert len(list_previews(store, run)) == count
        assert len(checkpoints(store, run)) == count


def test_ids_are_not_used_again(store):
    run = in_state(store, "finished")
    delete_run(store, run)
    assert new_run(store) > run


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_survives_as_a_name(store, name):
    run = new_run(store, name=name, config={"name": name})
    assert (get_run(store, run).name, get_run(store, run).config) == (name, {"name": name})
    rename_run(store, run, name[::-1])
    assert get_run(store, run).name == name[::-1]
    assert [row.id for row in list_runs(store)] == [run]


def test_runs_are_listed_newest_first_by_kind_and_state(store):
    train, predict = new_run(store), new_run(store, kind="predict")
    stopped = in_state(store, "stopped")
    assert [run.id for run in list_runs(store)] == [stopped, predict, train]
    assert [run.id for run in list_runs(store, kind="predict")] == [predict]
    assert [run.id for run in list_runs(store, kind="train", statuses=("queued",))] == [train]


def test_a_newer_checkpoint_takes_the_place_of_its_kind(store):
    run = new_run(store)
    older = CheckpointRow(run, "best", 1, 1, 0.25, "a" * 64, 1.0)
    newer = CheckpointRow(run, "best", 2, 2, None, "b" * 64, 2.0)
    last = CheckpointRow(run, "last", 2, 2, None, "b" * 64, 2.0)
    for row in (older, newer, last):
        set_checkpoint(store, row)
    assert checkpoints(store, run) == {"best": newer, "last": last}
    forget_checkpoint(store, run, "best")
    assert checkpoints(store, run) == {"last": last}
