"""Figures and movies: the right pixels in the right colours, the right rate, every plane once."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.segmentation import find_boundaries

from seglib.data.palette import PALETTE
from seglib.data.pictures import painted_objects
from seglib.data.volumes import Volume
from seglib.errors import DataError, WorkCancelled
from seglib.export import Export, View, Watch, export_file
from seglib.export.figure import bar_length_nm, in_words, write_figure
from seglib.export.movie import write_gif, write_mp4
from seglib.export.planes import checked_scene, fitting_pixels, outline, overlay
from tests.export.conftest import RUN, VOLUME

CUBE_NM = (10.0, 10.0, 10.0)


def scene_of(shape, view=None, voxel_size_nm=CUBE_NM, grey=100):
    """A grey image in which plane z of the labels is all class 1 + z % 3."""
    labels = np.broadcast_to(1 + np.arange(shape[0]) % 3, shape[::-1]).T.astype(np.uint8)
    volume = Volume("one", np.full((1, *shape), grey, np.uint8), voxel_size_nm=voxel_size_nm)
    return checked_scene(volume, labels, view or View())


def mp4_frames(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)], float(stream.average_rate)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_outlines_are_those_of_scikit_image(seed, height, width):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint16)
    np.testing.assert_array_equal(outline(labels), find_boundaries(labels, mode="inner"))


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_a_picture_is_the_plane_in_the_viewers_colours(axis):
    random = np.random.default_rng(4)
    image = random.integers(0, 256, (1, 6, 7, 8)).astype(np.uint8)
    labels = random.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    volume = Volume("one", image, voxel_size_nm=CUBE_NM)
    index = "zyx".index(axis)
    grey, flat = np.repeat(image[0].take(3, index)[..., None], 3, -1), labels.take(3, index)
    filled = checked_scene(volume, labels, View(axis, 3, filled=True))
    np.testing.assert_array_equal(overlay(filled, 3, flat.shape), painted_objects(grey, flat))
    drawn = overlay(checked_scene(volume, labels, View(axis, 3)), 3, flat.shape)
    inner = find_boundaries(flat, mode="inner")
    np.testing.assert_array_equal(drawn[inner], PALETTE[flat[inner]])
    np.testing.assert_array_equal(drawn[~inner], grey[~inner])


def test_flat_voxels_become_square_pixels_and_large_planes_fit():
    thick = scene_of((10, 40, 80), View("y"), voxel_size_nm=(40.0, 8.0, 4.0))
    assert fitting_pixels(thick, 1000) == (100, 80)  # 400 nm by 320 nm at 4 nm
    assert fitting_pixels(thick, 50) == (50, 40)
    assert fitting_pixels(scene_of((2, 3, 5)), 100, even=True) == (4, 4)
    assert fitting_pixels(scene_of((2, 1, 5000)), 1000, even=True) == (2, 1000)


@pytest.mark.parametrize(
    ("most", "length", "words"),
    [(10, 10, "10 nm"), (9.99, 5, "5 nm"), (0.3, 0.2, "0.2 nm"), (499, 200, "200 nm"), (1500, 1000, "1 µm"),
     (30000, 20000, "20 µm"), (7e6, 5e6, "5 mm")],
)  # fmt: skip
def test_a_scale_bar_is_a_round_length(most, length, words):
    assert bar_length_nm(most) == pytest.approx(length)
    assert in_words(bar_length_nm(most)) == words


@pytest.mark.parametrize("shape", [(3, 40, 60), (1, 1, 1), (1, 1, 300), (2, 2500, 8)])
def test_a_figure_is_the_picture_with_a_bar(tmp_path, shape):
    scene = scene_of(shape, View(filled=True))
    write_figure(scene, tmp_path / "a.png", "png", Watch())
    with Image.open(tmp_path / "a.png") as found:
        assert round(found.info["dpi"][0]) == 300
        pixels = np.asarray(found.convert("RGB"))
    assert max(pixels.shape) == pytest.approx(1800, abs=1)
    colour = painted_objects(np.full((1, 1, 3), 100, np.uint8), np.ones((1, 1), np.uint8))[0, 0]
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)
    assert np.abs(middle - colour).max() <= 1
    assert (pixels == 255).all(-1).any()  # the bar


def test_a_bar_in_the_figure_is_as_long_as_it_says(tmp_path):
    write_figure(scene_of((1, 40, 100)), tmp_path / "a.png", "png", Watch())
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(int)
    row = pixels[round(0.95 * pixels.shape[0])]
    # 200 of 1000 nm.
    assert (row > 250).sum() == pytest.approx(0.2 * pixels.shape[1], abs=3)


def test_an_svg_is_drawn_in_lines(workspace, predicted):
    predicted()
    path = export_file(workspace, Export(RUN, "labels", "svg", VOLUME, View("y", 5)))
    text = path.read_text(encoding="utf-8")
    assert path.name == "picture.svg"
    assert "<svg" in text and "<path" in text and "data:image/png;base64" in text


@pytest.mark.parametrize(
    ("shape", "frame"), [((5, 33, 47), (32, 48)), ((3, 1, 1), (2, 2)), ((2, 1500, 20), (1024, 14))]
)
def test_an_mp4_shows_every_plane_once(tmp_path, shape, frame):
    scene = scene_of(shape, View(filled=True, frames_per_second=7))
    write_mp4(scene, tmp_path / "a.mp4", Watch())
    frames, rate = mp4_frames(tmp_path / "a.mp4")
    assert (len(frames), rate) == (shape[0], 7)
    for plane, found in enumerate(frames):
        assert found.shape == (*frame, 3)
        expected = overlay(scene, plane, frame).astype(int)
        assert np.abs(found.mean((0, 1)) - expected.mean((0, 1))).max() < 8


@pytest.mark.parametrize("shape", [(5, 33, 47), (3, 1, 1), (30, 8, 9)])
def test_a_gif_shows_every_plane_once(tmp_path, shape):
    scene = scene_of(shape, View(filled=True, frames_per_second=20))
    write_gif(scene, tmp_path / "a.gif", Watch())
    with Image.open(io.BytesIO((tmp_path / "a.gif").read_bytes())) as found:
        assert (found.n_frames, found.info["loop"], found.info["duration"]) == (shape[0], 0, 50)
        for plane in range(shape[0]):
            found.seek(plane)
            pixels = np.asarray(found.convert("RGB")).astype(int)
            assert np.abs(pixels - overlay(scene, plane, pixels.shape[:2])).max() <= 2


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_a_stopped_movie_leaves_nothing(tmp_path, write):
    told = []
    watch = Watch(lambda done, total, text: told.append((done, total)), lambda: len(told) == 3)
    with pytest.raises(WorkCancelled):
        write(scene_of((9, 16, 16)), tmp_path / "a", watch)
    assert told == [(0, 9), (1, 9), (2, 9)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_a_movie_reads_one_plane_at_a_time(tmp_path, write):
    asked = []

    class Watched:
        shape, dtype = (1, 12, 16, 16), np.dtype(np.uint8)

        def __getitem__(self, key):
            part = np.zeros(self.shape, np.uint8)[key]
            asked.append(part.shape)
            return part

    labels = np.zeros((12, 16, 16), np.uint8)
    write(checked_scene(Volume("one", Watched()), labels, View()), tmp_path / "a", Watch())
    assert set(asked) == {(16, 16)}


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (View("z", 5), "Plane 5 was asked for along z, which has planes 0 to 4"),
        (View("y", -1), "Plane -1"),
        (View(channel=1), "Channel 1 was asked for of an image with 1"),
        (View(frames_per_second=0), "1 to 50 frames per second"),
        (View(axis="w"), "z, y or x"),
    ],
)
def test_a_view_that_cannot_be_is_said(workspace, predicted, view, said):
    predicted()
    with pytest.raises(DataError, match=said):
        export_file(workspace, Export(RUN, "labels", "png", VOLUME, view))


def test_pictures_that_make_no_sense_are_refused(workspace, predicted, tmp_path):
    with pytest.raises(DataError, match="make a figure"):
        write_mp4(scene_of((1, 8, 8)), tmp_path / "a.mp4", Watch())
    with pytest.raises(DataError, match="make a figure"):
        write_gif(scene_of((4, 8, 8), View("y")), tmp_path / "a.gif", Watch())
    with pytest.raises(DataError, match="do not belong together"):
        checked_scene(Volume("one", np.zeros((1, 2, 3, 4))), np.zeros((2, 3, 5), np.uint8), View())
    predicted()
    with pytest.raises(DataError, match="not in the workspace"):
        export_file(workspace, Export(RUN, "labels", "png", 99))
