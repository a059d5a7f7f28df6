import io
import shutil
import threading

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from seglib.config.labels import Borders, LabelClass, LabelScheme
from seglib.data.palette import PALETTE, colour_of, palette_entry
from seglib.data.targets import learn
from seglib.data.volumes import create_labels, create_volume, set_contrast
from seglib.errors import DataError, SeglibError
from seglib.serving import planes
from seglib.serving.classes import colours_of
from seglib.serving.planes import (
    Lru,
    Plane,
    PlaneCaches,
    encode_image,
    encode_labels,
    render_plane,
)
from seglib.workspace import Workspace, open_workspace

SCHEME = LabelScheme(kind="classes", classes=(LabelClass(name="wall", values=(1, 3), colour="#ff0000"),), ignore=(2,))


def render(workspace, plane, *, caches):
    """render_plane for a store in which every volume's labels are read by SCHEME."""
    return render_plane(workspace, plane, caches=caches, scheme_of=lambda volume_id: SCHEME)


VOXEL_NM = (40.0, 8.0, 8.0)
SHAPE = (6, 20, 30)


def entries_of(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and picture.mode == "P"
    return np.asarray(picture)


def grey_of(jpeg: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(jpeg))
    assert picture.format == "JPEG" and picture.mode == "L"
    return np.asarray(picture).astype(int)


def smooth_ramps(channels: int = 1) -> np.ndarray:
    """uint16 values 1000 … 2000, another slope per axis and channel, smooth enough for JPEG."""
    z, y, x = np.indices(SHAPE)
    return np.stack([1000 + 60 * z + 10 * y + 10 * x + 50 * c for c in range(channels)]).astype(np.uint16)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path)


@pytest.fixture
def labels(workspace) -> np.ndarray:
    """Volume 1: two channels, window 1000–2000, a label layer of small and large ids, returned."""
    path = workspace.volume(1)
    image = create_volume(path, name="one", shape_czyx=(2, *SHAPE), dtype="uint16", voxel_size_nm=VOXEL_NM)
    image[:] = smooth_ramps(2)
    set_contrast(path, (1000.0, 2000.0))
    values = np.random.default_rng(0).integers(0, 700, SHAPE).astype(np.uint32)
    create_labels(path, "labels", shape_zyx=SHAPE, dtype="uint32", voxel_size_nm=VOXEL_NM)[:] = values
    return values


def wrapped(labels: np.ndarray) -> np.ndarray:
    return np.array([0 if v == 0 else 1 + (int(v) - 1) % 255 for v in labels.ravel()]).reshape(labels.shape)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    )
)
def test_a_label_png_holds_every_value_exactly_and_large_ones_wrapped(labels):
    np.testing.assert_array_equal(entries_of(encode_labels(labels)), wrapped(labels))


def test_only_the_background_entry_is_transparent_and_colours_are_those_of_the_legend():
    picture = Image.open(io.BytesIO(encode_labels(np.array([[0, 1, 2], [255, 256, 7]], np.uint16)))).convert("RGBA")
    pixels = np.asarray(picture)
    assert pixels[0, 0, 3] == 0
    assert (pixels.reshape(-1, 4)[1:, 3] == 255).all()
    shown = ["#" + bytes(pixel[:3]).hex() for pixel in pixels.reshape(-1, 4)[1:]]
    assert shown == [colour_of(value) for value in (1, 2, 255, 256, 7)]


def test_the_legend_starts_with_the_colours_of_okabe_and_ito_and_repeats_none():
    okabe_ito = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"]
    assert [colour_of(v) for v in range(1, 8)] == okabe_ito
    assert len({colour.tobytes() for colour in PALETTE}) == 256
    assert [palette_entry(v) for v in (0, 1, 255, 256, 510, 511)] == [0, 1, 255, 1, 255, 1]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
def test_an_image_is_scaled_from_its_window_to_0_255_in_any_dtype(dtype):
    values = np.repeat([0, 10, 20, 60, 110, 120], 16).astype(dtype)
    plane = np.tile(values, (16, 1))  # blocks of 16 × 16, so that JPEG keeps them
    expected = np.clip((values.astype(float) - 10) / 100, 0, 1) * 255
    np.testing.assert_allclose(grey_of(encode_image(plane, (10.0, 110.0)))[8], expected, atol=3)


def test_values_that_are_no_number_are_black_and_infinite_ones_black_or_white():
    plane = np.repeat(np.array([np.nan, -np.inf, np.inf], np.float32), 16)[None].repeat(16, axis=0)
    assert grey_of(encode_image(plane, (0.0, 1.0)))[8, ::16].tolist() == [0, 0, 255]


def test_a_narrow_window_far_from_zero_keeps_its_steps():
    plane = np.repeat(2**30 + np.arange(0, 256, 51), 16)[None].repeat(16, axis=0).astype(np.uint32)
    shown = grey_of(encode_image(plane, (2.0**30, 2.0**30 + 255)))[8, 8::16]
    np.testing.assert_allclose(shown, [0, 51, 102, 153, 204, 255], atol=2)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_every_plane_along_every_axis_is_the_arrays_own(workspace, labels, axis):
    caches, number = PlaneCaches(), "zyx".index(axis)
    for index in range(SHAPE[number]):
        png, media_type = render(workspace, Plane("volume", 1, "labels", axis, index), caches=caches)
        assert media_type == "image/png"
        np.testing.assert_array_equal(entries_of(png), wrapped(labels.take(index, axis=number)))
        jpeg, media_type = render(workspace, Plane("volume", 1, "image-1", axis, index), caches=caches)
        assert media_type == "image/jpeg"
        expected = np.clip((smooth_ramps(2)[1].take(index, axis=number) - 1000.0) * 0.255, 0, 255)
        np.testing.assert_allclose(grey_of(jpeg), expected, atol=4)


def test_a_plane_too_wide_for_browsers_is_shown_at_every_second_voxel(workspace, monkeypatch, labels):
    monkeypatch.setattr(planes, "LARGEST_SIDE", 15)
    png, _ = render(workspace, Plane("volume", 1, "labels", "z", 2), caches=PlaneCaches())
    np.testing.assert_array_equal(entries_of(png), wrapped(labels[2, ::2, ::2]))


def test_slabs_bounded_in_memory_give_the_same_planes(workspace, monkeypatch, labels):
    monkeypatch.setattr(planes, "ONE_SLAB_BYTES", 1)
    png, _ = render(workspace, Plane("volume", 1, "labels", "y", 13), caches=PlaneCaches())
    np.testing.assert_array_equal(entries_of(png), wrapped(labels[:, 13]))


def test_predictions_and_previews_are_found_by_their_run(workspace):
    values = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    for path in (workspace.prediction(3) / "labels.zarr", workspace.preview(3)):
        path.parent.mkdir(parents=True, exist_ok=True)
        create_labels(path, "prediction", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)[:] = values
    for kind in ("prediction", "preview"):
        png, _ = render(workspace, Plane(kind, 3, "prediction", "z", 4), caches=PlaneCaches())
        np.testing.assert_array_equal(entries_of(png), values[4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "run"}, "volume, a preview or a prediction"),
        ({"key": 2}, "no volume 2"),
        ({"layer": ".."}, "1 to 40 characters"),
        ({"layer": "a" * 300}, "1 to 40 characters"),
        ({"layer": "Labels"}, "1 to 40 characters"),
        ({"layer": "labels\n"}, "1 to 40 characters"),
        ({"layer": ""}, "1 to 40 characters"),
        ({"layer": "nothing"}, "no label layer 'nothing'"),
        ({"layer": "image-2"}, "Channel 2"),
        ({"axis": "c"}, "z, y or x"),
        ({"axis": "zy"}, "z, y or x"),
        ({"index": 6}, "planes 0 to 5"),
        ({"index": -1}, "planes 0 to 5"),
        ({"version": "../1"}, "version"),
        ({"version": "v" * 65}, "version"),
    ],
)
def test_a_plane_that_cannot_be_is_refused_with_a_reason(workspace, labels, change, message):
    good = {"kind": "volume", "key": 1, "layer": "labels", "axis": "z", "index": 0}
    with pytest.raises(DataError, match=message):
        render(workspace, Plane(**{**good, **change}), caches=PlaneCaches())


def test_id_zero_is_refused(workspace):
    with pytest.raises(SeglibError, match="not an id"):
        render(workspace, Plane("volume", 0, "image", "z", 0), caches=PlaneCaches())


def test_a_prediction_has_no_image(workspace):
    path = workspace.prediction(3) / "labels.zarr"
    path.parent.mkdir(parents=True)
    create_labels(path, "prediction", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)
    with pytest.raises(DataError, match="label layers only"):
        render(workspace, Plane("prediction", 3, "image", "z", 0), caches=PlaneCaches())


def test_an_image_without_its_description_is_called_incomplete(workspace):
    create_labels(workspace.preview(3), "prediction", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)
    with pytest.raises(DataError, match="preview 3 is not complete"):
        render(workspace, Plane("preview", 3, "image", "z", 0), caches=PlaneCaches())


def test_a_deleted_volume_is_gone_although_its_planes_were_cached(workspace, labels):
    caches, plane = PlaneCaches(), Plane("volume", 1, "labels", "z", 0, "1")
    render(workspace, plane, caches=caches)
    shutil.rmtree(workspace.volume(1))
    with pytest.raises(DataError, match="no volume 1"):
        render(workspace, plane, caches=caches)


def test_a_replaced_volume_is_read_anew_even_under_its_old_version(workspace, labels):
    caches, plane = PlaneCaches(), Plane("volume", 1, "labels", "z", 0, "1")
    render(workspace, plane, caches=caches)
    shutil.rmtree(workspace.volume(1))
    create_volume(workspace.volume(1), name="b", shape_czyx=(1, 1, 4, 4), dtype="uint8", voxel_size_nm=VOXEL_NM)
    layer = create_labels(workspace.volume(1), "labels", shape_zyx=(1, 4, 4), dtype="uint8", voxel_size_nm=VOXEL_NM)
    layer[:] = 9
    png, _ = render(workspace, plane, caches=caches)
    np.testing.assert_array_equal(entries_of(png), np.full((4, 4), 9))


def test_labels_written_anew_in_place_are_seen_under_a_new_version(workspace, labels):
    caches = PlaneCaches()
    render(workspace, Plane("volume", 1, "labels", "z", 0, "1"), caches=caches)
    zarr.open_group(store=str(workspace.volume(1)), mode="r+")["labels/labels/0"][:] = 5
    png, _ = render(workspace, Plane("volume", 1, "labels", "z", 0, "2"), caches=caches)
    np.testing.assert_array_equal(entries_of(png), np.full(SHAPE[1:], 5))


def test_neighbours_within_a_chunk_are_decoded_once(workspace, labels, monkeypatch):
    reads = []
    real = planes._read_slab
    monkeypatch.setattr(planes, "_read_slab", lambda *a: reads.append(a[2:]) or real(*a))
    caches = PlaneCaches()
    for index in (0, 1, 2, 3, 4, 0):
        render(workspace, Plane("volume", 1, "labels", "z", index), caches=caches)
    assert reads == [(0, 4), (4, 4)]


def test_the_cache_stays_within_its_budget_and_drops_the_longest_unused():
    cache: Lru[bytes] = Lru(10, len)
    made = []

    def get(name: str) -> None:
        cache.get(name, lambda: made.append(name) or b"1234")

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
        assert cache.used <= 10
    assert made == ["a", "b", "c", "b"]


def test_a_value_larger_than_the_cache_is_given_but_not_kept():
    cache: Lru[bytes] = Lru(3, len)
    assert cache.get("a", lambda: b"12345") == b"12345"
    assert cache.used == 0
    assert cache.get("a", lambda: b"other") == b"other"


def test_threads_that_ask_at_once_share_one_maker():
    cache: Lru[int] = Lru(10, lambda _: 1)
    begun, go = threading.Event(), threading.Event()
    made, got = [], []

    def make() -> int:
        begun.set()
        go.wait(10)
        made.append(1)
        return 7

    threads = [threading.Thread(target=lambda: got.append(cache.get("a", make))) for _ in range(4)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert got == [7] * 4 and made == [1]


def test_a_maker_that_fails_leaves_nothing_behind():
    cache: Lru[int] = Lru(10, lambda _: 1)

    def fail() -> int:
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        cache.get("a", fail)
    assert cache.get("a", lambda: 3) == 3


def test_classes_are_shown_as_the_data_set_reads_them_in_its_colours(workspace):
    values = np.array([[[0, 1, 2, 3, 4]]], np.uint8)
    shape = values.shape
    create_volume(workspace.volume(1), name="v", shape_czyx=(1, *shape), dtype="uint8", voxel_size_nm=VOXEL_NM)
    create_labels(workspace.volume(1), "labels", shape_zyx=shape, dtype="uint8", voxel_size_nm=VOXEL_NM)[:] = values
    png, media_type = render(workspace, Plane("volume", 1, "classes", "z", 0), caches=PlaneCaches())
    assert media_type == "image/png"
    # 1 and 3 are merged, 2 was not annotated, 4 is no class.
    assert entries_of(png).tolist() == [[0, 1, 255, 1, 0]]
    palette = Image.open(io.BytesIO(png)).getpalette()
    assert palette[3:6] == [255, 0, 0]
    assert palette[765:768] == [150, 150, 150]


def test_classes_are_shown_anew_once_they_are_read_otherwise(workspace):
    create_volume(workspace.volume(1), name="v", shape_czyx=(1, 1, 2, 2), dtype="uint8", voxel_size_nm=VOXEL_NM)
    labels = create_labels(workspace.volume(1), "labels", shape_zyx=(1, 2, 2), dtype="uint8", voxel_size_nm=VOXEL_NM)
    labels[:] = 5
    caches, plane = PlaneCaches(), Plane("volume", 1, "classes", "z", 0)
    before, _ = render_plane(workspace, plane, caches=caches, scheme_of=lambda _: LabelScheme(kind="instances"))
    after, _ = render_plane(workspace, plane, caches=caches, scheme_of=lambda _: LabelScheme(background=(0, 5)))
    assert (entries_of(before).max(), entries_of(after).max()) == (1, 0)


def test_borders_are_the_same_along_every_axis(workspace):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (3, 4, 5)).repeat(3, 0).repeat(3, 1).repeat(3, 2).astype(np.uint16)
    scheme = LabelScheme(kind="instances", borders=Borders(kind="touching", width=2))
    create_volume(workspace.volume(1), name="v", shape_czyx=(1, *ids.shape), dtype="uint8", voxel_size_nm=VOXEL_NM)
    create_labels(workspace.volume(1), "labels", shape_zyx=ids.shape, dtype="uint16", voxel_size_nm=VOXEL_NM)[:] = ids
    expected = learn(ids, scheme, "classes")
    assert set(np.unique(expected)) == {0, 1, 2}
    for number, axis in enumerate("zyx"):
        for index in range(ids.shape[number]):
            plane = Plane("volume", 1, "classes", axis, index)
            png, _ = render_plane(workspace, plane, caches=PlaneCaches(), scheme_of=lambda _: scheme)
            np.testing.assert_array_equal(entries_of(png), expected.take(index, axis=number))


def test_what_a_class_is_called_and_coloured():
    shown = colours_of(SCHEME)
    assert shown == {1: ("wall", "#ff0000"), 255: ("not annotated", "#969696")}
    borders = LabelScheme(kind="instances", borders=Borders())
    assert [name for name, _ in colours_of(borders).values()] == ["object", "border"]
    assert [name for name, _ in colours_of(LabelScheme(kind="instances")).values()] == ["foreground"]
