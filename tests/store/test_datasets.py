"""Data sets and volumes: what goes in comes out, and a failed import leaves no row."""

import pytest

from seglib.errors import StoreError
from seglib.store.datasets import (
    NewVolume,
    add_dataset,
    delete_dataset,
    find_fingerprint,
    get_dataset,
    get_volume,
    list_datasets,
)


def volume(**changes) -> NewVolume:
    values = {
        "name": "leaf",
        "group": "plant 1",
        "shape_czyx": (2, 8, 16, 24),
        "dtype": "uint16",
        "voxel_size_nm": (40.0, 8.5, 8.25),
        "has_labels": True,
        "label_counts": {0: 10, 2: 5, 7: 1},
        "objects": None,
        "contrast": (3.0, 250.5),
        "fingerprint": "f" * 64,
    }
    return NewVolume(**{**values, **changes})


def add(store, *volumes, place=lambda index, volume_id: None, **changes) -> int:
    values = {"name": "Leaves", "label_kind": "classes", "class_names": {2: "nucleus"}, **changes}
    return add_dataset(store, volumes=volumes, place=place, **values)


def test_what_goes_in_comes_out(store):
    placed = []
    dataset = add(store, volume(), volume(name="b", label_counts=None), place=lambda *what: placed.append(what))
    row = get_dataset(store, dataset)
    assert placed == [(index, volume.id) for index, volume in enumerate(row.volumes)]
    first = row.volumes[0]
    for name in NewVolume.__dataclass_fields__:
        assert getattr(first, name) == getattr(volume(), name), name
    assert (row.name, row.label_kind, row.class_names) == ("Leaves", "classes", {2: "nucleus"})
    assert first.dataset_id == dataset
    assert first.shape_zyx == (8, 16, 24)
    assert get_volume(store, first.id) == first
    assert list_datasets(store) == [row]


def test_label_values_are_those_of_all_volumes_without_background(store):
    dataset = add(store, volume(), volume(label_counts={0: 1, 3: 1, 7: 2}))
    assert get_dataset(store, dataset).label_values == (2, 3, 7)
    instances = add(store, volume(label_counts=None, objects=4), label_kind="instances")
    assert get_dataset(store, instances).label_values == (1,)
    bare = add(store, volume(has_labels=False, label_counts=None), label_kind="none")
    assert get_dataset(store, bare).label_values == ()


def test_a_failure_while_files_are_placed_leaves_no_row(store):
    def place(index: int, volume_id: int) -> None:
        if index == 1:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        add(store, volume(), volume(), place=place)
    assert list_datasets(store) == []
    with store.reading() as db:
        assert db.table("volumes").count == 0


@pytest.mark.parametrize("name", ["'); DROP TABLE datasets;--", "Ä 細胞 🧬", "a\x00b", "%_?"])
def test_any_text_survives_as_a_name(store, name):
    dataset = add(store, volume(name=name, group=name), name=name, class_names={2: name})
    row = get_dataset(store, dataset)
    assert {row.name, row.class_names[2], row.volumes[0].name, row.volumes[0].group} == {name}


def test_deleting_gives_the_volumes_whose_files_go(store):
    keep, gone = add(store, volume()), add(store, volume(), volume())
    ids = tuple(row.id for row in get_dataset(store, gone).volumes)
    assert delete_dataset(store, gone) == ids
    assert [row.id for row in list_datasets(store)] == [keep]
    with pytest.raises(StoreError, match=f"no data set {gone}"):
        get_dataset(store, gone)
    with pytest.raises(StoreError, match=f"no volume {ids[0]}"):
        get_volume(store, ids[0])


def test_a_second_import_of_the_same_files_is_noticed(store):
    add(store, volume(fingerprint="a" * 64), name="First")
    assert find_fingerprint(store, ["b" * 64, "a" * 64]) == "First"
    assert find_fingerprint(store, ["b" * 64]) is None
    assert find_fingerprint(store, []) is None
