"""Labels to class ids, and borders, against slow loops."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from seglib.config.labels import IGNORE, Borders, LabelClass, LabelScheme
from seglib.data.borders import border_mask
from seglib.data.targets import learn, margin
from seglib.errors import ConfigError

SMALL = hnp.arrays(
    np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)
)
KINDS = st.sampled_from(["all", "touching", "planes"])
LEAF = LabelScheme(
    kind="classes",
    classes=(LabelClass(name="wall", values=(4, 9)), LabelClass(name="pore", values=(70_000,))),
    ignore=(255,),
)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("large", [False, True])
def test_classes_are_merged_ignored_and_otherwise_background(dtype, large):
    labels = np.array([[[0, 4, 9, 255, 3, 70_000 if large else 4]]], dtype)
    assert learn(labels, LEAF, "classes").tolist() == [[[0, 1, 1, IGNORE, 0, 2 if large else 1]]]
    assert learn(labels, LEAF, "foreground").tolist() == [[[0, 1, 1, IGNORE, 0, 1]]]
    assert learn(labels, LEAF, "classes").dtype == np.uint8


def test_instances_are_foreground_beside_their_background_and_what_was_not_annotated():
    scheme = LabelScheme(kind="instances", background=(1, 7), ignore=(0,))
    labels = np.array([[[0, 1, 2, 7, 90_000, 2**40]]], np.uint64)
    assert learn(labels, scheme, "foreground").tolist() == [[[IGNORE, 0, 1, 0, 1, 1]]]


def test_a_task_that_labels_cannot_serve_is_refused():
    with pytest.raises(ConfigError, match="choose the task Foreground"):
        learn(np.zeros((1, 2, 2), np.uint8), LabelScheme(kind="instances"), "classes")
    with pytest.raises(ConfigError, match="name at least one"):
        learn(np.zeros((1, 2, 2), np.uint8), LabelScheme(kind="classes"), "classes")
    assert learn(np.full((1, 2, 2), 2**20, np.uint32), LabelScheme(kind="classes"), "foreground").max() == 0


def slow_mask(objects: np.ndarray, borders: Borders) -> np.ndarray:
    """border_mask, voxel by voxel, as its docstring says it."""
    result = np.zeros(objects.shape, bool)
    depth = 0 if borders.kind == "planes" else borders.width
    for z, y, x in np.ndindex(*objects.shape):
        near = objects[
            max(0, z - depth) : z + depth + 1,
            max(0, y - borders.width) : y + borders.width + 1,
            max(0, x - borders.width) : x + borders.width + 1,
        ]
        different = set(near.ravel().tolist()) - {0}
        rim = borders.kind == "all" and objects[z, y, x] == 0 and bool(different)
        result[z, y, x] = len(different) > 1 or rim
    return result


@settings(deadline=None)
@given(objects=SMALL, kind=KINDS, width=st.integers(1, 3))
def test_borders_are_what_a_slow_loop_finds(objects, kind, width):
    borders = Borders(kind=kind, width=width)
    np.testing.assert_array_equal(border_mask(objects, borders), slow_mask(objects, borders))


@settings(deadline=None)
@given(objects=SMALL, kind=KINDS, width=st.integers(1, 2))
def test_without_borders_no_two_objects_touch(objects, kind, width):
    left = np.where(border_mask(objects, Borders(kind=kind, width=width)), 0, objects)
    for axis in (1, 2) if kind == "planes" else (0, 1, 2):
        here, there = (np.moveaxis(left, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        assert not ((here != there) & (here > 0) & (there > 0)).any()


def test_ids_of_64_bits_are_told_apart():
    small = np.array([[[0, 1, 1, 2, 2, 2, 0, 0]]], np.uint64)
    large = np.where(small > 0, small + np.uint64(2**60), 0).astype(np.uint64)
    expected = [[[False, False, True, True, False, False, False, False]]]
    assert border_mask(large, Borders()).tolist() == expected
    assert border_mask(large[..., 1:6], Borders()).tolist() == [[[False, True, True, False, False]]]


def test_touching_objects_get_one_border_and_lonely_ones_none():
    objects = np.zeros((1, 5, 9), np.uint8)
    objects[:, 1:4, 1:4], objects[:, 1:4, 4:7] = 1, 2
    found = learn(objects, LabelScheme(borders=Borders(width=1)), "classes")
    expected = (objects > 0).astype(np.uint8)
    expected[:, 0:5, 3:5] = 2
    np.testing.assert_array_equal(found, expected)
    objects[objects == 2] = 0
    np.testing.assert_array_equal(learn(objects, LabelScheme(borders=Borders()), "classes"), objects)
    rim = learn(objects, LabelScheme(borders=Borders(kind="all")), "classes")
    grown = ndimage.binary_dilation(objects[0], np.ones((3, 3)))
    np.testing.assert_array_equal(rim[0] == 2, grown & (objects[0] == 0))


def test_what_was_not_annotated_stays_so_beside_borders():
    objects = np.array([[[1, 255, 2, 2]]], np.uint8)
    scheme = LabelScheme(kind="instances", ignore=(255,), borders=Borders(width=2))
    assert learn(objects, scheme, "classes").tolist() == [[[2, IGNORE, 2, 1]]]


def test_an_object_may_have_the_value_0_where_another_is_background():
    objects = np.array([[[0, 0, 3, 3, 1, 1]]], np.uint8)
    scheme = LabelScheme(kind="instances", background=(1,), borders=Borders())
    assert learn(objects, scheme, "classes").tolist() == [[[1, 2, 2, 1, 0, 0]]]


@settings(deadline=None)
@given(labels=SMALL, kind=KINDS, width=st.integers(1, 2), start=st.integers(0, 3), stop=st.integers(1, 4))
def test_a_window_with_its_margin_is_learned_as_the_whole_is(labels, kind, width, start, stop):
    scheme = LabelScheme(kind="instances", ignore=(3,), borders=Borders(kind=kind, width=width))
    whole, more = learn(labels, scheme, "classes"), margin(scheme)
    low, high = max(0, start - more), min(len(labels), stop + more)
    if start < stop <= len(labels):
        part = learn(labels[low:high], scheme, "classes")[start - low : stop - low]
        np.testing.assert_array_equal(part, whole[start:stop])
    assert margin(LEAF) == 0


def test_every_value_of_16_bits_finds_its_class():
    values = range(1, 65_536, 4096)
    classes = tuple(LabelClass(name=str(value), values=(value,)) for value in values)
    scheme = LabelScheme(kind="classes", classes=classes)
    labels = np.arange(65_536, dtype=np.uint16).reshape(1, 256, 256)
    found = learn(labels, scheme, "classes").ravel()
    assert [int(found[value]) for value in values] == list(range(1, len(classes) + 1))
    assert np.count_nonzero(found) == len(classes)
    assert list(itertools.compress(range(65_536), found))[:2] == [1, 4097]
