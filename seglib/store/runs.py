"""Runs: every training or prediction, its state, who holds it, and how far it is.

    queued ─→ starting ─→ running ─→ finished
       │         │           ├─────→ failed
       │         │           └─→ stopping ─→ stopped
       └→ stopped └→ …            (a killed server) ─→ interrupted

Every change of state is a compare-and-swap on the state and the owner; a run that is over can be queued again.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from seglib.errors import StoreError
from seglib.store.database import Store, inserted_id

RunKind = Literal["train", "predict"]
Status = Literal["queued", "starting", "running", "stopping", "finished", "stopped", "failed", "interrupted"]
ACTIVE: tuple[Status, ...] = ("starting", "running", "stopping")
OVER: tuple[Status, ...] = ("finished", "stopped", "failed", "interrupted")
RESUMABLE: tuple[Status, ...] = ("stopped", "failed", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as stored. Times are seconds since 1970; `config` is the JSON of a RunConfig or PredictConfig.

    done, total: steps of a training, or tiles of a prediction.
    owner: who runs it, as `jobs.lease` writes it; None while nobody does.
    attempt: how often it was started; 2 after one resume.
    progressed_at: when `done` last grew (a live owner can still be stuck).
    """

    id: int
    kind: RunKind
    name: str
    status: Status
    config: dict[str, Any]
    device: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    message: str
    owner: str | None
    heartbeat_at: float | None
    stop_requested: bool
    attempt: int
    done: int
    total: int
    epoch: int
    patches_per_s: float | None
    seconds_left: float | None
    progressed_at: float | None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint on disk. kind: `last` or `best`; score: the validation metric it was chosen by."""

    run_id: int
    kind: str
    step: int
    epoch: int
    score: float | None
    sha256: str
    time: float


_COLUMNS = ", ".join(field.name for field in fields(RunRow))


def create_run(store: Store, kind: RunKind, *, name: str, config: dict[str, Any], device: str) -> int:
    """Puts a run in the queue and returns its id. device: `cpu`, `cuda:0`, …"""
    row: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "status": "queued",
        "config": json.dumps(config),
        "device": device,
        "created_at": time.time(),
    }
    with store.writing() as db:
        return inserted_id(db.table("runs").insert(row))


def get_run(store: Store, run_id: int) -> RunRow:
    """One run. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        rows = list(db.query(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", [run_id]))
    if not rows:
        raise StoreError(f"There is no run {run_id} in this workspace.")
    return _run(rows[0])


def list_runs(store: Store, *, kind: RunKind | None = None, statuses: Sequence[Status] = ()) -> list[RunRow]:
    """Runs, newest first; of one kind and of some states only, where given."""
    where, arguments = ["1"], list[Any]()
    if kind:
        where.append("kind = ?")
        arguments.append(kind)
    if statuses:
        where.append(f"status IN ({_marks(statuses)})")
        arguments.extend(statuses)
    with store.reading() as db:
        rows = list(db.query(f"SELECT {_COLUMNS} FROM runs WHERE {' AND '.join(where)} ORDER BY id DESC", arguments))
    return [_run(row) for row in rows]


def claim_next(store: Store, *, device: str, owner: str) -> RunRow | None:
    """Takes the oldest queued run of a device for `owner`, or returns None; no two owners get the same one."""
    query = "SELECT id FROM runs WHERE status = 'queued' AND device = ? ORDER BY id LIMIT 1"
    with store.reading() as db:  # most polls find nothing and must not touch the writer
        waiting = list(db.query(query, [device]))
    return claim(store, waiting[0]["id"], owner=owner) if waiting else None


def claim(store: Store, run_id: int, *, owner: str) -> RunRow | None:
    """Takes one queued run for `owner`, or returns None where somebody was faster."""
    now = time.time()
    with store.writing() as db:
        taken = db.execute(
            "UPDATE runs SET status = 'starting', owner = ?, heartbeat_at = ?, started_at = COALESCE(started_at, ?), "
            "ended_at = NULL, message = '', stop_requested = 0, attempt = attempt + 1, progressed_at = ? "
            "WHERE id = ? AND status = 'queued'",
            [owner, now, now, now, run_id],
        ).rowcount
    return get_run(store, run_id) if taken else None


def mark_running(store: Store, run_id: int, *, owner: str, total: int) -> None:
    """starting → running, with the number of steps or tiles to come."""
    with store.writing() as db:
        db.execute(
            "UPDATE runs SET status = CASE status WHEN 'starting' THEN 'running' ELSE status END, total = ? "
            "WHERE id = ? AND owner = ? AND status IN ('starting', 'stopping')",
            [total, run_id, owner],
        )


def end_run(store: Store, run_id: int, status: Status, *, owner: str, message: str = "") -> None:
    """Ends a run its owner holds. Raises StoreError where the owner does not hold it any more."""
    with store.writing() as db:
        changed = db.execute(
            "UPDATE runs SET status = ?, message = ?, ended_at = ?, owner = NULL, stop_requested = 0, "
            f"seconds_left = NULL WHERE id = ? AND owner = ? AND status IN ({_marks(ACTIVE)})",
            [status, message, time.time(), run_id, owner, *ACTIVE],
        ).rowcount
    if not changed:
        raise StoreError(f"Run {run_id} is not held by {owner} any more; its state was left as it is.")


def request_stop(store: Store, run_id: int) -> None:
    """Asks a run to stop: a queued one stops at once, an active one after its current batch."""
    with store.writing() as db:
        db.execute(
            "UPDATE runs SET status = 'stopped', ended_at = ?, message = 'Taken out of the queue.' "
            "WHERE id = ? AND status = 'queued'",
            [time.time(), run_id],
        )
        db.execute(
            "UPDATE runs SET status = 'stopping', stop_requested = 1 "
            "WHERE id = ? AND status IN ('starting', 'running')",
            [run_id],
        )


def stop_requested(store: Store, run_id: int) -> bool:
    """True once somebody asked the run to stop."""
    with store.reading() as db:
        return any(row["stop_requested"] for row in db.query("SELECT stop_requested FROM runs WHERE id = ?", [run_id]))


def requeue(store: Store, run_id: int) -> None:
    """Queues a run that was stopped, failed or was interrupted, to go on. Raises StoreError from other states."""
    with store.writing() as db:
        changed = db.execute(
            "UPDATE runs SET status = 'queued', ended_at = NULL, message = '' "
            f"WHERE id = ? AND status IN ({_marks(RESUMABLE)})",
            [run_id, *RESUMABLE],
        ).rowcount
    if not changed:
        raise StoreError(f"Run {run_id} cannot be resumed: it is {get_run(store, run_id).status}.")


def heartbeat(store: Store, owner: str) -> None:
    """Says that `owner` is alive, for all runs it holds."""
    with store.writing(durable=False) as db:
        db.execute("UPDATE runs SET heartbeat_at = ? WHERE owner = ?", [time.time(), owner])


def interrupt_orphans(store: Store, is_dead: Callable[[str, float], bool]) -> list[int]:
    """Marks runs whose owner is gone as interrupted and returns their ids.

    is_dead: answers for (owner, last heartbeat) whether nobody can be running it any more.
    """
    interrupted = []
    for run in list_runs(store, statuses=ACTIVE):
        if run.owner is None or not is_dead(run.owner, run.heartbeat_at or 0.0):
            continue
        with store.writing() as db:
            changed = db.execute(
                "UPDATE runs SET status = 'interrupted', owner = NULL, ended_at = ?, seconds_left = NULL, "
                "message = 'The program that ran it ended. Resume goes on from the last checkpoint.' "
                f"WHERE id = ? AND owner = ? AND status IN ({_marks(ACTIVE)})",
                [run.heartbeat_at, run.id, run.owner, *ACTIVE],
            ).rowcount
        interrupted += [run.id] * changed
    return interrupted


def set_checkpoint(store: Store, row: CheckpointRow) -> None:
    """Registers a checkpoint that is on disk, in place of the older one of its kind."""
    with store.writing() as db:
        db.table("checkpoints").insert(
            {field.name: getattr(row, field.name) for field in fields(CheckpointRow)},
            pk=("run_id", "kind"),
            replace=True,
        )


def checkpoints(store: Store, run_id: int) -> dict[str, CheckpointRow]:
    """A run's checkpoints by kind."""
    with store.reading() as db:
        rows = list(db.query("SELECT * FROM checkpoints WHERE run_id = ?", [run_id]))
    return {row["kind"]: CheckpointRow(**row) for row in rows}


def milestone(store: Store, run: RunRow) -> str:
    """A word that changes when a run changes its state, is started anew, or gets its first best checkpoint."""
    return f"{run.status}.{run.attempt}.{'best' in checkpoints(store, run.id)}"


def rename_run(store: Store, run_id: int, name: str) -> None:
    """Gives a run another name."""
    with store.writing() as db:
        db.execute("UPDATE runs SET name = ? WHERE id = ?", [name, run_id])


def delete_run(store: Store, run_id: int) -> None:
    """Forgets a run with all its rows. Raises StoreError while it is queued or active."""
    run = get_run(store, run_id)
    if not run.is_over:
        raise StoreError(f"Run {run_id} is {run.status}: stop it before you delete it.")
    with store.writing() as db:
        for table in ("metrics", "log", "previews", "checkpoints"):
            db.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
        db.execute(f"DELETE FROM runs WHERE id = ? AND status IN ({_marks(OVER)})", [run_id, *OVER])


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _run(row: dict[str, Any]) -> RunRow:
    return RunRow(**{**row, "config": json.loads(row["config"]), "stop_requested": bool(row["stop_requested"])})
