"""Data sets and their volumes: rows in, rows out."""

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from seglib.config.labels import LabelKind, LabelScheme
from seglib.errors import StoreError
from seglib.store.database import Store, inserted_id

# SQLite takes 32,766 question marks in a query.
_MARKS = 10_000


@dataclass(frozen=True, kw_only=True)
class NewVolume:
    """A volume about to be registered.

    channel_names: one for each channel, or none at all.
    label_counts: label value -> voxels; None without labels and where there are more than 256 values.
    objects: number of different label values apart from 0; None without labels.
    contrast: grey values shown as black and as white.
    fingerprint: sha256 of the source files, to notice a second import of the same.
    """

    name: str
    group: str
    shape_czyx: tuple[int, int, int, int]
    dtype: str
    voxel_size_nm: tuple[float, float, float]
    channel_names: tuple[str, ...] = ()
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
class DatasetSummary:
    """A data set without its volumes.

    labels: how its label values are read.
    label_counts: label value -> voxels in all volumes; None where there are no labels or too many values.
    volume_count, labelled_count: how many volumes there are, and how many of them have labels.
    """

    id: int
    name: str
    labels: LabelScheme
    label_counts: dict[int, int] | None
    created_at: float
    volume_count: int
    labelled_count: int

    @property
    def label_kind(self) -> LabelKind:
        return self.labels.kind


@dataclass(frozen=True, kw_only=True)
class DatasetRow(DatasetSummary):
    """A data set and its volumes, in the order of import."""

    volumes: tuple[VolumeRow, ...]


def add_dataset(
    store: Store,
    *,
    name: str,
    labels: LabelScheme,
    label_counts: dict[int, int] | None,
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
            "label_kind": labels.kind,
            "class_names": "{}",
            "labels": labels.model_dump_json(),
            "label_counts": None if label_counts is None else json.dumps(label_counts),
            "created_at": time.time(),
        }
        dataset_id = inserted_id(db.table("datasets").insert(dataset))
        for index, volume in enumerate(volumes):
            row = {**_columns(volume), "dataset_id": dataset_id}
            marks = ", ".join("?" * len(row))
            cursor = db.execute(f"INSERT INTO volumes ({', '.join(row)}) VALUES ({marks})", list(row.values()))
            place(index, int(cursor.lastrowid or 0))
    return dataset_id


def set_labels(store: Store, dataset_id: int, labels: LabelScheme) -> None:
    """Changes how the label values of a data set are read. Raises StoreError where there is none of that id."""
    with store.writing() as db:
        values = [labels.kind, labels.model_dump_json(), dataset_id]
        if db.execute("UPDATE datasets SET label_kind = ?, labels = ? WHERE id = ?", values).rowcount != 1:
            raise _no_dataset(dataset_id)


def rename_dataset(store: Store, dataset_id: int, name: str) -> None:
    """Changes the name of a data set. Raises StoreError where there is none of that id."""
    with store.writing() as db:
        if db.execute("UPDATE datasets SET name = ? WHERE id = ?", [name, dataset_id]).rowcount != 1:
            raise _no_dataset(dataset_id)


def list_datasets(store: Store) -> list[DatasetSummary]:
    """All data sets without their volumes, newest first."""
    with store.reading() as db:
        return [DatasetSummary(**_summary(row)) for row in db.query(f"{_SUMMARIES} ORDER BY id DESC")]


def get_summary(store: Store, dataset_id: int) -> DatasetSummary:
    """One data set without its volumes. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        return DatasetSummary(**_summary(_one(db.query(f"{_SUMMARIES} WHERE id = ?", [dataset_id]), dataset_id)))


def get_dataset(store: Store, dataset_id: int) -> DatasetRow:
    """One data set with all its volumes. Raises StoreError where there is none of that id."""
    with store.reading() as db:
        summary = _one(db.query(f"{_SUMMARIES} WHERE id = ?", [dataset_id]), dataset_id)
        volumes = list(db.query("SELECT * FROM volumes WHERE dataset_id = ? ORDER BY id", [dataset_id]))
    return DatasetRow(**_summary(summary), volumes=tuple(_volume(row) for row in volumes))


def find_volumes(
    store: Store, dataset_id: int, *, text: str = "", start: int = 0, limit: int = 100
) -> tuple[list[VolumeRow], int]:
    """Some volumes of a data set in the order of import, and how many there are.

    text: part of their names or groups, any case; empty for all. start: how many to pass over. limit: at most so many.
    """
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", text.strip()) + "%"
    where = "FROM volumes WHERE dataset_id = ? AND (name LIKE ? ESCAPE '\\' OR group_name LIKE ? ESCAPE '\\')"
    with store.reading() as db:
        (count,) = (int(row["n"]) for row in db.query(f"SELECT count(*) AS n {where}", [dataset_id, pattern, pattern]))
        query = f"SELECT * {where} ORDER BY id LIMIT ? OFFSET ?"
        return [_volume(row) for row in db.query(query, [dataset_id, pattern, pattern, limit, start])], count


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
    for start in range(0, len(fingerprints), _MARKS):
        some = list(fingerprints[start : start + _MARKS])
        query = (
            "SELECT datasets.name AS name FROM volumes JOIN datasets ON datasets.id = volumes.dataset_id "
            f"WHERE fingerprint IN ({','.join('?' * len(some))}) LIMIT 1"
        )
        with store.reading() as db:
            for row in db.query(query, some):
                return str(row["name"])
    return None


def scheme_of_volume(store: Store, volume_id: int) -> LabelScheme:
    """How the label values of a volume are read. Raises StoreError where there is none of that id."""
    query = "SELECT labels FROM datasets JOIN volumes ON volumes.dataset_id = datasets.id WHERE volumes.id = ?"
    with store.reading() as db:
        for row in db.query(query, [volume_id]):
            return LabelScheme.model_validate_json(row["labels"])
    raise StoreError(f"There is no volume {volume_id} in this workspace. It may have been deleted.")


_SUMMARIES = (
    "SELECT id, name, labels, label_counts, created_at, "
    "(SELECT count(*) FROM volumes WHERE dataset_id = datasets.id) AS volume_count, "
    "(SELECT count(*) FROM volumes WHERE dataset_id = datasets.id AND has_labels) AS labelled_count FROM datasets"
)


def _one(rows: Iterable[dict[str, Any]], dataset_id: int) -> dict[str, Any]:
    for row in rows:
        return row
    raise _no_dataset(dataset_id)


def _no_dataset(dataset_id: int) -> StoreError:
    return StoreError(f"There is no data set {dataset_id} in this workspace. It may have been deleted.")


def _columns(volume: NewVolume) -> dict[str, Any]:
    return {
        "name": volume.name,
        "group_name": volume.group,
        "shape_czyx": json.dumps(volume.shape_czyx),
        "dtype": volume.dtype,
        "voxel_size_nm": json.dumps(volume.voxel_size_nm),
        "channel_names": json.dumps(volume.channel_names),
        "has_labels": int(volume.has_labels),
        "label_counts": None if volume.label_counts is None else json.dumps(volume.label_counts),
        "objects": volume.objects,
        "contrast": json.dumps(volume.contrast),
        "fingerprint": volume.fingerprint,
    }


def _volume(row: dict[str, Any]) -> VolumeRow:
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
        channel_names=tuple(json.loads(row["channel_names"])),
        has_labels=bool(row["has_labels"]),
        label_counts=_counts(row["label_counts"]),
        objects=row["objects"],
        contrast=(low, high),
        fingerprint=row["fingerprint"],
    )


def _counts(text: str | None) -> dict[int, int] | None:
    return None if text is None else {int(value): int(count) for value, count in json.loads(text).items()}


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "labels": LabelScheme.model_validate_json(row["labels"]),
        "label_counts": _counts(row["label_counts"]),
    }
