"""Layers as files: read back by other programs' readers, in bounded memory, whole or not there."""

import errno
import itertools
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from seglib.data.volumes import open_volume
from seglib.errors import DataError, WorkCancelled
from seglib.export import FORMATS, Export, Watch, export_file, layers_there, served_file, tiff, write_export
from seglib.export.arrays import write_hdf5, write_npy
from seglib.export.sources import BLOCK_BYTES, Layer, blocks, open_layer
from seglib.export.tiff import write_ome_tiff, write_tiff
from tests.export.conftest import RUN, VOXEL_NM

ARRAY_FORMATS = [name for name, kind in FORMATS.items() if not kind.is_picture]
SHAPES = [(1, 1, 1), (1, 24, 31), (5, 24, 31), (17, 3, 2), (5, 4, 1)]
UM = [0.04, 0.008, 0.004]


def read_back(path: Path, file_format: str, layer: str, folder: Path) -> np.ndarray:
    """The array of a file, by a reader of its own."""
    if file_format == "npy":
        return np.load(path, mmap_mode="r")
    if file_format == "hdf5":
        with h5py.File(path) as file:
            return file[layer][:]
    if file_format == "ome-zarr":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        return zarr.open_group(folder / f"{layer}.ome.zarr", mode="r")["0"][:]
    with tifffile.TiffFile(path) as file:
        values = file.series[0].asarray(squeeze=False)
        # T, Z, C, Y, X, S of a hyperstack; the order of others is in their axes.
        order = [file.series[0].get_axes(squeeze=False).index(axis) for axis in "CZYX"]
        rest = tuple(axis for axis in range(values.ndim) if axis not in order)
        values = np.transpose(values, (*rest, *order)).reshape(tuple(values.shape[axis] for axis in order))
        return values[0] if layer == "labels" else values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("file_format", ARRAY_FORMATS)
def test_every_layer_comes_back_from_every_format(workspace, predicted, tmp_path, shape, file_format):
    values = predicted(shape)
    assert layers_there(workspace.prediction(RUN)) == ("labels", "probabilities", "uncertainty")
    for layer in layers_there(workspace.prediction(RUN)):
        path = export_file(workspace, Export(RUN, layer, file_format))
        assert path == workspace.prediction(RUN) / f"{layer}{FORMATS[file_format].suffix}"
        found = read_back(path, file_format, layer, tmp_path / "unzipped")
        np.testing.assert_array_equal(found, values[layer])
        assert found.dtype == values[layer].dtype


@pytest.mark.parametrize("file_format", ARRAY_FORMATS)
def test_many_objects_and_half_precision_survive(workspace, predicted, tmp_path, file_format):
    values = predicted(labels="uint32", probabilities="float16")
    assert values["labels"].max() > 65_535
    for layer in ("labels", "probabilities"):
        found = read_back(export_file(workspace, Export(RUN, layer, file_format)), file_format, layer, tmp_path / "un")
        np.testing.assert_array_equal(found, values[layer])
        widened = file_format in ("tiff", "ome-tiff") and layer == "probabilities"
        assert found.dtype == (np.float32 if widened else values[layer].dtype)


def test_voxel_sizes_names_and_meaning_are_in_the_files(workspace, predicted, tmp_path):
    predicted(probabilities="float16")
    made = {name: export_file(workspace, Export(RUN, "probabilities", name)) for name in ARRAY_FORMATS}
    with tifffile.TiffFile(made["tiff"]) as file:
        assert file.is_imagej and not file.is_bigtiff
        described = file.imagej_metadata
        assert (described["spacing"], described["unit"], described["channels"]) == (0.04, "um", 2)
        assert described["Labels"] == ["class 1", "class 2"] * 5
        assert "float32, because TIFF knows no float16" in described["Info"]
        assert file.pages[0].resolution == pytest.approx((250.0, 125.0))
    with tifffile.TiffFile(made["ome-tiff"]) as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [float(pixels[f"PhysicalSize{axis}"]) for axis in "ZYX"] == UM
        assert pixels["PhysicalSizeZUnit"] == "µm"
        assert [channel["Name"] for channel in pixels["Channel"]] == ["class 1", "class 2"]
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    with h5py.File(made["hdf5"]) as file:
        attributes = file["probabilities"].attrs
        assert attributes["element_size_um"].tolist() == UM
        assert attributes["axes"] == "czyx"
        assert [axis["key"] for axis in json.loads(attributes["axistags"])["axes"]] == list("czyx")
        assert list(attributes["channel_names"]) == ["class 1", "class 2"]
        assert file["probabilities"].compression == "gzip"
    with zipfile.ZipFile(made["ome-zarr"]) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(tmp_path / "un")
    volume = open_volume(tmp_path / "un" / "probabilities.ome.zarr")
    assert (volume.voxel_size_nm, volume.channel_names) == (VOXEL_NM, ("class 1", "class 2"))


def test_zipped_labels_stand_alone(workspace, predicted, tmp_path):
    predicted()
    with zipfile.ZipFile(export_file(workspace, Export(RUN, "labels", "ome-zarr"))) as archive:
        archive.extractall(tmp_path / "un")
    ome = json.loads((tmp_path / "un/labels.ome.zarr/zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    assert "source" not in ome["image-label"]
    assert ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == list(VOXEL_NM)


@pytest.mark.parametrize("layer", ["labels", "probabilities"])
def test_large_planes_are_tiled_with_smaller_copies(workspace, predicted, layer):
    values = predicted((2, 1030, 600), labels="uint16")
    path = export_file(workspace, Export(RUN, layer, "ome-tiff"))
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert [level.shape[-2:] for level in series.levels] == [(1030, 600), (515, 300), (258, 150)]
        assert file.pages[0].is_tiled and len(file.pages[0].subifds) == 2
        np.testing.assert_array_equal(series.asarray(), values[layer])
        smaller = series.levels[1].asarray()
    if layer == "labels":
        np.testing.assert_array_equal(smaller, values[layer][:, ::2, ::2])
    else:
        blocks_of_four = values[layer].reshape(2, 2, 515, 2, 300, 2).astype(float)
        assert np.abs(smaller - blocks_of_four.mean((3, 5))).max() <= 1


@dataclass
class Watched:
    """A lazy array of zeros that counts how much is asked at a time and fails at one of the reads."""

    shape: tuple[int, ...]
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))
    most: int = 0
    reads: int = 0
    fails_at: int = 0
    error: OSError = field(default_factory=lambda: OSError("disk gone"))

    def __getitem__(self, key):
        self.reads += 1
        if self.reads == self.fails_at:
            raise self.error
        key = key if isinstance(key, tuple) else (key,)
        lengths = [
            len(range(*one.indices(side)))
            for one, side in itertools.zip_longest(key, self.shape, fillvalue=slice(None))
            if isinstance(one, slice)
        ]
        part = np.zeros(lengths, self.dtype)
        self.most = max(self.most, part.nbytes)
        return part


def watched_layer(array: Watched) -> Layer:
    name = "labels" if len(array.shape) == 3 else "probabilities"
    return Layer(name, Path("nowhere"), array, VOXEL_NM)


WRITERS = {"tif": write_tiff, "ome.tif": write_ome_tiff, "npy": write_npy, "h5": write_hdf5}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("shape", [(40, 64, 64), (3, 40, 64, 64)])
def test_little_is_read_at_a_time(tmp_path, monkeypatch, suffix, shape):
    monkeypatch.setattr("seglib.export.sources.BLOCK_BYTES", 5 * 64 * 64)
    monkeypatch.setattr(tiff, "BLOCK_BYTES", 5 * 64 * 64)
    array = Watched(shape)
    WRITERS[suffix](watched_layer(array), tmp_path / f"a.{suffix}", Watch())
    assert array.most == (3 if suffix == "tif" and len(shape) == 4 else 4) * 64 * 64
    assert array.reads * array.most == np.prod(shape)


def test_a_hyperstack_of_very_many_channels_is_read_plane_by_plane(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "BLOCK_BYTES", 8 * 8)
    array = Watched((5, 4, 8, 8))
    write_tiff(watched_layer(array), tmp_path / "a.tif", Watch())
    assert (array.most, array.reads) == (64, 20)


def test_blocks_cover_everything_once_and_count_to_the_end():
    told = []
    array = np.arange(2 * 37 * 2 * 3).reshape(2, 37, 2, 3)
    copy = np.full_like(array, -1)
    for where, block in blocks(array, Watch(lambda *state: told.append(state)), "a.npy"):
        assert (copy[where] == -1).all()
        copy[where] = block
    np.testing.assert_array_equal(copy, array)
    assert told[0] == (0, 74, "a.npy") and told[-1] == (74, 74, "a.npy")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert BLOCK_BYTES == 64 * 2**20


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (OSError("disk gone"), OSError, "disk gone"),
        (OSError(errno.ENOSPC, "No space left on device"), DataError, r"The disk is full: .* Free some space"),
        (OSError("Can't write data (errno = 28, error message = '')"), DataError, "The disk is full"),
    ],
)
def test_what_breaks_leaves_no_file_and_keeps_the_old_one(tmp_path, suffix, error, raised, said):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(raised, match=said):
        WRITERS[suffix](watched_layer(Watched((40, 8, 8), fails_at=2, error=error)), path, Watch())
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("file_format", ARRAY_FORMATS)
def test_what_is_stopped_leaves_nothing(workspace, predicted, file_format):
    predicted((20, 8, 9))
    before = sorted(path.name for path in workspace.prediction(RUN).iterdir())
    asked = itertools.count()
    with pytest.raises(WorkCancelled, match="Stopped"):
        export_file(workspace, Export(RUN, "labels", file_format), watch=Watch(stop=lambda: next(asked) >= 1))
    assert sorted(path.name for path in workspace.prediction(RUN).iterdir()) == before


def test_a_file_is_made_once_and_again_when_the_layer_is_newer(workspace, predicted):
    values = predicted()
    export = Export(RUN, "labels", "npy")
    path = export_file(workspace, export)
    first = path.stat().st_ino, path.stat().st_mtime_ns
    assert (export_file(workspace, export).stat().st_ino, path.stat().st_mtime_ns) == first
    os.utime(path, (1, 1))
    export_file(workspace, export)
    assert path.stat().st_mtime > 1
    np.testing.assert_array_equal(np.load(path), values["labels"])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 4, 4), np.float32), ((2, 4, 4), np.uint64), ((2, 2, 4, 4), np.uint8)]
)
def test_a_tiff_says_which_labels_it_cannot_hold(tmp_path, shape, dtype):
    layer = Layer("labels", tmp_path, np.zeros(shape, dtype), VOXEL_NM)
    for write in (write_tiff, write_ome_tiff):
        with pytest.raises(DataError, match="uint8, uint16 or uint32 with axes ZYX"):
            write(layer, tmp_path / "a.tif", Watch())
    with pytest.raises(DataError, match="cannot hold probabilities of float64"):
        write_tiff(Layer("probabilities", tmp_path, np.zeros((1, 2, 3, 4)), VOXEL_NM), tmp_path / "a.tif", Watch())
    assert list(tmp_path.iterdir()) == []


def test_too_much_for_a_classic_tiff_becomes_an_ome_tiff(workspace, predicted, tmp_path, monkeypatch):
    values = predicted()
    monkeypatch.setattr(tiff, "CLASSIC_TIFF_BYTES", 1000)
    with tifffile.TiffFile(export_file(workspace, Export(RUN, "labels", "tiff"))) as file:
        assert (file.is_imagej, file.is_ome, file.is_bigtiff) == (False, True, True)
        np.testing.assert_array_equal(file.asarray(), values["labels"])


def test_what_cannot_be_asked_for_is_said(workspace, predicted, tmp_path):
    predicted()
    with pytest.raises(DataError, match="no format 'docx'"):
        Export(RUN, "labels", "docx")
    with pytest.raises(DataError, match="no layer '../labels'"):
        Export(RUN, "../labels", "tiff")
    with pytest.raises(DataError, match="can only be made of labels, not of uncertainty"):
        Export(RUN, "uncertainty", "mp4")
    with pytest.raises(DataError, match="Prediction 8 has no labels"):
        export_file(workspace, Export(8, "labels", "tiff"))
    with pytest.raises(DataError, match="folder is missing"):
        write_export(workspace, Export(RUN, "labels", "npy"), tmp_path / "nowhere" / "a.npy")


def test_only_small_layers_and_the_plain_labels_are_made_while_somebody_waits(workspace, predicted, monkeypatch):
    predicted()
    monkeypatch.setattr("seglib.export.QUICK_BYTES", 1000)
    with pytest.raises(DataError, match="make it on the Predict page"):
        served_file(workspace, RUN, "labels.npy")
    made = export_file(workspace, Export(RUN, "labels", "npy"))
    assert served_file(workspace, RUN, "labels.npy") == (made, "application/octet-stream")
    assert served_file(workspace, RUN, "labels.tif")[0].is_file()
    os.utime(made, (1, 1))
    with pytest.raises(DataError, match="make it on the Predict page"):
        served_file(workspace, RUN, "labels.npy")


def test_a_layer_without_names_of_channels_has_none(workspace, predicted):
    predicted()
    layer = open_layer(workspace.prediction(RUN), "uncertainty")
    assert (layer.axes, layer.channel_names, layer.voxel_size_nm) == ("CZYX", (), VOXEL_NM)
