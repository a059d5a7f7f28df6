"""Data sets and their volumes: rows in, rows out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seglib.errors import ConfigError, StoreError
from seglib.store.database import Store, inserted_id

LabelKind = Literal["classes", "instances", "none"]


@dataclass(frozen=True, kw_only=True)
class NewVolume:
    """A volume about to be registered.

    label_counts: label value -> voxels; None for instances or without labels.
    objects: number of instances; None for classes or without labels.
    contrast: grey values shown as black and as white.
    fingerprint: sha256 of the source files, to notice a second import of the same.
    """

    name: str
    group: str
    shape_czyx: tuple[int, int, int, int]
    dtype: str
    voxel_size_nm: tuple[float, float, float]
    has_labels: bool
    label_counts: dict[int, int] | None
    objects: int | None
    contrast: tuple[float, float]
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class VolumeRow(NewVolume):
    """A registered volume."""

    id: int
    dataset_id: int

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        return self.shape_czyx[1:]


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A data set and its volumes, in the order of import. class_names: label value -> name."""

    id: int
    name: str
    label_kind: LabelKind
    class_names: dict[int, str]
    created_at: float
    volumes: tuple[VolumeRow, ...]

    @property
    def label_values(self) -> tuple[int, ...]:
        """Foreground label values of a data set of classes, sorted; (1,) for instances; () without labels."""
        if self.label_kind != "classes":
            return (1,) if self.label_kind == "instances" else ()
        return tuple(sorted({value for volume in self.volumes for value in volume.label_counts or {} if value != 0}))


def classes_of(dataset: DatasetRow, task: Literal["foreground", "classes"]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Label values and names of the classes 1 … K that a task learns from a data set.

    Raises ConfigError where the data set's labels are not classes and the task asks for them.
    """
    if task == "foreground":
        return (1,), ("foreground",)
    if dataset.label_kind != "classes":
        kind = "ids of single objects" if dataset.label_kind == "instances" else "missing"
        raise ConfigError(f"The labels of {dataset.name} are {kind}, not classes: choose the task Foreground.")
    values = dataset.label_values
    return values, tuple(dataset.class_names.get(value, f"class {value}") for value in values)


def add_dataset(
    store: Store,
    *,
    name: str,
    label_kind: LabelKind,
    class_names: dict[int, str],
    volumes: Sequence[NewVolume],
    place: Callable[[int, int], None],
) -> int:
    """Registers a data set and its volumes in one transaction and returns its id.

    place: called with (index, volume id) for each volume before the commit, to move its files to where they
        stay; what it raises rolls everything back.
    """
    with store.writing() as db:
        dataset: dict[str, Any] = {
            "name": name,
            "label_kind": label_kind,
            "class_names": json.dumps(class_names),
            "created_at": time.time(),
        }
        dataset_id = inserted_id(db.table("datasets").insert(dataset))
        for index, volume in enumerate(volumes):
            row = {**_columns(volume), "dataset_id": dataset_id}
            place(index, inserted_id(db.table("volumes").insert(row)))
    return dataset_id


def list_datasets(store: Store) -> list[DatasetRow]:
    """All data sets, newest first."""
    with store.reading() as db:
        datasets = list(db.query("SELECT * FROM datasets ORDER BY id DESC"))
        volumes = [_volume(row) for row in db.query("SELECT * FROM volumes ORDER BY id")]
    return [_dataset(row, [v for v in volumes if v.dataset_id == row["id"]]) for row in datasets]


def get_dataset(store: Store, dataset_id: int) -> DatasetRow:
    """One data set. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        rows = list(db.query("SELECT * FROM datasets WHERE id = ?", [dataset_id]))
        volumes = list(db.query("SELECT * FROM volumes WHERE dataset_id = ? ORDER BY id", [dataset_id]))
    if not rows:
        raise StoreError(f"There is no data set {dataset_id} in this workspace. It may have been deleted.")
    return _dataset(rows[0], [_volume(row) for row in volumes])


def get_volume(store: Store, volume_id: int) -> VolumeRow:
    """One volume. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        rows = list(db.query("SELECT * FROM volumes WHERE id = ?", [volume_id]))
    if not rows:
        raise StoreError(f"There is no volume {volume_id} in this workspace. It may have been deleted.")
    return _volume(rows[0])


def delete_dataset(store: Store, dataset_id: int) -> tuple[int, ...]:
    """Forgets a data set and returns the ids of its volumes, whose files the caller then removes."""
    with store.writing() as db:
        ids = tuple(row["id"] for row in db.query("SELECT id FROM volumes WHERE dataset_id = ?", [dataset_id]))
        db.execute("DELETE FROM volumes WHERE dataset_id = ?", [dataset_id])
        db.execute("DELETE FROM datasets WHERE id = ?", [dataset_id])
    return ids


def find_fingerprint(store: Store, fingerprints: Sequence[str]) -> str | None:
    """Name of a data set that was imported from one of the same files, or None."""
    marks = ",".join("?" * len(fingerprints))
    query = (
        "SELECT datasets.name AS name FROM volumes JOIN datasets ON datasets.id = volumes.dataset_id "
        f"WHERE fingerprint IN ({marks}) LIMIT 1"
    )
    with store.reading() as db:
        return next((str(row["name"]) for row in db.query(query, list(fingerprints))), None)


def _columns(volume: NewVolume) -> dict[str, Any]:
    return {
        "name": volume.name,
        "group_name": volume.group,
        "shape_czyx": json.dumps(volume.shape_czyx),
        "dtype": volume.dtype,
        "voxel_size_nm": json.dumps(volume.voxel_size_nm),
        "has_labels": int(volume.has_labels),
        "label_counts": None if volume.label_counts is None else json.dumps(volume.label_counts),
        "objects": volume.objects,
        "contrast": json.dumps(volume.contrast),
        "fingerprint": volume.fingerprint,
    }


def _volume(row: dict[str, Any]) -> VolumeRow:
    counts = None if row["label_counts"] is None else json.loads(row["label_counts"])
    c, z, y, x = json.loads(row["shape_czyx"])
    dz, dy, dx = json.loads(row["voxel_size_nm"])
    low, high = json.loads(row["contrast"])
    return VolumeRow(
        id=row["id"],
        dataset_id=row["dataset_id"],
        name=row["name"],
        group=row["group_name"],
        shape_czyx=(c, z, y, x),
        dtype=row["dtype"],
        voxel_size_nm=(dz, dy, dx),
        has_labels=bool(row["has_labels"]),
        label_counts=None if counts is None else {int(value): int(count) for value, count in counts.items()},
        objects=row["objects"],
        contrast=(low, high),
        fingerprint=row["fingerprint"],
    )


def _dataset(row: dict[str, Any], volumes: Sequence[VolumeRow]) -> DatasetRow:
    return DatasetRow(
        id=row["id"],
        name=row["name"],
        label_kind=row["label_kind"],
        class_names={int(value): str(name) for value, name in json.loads(row["class_names"]).items()},
        created_at=row["created_at"],
        volumes=tuple(volumes),
    )
