"""Made-up microscopy with perfect labels, for trying things out.

Cells are ellipsoids of varied size that touch; the image adds what makes real ones hard: uneven light, dim cells,
texture, blur that is worse along z, shot noise and camera noise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BLUR_ZYX = (1.6, 1.1, 1.1)
_HAZE_ZYX = (6.0, 14.0, 14.0)
_PHOTONS = 30.0
_READ_NOISE = 5.0


def demo_volumes(
    count: int = 4, shape: tuple[int, int, int] = (32, 128, 128), seed: int = 0
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """`count` pairs of a fluorescence-like image, uint8 (Z, Y, X), and its cells, uint16 ids (Z, Y, X), 0 outside.

    The same seed gives the same voxels; a smaller count gives the first of them. Planes are half as dense as pixels
    (voxels of 400 × 200 × 200 nm).
    """
    generators = [np.random.default_rng([seed, index]) for index in range(count)]
    return [_demo_volume(shape, rng) for rng in generators]


def _demo_volume(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    labels = _cells(shape, rng)
    brightness = rng.uniform(0.35, 1.0, int(labels.max()) + 1)
    brightness[0] = 0.0
    texture = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (1.0, 2.0, 2.0))
    signal = brightness.astype(np.float32)[labels] * np.clip(1.0 + 3.0 * texture, 0.2, 2.0)
    haze = ndimage.gaussian_filter(signal, _HAZE_ZYX, truncate=2.0)
    blurred = ndimage.gaussian_filter(signal, _BLUR_ZYX) * _light(shape, rng) + 0.35 * haze + 0.06
    photons = rng.poisson(_PHOTONS * blurred).astype(np.float32)
    camera = photons * (150.0 / _PHOTONS) + rng.normal(10.0, _READ_NOISE, shape).astype(np.float32)
    return np.clip(np.rint(camera), 0, 255).astype(np.uint8), labels


def _cells(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Ellipsoids that may touch; a voxel in two of them belongs to the one whose centre is nearer in its own radii."""
    tries = max(1, round(np.prod(shape) / 4000))
    nearest = np.ones(shape, np.float32)
    owner = np.zeros(shape, np.uint16)
    placed: list[tuple[NDArray[Any], float]] = []
    for _ in range(tries):
        radius = rng.uniform(6.0, 13.0)
        centre = rng.uniform(0.0, shape)
        # Distances in pixel units: a plane is two pixels thick. Centres may come close, but not share a cell.
        if any(np.linalg.norm((centre - other) * (2, 1, 1)) < 0.75 * (radius + r) for other, r in placed):
            continue
        placed.append((centre, radius))
        _draw(centre, radius * rng.uniform(0.8, 1.2, 3) * (0.5, 1.0, 1.0), len(placed), nearest, owner)
    # A cell crowded out by its neighbours leaves a gap in the ids.
    _, dense = np.unique(owner, return_inverse=True)
    ids: NDArray[np.uint16] = (dense.reshape(shape) + (owner.min() > 0)).astype(np.uint16)
    return ids


def _draw(
    centre: NDArray[Any], radii: NDArray[Any], cell: int, nearest: NDArray[np.float32], owner: NDArray[np.uint16]
) -> None:
    low = np.maximum(0, np.floor(centre - radii)).astype(int)
    high = np.minimum(owner.shape, np.ceil(centre + radii).astype(int) + 1)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = np.ogrid[box]
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True))
    closer = distance < nearest[box]
    nearest[box][closer] = distance[closer]
    owner[box][closer] = cell


def _light(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Illumination 0.45 … 1: brightest at a random point of the field, weaker with depth."""
    z, y, x = (np.linspace(0.0, 1.0, side, dtype=np.float32) for side in shape)
    cy, cx = rng.uniform(0.2, 0.8, 2)
    plane = np.exp(-1.2 * ((y[:, None] - cy) ** 2 + (x[None, :] - cx) ** 2))
    field: NDArray[np.float32] = (plane[None] * (1.0 - 0.3 * z[:, None, None])).astype(np.float32)
    return np.clip(field, 0.45, 1.0)
