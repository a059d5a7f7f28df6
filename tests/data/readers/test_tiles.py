"""Tile lists: where each tile comes to lie, what is missing, and what a hostile list cannot do."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seglib.data.readers import SourceFile, open_image, tiles
from seglib.errors import DataError

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(1, 255, (3, 50, 70)).astype(np.uint8)
SIZE = 32
USUAL = {"depth": 3, "height": 50, "width": 70, "tile_size": SIZE, "tile_ratio": 1, "tile_st": [0, 0], "dtype": "uint8",
         "ndim": 3}  # fmt: skip


def write_tiles(folder: Path, pattern: str = "{z}/{row}_{column}.png", first=(0, 0), volume=VOLUME) -> None:
    for z, plane in enumerate(volume):
        for row in range(0, plane.shape[0], SIZE):
            for column in range(0, plane.shape[1], SIZE):
                name = pattern.format(z=z, row=row // SIZE + first[0], column=column // SIZE + first[1])
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane[row : row + SIZE, column : column + SIZE]).save(folder / name)


def write_list(folder: Path, image=None, **changes) -> SourceFile:
    said = {"image": image or [f"{z}/{{row}}_{{column}}.png" for z in range(3)], **USUAL, **changes}
    path = folder / "volume.json"
    path.write_text(json.dumps(said))
    return SourceFile(path, "volume.json")


def read_all(source: SourceFile) -> np.ndarray:
    file = open_image(source)
    with file.opened() as read:
        return read(tuple(slice(0, side) for side in file.shape))


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read_all(source)
    assert "volume.json" in str(caught.value)
    return str(caught.value)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", str(inside))
    return inside


def test_tiles_come_to_lie_where_their_row_and_column_say(tmp_path):
    write_tiles(tmp_path)
    source = write_list(tmp_path)
    file = open_image(source)
    assert (file.shape, file.axes, file.dtype, file.chunks) == ((3, 50, 70), "ZYX", np.uint8, (1, 50, 70))
    assert (file.axes_known, file.lossy, file.notes) == (True, False, ())
    np.testing.assert_array_equal(read_all(source), VOLUME)


@given(st.data())
def test_any_window_is_that_part_of_the_volume(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "windows"
    if not folder.exists():
        write_tiles(folder)
        write_list(folder)
    file = open_image(SourceFile(folder / "volume.json", "volume.json"))
    window = tuple(slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in VOLUME.shape)
    with file.opened() as read:
        np.testing.assert_array_equal(read(window), VOLUME[window])


def test_numbers_of_files_may_begin_later_and_have_leading_zeros(tmp_path):
    write_tiles(tmp_path, "p{z}/r{row:04d}-c{column:02d}.png", first=(1, 9))
    image = [f"p{z}/r{{row:04d}}-c{{column:02d}}.png" for z in range(3)]
    np.testing.assert_array_equal(read_all(write_list(tmp_path, image, tile_st=[1, 9])), VOLUME)


def test_a_plane_may_be_one_plain_file_at_an_absolute_path(tmp_path, roots):
    image = []
    for z, plane in enumerate(VOLUME):
        Image.fromarray(plane).save(roots / f"{z}.png")
        image.append(str(roots / f"{z}.png"))
    np.testing.assert_array_equal(read_all(write_list(tmp_path, image, tile_size=[50, 70])), VOLUME)


def test_missing_tiles_are_zero_and_counted(tmp_path):
    write_tiles(tmp_path)
    (tmp_path / "1" / "0_2.png").unlink()
    (tmp_path / "2" / "1_0.png").unlink()
    source = write_list(tmp_path)
    expected = VOLUME.copy()
    expected[1, :32, 64:] = 0
    expected[2, 32:, :32] = 0
    np.testing.assert_array_equal(read_all(source), expected)
    assert "2 of 18 tiles are missing" in open_image(source).notes[0]


def test_a_tile_that_is_too_small_leaves_zeros_and_one_too_large_is_cut(tmp_path):
    write_tiles(tmp_path)
    Image.fromarray(np.full((5, 6), 7, np.uint8)).save(tmp_path / "0" / "0_0.png")
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(tmp_path / "0" / "0_1.png")
    plane = read_all(write_list(tmp_path))[0]
    expected = VOLUME[0].copy()
    expected[:32, :32] = 0
    expected[:5, :6] = 7
    expected[:32, 32:64] = 9
    np.testing.assert_array_equal(plane, expected)


def test_a_ratio_rescales_each_tile_to_its_nearest_pixels(tmp_path):
    half = VOLUME[:, ::2, ::2]
    for z, plane in enumerate(half):
        (tmp_path / str(z)).mkdir()
        for row in range(2):
            for column in range(3):
                part = plane[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
                Image.fromarray(part).save(tmp_path / str(z) / f"{row}_{column}.png")
    expected = half.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(read_all(write_list(tmp_path, tile_ratio=2)), expected)


def test_colours_are_numbers_of_24_bits_where_the_dtype_has_room(tmp_path):
    colours = RNG.integers(0, 255, (50, 70, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    source = write_list(tmp_path, ["a.png"], depth=1, tile_size=100, dtype="uint32")
    expected = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    np.testing.assert_array_equal(read_all(source)[0], expected)
    assert "3 channels" in refused(write_list(tmp_path, ["a.png"], depth=1, tile_size=100))


def test_grey_saved_as_colours_is_grey_and_values_that_do_not_fit_are_refused(tmp_path):
    Image.fromarray(np.repeat(VOLUME[0][..., None], 3, axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_all(write_list(tmp_path, ["a.png"], depth=1, tile_size=100))[0], VOLUME[0])
    Image.fromarray(VOLUME[0].astype(np.uint16) * 256).save(tmp_path / "a.png")
    assert "uint16" in refused(write_list(tmp_path, ["a.png"], depth=1, tile_size=100))


def test_photos_are_lossy(tmp_path):
    Image.fromarray(VOLUME[0]).save(tmp_path / "a.jpg")
    assert open_image(write_list(tmp_path, ["a.jpg"], depth=1, tile_size=100)).lossy


@pytest.mark.parametrize(
    "pattern",
    ["{row.__class__}_{column}.png", "{row!r}_{column}.png", "{0}_{column}.png", "{row:9999999999d}_{column}.png",
     "{row:>{column}}.png", "{{row}}_{column}.png", "{row}_{column}_{z}.png", "{row", "{row:0999d}.png"],
)  # fmt: skip
def test_a_path_is_never_a_format_string(tmp_path, pattern):
    write_tiles(tmp_path)
    assert "braces" in refused(write_list(tmp_path, [pattern] * 3))


def test_paths_lead_neither_out_nor_to_something_else(tmp_path, roots):
    folder = tmp_path / "list"
    write_tiles(tmp_path / "secret")
    write_tiles(folder)
    told = []
    for image in (
        "../secret/0/{row}_{column}.png",
        "../absent/0/{row}_{column}.png",
        str(tmp_path / "secret/0/{row}_{column}.png"),
    ):
        told.append(refused(write_list(folder, [image] * 3)))
        assert "leads out" in told[-1]
    assert told[0].replace("secret", "") == told[1].replace("absent", "")
    (folder / "0" / "1_1.png").unlink()
    (folder / "0" / "1_1.png").symlink_to(tmp_path / "secret" / "0" / "1_1.png")
    assert "leads out" in refused(write_list(folder))
    (folder / "0" / "1_1.png").unlink()
    (folder / "0" / "1_1.png").symlink_to(folder / "0" / "0_0.png")
    assert read_all(write_list(folder)).shape == (3, 50, 70)
    (folder / "link.png").symlink_to(folder / "volume.json")
    assert "no image" in refused(write_list(folder, ["link.png"] * 3, tile_size=100))


def test_a_link_made_after_opening_is_not_followed(tmp_path, roots):
    folder = tmp_path / "list"
    write_tiles(folder)
    write_tiles(tmp_path / "secret")
    file = open_image(write_list(folder))
    (folder / "0" / "1_1.png").unlink()
    (folder / "0" / "1_1.png").symlink_to(tmp_path / "secret" / "0" / "1_1.png")
    with file.opened() as read, pytest.raises(DataError, match="leads out"):
        read((slice(0, 1), slice(0, 50), slice(0, 70)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 4}, "depth 4"),
        ({"depth": 10**9}, "depth"),
        ({"depth": True}, "depth"),
        ({"height": 0}, "height"),
        ({"width": 1 << 21}, "width"),
        ({"height": 1.5}, "height"),
        ({"tile_size": 0}, "tile_size"),
        ({"tile_size": [1, 2, 3]}, "tile_size"),
        ({"tile_size": "32"}, "tile_size"),
        ({"tile_ratio": 0}, "tile_ratio"),
        ({"tile_ratio": 1e9}, "tile_ratio"),
        ({"tile_ratio": float("nan")}, "tile_ratio"),
        ({"tile_ratio": None}, "tile_ratio"),
        ({"tile_st": [0]}, "tile_st"),
        ({"tile_st": [0, -1]}, "tile_st"),
        ({"dtype": "object"}, "dtype"),
        ({"dtype": ["u1"]}, "dtype"),
        ({"image": [1, 2, 3]}, "image"),
        ({"image": "a.png"}, "image"),
        ({"image": ["a.png"] * 3}, "6 tiles"),
        ({"image": ["{row}_{column}.exe"] * 3}, "no image"),
        ({"image": ["{row}_{column}.json"] * 3}, "no image"),
        ({"tile_size": 1, "height": 5000, "width": 5000}, "tiles"),
        ({"height": 1 << 20, "width": 1 << 20, "tile_size": 1 << 20, "dtype": "float64"}, "TiB"),
        ({"height": 1 << 17, "width": 1 << 17, "tile_size": 1 << 17}, "claims"),
    ],
)
def test_what_a_list_cannot_mean_is_refused_by_its_key(tmp_path, changes, said):
    write_tiles(tmp_path)
    assert said in refused(write_list(tmp_path, **changes))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", "[" * 100_000, '{"image": [', "9" * 5000, "\ud800", '{"image": 1}']
)
def test_what_is_no_tile_list_is_refused(tmp_path, text):
    path = tmp_path / "volume.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "tile list" in refused(SourceFile(path, "volume.json"))


def test_a_list_that_is_too_large_or_has_no_tile_is_refused(tmp_path, monkeypatch):
    assert "No tile" in refused(write_list(tmp_path))
    write_tiles(tmp_path)
    monkeypatch.setattr(tiles, "MAX_LIST_BYTES", 10)
    assert "bytes" in refused(write_list(tmp_path))


def test_of_very_many_tiles_some_are_looked_at(tmp_path, monkeypatch):
    write_tiles(tmp_path)
    monkeypatch.setattr(tiles, "_LOOKED_AT", 9)
    (tmp_path / "0" / "0_0.png").unlink()
    assert "about 2 of 18" in open_image(write_list(tmp_path)).notes[0]


def test_a_damaged_tile_and_one_of_several_planes_are_refused_by_name(tmp_path):
    write_tiles(tmp_path)
    (tmp_path / "2" / "1_1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "1_1.png" in refused(write_list(tmp_path))
