"""Varying a batch of patches: all geometry in one resampling on the batch's device, then the grey values.

Everything random follows from the generator passed in, whatever the device. Where voxels are much deeper than wide,
or a patch is one plane, geometry stays in the plane, as turning such voxels would invent what was never seen.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from seglib.config import AugmentationConfig, NoAugmentationConfig, Varied
from seglib.config.labels import IGNORE
from seglib.data.augment_grey import vary_grey
from seglib.data.splits import Shape
from seglib.data.volumes import VoxelSize

FLAT_FROM = 1.5
Matrices = NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """How patches are varied. planar: geometry stays in the plane; voxel_size_nm: (z, y, x).

    reach: how much more (z, y, x) has to be read on both sides of a patch, so that turning it leaves few corners
    without image; at most a quarter of its side, and what is missing then is mirrored and not learned.
    """

    config: Varied
    planar: bool
    voxel_size_nm: VoxelSize
    reach: Shape

    def __call__(self, images: Tensor, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Varied patches, each by its own draw, smaller than these by `reach` on both sides.

        images: float32 (N, C, Z, Y, X); targets: uint8 (N, Z, Y, X), by nearest neighbour, 255 where there is no image.
        """
        sides = [side - 2 * more for side, more in zip(targets.shape[1:], self.reach, strict=True)]
        shape = (sides[0], sides[1], sides[2])
        images, targets = _resample(images, targets, self, shape, rng)
        return vary_grey(images, self.config, rng), targets


def plan_augmentation(config: AugmentationConfig, shape: Shape, voxel_size_nm: VoxelSize) -> Augmentation | None:
    """How patches of this shape (z, y, x) are varied; None where they are not."""
    if isinstance(config, NoAugmentationConfig):
        return None
    planar = shape[0] == 1 or voxel_size_nm[0] > FLAT_FROM * max(voxel_size_nm[1:])
    return Augmentation(config, planar, voxel_size_nm, _reach(config, shape, voxel_size_nm, planar=planar))


def _reach(config: Varied, shape: Shape, voxel_size_nm: VoxelSize, *, planar: bool) -> Shape:
    """How far the corners of a patch may come to lie outside it, by the largest amounts."""
    size = np.array(voxel_size_nm) / min(voxel_size_nm[1:])
    half = np.array(shape) / 2 * size
    if planar:
        half[0] = 0
    angle = math.radians(config.rotate_degrees) if config.rotate else 0.0
    factor = (1 + config.scale_by if config.scale else 1.0) * (
        1 + math.tan(math.radians(config.shear_degrees)) if config.shear else 1.0
    )
    shift = (config.elastic_shift if config.elastic else 0.0) + (config.misalign_by if config.misalign else 0.0)
    reach = [0, 0, 0]
    for axis in range(1 if planar else 0, 3):
        across = math.sqrt(sum(half[other] ** 2 for other in range(3) if other != axis))
        turned = min(angle, math.atan2(across, half[axis]))
        extent = (half[axis] * math.cos(turned) + across * math.sin(turned)) * factor + shift
        reach[axis] = min(math.ceil((extent - half[axis]) / size[axis]), shape[axis] // 4)
    return reach[0], reach[1], reach[2]


def _resample(
    images: Tensor, targets: Tensor, plan: Augmentation, shape: Shape, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Images by linear interpolation and targets by nearest neighbour, at the same varied places."""
    count, dims = images.shape[0], 2 if plan.planar else 3
    matrices = _matrices(plan, shape, count, rng)
    mirrored = rng.random(count) < plan.config.flip
    sources = targets.shape[1:]
    # Places are in units of half a source, as torch counts them, and in the order x, y, z.
    to_source = np.diag(2 / np.array(sources[-dims:])) @ matrices @ np.diag(np.array(shape[-dims:]) / 2)
    theta = torch.zeros(count, dims, dims + 1, dtype=torch.float32)
    theta[:, :, :dims] = torch.from_numpy(np.ascontiguousarray(to_source[:, ::-1, ::-1], np.float32))
    grid = F.affine_grid(theta.to(images.device), [count, 1, *shape[-dims:]], align_corners=False)
    if plan.planar:
        grid = grid[:, None].expand(-1, shape[0], -1, -1, -1)
    shift = _shifts(plan, shape, count, rng)
    if shift is not None:
        scale = torch.tensor([2 / side for side in sources[::-1][:dims]], device=images.device)
        grid = grid + torch.from_numpy(shift).to(images.device) * scale
    if plan.planar:
        first = (sources[0] - shape[0]) // 2
        images, targets = (part.narrow(-3, first, shape[0]) for part in (images, targets))
        chosen = torch.from_numpy(np.flatnonzero(mirrored)).to(images.device)
        if chosen.numel() and shape[0] > 1:
            images = images.index_copy(0, chosen, images[chosen].flip(2))
            targets = targets.index_copy(0, chosen, targets[chosen].flip(1))
    return _sampled(images, grid, "bilinear"), _labels(targets, grid)


def _sampled(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Images (N, C, Z, Y, X) at the places of a grid (N, Z, Y, X, 2 or 3); in two dimensions plane by plane."""
    padding = "reflection" if mode == "bilinear" else "zeros"
    if grid.shape[-1] == 3:
        return F.grid_sample(images, grid, mode, padding, align_corners=False)
    count, channels, depth, height, width = images.shape
    planes = images.transpose(1, 2).reshape(count * depth, channels, height, width)
    found = F.grid_sample(planes, grid.reshape(count * depth, *grid.shape[2:]), mode, padding, align_corners=False)
    return found.reshape(count, depth, channels, *found.shape[2:]).transpose(1, 2)


def _labels(targets: Tensor, grid: Tensor) -> Tensor:
    """Class ids at the places of a grid, IGNORE outside of the source: 0 stands for outside while they are sampled."""
    found = _sampled((targets.float() + 1)[:, None], grid, "nearest")[:, 0]
    return torch.where(found > 0, found - 1, float(IGNORE)).to(torch.uint8)


def _matrices(plan: Augmentation, shape: Shape, count: int, rng: np.random.Generator) -> Matrices:
    """(N, d, d): from a place about the middle of a patch to one about the middle of its source, z first."""
    config, dims = plan.config, 2 if plan.planar else 3
    size = np.array(plan.voxel_size_nm[-dims:])
    free = _scales(config, dims, count, rng) @ _shears(config, dims, count, rng) @ _rotations(config, dims, count, rng)
    physical = np.diag(1 / size) @ free @ np.diag(size)
    return physical @ _turns(config, shape[-dims:], count, rng)


def _turns(config: Varied, sides: tuple[int, ...], count: int, rng: np.random.Generator) -> Matrices:
    """Flips and quarter turns; only those that lead a patch back onto itself. Two turns reach all there are."""
    dims = len(sides)
    signs = np.where(rng.random((count, dims)) < config.flip, -1.0, 1.0)
    result = np.zeros((count, dims, dims))
    result[:, range(dims), range(dims)] = signs
    planes = [(dims - 2, dims - 1)] if dims == 2 else [(1, 2), (0, 2), (0, 1)]
    turning = rng.random(count) < config.turn
    chosen = rng.permuted(np.tile(range(len(planes)), (count, 1)), axis=1)
    quarters = rng.integers([1, 0], 4, (count, 2))
    for index in np.flatnonzero(turning):
        for plane, quarter in zip(chosen[index, :2], quarters[index], strict=False):
            a, b = planes[plane]
            turns = int(quarter) if sides[a] == sides[b] else 2 * (int(quarter) % 2)
            c, s = round(math.cos(turns * math.pi / 2)), round(math.sin(turns * math.pi / 2))
            turn = np.eye(dims)
            turn[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
            result[index] = turn @ result[index]
    return result


def _rotations(config: Varied, dims: int, count: int, rng: np.random.Generator) -> Matrices:
    """About any axis in three dimensions (Rodrigues), about z in the plane."""
    fires = rng.random(count) < config.rotate
    angles = np.where(fires, np.radians(rng.uniform(-config.rotate_degrees, config.rotate_degrees, count)), 0.0)
    axes = rng.standard_normal((count, 3))
    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    if dims == 2:
        return cos * np.eye(2) + sin * np.array([[0, -1], [1, 0]])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    z, y, x = axes.T
    zero = np.zeros(count)
    cross = np.array([[zero, -x, y], [x, zero, -z], [-y, z, zero]]).transpose(2, 0, 1)
    return np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)


def _scales(config: Varied, dims: int, count: int, rng: np.random.Generator) -> Matrices:
    """Larger and smaller equally often; objects grow where less of the source is looked at."""
    fires = rng.random(count) < config.scale
    most = math.log(1 + config.scale_by)
    factors = np.where(fires, np.exp(rng.uniform(-most, most, count)), 1.0)
    return factors[:, None, None] * np.eye(dims)


def _shears(config: Varied, dims: int, count: int, rng: np.random.Generator) -> Matrices:
    """One axis slides along another."""
    fires = rng.random(count) < config.shear
    most = math.radians(config.shear_degrees)
    slant = np.where(fires, np.tan(rng.uniform(-most, most, count)), 0.0)
    pairs = np.array([rng.permutation(dims)[:2] for _ in range(count)])
    result = np.tile(np.eye(dims), (count, 1, 1))
    result[np.arange(count), pairs[:, 0], pairs[:, 1]] = slant
    return result


def _shifts(plan: Augmentation, shape: Shape, count: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """(N, Z, Y, X, d) in voxels, x first: elastic deformation and misaligned sections; None where there is neither."""
    config, dims = plan.config, 2 if plan.planar else 3
    bends = rng.random(count) < config.elastic
    slips = (rng.random(count) < config.misalign) & (shape[0] > 1)
    if not bends.any() and not slips.any():
        return None
    result = np.zeros((count, *shape, dims), np.float32)
    size = np.array(plan.voxel_size_nm) / min(plan.voxel_size_nm[1:])
    for index in np.flatnonzero(bends):
        result[index] = _bend(shape, config, size, dims, rng)
    for index in np.flatnonzero(slips):
        first = int(rng.integers(1, shape[0]))
        result[index, first:, :, :, :2] += rng.uniform(-config.misalign_by, config.misalign_by, 2).astype(np.float32)
    return result


def _bend(
    shape: Shape, config: Varied, size: NDArray[np.float64], dims: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A smooth field (Z, Y, X, d) of shifts in voxels, x first: a cubic B-spline through random control points."""
    bases = [_spline(side, config.elastic_spacing / s) for side, s in zip(shape, size, strict=True)]
    points = rng.uniform(-1, 1, (dims, *(basis.shape[1] for basis in bases))).astype(np.float32)
    # The axes one after the other, the longest result last.
    field = np.einsum("dabc,za->dzbc", points, bases[0], optimize=True)
    field = np.einsum("dzbc,yb->dzyc", field, bases[1], optimize=True)
    field = field @ bases[2].T
    shifts = config.elastic_shift / size[::-1][:dims]
    return np.moveaxis(field, 0, -1) * shifts.astype(np.float32)


def _spline(side: int, spacing: float) -> NDArray[np.float32]:
    """(side, points): weights of control points of a uniform cubic B-spline; each row sums to 1."""
    count = max(1, math.ceil(side / spacing)) + 3
    place = (np.arange(side) + 0.5) / spacing
    distance = np.abs(place[:, None] - (np.arange(count) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clip(0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
