"""What a volume's report counts, against numpy and scikit-image on the whole array at once."""

import numpy as np
import pytest
from skimage.measure import regionprops

import seglib.data.report.measure
from seglib.config.labels import LabelClass, LabelScheme
from seglib.data.report.measure import PIECES, measure_volume
from seglib.data.volumes import Volume
from seglib.errors import WorkCancelled

INSTANCES = LabelScheme(kind="instances", ignore=(9,))
CLASSES = LabelScheme(
    kind="classes",
    classes=(LabelClass(name="a", values=(1, 5)), LabelClass(name="b", values=(2,))),
    ignore=(9,),
)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    """Volumes are read two planes at a time."""
    monkeypatch.setattr(seglib.data.report.measure, "SLAB_VOXELS", 2 * 30 * 40)


def volume(image=None, labels=None, shape=(9, 30, 40), **more):
    if image is None:
        image = np.random.default_rng(0).integers(0, 200, (1, *shape)).astype(np.uint8)
    return Volume(**{"name": "leaf", "image": image, "labels": labels, "voxel_size_nm": (30.0, 10.0, 20.0), **more})


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.float32])
def test_grey_values_are_numpys(dtype):
    rng = np.random.default_rng(1)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    values = rng.uniform(low, 120, (2, 9, 30, 40)).astype(dtype)
    facts = measure_volume(volume(values), LabelScheme(kind="none"))
    assert len(facts.grey) == 2
    for grey, channel in zip(facts.grey, values, strict=True):
        assert (grey.low, grey.high) == (channel.min(), channel.max())
        assert grey.mean == pytest.approx(channel.mean(dtype=float))
        assert sum(grey.counts) == channel.size
        assert (grey.black, grey.white, grey.broken) == (0, 0, 0)
        # Half of the range holds half of evenly spread values.
        assert sum(grey.counts[:32]) == pytest.approx(channel.size / 2, rel=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_clipped_share_is_what_sticks_at_an_end(dtype):
    values = np.random.default_rng(1).normal(120, 60, (1, 9, 30, 40)).clip(0, 200).astype(dtype)
    facts = measure_volume(volume(values), LabelScheme(kind="none"))
    assert facts.grey[0].white == pytest.approx((values == 200).mean())
    assert facts.grey[0].black == pytest.approx((values == 0).mean(), abs=0.01)
    assert facts.grey[0].white > 0.05


def test_values_that_are_no_numbers_are_told_and_left_out():
    values = np.linspace(0, 1, 9 * 30 * 40, dtype=np.float32).reshape(1, 9, 30, 40)
    values[0, 3] = np.nan
    values[0, 4, 0] = np.inf
    (grey,) = measure_volume(volume(values), LabelScheme(kind="none")).grey
    assert grey.broken == pytest.approx((30 * 40 + 40) / values.size)
    assert (grey.low, grey.high) == (0, 1)
    assert np.isfinite(grey.mean)
    (dead,) = measure_volume(volume(np.full((1, 2, 30, 40), np.nan, np.float32)), LabelScheme(kind="none")).grey
    assert dead.broken == 1


def test_classes_are_counted_as_they_are_read_over_the_whole_and_along_each_axis():
    labels = np.random.default_rng(2).choice([0, 1, 2, 5, 9], (9, 30, 40)).astype(np.uint8)
    facts = measure_volume(volume(labels=labels), CLASSES).labels
    assert facts.objects is None
    masks = {0: labels == 0, 1: (labels == 1) | (labels == 5), 2: labels == 2, 255: labels == 9}
    assert facts.counts == {value: int(mask.sum()) for value, mask in masks.items()}
    assert facts.labelled == int((masks[1] | masks[2]).sum())
    assert facts.planes == pytest.approx((masks[1] | masks[2]).mean((1, 2)), abs=1e-6)
    for value, mask in masks.items():
        for axis, side in enumerate(mask.shape):
            along = np.moveaxis(mask, axis, 0).reshape(side, -1).sum(1)
            pieces = [sum(along[i] for i in range(side) if i * PIECES // side == piece) for piece in range(PIECES)]
            assert list(facts.pieces[value][axis]) == pieces


def test_objects_have_the_sizes_that_scikit_image_finds():
    rng = np.random.default_rng(3)
    labels = np.zeros((9, 30, 40), np.uint16)
    for number in range(1, 40):
        z, y, x = rng.integers(0, (7, 26, 36))
        labels[z : z + rng.integers(1, 4), y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = number * 7
    facts = measure_volume(volume(labels=labels), LabelScheme(kind="instances")).labels.objects
    found = regionprops(labels.astype(int))
    volumes = np.array([one.area for one in found]) * 30 * 10 * 20.0
    diameters = 2 * (3 * volumes / (4 * np.pi)) ** (1 / 3)
    assert facts.count == len(found)
    assert facts.diameters_nm == pytest.approx(np.percentile(diameters, [5, 50, 95]))
    assert (facts.smallest_nm, facts.largest_nm) == pytest.approx((diameters.min(), diameters.max()))
    assert sum(facts.counts) == len(found)
    sides = np.array([[one.bbox[axis + 3] - one.bbox[axis] for axis in range(3)] for one in found])
    assert facts.extents == tuple(np.ceil(np.percentile(sides, 90, axis=0)).astype(int))
    inner = [all(one.bbox[axis] > 0 and one.bbox[axis + 3] < labels.shape[axis] for axis in range(3)) for one in found]
    assert 5 < sum(inner) < len(found)
    assert facts.thickness == np.median(sides.min(1)[inner])
    assert facts.specks == sum(one.area < 4 for one, kept in zip(found, inner, strict=True) if kept)


def test_flat_objects_have_the_diameter_of_a_disc():
    labels = np.zeros((1, 30, 40), np.uint8)
    labels[0, 5:15, 5:15] = 3
    image = np.random.default_rng(0).integers(0, 200, (1, 1, 30, 40)).astype(np.uint8)
    facts = measure_volume(volume(image, labels), LabelScheme(kind="instances")).labels.objects
    assert facts.diameters_nm[1] == pytest.approx(2 * np.sqrt(100 * 10 * 20 / np.pi))
    assert facts.thickness == 10


def test_ignored_ids_and_other_backgrounds_are_no_objects_and_large_ids_are():
    labels = np.zeros((9, 30, 40), np.uint64)
    labels[2, :5, :5], labels[5, :5, :5], labels[:, 20:] = 2**40, 2**40 + 1, 9
    facts = measure_volume(volume(labels=labels), INSTANCES).labels
    assert facts.objects.count == 2
    assert facts.counts[255] == 9 * 10 * 40
    empty = measure_volume(volume(labels=np.zeros((9, 30, 40), np.uint8)), INSTANCES).labels
    assert (empty.objects.count, empty.labelled) == (0, 0)


def test_every_plane_is_told_and_measuring_can_be_stopped():
    told = []
    labels = np.ones((9, 30, 40), np.uint8)
    measure_volume(volume(labels=labels), INSTANCES, planes_done=told.append)
    assert sum(told) == 18

    def stop(planes):
        raise WorkCancelled("enough")

    with pytest.raises(WorkCancelled):
        measure_volume(volume(labels=labels), INSTANCES, planes_done=stop)


def test_facts_know_how_deep_voxels_are():
    assert measure_volume(volume(), LabelScheme(kind="none")).anisotropy == 30 / 20
