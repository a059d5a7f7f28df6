"""The database file: nothing committed is lost, nothing half is kept, and readers never wait in vain."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from seglib.errors import StoreError
from seglib.store import Store, open_store
from seglib.store.metrics import Point, add_batch, points_since
from seglib.store.runs import create_run, get_run, list_runs
from seglib.store.schema import migrations

ROOT = Path(__file__).parents[2]
BATCH = 20

# Writes batches of points of one step each, and says which are committed, until it is killed or told how many.
WRITER = """
import sys
from pathlib import Path
from seglib.store import Store
from seglib.store.metrics import Point, add_batch
path, run, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
store = Store(path)
for step in range(first, first + count):
    add_batch(store, run, points=[Point(step, 0, f"curve {n}", float(n), 0.0) for n in range(20)])
    print(step, flush=True)
store.close()
"""


def start_writer(path: Path, run: int, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(run), str(first), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def new_run(store: Store) -> int:
    return create_run(store, "train", name="n", config={}, device="cpu")


def steps_and_sizes(store: Store, run: int) -> dict[int, int]:
    points, _ = points_since(store, run)
    sizes: dict[int, int] = {}
    for point in points:
        sizes[point.step] = sizes.get(point.step, 0) + 1
    return sizes


def test_a_killed_writer_loses_no_committed_batch_and_leaves_no_half_one(workspace):
    store = Store(workspace.database)
    run = new_run(store)
    store.close()
    told: list[int] = []
    for round_number in range(4):
        writer = start_writer(workspace.database, run, 1_000_000 * round_number, 1_000_000)
        assert writer.stdout
        for _ in range(5 + 7 * round_number):
            told.append(int(writer.stdout.readline()))
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines() if line]
        writer.stdout.close()
        writer.wait()
        store = Store(workspace.database)
        with store.reading() as db:
            assert [row["integrity_check"] for row in db.query("PRAGMA integrity_check")] == ["ok"]
        sizes = steps_and_sizes(store, run)
        assert set(told) <= set(sizes)
        assert set(sizes.values()) == {BATCH}
        # At most one batch can have been committed that the writer had no time to tell of.
        assert len(sizes) <= len(told) + round_number + 1
        store.close()


def test_two_processes_writing_at_once_lose_nothing(workspace):
    store = Store(workspace.database)
    run = new_run(store)
    writers = [start_writer(workspace.database, run, first, 60) for first in (0, 1000)]
    for step in range(2000, 2060):
        add_batch(store, run, points=[Point(step, 0, f"curve {n}", float(n), 0.0) for n in range(BATCH)])
    for writer in writers:
        output, _ = writer.communicate()
        assert writer.returncode == 0
        assert len(output.splitlines()) == 60
    expected = {*range(60), *range(1000, 1060), *range(2000, 2060)}
    assert steps_and_sizes(store, run) == dict.fromkeys(expected, BATCH)


def test_nothing_is_written_while_another_process_holds_the_lock(workspace, monkeypatch):
    """SQLite's own locks are not enough before 3.51.3: two writers can damage the log as they checkpoint it."""
    monkeypatch.setattr("seglib.store.database.BUSY_TIMEOUT_S", 0.05)
    store = Store(workspace.database)
    with FileLock(workspace.database.with_suffix(".lock")):
        with pytest.raises((TimeoutError, StoreError)):
            new_run(store)
        assert list_runs(store) == []  # readers do not wait
    run = new_run(store)
    assert [row.id for row in list_runs(store)] == [run]


def test_eight_readers_beside_a_writer_never_see_an_error_or_half_a_batch(store):
    run = new_run(store)
    done, problems = threading.Event(), list[str]()

    def read() -> None:
        try:
            while not done.is_set():
                sizes = steps_and_sizes(store, run)
                if any(size != BATCH for size in sizes.values()):
                    problems.append(f"half a batch: {sizes}")
                get_run(store, run)
        except Exception as error:
            problems.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for step in range(100):
        add_batch(store, run, points=[Point(step, 0, f"curve {n}", 1.0, 0.0) for n in range(BATCH)])
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(steps_and_sizes(store, run)) == 100


def test_a_block_that_raises_is_rolled_back_and_the_next_one_works(store):
    with pytest.raises(RuntimeError, match="on purpose"), store.writing() as db:
        db.execute("INSERT INTO log (run_id, time, text) VALUES (1, 0, 'gone')")
        raise RuntimeError("on purpose")
    with store.writing() as db:
        db.execute("INSERT INTO log (run_id, time, text) VALUES (1, 0, 'kept')")
    with store.reading() as db:
        assert [row["text"] for row in db.query("SELECT text FROM log")] == ["kept"]


def test_readers_cannot_write(store):
    with store.reading() as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM runs")


def test_migrations_applied_twice_change_nothing(workspace):
    store = Store(workspace.database)
    run = new_run(store)

    def schema() -> list[str]:
        with store.reading() as db:
            return [row["sql"] for row in db.query("SELECT sql FROM sqlite_master ORDER BY name")]

    before = schema()
    with store.writing() as db:
        applied = list(db.query("SELECT name FROM _sqlite_migrations"))
    store.close()
    store = Store(workspace.database)
    assert schema() == before
    with store.reading() as db:
        assert list(db.query("SELECT name FROM _sqlite_migrations")) == applied
    assert get_run(store, run).status == "queued"


def test_a_database_of_an_older_schema_is_brought_to_the_newest_and_keeps_its_rows(workspace, monkeypatch):
    """The file is as the first migration made it; a later one, added here, must run on it."""
    older = Store(workspace.database)
    run = create_run(older, "train", name="old", config={"a": 1}, device="cpu")
    older.close()
    later = type(migrations)("seglib")

    @later()
    def m001_initial(db):
        raise AssertionError("has been applied already")

    @later()
    def m999_added_by_a_test(db):
        db.execute("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")

    monkeypatch.setattr("seglib.store.database.migrations", later)
    newer = Store(workspace.database)
    with newer.reading() as db:
        assert [row["colour"] for row in db.query("SELECT colour FROM runs")] == ["blue"]
    row = get_run(newer, run)
    assert (row.name, row.config) == ("old", {"a": 1})


def test_a_database_with_no_tables_at_all_gets_them(workspace):
    sqlite3.connect(workspace.database).close()
    assert list_runs(Store(workspace.database)) == []


def test_a_file_that_is_no_database_is_refused_with_its_name(workspace):
    workspace.database.write_bytes(b"this is a shopping list, not a database" * 100)
    with pytest.raises(StoreError, match=r"studio\.db is not a usable database .* backup"):
        Store(workspace.database)


def test_a_database_with_overwritten_pages_is_refused(workspace):
    store = Store(workspace.database)
    run = new_run(store)
    for step in range(50):
        add_batch(store, run, points=[Point(step, 0, f"curve {n}", 1.0, 0.0) for n in range(BATCH)])
    store.close()
    content = bytearray(workspace.database.read_bytes())
    assert len(content) > 16 * 4096
    content[8 * 4096 : 16 * 4096] = b"\xa5" * (8 * 4096)
    workspace.database.write_bytes(content)
    with pytest.raises(StoreError, match=r"studio\.db is (damaged|not a usable database)"):
        Store(workspace.database)


def test_a_workspace_has_one_store_a_process(workspace):
    assert open_store(workspace) is open_store(workspace)


def test_configs_are_stored_as_json_that_other_programs_read(store, workspace):
    run = create_run(store, "train", name="n", config={"nested": {"ä": [1, 2.5, None]}}, device="cpu")
    with sqlite3.connect(workspace.database) as other:
        (text,) = other.execute("SELECT config FROM runs WHERE id = ?", [run]).fetchone()
    other.close()
    assert json.loads(text) == {"nested": {"ä": [1, 2.5, None]}}
