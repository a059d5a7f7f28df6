"""TIFF files as programs write them: what their pages mean, and that windows of them are read right and cheaply."""

import builtins
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from seglib.data.readers import tiff
from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.tiff import open_tiff
from seglib.errors import DataError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4000, (7, 33, 40)).astype(np.uint16)
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "f2", "f4", "f8", "?"]
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write_tiff(path: Path, array: np.ndarray, **options) -> SourceFile:
    tifffile.imwrite(path, array, **options)
    return SourceFile(path, path.name)


def write_stack(path: Path, array: np.ndarray = STACK, **options) -> SourceFile:
    return write_tiff(path, array, photometric="minisblack", **options)


def read(image: ImageFile, *window: slice) -> np.ndarray:
    whole = [slice(0, side) for side in image.shape]
    with image.opened() as read_window:
        return read_window((*window, *whole[len(window) :]))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_become_planes_whatever_the_compression_and_byte_order(tmp_path, compression, byteorder):
    image = open_tiff(write_stack(tmp_path / "a.tif", compression=compression, byteorder=byteorder, metadata=None))
    assert (image.shape, image.axes, image.axes_known) == ((7, 33, 40), "ZYX", False)
    assert image.chunks == (1, 33, 40)
    assert image.dtype == np.uint16
    assert image.dtype.isnative
    assert not image.lossy
    np.testing.assert_array_equal(read(image, slice(2, 6)), STACK[2:6])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}])
def test_numbers_of_every_kind_are_read(tmp_path, dtype, options):
    array = (RNG.random((3, 20, 24)) * 100).astype(dtype)
    image = open_tiff(write_stack(tmp_path / "a.tif", array, **options))
    expected = {"?": np.uint8, "f2": np.float32}.get(dtype, np.dtype(dtype))
    assert image.dtype == expected
    assert read(image).dtype == expected
    np.testing.assert_array_equal(read(image), array.astype(expected))


LAYOUTS = {
    "one run": {},
    "other byte order": {"byteorder": ">"},
    "strips": {"compression": "zlib", "rowsperstrip": 5},
    "tiles": {"tile": (16, 32), "compression": "lzw", "predictor": True, "bigtiff": True},
    "block": {"truncate": True},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_any_window_is_the_same_as_a_slice_of_the_whole(tmp_path, options):
    image = open_tiff(write_stack(tmp_path / "a.tif", **options))
    for _ in range(20):
        window = tuple(slice(*sorted(RNG.integers(0, side + 1, 2).tolist())) for side in STACK.shape)
        np.testing.assert_array_equal(read(image, *window), STACK[window])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_samples_of_a_pixel_come_last_and_alpha_is_left_out(tmp_path, planar, options):
    rgba = RNG.integers(0, 255, (5, 20, 30, 4)).astype(np.uint8)
    stored = rgba if planar == "contig" else rgba.transpose(0, 3, 1, 2)
    options = {"photometric": "rgb", "planarconfig": planar, "extrasamples": ["unassalpha"], "metadata": None} | options
    image = open_tiff(write_tiff(tmp_path / "a.tif", stored, **options))
    assert (image.shape, image.axes, image.chunks) == ((5, 20, 30, 3), "ZYXS", (1, 20, 30, 3))
    np.testing.assert_array_equal(read(image), rgba[..., :3])
    window = (slice(1, 3), slice(3, 19), slice(7, 25), slice(1, 3))
    np.testing.assert_array_equal(read(image, *window), rgba[window])


def test_a_single_page_is_a_plane_that_needs_no_guess(tmp_path):
    image = open_tiff(write_stack(tmp_path / "a.tif", STACK[0], metadata=None))
    assert (image.shape, image.axes, image.axes_known) == ((33, 40), "YX", True)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TYX", "ZCYX", "TZYX", "TCYX", "TZCYX", "ZYXS", "CYXS"])
@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_dimensions_are_those_that_tifffile_finds(tmp_path, axes, kind, options):
    sides = {"T": 2, "C": 4, "Z": 5, "Y": 12, "X": 14, "S": 3}
    array = RNG.integers(0, 255, [sides[letter] for letter in axes]).astype(np.uint8)
    options = options | ({kind: True} if kind != "shaped" else {"bigtiff": True})
    photometric = "rgb" if "S" in axes else "minisblack"
    source = write_tiff(tmp_path / "a.tif", array, photometric=photometric, metadata={"axes": axes}, **options)
    with tifffile.TiffFile(source.path) as tif:
        series = tif.series[0]
        expected_axes, expected = series.axes, series.asarray()
    image = open_tiff(source)
    assert (image.axes, image.axes_known) == (expected_axes, True)
    assert image.chunks == tuple(side if letter in "YXS" else 1 for letter, side in zip(axes, array.shape, strict=True))
    np.testing.assert_array_equal(read(image), expected)
    np.testing.assert_array_equal(read(image), array)


def test_channels_are_guessed_where_tifffile_noted_a_shape_without_axes(tmp_path):
    image = open_tiff(write_stack(tmp_path / "a.tif", STACK.reshape(1, 7, 33, 40)))
    assert (image.shape, image.axes, image.axes_known) == ((7, 33, 40), "ZYX", False)
    czyx = np.stack([STACK, STACK + 1])
    image = open_tiff(write_stack(tmp_path / "b.tif", czyx))
    assert (image.shape, image.axes, image.axes_known) == ((2, 7, 33, 40), "CZYX", False)
    np.testing.assert_array_equal(read(image, slice(1, 2)), czyx[1:2])


def test_pages_that_were_written_one_by_one_are_all_planes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in STACK:
            writer.write(plane)
    image = open_tiff(SourceFile(tmp_path / "a.tif", "a.tif"))
    assert (image.shape, image.axes_known) == ((7, 33, 40), False)
    np.testing.assert_array_equal(read(image), STACK)


def test_a_noted_shape_that_is_not_that_of_the_pages_is_not_used(tmp_path):
    description = '{"shape": [7, 30, 40], "axes": "CYX"}'
    image = open_tiff(write_stack(tmp_path / "a.tif", description=description, metadata=None))
    assert (image.shape, image.axes) == ((7, 33, 40), "ZYX")
    assert "a.tif" in image.notes[0]


def test_the_dimensions_of_imagej_follow_its_order(tmp_path):
    text = "ImageJ=1.53\nimages=6\nchannels=3\nslices=2\nhyperstack=true\norder=zct\n"
    image = open_tiff(write_stack(tmp_path / "a.tif", STACK[:6], description=text, metadata=None))
    assert (image.shape, image.axes) == ((3, 2, 33, 40), "CZYX")
    np.testing.assert_array_equal(read(image, slice(1, 2)), STACK[None, 2:4])


def test_samples_that_imagej_counts_as_channels_are_counted_once(tmp_path):
    rgb = RNG.integers(0, 255, (5, 12, 14, 3)).astype(np.uint8)
    text = "ImageJ=1.53\nimages=15\nchannels=3\nslices=5\n"
    image = open_tiff(write_tiff(tmp_path / "a.tif", rgb, photometric="rgb", description=text, metadata=None))
    assert (image.shape, image.axes, image.notes) == ((5, 12, 14, 3), "ZYXS", ())
    np.testing.assert_array_equal(read(image), rgb)


def test_images_that_imagej_does_not_name_are_planes_by_guess(tmp_path):
    text = "ImageJ=1.53\nimages=7\n"
    image = open_tiff(write_stack(tmp_path / "a.tif", description=text, metadata=None))
    assert (image.shape, image.axes, image.axes_known) == ((7, 33, 40), "ZYX", False)
    assert "7 images" in image.notes[0]


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("micron", 1e3), ("um", 1e3), ("µm", 1e3), ("\\u00B5m", 1e3), ("nm", 1), ("mm", 1e6), ("cm", 1e7),
        ("inch", 25.4e6), ("pixel", None), ("", None), ("furlong", None),
    ],
)  # fmt: skip
def test_imagej_pixels_per_unit_become_nanometres(tmp_path, unit, nm):
    text = f"ImageJ=1.53\nimages=7\nslices=7\nunit={unit}\nspacing=-0.5\n".encode("cp1252")
    source = write_stack(tmp_path / "a.tif", description=text, metadata=None, resolution=(8, 4), resolutionunit="none")
    z, y, x = open_tiff(source).voxel_size_nm
    assert (z, y, x) == ((None,) * 3 if nm is None else pytest.approx((0.5 * nm, nm / 4, nm / 8)))


def test_imagej_may_measure_depth_in_another_unit(tmp_path):
    text = "ImageJ=1.53\nimages=7\nslices=7\nunit=micron\nzunit=nm\nspacing=30\n"
    source = write_stack(tmp_path / "a.tif", description=text, metadata=None, resolution=(100, 100))
    assert open_tiff(source).voxel_size_nm == pytest.approx((30, 10, 10))


@pytest.mark.parametrize(
    ("per_unit", "unit", "nm"),
    [
        *((dots, "inch", None) for dots in (1, 72, 96, 150, 300, 600)),
        (28.346, "centimeter", None), (118.11, "centimeter", None),
        (1e6, "centimeter", 10), (254_000, "inch", 100), (1e6, "none", None),
    ],
)  # fmt: skip
def test_a_resolution_is_believed_where_it_is_not_that_of_a_screen_or_printer(tmp_path, per_unit, unit, nm):
    options = {"resolution": (per_unit, per_unit), "resolutionunit": unit, "metadata": None}
    expected = (None, None, None) if nm is None else (None, pytest.approx(nm), pytest.approx(nm))
    assert open_tiff(write_stack(tmp_path / "a.tif", STACK[0], **options)).voxel_size_nm == expected


def test_a_resolution_of_nothing_is_no_voxel_size(tmp_path):
    options = {"resolution": ((0, 1), (0, 1)), "resolutionunit": "centimeter", "metadata": None}
    assert open_tiff(write_stack(tmp_path / "a.tif", STACK[0], **options)).voxel_size_nm == (None, None, None)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", ["shaped", "imagej"])
def test_a_stack_that_lists_only_its_first_page_is_read_whole(tmp_path, byteorder, kind):
    options = {"imagej": True} if kind == "imagej" else {}
    source = write_stack(tmp_path / "a.tif", truncate=True, byteorder=byteorder, metadata={"axes": "ZYX"}, **options)
    with tifffile.TiffFile(source.path) as tif:
        assert len(tif.pages) == 1
    image = open_tiff(source)
    assert (image.shape, image.axes, image.axes_known) == ((7, 33, 40), "ZYX", True)
    np.testing.assert_array_equal(read(image), STACK)
    source.path.write_bytes(source.path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"a\.tif is cut off"):
        open_tiff(source)


def test_an_imagej_stack_above_4_gb_is_one_block_behind_one_page(tmp_path):
    rows, planes = 1 << 13, 70
    plane = np.arange(rows * rows, dtype=np.uint8).reshape(rows, rows)
    text = f"ImageJ=1.53\nimages={planes}\nslices={planes}\n"
    source = write_stack(tmp_path / "a.tif", plane, description=text, metadata=None, byteorder=">")
    with tifffile.TiffFile(source.path) as tif:
        start = tif.pages[0].dataoffsets[0]
    with source.path.open("r+b") as file:  # holes in a file take no room on the disk
        file.truncate(start + planes * plane.size)
        file.seek(start + 69 * plane.size + 12345)
        file.write(b"\x07")
    image = open_tiff(source)
    assert image.shape == (planes, rows, rows)
    last = read(image, slice(69, 70), slice(0, 3))[0]
    assert np.flatnonzero(last).tolist() == [12345]
    np.testing.assert_array_equal(read(image, slice(0, 1), slice(0, 4))[0], plane[:4])


def test_a_packed_stack_that_lists_too_few_pages_is_refused_and_not_shortened(tmp_path):
    text = "ImageJ=1.53\nimages=70\nslices=70\n"
    source = write_stack(tmp_path / "a.tif", description=text, metadata=None, compression="zlib")
    with pytest.raises(DataError, match=r"a\.tif says it holds 70 planes but lists 7"):
        open_tiff(source)


def test_palette_files_give_index_numbers_and_say_their_colours(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, 2] = 0x1234, 0xABCD, 0xFFFF
    labels = RNG.integers(0, 4, (12, 14)).astype(np.uint8)
    image = open_tiff(write_tiff(tmp_path / "a.tif", labels, photometric="palette", colormap=table))
    np.testing.assert_array_equal(read(image), labels)
    assert image.colours[2] == "#12abff"
    assert len(image.colours) == 256


def test_where_zero_is_white_the_numbers_stay_and_it_is_told(tmp_path):
    image = open_tiff(write_tiff(tmp_path / "a.tif", STACK, photometric="miniswhite"))
    np.testing.assert_array_equal(read(image), STACK)
    assert "0 is white" in image.notes[0]
    assert open_tiff(write_stack(tmp_path / "b.tif")).notes == ()


def test_photos_say_that_they_lose_values(tmp_path):
    image = open_tiff(write_stack(tmp_path / "a.tif", STACK.astype(np.uint8), compression="jpeg"))
    assert image.lossy
    np.testing.assert_array_equal(read(image), tifffile.imread(tmp_path / "a.tif"))


def test_a_thumbnail_is_not_a_plane(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[0], metadata=None)
        writer.write(STACK[0, ::4, ::4], subfiletype=1, metadata=None)
    assert open_tiff(SourceFile(tmp_path / "a.tif", "a.tif")).shape == (33, 40)


def test_pages_of_different_sizes_are_refused_with_both_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((10, 12), np.uint8))
        writer.write(np.zeros((10, 14), np.uint8))
    with pytest.raises(DataError, match=r"a\.tif.*page 2 is 10 × 14.*page 1 is 10 × 12"):
        open_tiff(SourceFile(tmp_path / "a.tif", "a.tif"))


def test_a_part_cannot_be_chosen_where_there_is_one_image(tmp_path):
    source = write_stack(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif holds one image, none called x"):
        open_tiff(SourceFile(source.path, source.name, "x"))


def test_opening_reads_headers_only(tmp_path, monkeypatch):
    source = write_stack(tmp_path / "a.tif", compression="zlib")

    def decode(*_args, **_options):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", decode)
    monkeypatch.setattr(tifffile.TiffPage, "decode", decode)
    assert open_tiff(source).shape == (7, 33, 40)


def test_only_the_pages_of_a_window_are_unpacked_each_once_and_in_order(tmp_path, monkeypatch):
    zcyx = RNG.integers(0, 255, (4, 2, 12, 14)).astype(np.uint8)
    image = open_tiff(write_tiff(tmp_path / "a.tif", zcyx, imagej=True, compression="zlib", metadata={"axes": "ZCYX"}))
    numbers, unpack = [], tiff.decode_page

    def spy(source, tif, page, within, target):
        numbers.append(page.number)
        unpack(source, tif, page, within, target)

    monkeypatch.setattr(tiff, "decode_page", spy)
    np.testing.assert_array_equal(read(image, slice(1, 3)), zcyx[1:3])
    assert numbers == [2, 3, 4, 5]


def test_pages_that_lie_in_one_run_are_read_at_once(tmp_path, monkeypatch):
    image = open_tiff(write_stack(tmp_path / "a.tif"))
    sizes, fill = [], tifffile.FileHandle.readinto

    def spy(handle, buffer):
        sizes.append(len(buffer))
        return fill(handle, buffer)

    monkeypatch.setattr(tifffile.FileHandle, "readinto", spy)
    np.testing.assert_array_equal(read(image, slice(1, 6)), STACK[1:6])
    assert sizes == [STACK[1:6].nbytes]


def test_a_file_is_opened_once_for_many_windows(tmp_path, monkeypatch):
    image = open_tiff(write_stack(tmp_path / "a.tif", compression="zlib"))
    opened, plain_open = [], builtins.open

    def spy(file, *args, **options):
        opened.append(file)
        return plain_open(file, *args, **options)

    monkeypatch.setattr(builtins, "open", spy)
    with image.opened() as read_window:
        for plane in range(7):
            window = (slice(plane, plane + 1), slice(0, 33), slice(0, 40))
            np.testing.assert_array_equal(read_window(window), STACK[plane : plane + 1])
    assert len(opened) == 1


@pytest.mark.skipif(not SHARED.exists(), reason="the real data in ../shared/data are missing")
def test_real_files_are_read_as_tifffile_reads_them():
    paths = sorted(SHARED.rglob("*.tif"))
    assert paths
    for path in paths:
        image = open_tiff(SourceFile(path, path.name))
        expected = tifffile.imread(path)
        assert math.prod(image.shape) == expected.size
        np.testing.assert_array_equal(read(image), expected.reshape(image.shape))
