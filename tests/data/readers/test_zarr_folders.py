"""Zarr folders: which array is taken and what OME says of it, and what is refused before zarr-python sees it."""

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.codecs import numcodecs as numcodecs_v3

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.zarr_folders import open_zarr
from seglib.errors import DataError

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 1000, (6, 7, 8)).astype("<u2")
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(path: Path, member: str = "") -> ImageFile:
    return open_zarr(SourceFile(path, path.name, member))


def whole(file: ImageFile) -> np.ndarray:
    with file.opened() as read:
        return read(tuple(slice(0, side) for side in file.shape))


def refused(path: Path, told: str, member: str = "") -> None:
    with pytest.raises(DataError, match=told) as caught:
        whole(opened(path, member))
    assert path.name in str(caught.value)


def saved(path: Path, array: np.ndarray = ARRAY, version: int = 3, **options) -> Path:
    chunks = options.pop("chunks", tuple(min(side, 4) for side in array.shape))
    zarr.create_array(str(path), data=array, chunks=chunks, zarr_format=version, **options)
    return path


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ---------------------------------------------------------------- numbers


@settings(QUICK, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    dtype=st.sampled_from(["|b1", "|u1", "<i2", ">i2", "<u4", ">i8", "<f2", ">f4", "<f8"]),
    packing=st.sampled_from(["none", "blosc", "gzip", "zstd", "delta"]),
    version=st.sampled_from([2, 3]),
    sharded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_read_is_what_was_written(tmp_path, shape, dtype, packing, version, sharded, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 2 if dtype == "|b1" else 100, shape).astype(dtype)
    chunks = tuple(int(rng.integers(1, side + 1)) for side in shape)
    options = {"chunks": chunks, "shards": tuple(2 * side for side in chunks) if sharded and version == 3 else None}
    options["compressors"] = {
        "none": None,
        "delta": None,
        "blosc": BloscCodec() if version == 3 else numcodecs.Blosc(),
        "gzip": GzipCodec() if version == 3 else numcodecs.GZip(),
        "zstd": ZstdCodec() if version == 3 else numcodecs.Zstd(),
    }[packing]
    if packing == "delta" and version == 2 and dtype != "|b1":
        options["filters"] = [numcodecs.Delta(dtype=dtype)]
    shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
    image = opened(saved(tmp_path / "a.zarr", array, version, **options))
    window = tuple(slice(start, start + 1 + rng.integers(side - start)) for side in shape for start in [side // 2])
    with image.opened() as read:
        assert read(window).dtype == image.dtype == image.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read(window), array[window])
    np.testing.assert_array_equal(whole(image), array)
    assert image.chunks == (options["shards"] or chunks)
    assert not image.lossy


def test_codecs_outside_the_specification_work_without_a_warning_and_tell_of_rounding(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved(tmp_path / "a.zarr", compressors=[numcodecs_v3.LZ4()])
        rounding = [numcodecs_v3.BitRound(keepbits=4)]
        saved(tmp_path / "b.zarr", np.ones((4, 4), "f4"), filters=rounding)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.zarr")), ARRAY)
    assert not opened(tmp_path / "a.zarr").lossy
    assert opened(tmp_path / "b.zarr").lossy
    quantized = [numcodecs.Quantize(digits=1, dtype="<f4")]
    assert opened(saved(tmp_path / "c.zarr", np.ones((4, 4), "<f4"), 2, filters=quantized)).lossy


def test_a_window_is_read_without_the_chunks_beside_it(tmp_path):
    path = saved(tmp_path / "a.zarr", chunks=(2, 7, 8))
    for place in "02":
        (path / "c" / place / "0" / "0").write_bytes(b"damaged")
    with opened(path).opened() as read:
        np.testing.assert_array_equal(read((slice(2, 4), slice(1, 5), slice(0, 8))), ARRAY[2:4, 1:5])
        with pytest.raises(DataError, match="a.zarr is damaged"):
            read((slice(1, 4), slice(0, 7), slice(0, 8)))


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_chunk_is_the_fill_value_and_a_cut_one_is_damage(tmp_path, version):
    path = saved(tmp_path / "a.zarr", version=version, chunks=(3, 7, 8), fill_value=5, compressors=None)
    chunk = path / ("c/1/0/0" if version == 3 else "1.0.0")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    refused(path, "damaged")
    chunk.unlink()
    got = whole(opened(path))
    np.testing.assert_array_equal(got[:3], ARRAY[:3])
    assert (got[3:] == 5).all()


# ---------------------------------------------------------------- which array


def test_a_usual_name_comes_before_a_larger_array_and_other_things_are_no_arrays(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    for name, shape in {"small": (3, 3), "big": (9, 9), "line": (9,), "six": (1,) * 6}.items():
        group.create_array(name, data=np.ones(shape), chunks=shape)
    group.create_array("complex", data=np.ones((20, 20), complex), chunks=(20, 20))
    image = opened(tmp_path / "a.zarr")
    assert (image.shape, {member.name for member in image.members}) == ((9, 9), {"small", "big"})
    refused(tmp_path / "a.zarr", "complex in a.zarr holds values of the type 'complex128', not numbers", "complex")
    refused(tmp_path / "a.zarr", "no array 'none'", "none")
    group.create_array("volumes/raw", data=np.ones((2, 2)), chunks=(2, 2))
    assert opened(tmp_path / "a.zarr").shape == (2, 2)
    assert opened(tmp_path / "a.zarr", "small").shape == (3, 3)


def test_an_array_below_folders_without_metadata_is_found(tmp_path):
    saved(tmp_path / "a.zarr" / "s" / "0", version=2)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.zarr")), ARRAY)


def test_of_two_kinds_of_metadata_the_one_that_was_checked_is_used(tmp_path):
    path = saved(tmp_path / "a.zarr")
    (path / ".zarray").write_text(json.dumps({"zarr_format": 2, "dtype": "|O", "filters": [{"id": "pickle"}]}))
    np.testing.assert_array_equal(whole(opened(path)), ARRAY)


def test_a_name_with_a_backslash_is_not_another_array(tmp_path):
    zarr.create_group(str(tmp_path / "a.zarr"))
    zarr.create_group(str(tmp_path / "a.zarr" / "x"))
    saved(tmp_path / "a.zarr" / "x" / "raw", ARRAY + 1)
    saved(tmp_path / "a.zarr" / "x\\raw")
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.zarr", "x\\raw")), ARRAY)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.zarr", "x/raw")), ARRAY + 1)


@pytest.mark.parametrize(
    ("names", "axes", "known"),
    [
        (("z", "y", "x"), "ZYX", True),
        (("Y", "X", "channel"), "YXC", True),
        (("zy", "x", None), "ZYX", False),
        (("y", "y", "x"), "ZYX", False),
        (("depth", "row", "column"), "ZYX", False),
        (None, "ZYX", False),
    ],
)
def test_names_of_dimensions(tmp_path, names, axes, known):
    image = opened(saved(tmp_path / "a.zarr", dimension_names=names))
    assert (image.axes, image.axes_known) == (axes, known)


# ---------------------------------------------------------------- OME


def scaled(path: str, *scale: object) -> dict:
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}


def axes_in(unit: str | None) -> list[dict]:
    said = {} if unit is None else {"unit": unit}
    return [{"name": name, "type": "space", **said} for name in "zyx"]


def ome(path: Path, version: int = 3, labels: bool = True, **multiscale) -> Path:
    """An OME-Zarr of three dimensions with a level of half the size, and labels of the same size."""
    parts = {"axes": axes_in("micrometer"), "datasets": [scaled("0", 0.4, 0.1, 0.2), scaled("1", 0.8, 0.2, 0.4)]}
    said = {"multiscales": [{**parts, **multiscale}], "omero": {"channels": [{"label": "DAPI"}]}}
    group = zarr.create_group(str(path), zarr_format=version)
    group.attrs.update(said if version == 2 else {"ome": {"version": "0.5", **said}})
    group.create_array("0", data=ARRAY, chunks=(6, 7, 8))
    group.create_array("1", data=ARRAY[::2, ::2, ::2], chunks=(3, 4, 4))
    if labels:
        cells = group.create_group("labels/cells")
        said = {"multiscales": [parts], "image-label": {"source": {"image": "../../"}}}
        cells.attrs.update(said if version == 2 else {"ome": {"version": "0.5", **said}})
        cells.create_array("0", data=ARRAY.astype("u4"), chunks=(6, 7, 8))
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_gives_full_resolution_and_all_else_as_members(tmp_path, version):
    path = ome(tmp_path / "a.zarr", version)
    image, half, labels = opened(path), opened(path, "1"), opened(path, "labels/cells/0")
    assert {member.name for member in image.members} == {"0", "1", "labels/cells/0"}
    np.testing.assert_array_equal(whole(image), ARRAY)
    np.testing.assert_array_equal(whole(labels), ARRAY)
    assert (image.axes, image.axes_known, image.channel_names, image.notes) == ("ZYX", True, ("DAPI",), ())
    assert image.voxel_size_nm == labels.voxel_size_nm == pytest.approx((400, 100, 200))
    assert half.voxel_size_nm == pytest.approx((800, 200, 400))
    assert labels.channel_names == ()


def test_the_image_comes_before_labels_and_before_a_larger_array(tmp_path):
    root = zarr.create_group(str(tmp_path / "a.zarr"))
    root.create_array("raw", data=np.ones((40, 40)), chunks=(40, 40))
    labels = root.create_group("a")
    labels.attrs["ome"] = {"multiscales": [{"datasets": [scaled("s0")]}], "image-label": {}}
    labels.create_array("s0", data=np.ones((5, 5)), chunks=(5, 5))
    assert opened(tmp_path / "a.zarr").shape == (5, 5)
    image = root.create_group("b")
    image.attrs["ome"] = {"multiscales": [{"datasets": [scaled("./full/")]}]}
    image.create_array("full", data=np.ones((4, 4)), chunks=(4, 4))
    assert opened(tmp_path / "a.zarr").shape == (4, 4)


@pytest.mark.parametrize(
    ("unit", "nanometres"),
    [("nanometer", 1), ("micrometer", 1000), ("angstrom", 0.1), ("millimeter", 1e6), ("µm", 1000)],
)
def test_units_of_ome_axes(tmp_path, unit, nanometres):
    image = opened(ome(tmp_path / "a.zarr", axes=axes_in(unit)))
    assert image.voxel_size_nm == pytest.approx((0.4 * nanometres, 0.1 * nanometres, 0.2 * nanometres))


@pytest.mark.parametrize("axes", [axes_in(None), axes_in("pixel"), axes_in("second"), ["z", "y", "x"]])
def test_a_scale_without_a_unit_of_length_is_told_and_not_used(tmp_path, axes):
    image = opened(ome(tmp_path / "a.zarr", axes=axes))
    assert (image.axes, image.voxel_size_nm) == ("ZYX", (None, None, None))
    assert "a.zarr gives a voxel size of 0.4 × 0.1 × 0.2" in image.notes[0]


@pytest.mark.parametrize(
    "dataset",
    [
        {"path": "0"},
        {"path": "0", "coordinateTransformations": 7},
        {"path": "0", "coordinateTransformations": [{"type": "scale", "path": "somewhere"}]},
        scaled("0", 1, 2),
        scaled("0", "1", 2, 3),
        scaled("0", 10**400, 1, 1),
        scaled("0", float("nan"), 1, 1),
    ],
)
def test_a_scale_that_makes_no_sense_is_no_voxel_size(tmp_path, dataset):
    image = opened(ome(tmp_path / "a.zarr", datasets=[dataset]))
    assert (image.axes, image.voxel_size_nm) == ("ZYX", (None, None, None))


def test_the_scale_of_all_levels_counts_too(tmp_path):
    image = opened(ome(tmp_path / "a.zarr", coordinateTransformations=[{"type": "scale", "scale": [2, 3, 1]}]))
    assert image.voxel_size_nm == pytest.approx((800, 300, 200))


@pytest.mark.parametrize("axes", [7, [], [{"name": "z"}], axes_in("nanometer")[:2], [7, None, {}], ["x", "x", "x"]])
def test_ome_axes_that_do_not_fit_are_guessed(tmp_path, axes):
    image = opened(ome(tmp_path / "a.zarr", axes=axes))
    assert (image.axes, image.axes_known, image.voxel_size_nm) == ("ZYX", False, (None, None, None))


def test_channel_names_are_given_only_where_there_is_one_for_each(tmp_path):
    axes = [{"name": "c", "type": "channel"}, *axes_in("nanometer")]
    for labels, expected in {("a\x1b", "b"): ("a_", "b"), ("a",): (), ("a", ""): ()}.items():
        group = zarr.create_group(str(tmp_path / "a.zarr"), overwrite=True)
        channels = {"channels": [{"label": label} for label in labels]}
        group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [scaled("0", 1, 4, 2, 3)]}], "omero": channels}
        group.create_array("0", data=np.ones((2, 3, 4, 5)), chunks=(1, 3, 4, 5))
        image = opened(tmp_path / "a.zarr")
        assert (image.axes, image.voxel_size_nm, image.channel_names) == ("CZYX", (4, 2, 3), expected)


def test_it_is_told_where_the_main_image_cannot_be_read(tmp_path):
    path = ome(tmp_path / "a.zarr")
    edit(path / "0" / "zarr.json", data_type="complex64")
    assert "main image 0 holds values of the type 'complex64'" in opened(path).notes[0]


# ---------------------------------------------------------------- what does harm


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("codec", ["pickle", "json2", "msgpack2", "vlen-utf8", "vlen-bytes", "vlen-array", "mine"])
@pytest.mark.parametrize("place", ["filters", "compressor"])
@pytest.mark.parametrize("dtype", ["|O", "<u2"])
def test_codecs_that_make_objects_are_refused_before_they_run(tmp_path, codec, place, dtype):
    path = saved(tmp_path / "a.zarr", np.ones((2, 2), "<u2"), 2, chunks=(2, 2))
    said = {"id": codec, "dtype": "|O"}
    edit(path / ".zarray", dtype=dtype, **{place: [said] if place == "filters" else said})
    (path / "0.0").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    refused(path, "type '.O'" if dtype == "|O" else "'(pickle|json2|msgpack2|vlen-.*|mine)', which is not allowed")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["vlen-utf8", "vlen-bytes", "numcodecs.pickle", "numcodecs.vlen-utf8", "zlib", 7, [1]])
@pytest.mark.parametrize("shards", [None, (4, 4, 4)])
def test_version_3_codecs_outside_the_list_are_refused_also_within_shards(tmp_path, name, shards):
    path = saved(tmp_path / "a.zarr", chunks=(2, 2, 2), shards=shards)
    codecs = json.loads((path / "zarr.json").read_text())["codecs"]
    (codecs[0]["configuration"]["codecs"] if shards else codecs).insert(0, {"name": name})
    edit(path / "zarr.json", codecs=codecs)
    refused(path, "not allowed|damaged metadata")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": [["a", "<u2"], ["b", "<u2"]]},
        {"dtype": "<U4"},
        {"dtype": "|S4"},
        {"dtype": "<M8[ns]"},
        {"dtype": "<c8"},
        {"filters": ["delta"]},
        {"filters": 7},
        {"shape": [6, 7]},
        {"shape": [6.0, 7, 8]},
        {"shape": [6, 7, -8]},
        {"shape": [True, 7, 8]},
        {"chunks": [4, 4]},
        {"chunks": [4, 4, 0]},
        {"zarr_format": 9},
        {"order": "Q"},
        {"dimension_separator": "../"},
        {"fill_value": {"a": 1}},
    ],
)
def test_arrays_of_other_things_or_with_damaged_metadata_are_refused(tmp_path, changes):
    path = saved(tmp_path / "a.zarr", version=2)
    edit(path / ".zarray", **changes)
    refused(path, "a.zarr")


@pytest.mark.parametrize(
    "codec",
    [
        {"id": "delta", "dtype": "|O"},
        {"id": "delta", "dtype": [["a", "|O"]]},
        {"id": "delta", "dtype": "<u2", "astype": "|O"},
        {"id": "astype", "encode_dtype": "|O", "decode_dtype": "<u2"},
    ],
)
def test_codecs_that_ask_for_objects_are_refused(tmp_path, codec):
    path = saved(tmp_path / "a.zarr", version=2)
    edit(path / ".zarray", filters=[codec])
    refused(path, "packed with values of the type .*, not numbers")
    path = saved(tmp_path / "b.zarr")
    name = f"numcodecs.{codec.pop('id')}"
    edit(path / "zarr.json", codecs=[{"name": "bytes"}, {"name": name, "configuration": codec}])
    refused(path, "packed with values of the type .*, not numbers")


def test_names_that_cannot_be_shown_are_left_out(tmp_path):
    zarr.create_group(str(tmp_path / "a.zarr"))
    saved(tmp_path / "a.zarr" / "own", ARRAY[:2])
    saved(tmp_path / "b.zarr").rename(tmp_path / "a.zarr" / "a\x1b[2Jb")
    image = opened(tmp_path / "a.zarr")
    assert (image.shape, image.members) == ((2, 7, 8), ())


@pytest.mark.parametrize("to", ["secret.bin", "secret", "nowhere", "a.zarr/loop"])
@pytest.mark.parametrize("name", ["c/0/0/0", "loop", "zarr.json"])
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, to, name):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret")
    path = saved(tmp_path / "a.zarr")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / to)
    refused(path, "link in it that leads elsewhere")


def test_links_within_the_folder_and_to_the_folder_are_followed(tmp_path):
    path = saved(tmp_path / "a.zarr", np.ones((4, 4), "u1"))
    (path / "c" / "0" / "0").rename(path / "chunk")
    (path / "c" / "0" / "0").symlink_to("../../chunk")
    (tmp_path / "b.zarr").symlink_to(path)
    assert whole(opened(tmp_path / "b.zarr")).min() == 1


def test_a_pipe_in_the_folder_is_refused_and_not_waited_for(tmp_path):
    path = saved(tmp_path / "a.zarr")
    (path / "c" / "0" / "0" / "0").unlink()
    os.mkfifo(path / "c" / "0" / "0" / "0")
    refused(path, "no file and no folder")
    os.mkfifo(tmp_path / "b.zarr")
    refused(tmp_path / "b.zarr", "neither a folder nor a file")


@pytest.mark.parametrize(
    ("shape", "chunks", "shards", "told"),
    [
        ((1 << 20, 1 << 20), (1024, 1024), None, "claims"),
        ((1 << 21, 4), (4, 4), None, "claims a side"),
        ((4, 4), (1 << 15, (1 << 15) + 1), None, "blocks .* 1,073,774,592 bytes each"),
        ((4, 4), (1 << 14, 1 << 15), None, "blocks"),
        ((8192, 8192), (2, 2), None, "cut into 16,777,216 blocks"),
        ((8192, 8192), (2, 2), (8192, 8192), "shards of too many chunks"),
    ],
)
def test_small_folders_that_claim_much_are_refused(tmp_path, shape, chunks, shards, told):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=shape, chunks=chunks, shards=shards, dtype="u1")
    refused(tmp_path / "a.zarr", told)


def test_a_sparse_array_of_harmless_size_is_read(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(100, 900, 900), chunks=(10, 900, 900), dtype="u1", fill_value=3)
    with opened(tmp_path / "a.zarr").opened() as read:
        assert (read((slice(50, 51), slice(0, 900), slice(0, 900))) == 3).all()


def test_a_shard_may_be_larger_than_a_block(tmp_path):
    shape = (1024, 1024, 1088)
    zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(256, 256, 256), chunks=(64, 64, 64), shards=shape, dtype="u1", fill_value=1
    )
    assert opened(tmp_path / "a.zarr").chunks == shape


def test_what_is_no_zarr_folder_is_told(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "image.tif").write_bytes(b"II*\0")
    refused(tmp_path / "a.zarr", "not a Zarr folder: it has no zarr.json, .zarray or .zgroup.*hidden files")
    refused(tmp_path / "missing.zarr", "cannot be read .*No such file")
    (tmp_path / "text.zarr").write_text("words")
    refused(tmp_path / "text.zarr", "not a Zarr folder, .* a text file")
    zarr.create_group(str(tmp_path / "b.zarr"))
    refused(tmp_path / "b.zarr", "holds no array of numbers")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"zarr_format": 3}', '{"node_type": "array"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup"])
def test_metadata_that_make_no_sense_are_refused(tmp_path, name, content):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / name).write_text(content)
    refused(tmp_path / "a.zarr", "a.zarr")


def test_endless_metadata_and_folders_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.zarr")
    edit(path / "zarr.json", attributes={"long": "x" * (8 << 20)})
    refused(path, "zarr.json in a.zarr is larger than metadata should be")
    for number in range(30):
        (tmp_path / "b.zarr" / str(number)).mkdir(parents=True)
    monkeypatch.setattr("seglib.data.readers.zarr_metadata.MAX_NODES", 30)
    refused(tmp_path / "b.zarr", "more than 30 groups and arrays")
    deep = tmp_path / "c.zarr"
    zarr.create_group(str(deep))
    saved(deep.joinpath("1/2/3/4/5/6/7/8/9"))
    refused(deep, "holds no array of numbers")
    saved(deep.joinpath("1/2/3/4/5/6/7/raw"))
    assert opened(deep).shape == ARRAY.shape


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("valid")
    ome(folder / "2" / "a.zarr", 2, labels=False)
    ome(folder / "3" / "a.zarr", 3, labels=False)
    saved(folder / "4" / "a.zarr", chunks=(2, 2, 2), shards=(4, 4, 4))
    return [folder / version / "a.zarr" for version in "234"]


@settings(QUICK, max_examples=200)
@given(
    which=st.integers(0, 2), file=st.floats(0, 1), place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans()
)
def test_a_damaged_folder_gives_numbers_or_a_data_error(tmp_path, valid, which, file, place, byte, cut):
    path = tmp_path / "a.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(valid[which], path)
    files = sorted(found for found in path.rglob("*") if found.is_file())
    damaged = files[min(len(files) - 1, int(file * len(files)))]
    content = bytearray(damaged.read_bytes())
    where = min(len(content) - 1, int(place * len(content)))
    content[where] = byte
    damaged.write_bytes(content[:where] if cut else content)
    try:
        image = opened(path)
        with image.opened() as read:
            read(tuple(slice(0, min(side, 50)) for side in image.shape))
    except DataError as error:
        assert "a.zarr" in str(error)
