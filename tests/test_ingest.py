"""Imports: what is in the workspace afterwards, and that a refused one leaves nothing there."""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from seglib.data.readers import SourceFile
from seglib.data.readers.archive import unpack
from seglib.data.readers.sources import find_pairs, split_pairs
from seglib.data.volumes import open_volume
from seglib.errors import DataError
from seglib.ingest import ImportCancelled, ImportRequest, already_imported, import_dataset, make_demo, plan_import
from seglib.store import Store
from seglib.store.datasets import get_dataset, list_datasets
from seglib.workspace import open_workspace

SHARED = Path(__file__).parents[2] / "shared" / "data"
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
    defaults = {"name": "Leaf", "voxel_size_nm": (50.0, 8.0, 4.0), "label_kind": "classes"}
    return ImportRequest(images=tuple(images), labels=tuple(labels), **{**defaults, **options})


def files_in(workspace) -> list[str]:
    folders = (workspace.root / "volumes", workspace.root / "scratch")
    return [str(path) for folder in folders for path in folder.rglob("*")]


def assert_refused(workspace, store, asked, match, **options) -> None:
    with pytest.raises(DataError, match=match):
        import_dataset(workspace, store, asked, **options)
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def images(count=6) -> list[np.ndarray]:
    return list(RNG.integers(0, 4000, (count, 20, 24)).astype(np.uint16))


def test_sections_and_labels_become_one_volume_with_every_voxel_in_its_place(workspace, store, make):
    pixels, marks = images(), [(plane > 2000).astype(np.uint16) * 2 for plane in images()]
    dataset = get_dataset(
        store,
        import_dataset(
            workspace, store, request(make("i", *pixels), make("l", *marks), class_names={2: "pore"}, name=" Leaf ")
        ),
    )
    assert (dataset.name, dataset.label_kind, dataset.class_names) == ("Leaf", "classes", {2: "pore"})
    (row,) = dataset.volumes
    volume = open_volume(workspace.volume(row.id))
    np.testing.assert_array_equal(volume.image[0], np.stack(pixels))
    np.testing.assert_array_equal(volume.labels[:], np.stack(marks))
    assert volume.labels.dtype == np.uint8
    assert volume.voxel_size_nm == row.voxel_size_nm == (50.0, 8.0, 4.0)
    assert (row.shape_czyx, row.dtype, row.has_labels, row.objects) == ((1, 6, 20, 24), "uint16", True, None)
    twos = int((np.stack(marks) == 2).sum())
    assert row.label_counts == {0: 6 * 20 * 24 - twos, 2: twos}
    assert volume.contrast == row.contrast
    low, high = row.contrast
    assert 0 <= low < 100
    assert 3900 < high <= 4000
    assert list((workspace.root / "scratch").iterdir()) == []


def test_instances_are_counted_and_big_ids_kept(workspace, store, make):
    ids = np.zeros((5, 20, 24), np.uint32)
    ids[0, :4, :4], ids[4, 5:9, 5:9], ids[1:3, 12:, 12:] = 7, 70_000, 300
    asked = request(make("i", np.stack(images(5))), make("l", ids), label_kind="instances", class_names={1: "x"})
    dataset = get_dataset(store, import_dataset(workspace, store, asked))
    (row,) = dataset.volumes
    assert (row.objects, row.label_counts, dataset.class_names) == (3, None, {})
    labels = open_volume(workspace.volume(row.id)).labels
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels[:], ids)


def test_images_without_labels_and_with_colours_are_imported(workspace, store, tmp_path):
    rgb = RNG.integers(0, 255, (20, 24, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    asked = request([SourceFile(tmp_path / "a.tif", "a.tif")], label_kind="auto")
    dataset = get_dataset(store, import_dataset(workspace, store, asked))
    assert dataset.label_kind == "none"
    (row,) = dataset.volumes
    volume = open_volume(workspace.volume(row.id))
    np.testing.assert_array_equal(volume.image[:, 0], rgb.transpose(2, 0, 1))
    assert volume.labels is None
    assert (row.has_labels, row.label_counts, row.objects) == (False, None, None)


def test_images_of_different_size_become_volumes_of_their_own_group(workspace, store, make):
    pixels = [np.zeros((8, 9), np.uint8), np.ones((7, 9), np.uint8)]
    rows = get_dataset(store, import_dataset(workspace, store, request(make("i", *pixels)))).volumes
    assert [(row.name, row.group, row.shape_czyx) for row in rows] == [
        ("1", "1", (1, 1, 8, 9)),
        ("2", "2", (1, 1, 7, 9)),
    ]
    np.testing.assert_array_equal(open_volume(workspace.volume(rows[1].id)).image[0, 0], pixels[1])


def test_whole_float_labels_are_converted_and_that_is_noted(workspace, store, make):
    marks = (np.stack(images()) > 2000).astype(np.float32)
    notes: list[str] = []
    asked = request(make("i", np.stack(images())), make("l", marks))
    dataset = get_dataset(store, import_dataset(workspace, store, asked, note=notes.append))
    labels = open_volume(workspace.volume(dataset.volumes[0].id)).labels
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[:], marks)
    assert notes == ["Labels stored as float32 were converted."]


def test_the_guessed_kind_is_told_with_its_reason(workspace, store, make):
    notes: list[str] = []
    ids = np.arange(25, dtype=np.uint8).reshape(5, 5).repeat(4, 0).repeat(4, 1)
    asked = request(make("i", np.zeros((20, 20), np.uint8)), make("l", ids), label_kind="auto")
    assert get_dataset(store, import_dataset(workspace, store, asked, note=notes.append)).label_kind == "instances"
    assert "taken as instances: 24 different values" in notes[0]


@pytest.mark.parametrize(
    ("plane", "match"),
    [
        (np.full((20, 24), 0.5, np.float32), r"l/3\.tif has the label value 0\.5"),
        (np.full((20, 24), -1, np.int16), r"l/3\.tif has the label value -1"),
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
    rows = get_dataset(store, import_dataset(workspace, store, request(make("i", *stacks), make("l", *marks)))).volumes
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


@pytest.mark.parametrize("moment", range(11))
def test_stopping_at_any_moment_leaves_nothing_behind(workspace, store, make, moment):
    marks = [np.eye(20, 24, dtype=np.uint8)] * 6
    asked, answers = request(make("i", *images()), make("l", *marks)), iter([False] * moment + [True])
    with pytest.raises(ImportCancelled):
        import_dataset(workspace, store, asked, cancelled=lambda: next(answers))
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def test_progress_counts_up_to_its_total(workspace, store, make):
    seen: list[tuple[int, int, str]] = []
    marks = [np.eye(20, 24, dtype=np.uint8)] * 6
    import_dataset(
        workspace, store, request(make("i", *images()), make("l", *marks)), progress=lambda *step: seen.append(step)
    )
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == seen[-1][1] == 18


def test_a_volume_that_cannot_be_moved_undoes_those_that_were(workspace, store, make, monkeypatch):
    moves, rename = [], Path.rename

    def fail_at_the_second(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises(OSError, match="broken"):
        import_dataset(workspace, store, request(make("i", *images(3)), layout="volumes"))
    assert moves[0].parent.name == "volumes"
    assert files_in(workspace) == []
    assert list_datasets(store) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(workspace, store, make, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seglib.ingest.set_contrast", full)
    assert_refused(workspace, store, request(make("i", *images())), "is full")


def test_what_a_killed_import_left_does_not_block_the_next_one(workspace, store, make):
    (workspace.volume(1) / "0").mkdir(parents=True)
    (workspace.volume(1) / "0" / "half").touch()
    (row,) = get_dataset(store, import_dataset(workspace, store, request(make("i", *images())))).volumes
    assert row.id == 1
    assert open_volume(workspace.volume(1)).shape_zyx == (6, 20, 24)
    assert not (workspace.volume(1) / "0" / "half").exists()


def test_importing_the_same_files_again_is_noticed(workspace, store, make):
    asked = request(make("i", *images()))
    assert already_imported(store, plan_import(asked)) is None
    import_dataset(workspace, store, asked)
    assert already_imported(store, plan_import(asked)) == "Leaf"
    assert already_imported(store, plan_import(request(make("other", *images())))) is None


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
    pixels, marks = find_pairs(SHARED / name)
    dataset = get_dataset(store, import_dataset(workspace, store, request(pixels, marks, label_kind="auto")))
    (row,) = dataset.volumes
    assert (row.shape_czyx, dataset.label_kind) == (shape, kind)
    volume = open_volume(workspace.volume(row.id))
    expected = np.concatenate([np.atleast_3d(tifffile.imread(mark.path).T).T for mark in marks])
    np.testing.assert_array_equal(volume.labels[:], expected)
    np.testing.assert_array_equal(
        volume.image[0], np.concatenate([np.atleast_3d(tifffile.imread(image.path).T).T for image in pixels])
    )
    if objects:
        assert row.objects == len(np.unique(expected)) - 1


@needs_shared
def test_the_example_sections_can_come_as_a_zip(workspace, store, tmp_path):
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as archive:
        for path in sorted((SHARED / "chloroplast").rglob("00[1-3].tif")):
            archive.write(path, path.relative_to(SHARED).as_posix())
    with workspace.scratch() as folder:
        pixels, marks = split_pairs(unpack(SourceFile(tmp_path / "up.zip", "up.zip"), folder))
        dataset = get_dataset(store, import_dataset(workspace, store, request(pixels, marks, label_kind="auto")))
    assert dataset.volumes[0].shape_czyx == (1, 3, 1536, 2048)
    assert dataset.volumes[0].has_labels
