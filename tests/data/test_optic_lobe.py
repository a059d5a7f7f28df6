"""The optic lobe's geometry is what was published: a hexagonal grid, cones along the normal, clusters of four kinds."""

import numpy as np
import pytest

from seglib.config.synthetic import OpticLobeConfig
from seglib.data.optic_lobe import (
    CLUMPED,
    DENSE,
    EMPTY,
    RING,
    Columns,
    _rotation,
    fluorescence,
    geodesic_grid,
    label_columns,
    neurites,
    place_columns,
)
from seglib.data.two_photon import optic_lobe_sample

CONFIG = OpticLobeConfig()


def nearest_distances(points, count):
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return np.sort(apart, axis=1)[:, 1 : count + 1]


def one_column(kind=DENSE, axis=(0.0, 0.0, 1.0), spacing=0.25, copies=1, centre=(0.5, 0.5, 0.5)):
    axis = np.array(axis, float) / np.linalg.norm(axis)
    helper = np.eye(3)[np.abs(axis).argmin()]
    first = np.cross(axis, helper) / np.linalg.norm(np.cross(axis, helper))

    def repeated(one):
        return np.repeat(np.array(one, float)[None], copies, 0)

    return Columns(
        repeated(centre),
        repeated(axis),
        (repeated(first), repeated(np.cross(axis, first))),
        np.full(copies, spacing),
        np.full(copies, kind),
    )


@pytest.mark.parametrize("frequency", [1, 2, 8, 15])
def test_a_geodesic_grid_has_as_many_points_as_euler_says(frequency):
    points = geodesic_grid(frequency)
    assert len(points) == 10 * frequency**2 + 2
    assert np.linalg.norm(points, axis=1) == pytest.approx(1)
    assert points.mean(0) == pytest.approx([0, 0, 0], abs=1e-9)


def test_the_grid_is_hexagonal():
    """Six neighbours at nearly the same distance, a gap to the next ones, at angles of about 60 degrees."""
    points = geodesic_grid(10)
    distances = nearest_distances(points, 7)
    # The twelve corners of the icosahedron have five neighbours.
    six = distances[:, 6] / distances[:, 5] > 1.25
    assert (~six).sum() == 12
    ring = distances[six, :6]
    assert (ring.max(1) / ring.min(1)).max() < 1.35
    for index in np.flatnonzero(six)[::37]:
        near = np.argsort(np.linalg.norm(points - points[index], axis=1))[1:7]
        flat = points[near] - points[index]
        first = flat[0] / np.linalg.norm(flat[0])
        second = np.cross(points[index], first)
        angles = np.sort(np.degrees(np.arctan2(flat @ second, flat @ first)) % 360)
        assert np.diff([*angles, angles[0] + 360]) == pytest.approx([60] * 6, abs=12)


def test_angles_are_degrees():
    assert _rotation(np.array([360.0, 360.0, 360.0])) == pytest.approx(np.eye(3), abs=1e-12)
    quarter = _rotation(np.array([90.0, 0.0, 0.0]))
    assert quarter @ [0, 1, 0] == pytest.approx([0, 0, 1])
    turn = _rotation(np.array([12.0, 34.0, 56.0]))
    assert turn @ turn.T == pytest.approx(np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


def test_columns_stand_on_an_ellipsoid_at_least_a_hundred_of_them():
    for seed in range(25):
        columns = place_columns(CONFIG, np.random.default_rng(seed))
        assert len(columns.centres) >= 100
        assert columns.centres.min() > -0.2
        assert columns.centres.max() < 1.2
        assert np.linalg.norm(columns.axes, axis=1) == pytest.approx(1)
        for first, second in [(columns.axes, columns.across[0]), (columns.axes, columns.across[1]), columns.across]:
            assert (first * second).sum(1) == pytest.approx(0, abs=1e-9)
        # Any quadric through the points: x² … 1 are linearly dependent on an ellipsoid.
        z, y, x = columns.centres.T
        terms = np.stack([z * z, y * y, x * x, z * y, z * x, y * x, z, y, x, np.ones_like(x)], axis=1)
        values, vectors = np.linalg.svd(terms, full_matrices=False)[1:]
        assert values[-1] < 1e-6 * values[0]
        a = vectors[-1]
        gradient = np.stack(
            [2 * a[0] * z + a[3] * y + a[4] * x + a[6], 2 * a[1] * y + a[3] * z + a[5] * x + a[7],
             2 * a[2] * x + a[4] * z + a[5] * y + a[8]], axis=1,
        )  # fmt: skip
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        assert np.abs((gradient * columns.axes).sum(1)) == pytest.approx(1, abs=1e-4)  # axes are its normals


def test_spacing_is_the_distance_to_the_neighbours():
    columns = place_columns(CONFIG, np.random.default_rng(3))
    found = nearest_distances(columns.centres, 6).mean(1)
    # Columns at the rim of the sample have neighbours beyond it, which count too.
    assert (columns.spacing <= found + 1e-9).all()
    assert np.median(found / columns.spacing) == pytest.approx(1, abs=0.02)


def test_kinds_are_drawn_in_their_ratio_and_empty_columns_are_dropped():
    kinds = np.concatenate([place_columns(CONFIG, np.random.default_rng(seed)).kinds for seed in range(40)])
    shares = np.bincount(kinds, minlength=4) / len(kinds)
    assert shares == pytest.approx(np.array([2, 3, 3, 3]) / 11, abs=0.02)
    only = place_columns(OpticLobeConfig(columns=(0, 0, 0, 5)), np.random.default_rng(0))
    assert set(only.kinds) == {RING}
    empty = OpticLobeConfig(columns=(1, 0, 0, 0))
    columns = place_columns(empty, np.random.default_rng(0))
    assert fluorescence(columns, empty, np.random.default_rng(0))[0].shape == (0, 3)
    assert label_columns(columns, empty, (32, 32, 32)).max() == 0


def local(columns, config=CONFIG, seed=0):
    """Fluorescent points (N, P, 3) along and across their column's axis, in distances between columns."""
    places, _ = fluorescence(columns, config, np.random.default_rng(seed))
    offsets = places.reshape(len(columns.centres), config.points, 3) - columns.centres[:, None]
    frame = np.stack([columns.axes[0], columns.across[0][0], columns.across[1][0]])
    return offsets @ frame.T / columns.spacing[0]


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 2, 3)])
def test_a_dense_cluster_is_longer_along_its_axis_than_across(axis):
    found = local(one_column(DENSE, axis, copies=400))
    assert found.shape == (400, 250, 3)
    along, across, other = found.reshape(-1, 3).std(0)
    assert across == pytest.approx(other, rel=0.1)
    assert along / across == pytest.approx(0.2 / 0.12, rel=0.1)
    assert 1.2 * 0.2 < along < 2 * 1.2 * 0.2


def test_clumps_are_few_and_a_ring_is_a_ring():
    clumps, dense = (local(one_column(kind, copies=300), seed=1) for kind in (CLUMPED, DENSE))
    # Fewer seeds: one column's points lie closer about their own mean, which varies from column to column more.
    within = [one.std(1).mean(0)[1] / one.mean(1).std(0)[1] for one in (clumps, dense)]
    assert within[0] < 0.8 * within[1]
    ring = local(one_column(RING, copies=100), seed=1).reshape(-1, 3)
    radius = np.hypot(ring[:, 1], ring[:, 2])
    assert np.median(radius) == pytest.approx(0.3, abs=0.02)
    assert radius.std() == pytest.approx(0.1, abs=0.03)
    assert (radius < 0.1).mean() < 0.03
    assert ring[:, 0].std() == pytest.approx(0.1, abs=0.03)
    angle = np.degrees(np.arctan2(ring[:, 2], ring[:, 1]))
    assert np.histogram(angle, 12, (-180, 180))[0] == pytest.approx([len(ring) / 12] * 12, rel=0.2)


def test_neurites_run_from_below_the_layer_to_just_above_their_column():
    config = OpticLobeConfig(neurites=3, dropped_neurites=0.0)
    columns = one_column(axis=(0, 0, 1), spacing=0.1, copies=500)
    curves = neurites(columns, config, np.random.default_rng(0)).reshape(60, -1, 3)
    assert curves.shape[1] == 1500
    ends = (curves[-1] - 0.5) / 0.1
    assert ends.mean(0) == pytest.approx([0, 0, 0.25], abs=0.01)
    assert ends.std(0) == pytest.approx([0.05] * 3, abs=0.01)
    starts = (curves[0] - 0.5) / 0.1
    assert starts[:, 2] == pytest.approx(-2.25)
    some = neurites(columns, OpticLobeConfig(neurites=3), np.random.default_rng(0)).reshape(60, -1, 3).shape[1]
    assert some == pytest.approx(0.7 * 1500, abs=60)


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (1, -1, 2), (-2, 1, 1)])
def test_a_label_is_a_tapered_cone_along_the_axis_wide_end_out(axis):
    columns = one_column(axis=axis, spacing=0.25)
    ids = label_columns(columns, CONFIG, (128, 128, 128))
    places = (np.argwhere(ids == 1) + 0.5) / 128 - 0.5
    along = places @ columns.axes[0]
    away = np.linalg.norm(places - along[:, None] * columns.axes[0], axis=1)
    depth, radius = 2.25 * 0.25, 0.7 * 0.25 / 2
    assert (along.min(), along.max()) == pytest.approx((-depth / 2, depth / 2), abs=0.01)
    assert away.max() == pytest.approx(radius, abs=0.008)
    wide, narrow = away[along > 0.45 * depth].max(), away[along < -0.45 * depth].max()
    assert narrow / wide == pytest.approx(0.525 / 0.975, abs=0.1)
    # A frustum's volume.
    small = radius / 2
    volume = np.pi * depth / 3 * (radius**2 + radius * small + small**2)
    assert len(places) / 128**3 == pytest.approx(volume, rel=0.02)
    spread = np.cov(places.T)
    vectors = np.linalg.eigh(spread)[1]
    assert abs(vectors[:, -1] @ columns.axes[0]) == pytest.approx(1, abs=1e-3)


def test_a_voxel_in_two_cones_belongs_to_the_nearer_axis():
    near = Columns(
        np.array([[0.5, 0.5, 0.45], [0.5, 0.5, 0.55]]),
        np.array([[1.0, 0, 0]] * 2),
        (np.array([[0.0, 1, 0]] * 2), np.array([[0.0, 0, 1]] * 2)),
        np.array([0.4, 0.4]),
        np.array([DENSE, RING]),
    )
    ids = label_columns(near, CONFIG, (64, 64, 64))
    z, y, x = np.nonzero(ids)
    assert set(ids[z, y, x]) == {1, 2}
    assert np.array_equal(ids[z, y, x] == 1, (x + 0.5) / 64 < 0.5)


def test_ids_are_those_of_columns_that_are_not_empty_in_their_order():
    columns = one_column(EMPTY)
    assert label_columns(columns, CONFIG, (32, 32, 32)).max() == 0
    sample = optic_lobe_sample(OpticLobeConfig(shape=(64, 64, 64)), seed=2)
    shown = np.flatnonzero(sample.columns.kinds != EMPTY)
    inside = [
        number
        for number, index in enumerate(shown, 1)
        if ((sample.columns.centres[index] > 0.02) & (sample.columns.centres[index] < 0.98)).all()
    ]
    hits = [
        int(sample.ids[tuple((sample.columns.centres[shown[number - 1]] * 64).astype(int))]) == number
        for number in inside
    ]
    assert np.mean(hits) > 0.9


def test_a_sample_follows_from_seed_and_index_zero_too():
    config = OpticLobeConfig(shape=(32, 40, 48))
    first, again = (optic_lobe_sample(config, seed=0, index=0) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.ids, again.ids)
    others = [optic_lobe_sample(config, seed=seed, index=index) for seed, index in ((0, 1), (1, 0))]
    assert all(not np.array_equal(first.image, other.image) for other in others)
    assert first.image.shape == first.ids.shape == (32, 40, 48)
    assert (first.image.dtype, first.ids.dtype) == (np.float32, np.uint16)


def test_labelled_places_are_brighter_than_the_rest():
    config = OpticLobeConfig(shape=(64, 64, 64), noise=0.01)
    for seed in range(3):
        sample = optic_lobe_sample(config, seed=seed)
        assert sample.image[sample.ids > 0].mean() > 3 * sample.image[sample.ids == 0].mean()
        assert np.isfinite(sample.image).all()
