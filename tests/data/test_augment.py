"""Geometry of augmentation, read off images whose grey values are the places they come from.

Three channels hold z, y and x in nanometres about the middle. Ramps survive linear interpolation exactly, so after
augmentation the image says where in the source each voxel was looked up.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage

from seglib.config import (
    EMAugmentationConfig,
    LightAugmentationConfig,
    NoAugmentationConfig,
    StandardAugmentationConfig,
)
from seglib.data.augment import Augmentation, plan_augmentation

CUBES = (1.0, 1.0, 1.0)
DEEP = (5.0, 1.0, 1.0)
NEVER = dict.fromkeys(
    (
        "flip", "turn", "rotate", "scale", "shear", "elastic", "brightness", "contrast", "gamma", "noise", "blur",
        "missing", "misalign", "motion", "cutout",
    ),
    0.0,
)  # fmt: skip


def plan(shape, voxels=CUBES, reach=None, **changes) -> Augmentation:
    """Augmentation in which only what is named happens, every time."""
    found = plan_augmentation(EMAugmentationConfig(**{**NEVER, **changes}), shape, voxels)
    assert found is not None
    return found if reach is None else Augmentation(found.config, found.planar, voxels, reach)


def places(shape, voxels=CUBES, count=1):
    """(N, 3, Z, Y, X): nanometres of each voxel's middle from the middle of the patch."""
    axes = [(np.arange(side) + 0.5 - side / 2) * nm for side, nm in zip(shape, voxels, strict=True)]
    return np.repeat(np.stack(np.meshgrid(*axes, indexing="ij"))[None], count, 0).astype(np.float32)


def sources(how: Augmentation, shape, count=1, seed=0, target=None):
    """Where each voxel of varied patches (N, 3, Z, Y, X) comes from, in nm, and the labels there."""
    wide = [side + 2 * more for side, more in zip(shape, how.reach, strict=True)]
    if target is None:
        target = np.zeros(wide, np.uint8)
    images = torch.from_numpy(places(wide, how.voxel_size_nm, count))
    targets = torch.from_numpy(np.repeat(target[None], count, 0))
    images, targets = how(images, targets, np.random.default_rng(seed))
    assert images.shape == (count, 3, *shape)
    assert targets.dtype == torch.uint8
    return images.numpy().astype(float), targets.numpy()


def jacobian(found, voxels=CUBES):
    """Of the map from patch to source at the middle of a patch (3, Z, Y, X): [i, j] is d source i / d patch j."""
    middle = tuple(side // 2 for side in found.shape[1:])
    rows = []
    for axis, nm in enumerate(voxels):
        after = list(middle)
        after[axis] -= 1
        rows.append((found[(slice(None), *middle)] - found[(slice(None), *after)]) / nm)
    return np.array(rows).T


def test_off_varies_nothing_and_has_no_plan():
    assert plan_augmentation(NoAugmentationConfig(), (8, 8, 8), CUBES) is None


def test_where_nothing_fires_patches_come_out_as_they_were():
    found, _ = sources(plan((4, 6, 8)), (4, 6, 8))
    assert found == pytest.approx(places((4, 6, 8)), abs=1e-5)


def test_flips_and_quarter_turns_of_a_cube_are_its_48_symmetries():
    how = plan((6, 6, 6), flip=0.5, turn=0.9)
    found, _ = sources(how, (6, 6, 6), count=3000)
    maps = {tuple(np.round(jacobian(one)).astype(int).ravel()) for one in found}
    assert len(maps) == 48
    for one in maps:
        matrix = np.array(one).reshape(3, 3)
        assert np.array_equal(np.abs(matrix).sum(0), [1, 1, 1])
        assert np.array_equal(np.abs(matrix).sum(1), [1, 1, 1])


@pytest.mark.parametrize(("shape", "voxels"), [((4, 8, 8), DEEP), ((1, 8, 8), CUBES)])
def test_deep_voxels_and_single_planes_are_turned_in_the_plane_only(shape, voxels):
    how = plan(shape, voxels, flip=0.5, turn=0.9, rotate=0.0)
    assert how.planar
    found, _ = sources(how, shape, count=400)
    maps = {tuple(np.round([jacobian(one, voxels)[1:, 1:]]).astype(int).ravel()) for one in found}
    assert len(maps) == 8  # the symmetries of a square
    depth = found[:, 0]
    assert np.abs(depth).max() == pytest.approx((shape[0] - 1) / 2 * voxels[0])
    assert (depth == depth[:, :, :1, :1]).all()  # whole planes
    assert {float(np.sign(one[0, 0, 0])) for one in depth} == ({-1.0, 1.0} if shape[0] > 1 else {0.0})


def test_a_patch_that_is_no_square_is_never_squeezed_by_turning():
    found, _ = sources(plan((4, 8, 12), DEEP, flip=0.5, turn=1.0), (4, 8, 12), count=200)
    maps = {tuple(np.round(jacobian(one, DEEP)[1:, 1:]).astype(int).ravel()) for one in found}
    assert maps == {(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)}


def test_a_probability_is_how_often():
    found, _ = sources(plan((1, 8, 8), flip=0.2), (1, 8, 8), count=2000)
    assert np.mean([jacobian(one)[1, 1] < 0 for one in found]) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("voxels", [CUBES, (1.4, 1.0, 1.0), DEEP])
def test_rotation_keeps_distances_in_nanometres_and_its_limit(voxels):
    shape = (8, 24, 24)
    how = plan(shape, voxels, rotate=1.0, rotate_degrees=25)
    found, _ = sources(how, shape, count=60)
    angles = []
    for one in found:
        matrix = jacobian(one, voxels)
        matrix = matrix[1:, 1:] if how.planar else matrix
        assert matrix @ matrix.T == pytest.approx(np.eye(len(matrix)), abs=1e-3)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-3)
        cosine = (np.trace(matrix) - (len(matrix) - 2)) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    assert max(angles) <= 25.1
    assert max(angles) > 20
    assert min(angles) < 5


def test_scaling_is_the_same_along_every_axis_and_within_its_limit():
    found, _ = sources(plan((16, 16, 16), scale=1.0, scale_by=0.25), (16, 16, 16), count=60)
    factors = []
    for one in found:
        matrix = jacobian(one)
        assert matrix == pytest.approx(matrix[0, 0] * np.eye(3), abs=1e-3)
        factors.append(matrix[0, 0])
    assert 0.799 <= min(factors) < 0.85
    assert 1.18 < max(factors) <= 1.251


def test_shear_slides_one_axis_along_another():
    found, _ = sources(plan((16, 16, 16), shear=1.0, shear_degrees=20), (16, 16, 16), count=60)
    slants = set()
    for one in found:
        matrix = jacobian(one) - np.eye(3)
        assert np.abs(np.diag(matrix)).max() < 1e-3
        moved = np.argwhere(np.abs(matrix) > 1e-3)
        assert len(moved) <= 1  # a slant may be drawn next to nothing
        slants |= {tuple(one) for one in moved}
        assert np.abs(matrix).max() <= np.tan(np.radians(20)) + 1e-3
    assert len(slants) == 6


@pytest.mark.parametrize("voxels", [CUBES, DEEP])
def test_elastic_deformation_is_smooth_within_its_limit_and_differs_from_patch_to_patch(voxels):
    shape = (8, 40, 40)
    how = plan(shape, voxels, elastic=1.0, elastic_shift=3, elastic_spacing=16)
    found, _ = sources(how, shape, count=8)
    shift = found - places(shape, voxels, 8)
    margin = (slice(None), slice(None), slice(2, -2), slice(4, -4), slice(4, -4))
    inside = shift[margin]
    assert 0.5 < np.abs(inside).max() <= 3.01
    if voxels == DEEP:
        assert np.abs(inside[:, 0]).max() < 1e-4  # planes stay planes
    # A cubic B-spline of spacing 16: neighbours differ by a small part of the largest shift.
    assert np.abs(np.diff(inside, axis=-1)).max() < 3 * 2 / 16
    assert np.abs(inside[0] - inside[1]).max() > 0.5


def test_the_sections_above_a_random_one_slip_sideways_together():
    shape = (8, 32, 32)
    how = plan(shape, misalign=1.0, misalign_by=5)
    found, _ = sources(how, shape, count=30)
    inner = (found - places(shape, count=30))[:, :, :, 6:-6, 6:-6]
    assert np.abs(inner[:, 0]).max() < 1e-4
    firsts = set()
    for one in inner:
        by_plane = one[1:, :, 5, 5].T
        assert one[1:] == pytest.approx(np.broadcast_to(by_plane.T[:, :, None, None], one[1:].shape), abs=1e-3)
        jumps = np.flatnonzero(np.abs(np.diff(by_plane, axis=0)).max(1) > 1e-3)
        assert len(jumps) == 1
        assert np.abs(by_plane).max() <= 5.01
        firsts.add(int(jumps[0]))
    assert len(firsts) >= 5


EVERYTHING = {"flip": 0.5, "turn": 0.5, "rotate": 1.0, "scale": 1.0, "shear": 1.0, "elastic": 1.0, "misalign": 1.0}


@pytest.mark.parametrize(("shape", "voxels"), [((12, 20, 20), CUBES), ((6, 24, 20), DEEP), ((1, 24, 24), CUBES)])
def test_labels_are_those_of_the_nearest_voxel_and_ignored_where_there_is_none(shape, voxels):
    how = plan(shape, voxels, **EVERYTHING)
    wide = [side + 2 * more for side, more in zip(shape, how.reach, strict=True)]
    labels = np.random.default_rng(1).integers(0, 5, wide).astype(np.uint8)
    # Ramps beyond the source are mirrored back inside: a mask of ones tells inside from outside.
    found, targets = sources(how, shape, count=6, seed=3, target=labels)
    sizes = np.array(voxels)[:, None, None, None]
    compared = 0
    for place, target in zip(found, targets, strict=True):
        index = place / sizes + np.array(wide)[:, None, None, None] / 2 - 0.5
        # Halfway between two voxels either is right; and next to the faces mirrored places look like inner ones.
        clear = (np.abs(index - np.floor(index) - 0.5) > 0.02).all(0) & (target != 255)
        nearest = np.clip(np.round(index).astype(int), 0, np.array(wide)[:, None, None, None] - 1)
        assert np.array_equal(target[clear], labels[tuple(nearest[:, clear])])
        compared += int(clear.sum())
    assert compared > 0.4 * targets.size


def test_what_lies_outside_of_the_source_is_ignored_and_only_that():
    shape = (1, 32, 32)
    how = plan(shape, rotate=1.0, rotate_degrees=45, reach=(0, 0, 0))
    found, targets = sources(how, shape, count=20)
    for place, target in zip(found, targets, strict=True):
        matrix = jacobian(place)
        outside = np.abs(np.einsum("ij,jzyx->izyx", matrix, places(shape)[0])).max(0) > 16
        near = np.abs(np.abs(np.einsum("ij,jzyx->izyx", matrix, places(shape)[0])).max(0) - 16) < 0.05
        assert np.array_equal((target == 255)[~near], outside[~near])


def test_the_image_is_what_scipy_finds_at_the_same_places():
    """Linear interpolation at the places the ramps tell, all geometry at once."""
    shape = (12, 20, 24)
    how = plan(shape, **EVERYTHING)
    wide = [side + 2 * more for side, more in zip(shape, how.reach, strict=True)]
    texture = np.random.default_rng(0).normal(size=wide).astype(np.float32)
    images = np.concatenate([places(wide)[0], texture[None]])[None]
    varied, targets = how(
        torch.from_numpy(images), torch.zeros((1, *wide), dtype=torch.uint8), np.random.default_rng(5)
    )
    index = varied[0, :3].numpy() + np.array(wide)[:, None, None, None] / 2 - 0.5
    wanted = ndimage.map_coordinates(texture, index, order=1, mode="nearest")
    edge = ((index < 0.5) | (index > np.array(wide)[:, None, None, None] - 1.5)).any(0)
    inside = (targets[0].numpy() == 0) & ~edge
    assert inside.mean() > 0.4
    assert varied[0, 3].numpy()[inside] == pytest.approx(wanted[inside], abs=2e-3)


def test_every_patch_is_varied_by_a_draw_of_its_own_and_all_follow_from_the_seed():
    shape = (6, 16, 16)
    how = plan_augmentation(EMAugmentationConfig(), shape, CUBES)
    wide = [side + 2 * more for side, more in zip(shape, how.reach, strict=True)]
    texture = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *wide)).astype(np.float32)).repeat(
        4, 1, 1, 1, 1
    )
    labels = (texture[:, 0] > 0).to(torch.uint8)
    first, again, other = (how(texture.clone(), labels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert len({image.numpy().tobytes() for image in first[0]}) == 4


def test_reach_keeps_corners_from_being_empty_as_far_as_a_quarter_of_the_patch():
    shape = (1, 64, 64)
    gentle = plan(shape, rotate=1.0, rotate_degrees=15)
    assert (gentle.reach[0], gentle.reach[1] > 0) == (0, True)
    _, targets = sources(gentle, shape, count=20)
    assert not (targets == 255).any()
    wild = plan(shape, rotate=1.0, rotate_degrees=45, scale=1.0, scale_by=1.0)
    assert wild.reach == (0, 16, 16)


def test_the_presets_do_what_they_are_called():
    light, standard, em = LightAugmentationConfig(), StandardAugmentationConfig(), EMAugmentationConfig()
    assert (light.rotate, light.elastic, light.noise) == (0, 0, 0)
    assert light.flip > 0
    assert standard.elastic > 0
    assert (standard.missing, standard.motion, standard.misalign, standard.cutout) == (0, 0, 0, 0)
    assert min(em.missing, em.motion, em.misalign, em.cutout) > 0
