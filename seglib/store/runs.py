"""Runs: every training or prediction, its state, who holds it, and how far it is.

    queued ─→ starting ─→ running ─→ finished
       │         │           ├─────→ failed
       │         │           ├─→ stopping ─→ stopped
       │         │           └─→ pausing ──→ paused
       ├→ stopped └→ …            (a killed server) ─→ interrupted
       └→ paused

Every change of state is a compare-and-swap on the state and the owner; a run that is over can be queued again. One
that was paused is over like one that was stopped – nobody holds it – but goes on before all that wait.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlite_utils import Database

from seglib.config.training import WatchConfig
from seglib.errors import StoreError
from seglib.store.database import Store, inserted_id

RunKind = Literal["train", "predict"]
Status = Literal[
    "queued", "starting", "running", "stopping", "pausing", "finished", "stopped", "paused", "failed", "interrupted"
]
ACTIVE: tuple[Status, ...] = ("starting", "running", "stopping", "pausing")
OVER: tuple[Status, ...] = ("finished", "stopped", "paused", "failed", "interrupted")
RESUMABLE: tuple[Status, ...] = ("stopped", "paused", "failed", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as stored. Times are seconds since 1970; `config` is the JSON of a RunConfig or PredictConfig.

    done, total: steps of a training, or tiles of a prediction.
    owner: who runs it, as `jobs.lease` writes it; None while nobody does.
    attempt: how often it was started; 2 after one resume.
    progressed_at: when it last got further, also within a validation (a live owner can still be stuck).
    group_id: of the runs it belongs with, such as those of a cross-validation; None for a run by itself.
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
    group_id: int | None

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    def is_stalled(self, now: float) -> bool:
        """Whether it runs but has got no further for as long as its settings say. now: seconds since 1970."""
        minutes = self.config.get("watch", {}).get("stalled_minutes", WatchConfig().stalled_minutes)
        return self.status == "running" and now - (self.progressed_at or now) > 60 * minutes


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
    with store.writing() as db:
        return insert_run(db, kind, name=name, config=config, device=device)


def insert_run(
    db: Database, kind: RunKind, *, name: str, config: dict[str, Any], device: str, group_id: int | None = None
) -> int:
    """Puts a run in the queue within a transaction of the caller's, see `create_run`."""
    row: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "status": "queued",
        "config": json.dumps(config),
        "device": device,
        "created_at": time.time(),
        "group_id": group_id,
    }
    return inserted_id(db.table("runs").insert(row))


def get_run(store: Store, run_id: int) -> RunRow:
    """One run. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        rows = list(db.query(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", [run_id]))
    if not rows:
        raise StoreError(f"There is no run {run_id} in this workspace.")
    return _run(rows[0])


def list_runs(
    store: Store, *, kind: RunKind | None = None, statuses: Sequence[Status] = (), group_id: int | None = None
) -> list[RunRow]:
    """Runs, newest first; of one kind, of some states and of one group only, where given."""
    where, arguments = ["1"], list[Any]()
    if kind:
        where.append("kind = ?")
        arguments.append(kind)
    if statuses:
        where.append(f"status IN ({_marks(statuses)})")
        arguments.extend(statuses)
    if group_id is not None:
        where.append("group_id = ?")
        arguments.append(group_id)
    with store.reading() as db:
        rows = list(db.query(f"SELECT {_COLUMNS} FROM runs WHERE {' AND '.join(where)} ORDER BY id DESC", arguments))
    return [_run(row) for row in rows]


def claim_next(store: Store, *, device: str, owner: str) -> RunRow | None:
    """Takes the first queued run of a device for `owner`, or returns None; no two owners get the same one.

    First are those that were paused, then the oldest.
    """
    query = "SELECT id FROM runs WHERE status = 'queued' AND device = ? ORDER BY at_front DESC, id LIMIT 1"
    with store.reading() as db:  # most polls find nothing and must not touch the writer
        waiting = list(db.query(query, [device]))
    return claim(store, waiting[0]["id"], owner=owner) if waiting else None


def claim(store: Store, run_id: int, *, owner: str) -> RunRow | None:
    """Takes one queued run for `owner`, or returns None where somebody was faster."""
    now = time.time()
    with store.writing() as db:
        taken = db.execute(
            "UPDATE runs SET status = 'starting', owner = ?, heartbeat_at = ?, started_at = COALESCE(started_at, ?), "
            "ended_at = NULL, message = '', stop_requested = 0, at_front = 0, attempt = attempt + 1, progressed_at = ? "
            "WHERE id = ? AND status = 'queued'",
            [owner, now, now, now, run_id],
        ).rowcount
    return get_run(store, run_id) if taken else None


def take_over(store: Store, run_id: int, *, owner: str, to: str) -> RunRow | None:
    """Hands an active run from `owner` on to another one, or returns None where it is not held by `owner` any more."""
    with store.writing() as db:
        changed = db.execute(
            f"UPDATE runs SET owner = ?, heartbeat_at = ? WHERE id = ? AND owner = ? AND status IN ({_marks(ACTIVE)})",
            [to, time.time(), run_id, owner, *ACTIVE],
        ).rowcount
    return get_run(store, run_id) if changed else None


def mark_running(store: Store, run_id: int, *, owner: str, total: int) -> None:
    """starting → running, with the number of steps or tiles to come."""
    with store.writing() as db:
        db.execute(
            "UPDATE runs SET status = CASE status WHEN 'starting' THEN 'running' ELSE status END, total = ?, "
            f"progressed_at = ? WHERE id = ? AND owner = ? AND status IN ({_marks(ACTIVE)})",
            [total, time.time(), run_id, owner, *ACTIVE],
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
    """Asks a run to stop: a queued or paused one is stopped at once, an active one after its current batch."""
    with store.writing() as db:
        db.execute(
            "UPDATE runs SET status = 'stopped', ended_at = ?, message = 'Taken out of the queue.' "
            "WHERE id = ? AND status = 'queued'",
            [time.time(), run_id],
        )
        db.execute(
            "UPDATE runs SET status = 'stopped', message = 'Stopped while it was paused.' "
            "WHERE id = ? AND status = 'paused'",
            [run_id],
        )
        db.execute(
            "UPDATE runs SET status = 'stopping', stop_requested = 1 "
            "WHERE id = ? AND status IN ('starting', 'running', 'pausing')",
            [run_id],
        )


def request_pause(store: Store, run_id: int) -> None:
    """Asks a training to pause: a queued one is paused at once, an active one saves after its current batch.

    Predictions, which cannot go on, and runs that are stopping or over are left as they are.
    """
    with store.writing() as db:
        db.execute(
            "UPDATE runs SET status = 'paused', ended_at = ?, message = 'Held back before its turn came.' "
            "WHERE id = ? AND kind = 'train' AND status = 'queued'",
            [time.time(), run_id],
        )
        db.execute(
            "UPDATE runs SET status = 'pausing', stop_requested = 1 "
            "WHERE id = ? AND kind = 'train' AND status IN ('starting', 'running')",
            [run_id],
        )


def stop_requested(store: Store, run_id: int) -> bool:
    """True once somebody asked the run to stop or to pause."""
    with store.reading() as db:
        return any(row["stop_requested"] for row in db.query("SELECT stop_requested FROM runs WHERE id = ?", [run_id]))


def requeue(store: Store, run_id: int, *, config: dict[str, Any] | None = None, device: str | None = None) -> None:
    """Queues a run that ended early, to go on; one that was paused before all others.

    config: takes the place of the run's settings; a finished run can then go on, too.
    device: whose queue it waits in, where that is another than before.
    Raises StoreError from other states.
    """
    states = RESUMABLE if config is None else OVER
    with store.writing() as db:
        changed = db.execute(
            "UPDATE runs SET at_front = (status = 'paused'), status = 'queued', ended_at = NULL, message = '', "
            f"config = COALESCE(?, config), device = COALESCE(?, device) WHERE id = ? AND status IN ({_marks(states)})",
            [None if config is None else json.dumps(config), device, run_id, *states],
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


def forget_checkpoint(store: Store, run_id: int, kind: str) -> None:
    """Drops the row of a checkpoint whose file is gone."""
    with store.writing() as db:
        db.execute("DELETE FROM checkpoints WHERE run_id = ? AND kind = ?", [run_id, kind])


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
    """Forgets a run with all its rows, and its group with its last run. Raises StoreError while queued or active."""
    run = get_run(store, run_id)
    if not run.is_over:
        raise StoreError(f"Run {run_id} is {run.status}: stop it before you delete it.")
    with store.writing() as db:
        for table in ("metrics", "log", "previews", "checkpoints", "details"):
            db.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
        db.execute(f"DELETE FROM runs WHERE id = ? AND status IN ({_marks(OVER)})", [run_id, *OVER])
        db.execute("DELETE FROM run_groups WHERE id NOT IN (SELECT group_id FROM runs WHERE group_id IS NOT NULL)")


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _run(row: dict[str, Any]) -> RunRow:
    return RunRow(**{**row, "config": json.loads(row["config"]), "stop_requested": bool(row["stop_requested"])})
