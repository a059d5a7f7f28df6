"""The tables, as numbered migrations. A migration that has landed is never changed; add the next one."""

import json
from collections import Counter
from typing import Any

from sqlite_utils import Database, Migrations

migrations = Migrations("seglib")

# Ids of metrics are never used again, as they are the cursor by which pages ask for what is new.
_INITIAL = (
    """CREATE TABLE datasets (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        label_kind TEXT NOT NULL CHECK (label_kind IN ('classes', 'instances', 'none')),
        class_names TEXT NOT NULL,
        created_at REAL NOT NULL
    )""",
    """CREATE TABLE volumes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        dataset_id INTEGER NOT NULL REFERENCES datasets(id),
        name TEXT NOT NULL,
        group_name TEXT NOT NULL,
        shape_czyx TEXT NOT NULL,
        dtype TEXT NOT NULL,
        voxel_size_nm TEXT NOT NULL,
        has_labels INTEGER NOT NULL,
        label_counts TEXT,
        objects INTEGER,
        contrast TEXT NOT NULL,
        fingerprint TEXT NOT NULL
    )""",
    "CREATE INDEX volumes_dataset ON volumes (dataset_id)",
    "CREATE INDEX volumes_fingerprint ON volumes (fingerprint)",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('train', 'predict')),
        name TEXT NOT NULL,
        status TEXT NOT NULL,
        config TEXT NOT NULL,
        device TEXT NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        message TEXT NOT NULL DEFAULT '',
        owner TEXT,
        heartbeat_at REAL,
        stop_requested INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        epoch INTEGER NOT NULL DEFAULT 0,
        patches_per_s REAL,
        seconds_left REAL,
        progressed_at REAL
    )""",
    "CREATE INDEX runs_status ON runs (status)",
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL,
        step INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        name TEXT NOT NULL,
        value REAL,
        time REAL NOT NULL
    )""",
    "CREATE INDEX metrics_run ON metrics (run_id, id)",
    "CREATE TABLE log (id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, time REAL NOT NULL, text TEXT NOT NULL)",
    "CREATE INDEX log_run ON log (run_id, id)",
    """CREATE TABLE previews (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL,
        step INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        layer TEXT NOT NULL,
        time REAL NOT NULL,
        UNIQUE (run_id, layer)
    )""",
    """CREATE TABLE checkpoints (
        run_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        step INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        score REAL,
        sha256 TEXT NOT NULL,
        time REAL NOT NULL,
        PRIMARY KEY (run_id, kind)
    )""",
)


@migrations()
def m001_initial(db: Database) -> None:
    """Data sets, volumes, runs, and what runs say."""
    for statement in _INITIAL:
        db.execute(statement)


@migrations()
def m002_label_schemes(db: Database) -> None:
    """What label values mean becomes a scheme of its own; every run keeps the one it was started with."""
    db.execute("ALTER TABLE datasets ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'")
    db.execute("ALTER TABLE datasets ADD COLUMN label_counts TEXT")
    db.execute("ALTER TABLE volumes ADD COLUMN channel_names TEXT NOT NULL DEFAULT '[]'")
    schemes = {}
    for row in list(db.query("SELECT * FROM datasets")):
        schemes[row["id"]], counts = _scheme_of(db, row)
        values = [json.dumps(schemes[row["id"]]), None if counts is None else json.dumps(counts), row["id"]]
        db.execute("UPDATE datasets SET labels = ?, label_counts = ? WHERE id = ?", values)
    for run in list(db.query("SELECT id, config FROM runs WHERE kind = 'train'")):
        config = json.loads(run["config"])
        scheme = schemes.get(config["data"]["dataset"])
        if scheme is not None:
            config["data"]["labels"] = scheme
            db.execute("UPDATE runs SET config = ? WHERE id = ?", [json.dumps(config), run["id"]])


@migrations()
def m003_groups_and_pauses(db: Database) -> None:
    """Runs that belong together, as the folds of a cross-validation do; and runs that go on before all others."""
    db.execute(
        "CREATE TABLE run_groups (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, created_at REAL NOT NULL)"
    )
    db.execute("ALTER TABLE runs ADD COLUMN group_id INTEGER REFERENCES run_groups(id)")
    db.execute("ALTER TABLE runs ADD COLUMN at_front INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE INDEX runs_group ON runs (group_id)")


@migrations()
def m004_details(db: Database) -> None:
    """What a validation or a measurement found that is no single number, such as which class was taken for which."""
    db.execute(
        """CREATE TABLE details (
            run_id INTEGER NOT NULL,
            step INTEGER NOT NULL,
            part TEXT NOT NULL,
            content TEXT NOT NULL,
            PRIMARY KEY (run_id, step, part)
        )"""
    )


def _scheme_of(db: Database, dataset: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int] | None]:
    """The scheme of a data set from before there were schemes, and how many voxels have each value."""
    if dataset["label_kind"] != "classes":
        return {"kind": dataset["label_kind"]}, None
    counts: Counter[str] = Counter()
    for row in db.query("SELECT label_counts FROM volumes WHERE dataset_id = ?", [dataset["id"]]):
        counts.update(json.loads(row["label_counts"] or "{}"))
    names = json.loads(dataset["class_names"])
    classes = [
        {"name": names.get(value, f"class {value}"), "values": [int(value)]}
        for value in sorted(counts, key=int)
        if value != "0"
    ]
    return {"kind": "classes", "classes": classes}, dict(counts)
