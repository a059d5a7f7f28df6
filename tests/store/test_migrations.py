"""Databases of earlier versions open, and nothing in them is lost."""

import json
import sqlite3

from sqlite_utils import Database

from seglib.config import parse_run_config
from seglib.config.labels import LabelClass, LabelScheme
from seglib.store import Store, schema
from seglib.store.datasets import get_dataset
from seglib.store.runs import get_run
from tests.conftest import small_config


def first_version(path, datasets, runs) -> None:
    """A database as the first version wrote it: m001 applied, and rows of its kind."""
    db = Database(sqlite3.connect(path))
    schema.migrations.apply(db, stop_before="m002_label_schemes")
    for number, (kind, names, counts) in enumerate(datasets, 1):
        row = {"id": number, "name": f"set {number}", "label_kind": kind, "class_names": json.dumps(names)}
        db.table("datasets").insert({**row, "created_at": 1.5})
        for count in counts:
            volume = {
                "dataset_id": number, "name": "v", "group_name": "g", "shape_czyx": "[1, 2, 3, 4]", "dtype": "uint8",
                "voxel_size_nm": "[1.0, 2.0, 3.0]", "has_labels": int(kind != "none"), "objects": 3,
                "label_counts": None if count is None else json.dumps(count), "contrast": "[0.0, 9.0]",
                "fingerprint": "f",
            }  # fmt: skip
            db.table("volumes").insert(volume)
    for kind, config in runs:
        run = {"kind": kind, "name": "r", "status": "finished", "device": "cpu", "created_at": 2.5}
        db.table("runs").insert({**run, "config": json.dumps(config)})
    db.conn.commit()
    db.close()


def old_config(dataset) -> dict:
    config = small_config(dataset).model_dump(mode="json")
    del config["data"]["labels"]
    return config


def test_the_first_version_opens_with_its_labels_read_as_before(tmp_path):
    path = tmp_path / "studio.db"
    datasets = [
        ("classes", {"2": "pore"}, [{"0": 5, "2": 1}, {"0": 1, "7": 2}]),
        ("instances", {}, [None]),
        ("none", {}, [None]),
    ]
    runs = [("train", old_config(1)), ("train", old_config(2)), ("train", old_config(99)), ("predict", {"run": 1})]
    first_version(path, datasets, runs)
    store = Store(path)
    classes, instances, none = (get_dataset(store, number) for number in (1, 2, 3))
    assert classes.labels == LabelScheme(
        kind="classes", classes=(LabelClass(name="pore", values=(2,)), LabelClass(name="class 7", values=(7,)))
    )
    assert classes.label_counts == {0: 6, 2: 1, 7: 2}
    assert (instances.labels, instances.label_counts) == (LabelScheme(kind="instances"), None)
    assert (none.labels.kind, none.volume_count, none.labelled_count) == ("none", 1, 0)
    assert classes.volumes[1].label_counts == {0: 1, 7: 2}
    assert classes.volumes[0].channel_names == ()
    assert parse_run_config(get_run(store, 1).config).data.labels == classes.labels
    assert parse_run_config(get_run(store, 2).config).data.labels == instances.labels
    assert parse_run_config(get_run(store, 3).config).data.labels is None  # its data set is gone
    assert get_run(store, 4).config == {"run": 1}
    assert get_run(store, 1).group_id is None


def test_a_new_database_and_one_brought_up_to_date_have_the_same_tables(tmp_path):
    first_version(tmp_path / "old.db", [], [])
    Store(tmp_path / "old.db")
    Store(tmp_path / "new.db")

    def columns(path):
        db = Database(sqlite3.connect(path))
        try:
            return {name: [(c.name, c.type) for c in db.table(name).columns] for name in sorted(db.table_names())}
        finally:
            db.close()

    assert columns(tmp_path / "old.db") == columns(tmp_path / "new.db")
