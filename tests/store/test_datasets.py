"""Data sets and volumes: what goes in comes out, and a failed import leaves no row."""

import pytest

from seglib.config.labels import LabelClass, LabelScheme
from seglib.errors import StoreError
from seglib.store.datasets import (
    DatasetSummary,
    NewVolume,
    add_dataset,
    delete_dataset,
    find_fingerprint,
    find_volumes,
    get_dataset,
    get_summary,
    get_volume,
    list_datasets,
    rename_dataset,
    scheme_of_volume,
    set_labels,
)

NUCLEI = LabelScheme(
    kind="classes", classes=(LabelClass(name="nucleus", values=(2, 7), colour="#00ff00"),), ignore=(255,)
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
    values = {"name": "Leaves", "labels": NUCLEI, "label_counts": {0: 10, 2: 5, 7: 1}, **changes}
    return add_dataset(store, volumes=volumes, place=place, **values)


def test_what_goes_in_comes_out(store):
    placed = []
    dataset = add(store, volume(), volume(name="b", label_counts=None), place=lambda *what: placed.append(what))
    row = get_dataset(store, dataset)
    assert placed == [(index, volume.id) for index, volume in enumerate(row.volumes)]
    first = row.volumes[0]
    for name in NewVolume.__dataclass_fields__:
        assert getattr(first, name) == getattr(volume(), name), name
    assert (row.name, row.label_kind, row.labels) == ("Leaves", "classes", NUCLEI)
    assert (row.label_counts, row.volume_count, row.labelled_count) == ({0: 10, 2: 5, 7: 1}, 2, 2)
    assert first.dataset_id == dataset
    assert first.shape_zyx == (8, 16, 24)
    assert get_volume(store, first.id) == first
    (summary,) = list_datasets(store)
    assert summary == get_summary(store, dataset)
    for name in DatasetSummary.__dataclass_fields__:
        assert getattr(summary, name) == getattr(row, name), name


def scheme_called(name: str) -> LabelScheme:
    return LabelScheme(kind="classes", classes=(LabelClass(name=name, values=(2,)),))


def test_labels_are_read_anew_and_datasets_renamed(store):
    dataset, other = add(store, volume()), add(store, volume())
    volumes = [get_dataset(store, row).volumes[0].id for row in (dataset, other)]
    set_labels(store, dataset, LabelScheme(kind="instances", ignore=(9,)))
    rename_dataset(store, dataset, "Roots")
    assert get_summary(store, dataset).labels == LabelScheme(kind="instances", ignore=(9,))
    assert get_summary(store, dataset).name == "Roots"
    assert [scheme_of_volume(store, row).kind for row in volumes] == ["instances", "classes"]
    for change in (lambda: set_labels(store, 99, NUCLEI), lambda: rename_dataset(store, 99, "x")):
        with pytest.raises(StoreError, match="no data set 99"):
            change()
    with pytest.raises(StoreError, match="no volume 99"):
        scheme_of_volume(store, 99)


def test_volumes_are_found_by_part_of_their_name_or_group_a_page_at_a_time(store):
    names = [f"cell_{number}" for number in range(12)]
    dataset = add(store, *[volume(name=name, group="50%" if name.endswith("1") else "x") for name in names])
    add(store, volume(name="cell_of_another"))
    assert [row.name for row in find_volumes(store, dataset, start=10)[0]] == names[10:]
    assert find_volumes(store, dataset, limit=0) == ([], 12)
    found, count = find_volumes(store, dataset, text="CELL_1", limit=2)
    assert ([row.name for row in found], count) == (["cell_1", "cell_10"], 3)
    # What means something in a pattern is looked for as it is.
    assert find_volumes(store, dataset, text="50%")[1] == 2
    assert find_volumes(store, dataset, text="l%1")[1] == 0
    assert find_volumes(store, dataset, text="cell?1")[1] == 0
    assert find_volumes(store, dataset, text="' OR 1=1 --")[1] == 0


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
    dataset = add(store, volume(name=name, group=name), name=name, labels=scheme_called(name))
    row = get_dataset(store, dataset)
    assert {row.name, row.labels.classes[0].name, row.volumes[0].name, row.volumes[0].group} == {name}


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
