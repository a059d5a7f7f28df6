"""What a run says while it runs: metrics, progress, log lines, previews. Written in batches, read from a cursor."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seglib.store.database import Store


class Point(NamedTuple):
    """One value of one curve. value: None where it was not a finite number; time: seconds since 1970."""

    step: int
    epoch: int
    name: str
    value: float | None
    time: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. done, total: steps or tiles; seconds_left: None while unknown."""

    done: int
    total: int
    epoch: int
    patches_per_s: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class PreviewRow:
    """A prediction of the preview crop, kept as one label layer. layer: its name in the preview volume."""

    id: int
    run_id: int
    step: int
    epoch: int
    layer: str
    time: float


def add_batch(
    store: Store,
    run_id: int,
    *,
    points: Sequence[Point] = (),
    lines: Sequence[tuple[float, str]] = (),
    progress: Progress | None = None,
    moved: bool = False,
    durable: bool = False,
) -> None:
    """Writes what gathered since the last time in one transaction. lines: (time, text) of the log.

    moved: it got further by something that is no step, such as a tile of a validation.
    durable: wait until it, and what was written before it, would survive a power cut.
    """
    with store.writing(durable=durable) as db:
        db.conn.executemany(
            "INSERT INTO metrics (run_id, step, epoch, name, value, time) VALUES (?, ?, ?, ?, ?, ?)",
            ((run_id, *point) for point in points),
        )
        db.conn.executemany(
            "INSERT INTO log (run_id, time, text) VALUES (?, ?, ?)", ((run_id, *line) for line in lines)
        )
        if progress or moved:
            db.execute("UPDATE runs SET progressed_at = ? WHERE id = ?", [time.time(), run_id])
        if progress:
            db.execute(
                "UPDATE runs SET done = ?, total = ?, epoch = ?, patches_per_s = ?, seconds_left = ? WHERE id = ?",
                [
                    progress.done,
                    progress.total,
                    progress.epoch,
                    progress.patches_per_s,
                    progress.seconds_left,
                    run_id,
                ],
            )


def points_since(store: Store, run_id: int, after: int = 0) -> tuple[list[Point], int]:
    """A run's points written after the cursor `after`, oldest first, and the new cursor."""
    query = "SELECT id, step, epoch, name, value, time FROM metrics WHERE run_id = ? AND id > ? ORDER BY id"
    with store.reading() as db:
        rows = db.conn.execute(query, [run_id, after]).fetchall()
    return [Point(*row[1:]) for row in rows], (rows[-1][0] if rows else after)


def last_values(store: Store, run_id: int) -> dict[str, float | None]:
    """The newest value of each of a run's curves."""
    query = "SELECT name, value, MAX(id) FROM metrics WHERE run_id = ? GROUP BY name"
    with store.reading() as db:
        return {name: value for name, value, _ in db.conn.execute(query, [run_id])}


def last_value(store: Store, run_id: int, name: str) -> float | None:
    """The newest value of one of a run's curves, or None where it has none."""
    query = "SELECT value FROM metrics WHERE run_id = ? AND name = ? ORDER BY id DESC LIMIT 1"
    with store.reading() as db:
        row = db.conn.execute(query, [run_id, name]).fetchone()
    return row[0] if row else None


def validation_scores(store: Store, run_id: int, step: int) -> dict[str, float]:
    """What a validation after `step` steps found: name without `val/` -> value; empty where there was none."""
    query = "SELECT name, value FROM metrics WHERE run_id = ? AND step = ? AND name LIKE 'val/%' ORDER BY id"
    with store.reading() as db:
        rows = db.conn.execute(query, [run_id, step]).fetchall()
    return {name.removeprefix("val/"): value for name, value in rows if value is not None}


def log_tail(store: Store, run_id: int, limit: int = 200) -> list[tuple[float, str]]:
    """The last `limit` lines of a run's log as (time, text), oldest first."""
    query = "SELECT time, text FROM log WHERE run_id = ? ORDER BY id DESC LIMIT ?"
    with store.reading() as db:
        return list(reversed(db.conn.execute(query, [run_id, limit]).fetchall()))


def add_preview(store: Store, run_id: int, *, step: int, epoch: int, layer: str) -> None:
    """Registers a preview that is on disk; a second one of the same layer takes the place of the first."""
    row = {"run_id": run_id, "step": step, "epoch": epoch, "layer": layer, "time": time.time()}
    with store.writing() as db:
        db.execute("DELETE FROM previews WHERE run_id = ? AND layer = ?", [run_id, layer])
        db.table("previews").insert(row)


def list_previews(store: Store, run_id: int) -> list[PreviewRow]:
    """A run's previews, oldest first."""
    with store.reading() as db:
        return [
            PreviewRow(**row) for row in db.query("SELECT * FROM previews WHERE run_id = ? ORDER BY step", [run_id])
        ]


def forget_after(store: Store, run_id: int, step: int) -> None:
    """Drops points, details and previews later than `step`, which a resumed run will make again."""
    with store.writing() as db:
        db.execute("DELETE FROM metrics WHERE run_id = ? AND step > ?", [run_id, step])
        db.execute("DELETE FROM previews WHERE run_id = ? AND step > ?", [run_id, step])
        db.execute("DELETE FROM details WHERE run_id = ? AND step > ?", [run_id, step])
