"""Imports: what is in the workspace afterwards, and that a refused one leaves nothing there."""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from seglib.data.readers import SourceFile
from seglib.data.volumes import open_volume
from seglib.errors import DataError, WorkCancelled
from seglib.ingest import (
    Desk,
    Door,
    ImportRequest,
    Item,
    already_imported,
    import_dataset,
    make_demo,
)
from seglib.store import Store
from seglib.store.datasets import get_dataset, list_datasets
from seglib.workspace import open_workspace

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared example data are not at {SHARED}")
RNG = np.random.default_rng(0)


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace):
    store = Store(workspace.database)
    yield store
    store.close()


@pytest.fixture
def make(tmp_path):
    """Writes arrays as TIFF files and gives them as sources called `<prefix>/<number>.tif`."""

    def write(prefix, *arrays) -> tuple[SourceFile, ...]:
        (tmp_path / prefix).mkdir(exist_ok=True)
        for number, array in enumerate(arrays, 1):
            tifffile.imwrite(tmp_path / prefix / f"{number}.tif", array, photometric="minisblack", compression="zlib")
        return tuple(
            SourceFile(tmp_path / prefix / f"{number}.tif", f"{prefix}/{number}.tif")
            for number in range(1, len(arrays) + 1)
        )

    return write


def request(images, labels=(), **options) -> ImportRequest:
    """One item for each image, with the labels in the same place of theirs."""
    defaults = {"name": "Leaf", "voxel_size_nm": (50.0, 8.0, 4.0), "label_kind": "classes"}
    marks = [(label,) for label in labels] or [()] * len(images)
    items = [Item(Path(image.name).stem, (image,), mark) for image, mark in zip(images, marks, strict=True)]
    return ImportRequest(items=tuple(items), **{**defaults, **options})


def imported(workspace, store, asked, **options):
    """The data set that an import in this process makes."""
    dataset = import_dataset(workspace, store, asked, isolated=False, **options)
    return get_dataset(store, dataset)


def files_in(workspace) -> list[str]:
    folders = (workspace.root / "volumes", workspace.root / "scratch")
    return [str(path) for folder in folders for path in folder.rglob("*")]


def assert_refused(workspace, store, asked, match, **options) -> None:
    with pytest.raises(DataError, match=match):
        imported(workspace, store, asked, **options)
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def images(count=6) -> list[np.ndarray]:
    return list(RNG.integers(0, 4000, (count, 20, 24)).astype(np.uint16))


def test_sections_and_labels_become_one_volume_with_every_voxel_in_its_place(workspace, store, make):
    pixels, marks = images(), [(plane > 2000).astype(np.uint16) * 2 for plane in images()]
    asked = request(make("i", *pixels), make("l", *marks), class_names={2: "pore"}, name=" Leaf ")
    dataset = imported(workspace, store, asked)
    assert (dataset.name, dataset.label_kind, dataset.labels.names("classes")) == ("Leaf", "classes", ("pore",))
    (row,) = dataset.volumes
    volume = open_volume(workspace.volume(row.id))
    np.testing.assert_array_equal(volume.image[0], np.stack(pixels))
    np.testing.assert_array_equal(volume.labels[:], np.stack(marks))
    assert volume.labels.dtype == np.uint16
    assert volume.voxel_size_nm == row.voxel_size_nm == (50.0, 8.0, 4.0)
    assert (row.shape_czyx, row.dtype, row.has_labels, row.objects) == ((1, 6, 20, 24), "uint16", True, 1)
    twos = int((np.stack(marks) == 2).sum())
    assert row.label_counts == dataset.label_counts == {0: 6 * 20 * 24 - twos, 2: twos}
    assert volume.contrast == row.contrast
    low, high = row.contrast
    assert 0 <= low < 100
    assert 3900 < high <= 4000
    assert list((workspace.root / "scratch").iterdir()) == []


def test_instances_are_counted_and_big_ids_kept(workspace, store, make):
    ids = np.zeros((5, 20, 24), np.uint32)
    ids[0, :4, :4], ids[4, 5:9, 5:9], ids[1:3, 12:, 12:] = 7, 70_000, 300
    asked = request(make("i", np.stack(images(5))), make("l", ids), label_kind="instances")
    dataset = imported(workspace, store, asked)
    (row,) = dataset.volumes
    assert (row.objects, sorted(row.label_counts)) == (3, [0, 7, 300, 70_000])
    labels = open_volume(workspace.volume(row.id)).labels
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels[:], ids)


def test_images_without_labels_and_with_colours_are_imported(workspace, store, tmp_path):
    rgb = RNG.integers(0, 255, (20, 24, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    asked = request([SourceFile(tmp_path / "a.tif", "a.tif")], label_kind="auto")
    dataset = imported(workspace, store, asked)
    assert dataset.label_kind == "none"
    (row,) = dataset.volumes
    volume = open_volume(workspace.volume(row.id))
    np.testing.assert_array_equal(volume.image[:, 0], rgb.transpose(2, 0, 1))
    assert volume.labels is None
    assert (row.has_labels, row.label_counts, row.objects) == (False, None, None)


def test_images_of_different_size_become_volumes_of_their_own_group(workspace, store, make):
    pixels = [np.zeros((8, 9), np.uint8), np.ones((7, 9), np.uint8)]
    rows = imported(workspace, store, request(make("i", *pixels))).volumes
    assert [(row.name, row.group, row.shape_czyx) for row in rows] == [
        ("1", "1", (1, 1, 8, 9)),
        ("2", "2", (1, 1, 7, 9)),
    ]
    np.testing.assert_array_equal(open_volume(workspace.volume(rows[1].id)).image[0, 0], pixels[1])


def test_whole_float_labels_are_converted_and_that_is_noted(workspace, store, make):
    marks = (np.stack(images()) > 2000).astype(np.float32)
    notes: list[str] = []
    asked = request(make("i", np.stack(images())), make("l", marks))
    dataset = imported(workspace, store, asked, note=notes.append)
    labels = open_volume(workspace.volume(dataset.volumes[0].id)).labels
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels[:], marks)
    assert notes == ["Labels stored as float32 were converted to whole numbers."]


def test_the_guessed_kind_is_told_with_its_reason(workspace, store, make):
    notes: list[str] = []
    ids = np.arange(25, dtype=np.uint8).reshape(5, 5).repeat(4, 0).repeat(4, 1)
    asked = request(make("i", np.zeros((20, 20), np.uint8)), make("l", ids), label_kind="auto")
    assert imported(workspace, store, asked, note=notes.append).label_kind == "instances"
    assert "taken as instances: 24 different values" in notes[0]


@pytest.mark.parametrize(
    ("plane", "match"),
    [
        (np.full((20, 24), 0.5, np.float32), r"l/3\.tif has the label value 0\.5"),
        (np.full((20, 24), -3, np.int16), r"l/3\.tif has the label value -3"),
        (np.zeros((20, 23), np.uint8), r"l/3\.tif is 20 × 23 but i/3\.tif is 20 × 24"),
    ],
)
def test_a_bad_label_file_leaves_nothing_behind(workspace, store, make, plane, match):
    marks = [np.eye(20, 24, dtype=np.uint8) for _ in range(6)]
    marks[2] = plane
    assert_refused(workspace, store, request(make("i", *images()), make("l", *marks)), match)


def test_bad_labels_are_all_told_at_once(workspace, store, make):
    marks = [np.full((20, 24), value, np.float32) for value in (0, 0.5, 1, 1.5, 0, 0)]
    assert_refused(workspace, store, request(make("i", *images()), make("l", *marks)), r"(?s)l/2\.tif.*l/4\.tif")


@pytest.mark.parametrize("value", [0, 5])
def test_labels_of_a_single_value_are_refused(workspace, store, make, value):
    marks = [np.full((20, 24), value, np.uint8)] * 6
    assert_refused(
        workspace, store, request(make("i", *images()), make("l", *marks)), f"value {value}.*nothing to learn"
    )


def test_labels_that_are_empty_in_one_volume_only_are_fine(workspace, store, make):
    stacks, marks = [np.zeros((2, 8, 9), np.uint8)] * 2, [np.zeros((2, 8, 9), np.uint8)] * 2
    marks[1] = np.arange(144, dtype=np.uint8).reshape(2, 8, 9) % 2
    rows = imported(workspace, store, request(make("i", *stacks), make("l", *marks))).volumes
    assert [row.label_counts for row in rows] == [{0: 144}, {0: 72, 1: 72}]


def test_too_many_values_for_classes_are_refused(workspace, store, make):
    ids = np.arange(480, dtype=np.uint16).reshape(20, 24)
    assert_refused(
        workspace, store, request(make("i", images(1)[0]), make("l", ids)), "479 different values.*instances"
    )


def test_an_image_cut_off_where_only_reading_shows_it_leaves_nothing_behind(workspace, store, make):
    sources = make("i", *images())
    with tifffile.TiffFile(sources[5].path) as tif:
        start, length = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    data = bytearray(sources[5].path.read_bytes())
    data[start : start + length] = bytes(length)
    sources[5].path.write_bytes(data)
    assert_refused(workspace, store, request(sources), r"i/6\.tif is damaged")


@pytest.mark.parametrize("moment", range(3))
def test_stopping_at_any_moment_leaves_nothing_behind(workspace, store, make, moment):
    marks = [np.eye(20, 24, dtype=np.uint8)] * 6
    asked, answers = request(make("i", *images()), make("l", *marks)), iter([False] * moment + [True])
    with pytest.raises(WorkCancelled):
        imported(workspace, store, asked, cancelled=lambda: next(answers))
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def test_progress_counts_up_to_its_total(workspace, store, make):
    seen: list[tuple[int, int, str]] = []
    marks = [np.eye(20, 24, dtype=np.uint8)] * 6
    asked = request(make("i", *images()), make("l", *marks))
    imported(workspace, store, asked, progress=lambda *step: seen.append(step))
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == seen[-1][1] == 12


def test_a_volume_that_cannot_be_moved_undoes_those_that_were(workspace, store, make, monkeypatch):
    moves, rename = [], Path.rename

    def fail_at_the_second(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises(OSError, match="broken"):
        imported(workspace, store, request(make("i", *images(3)), layout="volumes"))
    assert moves[0].parent.name == "volumes"
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(workspace, store, make, monkeypatch):
    def full(*_args, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seglib.ingest.staging.image_description", full)
    assert_refused(workspace, store, request(make("i", *images())), "is full")


def test_what_a_killed_import_left_does_not_block_the_next_one(workspace, store, make):
    (workspace.volume(1) / "0").mkdir(parents=True)
    (workspace.volume(1) / "0" / "half").touch()
    (row,) = imported(workspace, store, request(make("i", *images()))).volumes
    assert row.id == 1
    assert open_volume(workspace.volume(1)).shape_zyx == (6, 20, 24)
    assert not (workspace.volume(1) / "0" / "half").exists()


def test_importing_the_same_files_again_is_noticed_before_and_after(workspace, store, make):
    asked, notes = request(make("i", *images())), []
    with Desk(workspace, isolated=False) as desk:
        assert already_imported(store, desk.look(asked)) is None
        imported(workspace, store, asked)
        assert already_imported(store, desk.look(asked)) == "Leaf"
        assert already_imported(store, desk.look(request(make("other", *images())))) is None
    imported(workspace, store, asked, note=notes.append)
    assert "The same files were imported before, as Leaf." in notes


def test_large_planes_get_coarser_copies(workspace, store, make):
    stack = RNG.integers(0, 255, (3, 700, 40)).astype(np.uint8)
    (row,) = imported(workspace, store, request(make("i", stack), make("l", stack // 100))).volumes
    group = zarr.open_group(str(workspace.volume(row.id)), mode="r")
    scales = [
        level["coordinateTransformations"][0]["scale"] for level in group.attrs["ome"]["multiscales"][0]["datasets"]
    ]
    assert scales == [[1.0, 50.0, 8.0, 4.0], [1.0, 50.0, 16.0, 8.0]]
    assert group["1"].shape == (1, 3, 350, 20)
    np.testing.assert_array_equal(group["labels/labels/1"][:], (stack // 100)[:, ::2, ::2])


def test_every_channel_has_its_name_and_its_own_contrast(workspace, store, tmp_path):
    stack = np.stack([np.full((4, 8, 9), 3, np.uint16), np.full((4, 8, 9), 3000, np.uint16)])
    stack[:, 2] += 7
    np.save(tmp_path / "a.npy", stack)
    asked = request([SourceFile(tmp_path / "a.npy", "a.npy")], axes="CZYX", channel_names=("DAPI", "GFP"))
    (row,) = imported(workspace, store, asked).volumes
    volume = open_volume(workspace.volume(row.id))
    assert volume.channel_names == row.channel_names == ("DAPI", "GFP")
    assert volume.windows == ((3.0, 10.0), (3000.0, 3007.0))


def test_an_import_in_another_process_gives_what_one_here_gives(workspace, store, make):
    asked = request(make("i", *images()), make("l", *[np.eye(20, 24, dtype=np.uint8)] * 6))
    seen: list[tuple[int, int, str]] = []
    here = imported(workspace, store, asked)
    there = get_dataset(store, import_dataset(workspace, store, asked, progress=lambda *step: seen.append(step)))
    one, other = (open_volume(workspace.volume(row.volumes[0].id)) for row in (here, there))
    np.testing.assert_array_equal(one.image[:], other.image[:])
    np.testing.assert_array_equal(one.labels[:], other.labels[:])
    assert here.labels == there.labels
    assert seen
    assert list((workspace.root / "scratch").iterdir()) == []


def test_many_pictures_are_written_by_several_processes_in_their_order(workspace, store, make):
    pixels = [np.full((6, 5), number, np.uint8) for number in range(140)]
    rows = get_dataset(store, import_dataset(workspace, store, request(make("i", *pixels), layout="volumes"))).volumes
    assert [row.name for row in rows] == [str(number) for number in range(1, 141)]
    values = [int(open_volume(workspace.volume(row.id)).image[0, 0, 0, 0]) for row in rows]
    assert values == list(range(140))


def test_the_demo_is_four_volumes_with_instances(workspace, store):
    dataset = get_dataset(store, make_demo(workspace, store))
    assert (dataset.name, dataset.label_kind, len(dataset.volumes)) == ("Demo cells", "instances", 4)
    assert len({row.group for row in dataset.volumes}) == 4
    for row in dataset.volumes:
        volume = open_volume(workspace.volume(row.id))
        assert volume.voxel_size_nm == (400.0, 200.0, 200.0)
        assert len(np.unique(volume.labels[:])) - 1 == row.objects > 20


@needs_shared
@pytest.mark.parametrize(
    ("name", "shape", "kind", "objects"),
    [
        ("chloroplast", (1, 10, 1536, 2048), "instances", True),
        ("plate2d", (1, 1, 943, 1024), "classes", False),
        ("nuclei3d", (1, 31, 61, 57), "instances", True),
    ],
)
def test_the_example_data_become_one_volume_each(workspace, store, name, shape, kind, objects):
    with Desk(workspace, isolated=False) as desk:
        items = desk.find(Door(path=str(SHARED / name), confined=False)).items
        dataset = imported(workspace, store, ImportRequest(name="Leaf", items=items))
    (row,) = dataset.volumes
    assert (row.shape_czyx, dataset.label_kind) == (shape, kind)
    volume = open_volume(workspace.volume(row.id))
    for layer, stored in ((0, volume.image[0]), (1, volume.labels[:])):
        files = [(item.images, item.labels)[layer] for item in items]
        expected = [np.atleast_3d(tifffile.imread(source.path).T).T for sources in files for source in sources]
        np.testing.assert_array_equal(stored, np.concatenate(expected))
    if objects:
        assert row.objects == len(np.unique(volume.labels[:])) - 1


@needs_shared
def test_the_example_sections_can_come_as_a_zip(workspace, store, tmp_path):
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as archive:
        for path in sorted((SHARED / "chloroplast").rglob("00[1-3].tif")):
            archive.write(path, path.relative_to(SHARED).as_posix())
    with Desk(workspace) as desk:
        proposal = desk.find(Door(images=(SourceFile(tmp_path / "up.zip", "up.zip"),)))
        asked = ImportRequest(name="Zip", items=proposal.items, layout="sections")
        dataset = get_dataset(store, import_dataset(workspace, store, asked))
    assert dataset.volumes[0].shape_czyx == (1, 3, 1536, 2048)
    assert dataset.volumes[0].has_labels


def test_a_desk_that_is_dropped_removes_what_it_unpacked(workspace):
    desk = Desk(workspace, isolated=False)
    assert len(list((workspace.root / "scratch").iterdir())) == 1
    del desk
    assert list((workspace.root / "scratch").iterdir()) == []
