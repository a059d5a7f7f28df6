"""Groups of runs that belong together, such as the folds of a cross-validation, and what they found together."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seglib.errors import StoreError
from seglib.store.database import Store, inserted_id
from seglib.store.metrics import validation_scores
from seglib.store.runs import CheckpointRow, RunRow, checkpoints, insert_run, list_runs


@dataclass(frozen=True)
class GroupRow:
    """A group as stored. created_at: seconds since 1970; runs: how many there are."""

    id: int
    name: str
    created_at: float
    runs: int


@dataclass(frozen=True)
class Member:
    """A run of a group. best: its best checkpoint, None before the first; scores: validation at that, name -> value."""

    run: RunRow
    best: CheckpointRow | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """A score over several runs. deviation: of the sample (divided by n − 1); None for a single run. count: n."""

    mean: float
    deviation: float | None
    count: int


def create_group(
    store: Store, *, name: str, runs: Sequence[tuple[str, Mapping[str, Any]]], device: str
) -> tuple[int, list[int]]:
    """Queues trainings that belong together, all or none. runs: (name, config); returns the group's id and theirs."""
    with store.writing() as db:
        group = inserted_id(db.table("run_groups").insert({"name": name, "created_at": time.time()}))
        return group, [
            insert_run(db, "train", name=called, config=dict(config), device=device, group_id=group)
            for called, config in runs
        ]


def get_group(store: Store, group_id: int) -> GroupRow:
    """One group. Raises StoreError where there is none of that id."""
    for group in list_groups(store):
        if group.id == group_id:
            return group
    raise StoreError(f"There is no group of runs {group_id} in this workspace. Its runs may have been deleted.")


def list_groups(store: Store) -> list[GroupRow]:
    """All groups, newest first."""
    query = (
        "SELECT id, name, created_at, (SELECT count(*) FROM runs WHERE group_id = run_groups.id) AS runs "
        "FROM run_groups ORDER BY id DESC"
    )
    with store.reading() as db:
        return [GroupRow(**row) for row in db.query(query)]


def list_members(store: Store, group_id: int) -> list[Member]:
    """The runs of a group in the order they were queued, with what the best checkpoint of each was judged by."""
    members = []
    for run in reversed(list_runs(store, group_id=group_id)):
        best = checkpoints(store, run.id).get("best")
        members.append(Member(run, best, validation_scores(store, run.id, best.step) if best else {}))
    return members


def combined(members: Sequence[Member]) -> dict[str, Spread]:
    """Mean and standard deviation of every validation score over the runs that have it."""
    found: dict[str, list[float]] = {}
    for member in members:
        for name, value in member.scores.items():
            found.setdefault(name, []).append(value)
    return {
        name: Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
        for name, values in found.items()
    }
