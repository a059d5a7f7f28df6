"""How fast metrics are written, and how long a page waits that asks for what is new.

    python tests/bench/bench_store.py

Points a second through `seglib.store.metrics.add_batch` in batches of 1, 10, 100 and 1000, beside a plain SQLite
connection that commits every point by itself, in the same run on the same disk. Then one live tick on a store of a
million points. Ends with status 1 where batches as the Recorder makes them miss their target.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from seglib.jobs.recorder import FLUSH_POINTS
from seglib.store import Store
from seglib.store.metrics import Point, add_batch, points_since
from seglib.store.runs import create_run

TARGET_PER_S = 20_000
BATCHES = (1, 10, 100, 1000)
REPEATS = 5
SECONDS = 0.5
STORED = 1_000_000
TICKS = 200


def points(first: int, count: int) -> list[Point]:
    return [Point(step, step // 100, "step/loss", 1 / (1 + step), 1.75e9) for step in range(first, first + count)]


def store_rate(store: Store, run: int, batch: int) -> float:
    """Points a second in batches of a size, over about SECONDS."""
    written, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        add_batch(store, run, points=points(written, batch))
        written += batch
    return written / passed


def plain_rate(connection: sqlite3.Connection) -> float:
    """Points a second where each is a transaction of its own."""
    written, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        for point in points(written, 10):
            connection.execute("INSERT INTO metrics VALUES (NULL, 1, ?, ?, ?, ?, ?)", point)
            connection.commit()
        written += 10
    return written / passed


def open_plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, step INTEGER NOT NULL, "
        "epoch INTEGER NOT NULL, name TEXT NOT NULL, value REAL, time REAL NOT NULL)"
    )
    connection.execute("CREATE INDEX metrics_run ON metrics (run_id, id)")
    return connection


def median_rates(folder: Path) -> tuple[dict[int, float], float]:
    """Medians over rounds in which all ways take turns, so that a busy moment meets all alike."""
    store = Store(folder / "studio.db")
    run = create_run(store, "train", name="bench", config={}, device="cpu")
    connection = open_plain(folder / "plain.db")
    ours: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    plain: list[float] = []
    for _ in range(REPEATS):
        plain.append(plain_rate(connection))
        for batch in BATCHES:
            ours[batch].append(store_rate(store, run, batch))
    connection.close()
    store.close()
    return {batch: statistics.median(rates) for batch, rates in ours.items()}, statistics.median(plain)


def tick_ms(folder: Path) -> tuple[float, float]:
    """Median and slowest tick in ms of a page on a run of STORED points with nothing new."""
    store = Store(folder / "large.db")
    run = create_run(store, "train", name="bench", config={}, device="cpu")
    for first in range(0, STORED, 10_000):
        add_batch(store, run, points=points(first, 10_000))
    with store.reading() as db:
        cursor = next(iter(db.query("SELECT MAX(id) AS newest FROM metrics")))["newest"]
    took = []
    for _ in range(TICKS):
        began = time.perf_counter()
        found, _ = points_since(store, run, cursor)
        took.append((time.perf_counter() - began) * 1000)
        assert found == []
    store.close()
    return statistics.median(took), max(took)


def main() -> int:
    """Prints the table; 1 where the target is missed."""
    with tempfile.TemporaryDirectory() as name:
        rates, plain = median_rates(Path(name))
        median, slowest = tick_ms(Path(name))
    print(f"{'points a batch':>16} {'points/s':>12} {'against plain':>14}")
    for batch, rate in rates.items():
        print(f"{batch:>16,} {rate:>12,.0f} {rate / plain:>13.1f}×")
    print(f"{'plain, 1':>16} {plain:>12,.0f} {1:>13.1f}×   (sqlite3, WAL, one commit a point)")
    print(f"A tick with nothing new on {STORED:,} points: {median:.3f} ms (median), {slowest:.3f} ms (slowest)")
    reached = rates[FLUSH_POINTS]
    met = reached >= TARGET_PER_S
    print(f"Batches of {FLUSH_POINTS}, as the Recorder makes them: {reached:,.0f} points/s, ", end="")
    print(f"target {TARGET_PER_S:,}: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
