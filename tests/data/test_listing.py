"""Listings of labelled voxels: exact counts, lists that stay short and even, however the target is read."""

import numpy as np
import pytest

import seglib.data.listing
from seglib.data.listing import list_parts
from seglib.data.parts import TrainingPart


def part(target):
    target = np.asarray(target, np.uint8)
    return TrainingPart("leaf", np.zeros((1, *target.shape), np.uint8), target)


@pytest.fixture
def small_slabs(monkeypatch):
    """Targets are read a few planes at a time."""
    monkeypatch.setattr(seglib.data.listing, "SLAB_VOXELS", 130)


@pytest.mark.usefixtures("small_slabs")
def test_a_listing_holds_every_voxel_of_every_class_where_there_are_few():
    target = np.random.default_rng(0).choice([0, 1, 2, 7, 255], (9, 8, 7), p=[0.6, 0.2, 0.1, 0.05, 0.05])
    (found,) = list_parts([part(target)])
    assert found.counts == {value: int((target == value).sum()) for value in (0, 1, 2, 7, 255)}
    assert sorted(found.voxels) == [1, 2, 7]
    for value, voxels in found.voxels.items():
        assert np.array_equal(voxels, np.flatnonzero(target == value))
    assert np.array_equal(found.annotated, np.flatnonzero(target != 255))
    assert found.annotated_count == int((target != 255).sum())
    assert found.foreground_count == int(((target > 0) & (target != 255)).sum())


@pytest.mark.usefixtures("small_slabs")
def test_not_annotated_planes_may_come_late():
    target = np.zeros((20, 8, 8), np.uint8)
    target[17, 3] = 255
    (found,) = list_parts([part(target)])
    assert np.array_equal(found.annotated, np.flatnonzero(target != 255))
    assert list_parts([part(np.zeros((20, 8, 8)))])[0].annotated.size == 0  # every voxel is


@pytest.mark.usefixtures("small_slabs")
def test_long_lists_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(seglib.data.listing, "LISTED", 400)
    target = np.ones((50, 10, 10), np.uint8)
    target[:, 0] = 0
    target[49, 9, 9] = 255
    (found,) = list_parts([part(target)])
    assert found.counts[1] == 50 * 90 - 1
    for listed in (found.voxels[1], found.annotated):
        assert 300 <= listed.size <= 800
        assert (target.ravel()[listed] != 255).all()
        planes = np.bincount(listed // 100, minlength=50)
        assert planes.min() >= 1  # none is left out
        assert planes.max() <= 3 * planes.mean()
    assert (target.ravel()[found.voxels[1]] == 1).all()
