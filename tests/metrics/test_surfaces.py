"""Surface scores against MONAI and slow loops, in volumes, planes and with parts that nobody annotated."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from seglib.errors import ConfigError, DataError
from seglib.metrics import surfaces
from seglib.metrics.surfaces import (
    hausdorff95,
    measure_surfaces,
    no_surfaces,
    surface_dice,
    surface_distance,
    surface_scores,
)

# What MONAI says of its own call of itself.
pytestmark = pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")

K = 3
SHAPES = [(12, 20, 17), (5, 30, 24), (1, 40, 31)]
SPACINGS = [(1.0, 1.0, 1.0), (40.0, 8.0, 8.0), (3.3, 7.1, 12.7)]
# Whether distances come from a transform of the whole box, or from a search for the nearest point.
WAYS = pytest.mark.parametrize("dense", [0, 10**9], ids=["search", "transform"])


@pytest.fixture
def way(dense, monkeypatch):
    monkeypatch.setattr(surfaces, "DENSE", dense)


def blobs(shape, seed):
    """Two label volumes of K classes and background that look alike."""
    rng = np.random.default_rng(seed)
    smooth, other = (
        ndimage.gaussian_filter(rng.normal(size=(K + 1, *shape)), (0, min(1.5, shape[0] - 1), 1.5, 1.5))
        for _ in range(2)
    )
    return [(smooth + share * other).argmax(0).astype(np.uint8) for share in (0, 0.5)]


def monais(prediction, truth, spacing, tolerance):
    """MONAI's three scores of each class; of a single plane it is given a 2D image."""
    flat = truth.shape[0] == 1
    volumes = [torch.from_numpy(np.stack([one == k for k in range(1, K + 1)]))[None] for one in (prediction, truth)]
    volumes = [one[:, :, 0] if flat else one for one in volumes]
    given = {"include_background": True, "spacing": spacing[1:] if flat else spacing}
    return (
        compute_hausdorff_distance(*volumes, percentile=95, directed=False, **given)[0].numpy(),
        compute_average_surface_distance(*volumes, symmetric=True, **given)[0].numpy(),
        compute_surface_dice(*volumes, [tolerance] * K, **given)[0].numpy(),
    )


@WAYS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.usefixtures("way")
def test_scores_equal_monais(shape, spacing):
    prediction, truth = blobs(shape, seed=0)
    tolerance = 2 * spacing[2]
    found = measure_surfaces(prediction, truth, K, voxel_size_nm=spacing)
    distance95, average, near = monais(prediction, truth, spacing, tolerance)
    np.testing.assert_allclose(hausdorff95(found), distance95, rtol=1e-5)
    np.testing.assert_allclose(surface_distance(found), average, rtol=1e-5)
    np.testing.assert_allclose(surface_dice(found, tolerance), near, rtol=1e-6)
    assert ((near > 0.2) & (near < 1) & (distance95 > 0)).all()


def slow_surface(labels, truth, k):
    """Coordinates of annotated voxels of class k with a neighbour that is another class or outside."""
    axes = [axis for axis, length in enumerate(labels.shape) if length > 1]
    result = []
    for voxel in map(tuple, np.argwhere((labels == k) & (truth != 255))):
        for axis in axes:
            for step in (-1, 1):
                other = list(voxel)
                other[axis] += step
                outside = not 0 <= other[axis] < labels.shape[axis]
                if outside or (truth[tuple(other)] != 255 and labels[tuple(other)] != k):
                    result.append(voxel)
    return np.array(sorted(set(result)), float).reshape(-1, 3)


def slow_distances(prediction, truth, k, spacing):
    """Distances from the predicted surface and from the true one, by trying all pairs."""
    found, real = (slow_surface(labels, truth, k) * spacing for labels in (prediction, truth))
    between = np.linalg.norm(found[:, None] - real[None], axis=-1)
    return between.min(1, initial=np.inf), between.min(0, initial=np.inf)


def slow_scores(to_truth, to_prediction, tolerance):
    if not to_prediction.size:
        return [math.nan] * 3
    if not to_truth.size:
        return [math.inf, math.inf, 0.0]
    both = np.concatenate([to_truth, to_prediction])
    sides = [np.percentile(np.minimum(side, 1e30), 95) for side in (to_truth, to_prediction)]
    return [math.inf if max(sides) > 1e6 else max(sides), both.mean(), (both <= tolerance).mean()]


def scores(found, tolerance):
    return np.array([hausdorff95(found), surface_distance(found), surface_dice(found, tolerance)]).T


VOLUMES = st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=st.integers(0, 2)),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 255])),
    )
)


@WAYS
@settings(deadline=None)
@given(volumes=st.lists(VOLUMES, min_size=1, max_size=3))
def test_volumes_are_pooled_voxel_by_voxel_and_what_was_not_annotated_makes_no_surface(dense, volumes):
    spacing, tolerance = (3.0, 1.0, 1.5), 1.5
    total = no_surfaces(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surfaces, "DENSE", dense)
        for prediction, truth in volumes:
            total += measure_surfaces(prediction, truth, 2, voxel_size_nm=spacing)
    for k, found in enumerate(scores(total, tolerance), 1):
        sides = zip(*(slow_distances(*pair, k, spacing) for pair in volumes), strict=True)
        expected = slow_scores(*(np.concatenate(side) for side in sides), tolerance)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def box(*places, shape=(9, 9, 9)):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(*place) for place in places)] = 1
    return labels


def test_what_is_missing_on_one_side_is_infinitely_far_or_has_no_score():
    there, nothing = box((2, 5), (2, 5), (2, 5)), np.zeros((9, 9, 9), np.uint8)
    size = {"voxel_size_nm": (1.0, 1.0, 1.0)}
    missed = measure_surfaces(nothing, there, 1, **size)
    assert scores(missed, 1.0).tolist() == [[math.inf, math.inf, 0.0]]
    made_up = measure_surfaces(there, nothing, 1, **size)
    assert np.isnan(scores(made_up, 1.0)).all()
    assert np.isnan(scores(no_surfaces(1), 1.0)).all()
    # Of 26 + 26 + 26 true and found voxels those of one volume are perfect, those of the other infinitely far.
    right = measure_surfaces(there, there, 1, **size)
    assert scores(right, 0.0).tolist() == [[0.0, 0.0, 1.0]]
    pooled = scores(right + made_up, 1.0)
    assert pooled.tolist() == [[math.inf, math.inf, 52 / 78]]
    np.testing.assert_array_equal(scores(made_up + right, 1.0), pooled)


def test_distances_are_in_nanometres_along_each_axis():
    truth = box((2, 5), (2, 5), (2, 5))
    for axis, size in enumerate((40.0, 8.0, 4.0)):
        moved = np.roll(truth, 2, axis)
        found = measure_surfaces(moved, truth, 1, voxel_size_nm=(40.0, 8.0, 4.0))
        assert hausdorff95(found)[0] == 2 * size


@WAYS
@pytest.mark.usefixtures("way")
def test_a_distance_of_exactly_the_tolerance_is_within_it():
    truth, prediction = np.zeros((2, 1, 9, 40), np.uint8)
    truth[0, :, 3] = prediction[0, :, 24] = 1
    for size in (3.3, 0.1, 7.7, 4.04):
        found = measure_surfaces(prediction, truth, 1, voxel_size_nm=(1.0, 1.0, size))
        assert surface_dice(found, 21 * size)[0] == 1
        assert surface_dice(found, 20.999 * size)[0] == 0


def test_a_plane_has_edges_where_a_volume_of_planes_has_faces():
    plane = box((0, 1), (2, 7), (2, 7), shape=(1, 9, 9))
    found = measure_surfaces(plane, plane, 1, voxel_size_nm=(1.0, 1.0, 1.0))
    assert found.to_truth[0].count == 16
    stack = np.repeat(plane, 3, axis=0)
    assert measure_surfaces(stack, stack, 1, voxel_size_nm=(1.0, 1.0, 1.0)).to_truth[0].count == 25 + 16 + 25


def test_scores_have_names_and_a_mean_over_the_classes_of_the_truth():
    truth = box((2, 5), (2, 5), (2, 5))
    prediction = np.roll(truth, 1, axis=2)
    prediction[8] = 2
    found = measure_surfaces(prediction, truth, 2, voxel_size_nm=(1.0, 1.0, 1.0))
    named = surface_scores(found, ["axon", "glia"], tolerance_nm=1.0)
    assert named["hausdorff95"] == named["hausdorff95/axon"] == 1
    assert named["surface_dice"] == 1
    assert math.isnan(named["surface_distance/glia"])
    assert 0 < named["surface_distance"] < 1
    assert "surface_dice/axon" not in surface_scores(no_surfaces(1), ["axon"], tolerance_nm=1.0)


def test_what_cannot_be_measured_is_refused():
    volume = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(DataError, match=r"prediction is \(2, 3, 4\) and the truth \(2, 3\)"):
        measure_surfaces(volume, volume[..., 0], 1, voxel_size_nm=(1.0, 1.0, 1.0))
    for tolerance in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="tolerance"):
            surface_dice(no_surfaces(1), tolerance)
