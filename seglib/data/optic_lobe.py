"""Columns of the fly's optic lobe: where they stand, what of them fluoresces, what is labelled.

Rebuilt from the published geometry of the 3dsegmentation toolkit (michi-d/3dsegmentation): columns stand on a
hexagonal grid over a part of an ellipsoid, their ground truth is a tapered cone along the normal, and their
fluorescence is a dense cluster (A), a few clumps (B) or a ring (C). Angles are in degrees throughout.
Lengths are in sides of the sample, so that its middle is at 0.5; `two_photon` makes an image of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seglib.config.synthetic import OpticLobeConfig
from seglib.data.splits import Shape

FREQUENCY = (8, 16)
RADII = (0.7, 1.5)
SHIFT = 0.5
BEYOND = (-0.2, 1.2)
FEWEST = 100
TRIES = 1000
CUT = 0.3
EMPTY, DENSE, CLUMPED, RING = range(4)
# Taper: the narrow end of a cone as a share of its wide end.
TAPER = 0.5
Points = NDArray[np.float64]
_GOLDEN = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Columns:
    """N columns. centres, axes: (N, 3), z y x; axes are unit vectors out of the layer, across two more that span it.

    spacing: (N,) distance to the neighbours; kinds: (N,) EMPTY, DENSE, CLUMPED or RING.
    """

    centres: Points
    axes: Points
    across: tuple[Points, Points]
    spacing: NDArray[np.float64]
    kinds: NDArray[np.int64]


def place_columns(config: OpticLobeConfig, rng: np.random.Generator) -> Columns:
    """Columns in a sample of its own: at least a hundred of them, in it or close by."""
    for _ in range(TRIES):
        frequency = int(rng.integers(*FREQUENCY))
        radii = rng.uniform(*RADII, 3)
        turn, shift = _rotation(rng.uniform(0, 360, 3)), rng.uniform(-SHIFT, SHIFT, 3)
        sphere = geodesic_grid(frequency)
        points = (sphere * radii) @ turn.T + shift
        normals = (sphere / radii) @ turn.T
        inside = ((points > BEYOND[0]) & (points < BEYOND[1])).all(1)
        inside &= _kept_of(points, rng)
        if inside.sum() >= FEWEST:
            break
    else:
        raise AssertionError("No ellipsoid with enough columns was found, which does not happen.")
    # Neighbours beyond the sample count for the distances in it.
    spacing = _spacing(points, np.flatnonzero(inside))
    points, normals = points[inside], normals[inside]
    axes = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    weights = np.array(config.columns) / sum(config.columns)
    return Columns(points, axes, _across(axes), spacing, rng.choice(4, size=len(points), p=weights))


def geodesic_grid(frequency: int) -> Points:
    """(10 f² + 2, 3) points on the unit sphere: an icosahedron whose faces are divided f times along each edge.

    Every point has six neighbours, but for the twelve corners, which have five.
    """
    corners = np.array([(0, a, b * _GOLDEN) for a in (-1, 1) for b in (-1, 1)])
    corners = np.concatenate([np.roll(corners, turn, axis=1) for turn in range(3)])
    near = np.isclose(np.linalg.norm(corners[:, None] - corners[None], axis=-1), 2)
    faces = [
        (a, b, c)
        for a in range(12)
        for b in range(a + 1, 12)
        for c in range(b + 1, 12)
        if near[a, b] and near[b, c] and near[a, c]
    ]
    shares = np.array([(i, j, frequency - i - j) for i in range(frequency + 1) for j in range(frequency + 1 - i)])
    points = np.concatenate([shares @ corners[list(face)] for face in faces]) / frequency
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # Points on edges belong to two faces, and corners to five.
    _, first = np.unique(np.round(points, 6), axis=0, return_index=True)
    grid: Points = points[np.sort(first)]
    return grid


def fluorescence(columns: Columns, config: OpticLobeConfig, rng: np.random.Generator) -> tuple[Points, Points]:
    """Places (P, 3) of all fluorescent points of the clusters, and how bright each is (P,)."""
    makers = {DENSE: _dense, CLUMPED: _clumped, RING: _ring}
    places, brightness = [], []
    for kind, maker in makers.items():
        chosen = np.flatnonzero(columns.kinds == kind)
        if not chosen.size:
            continue
        # (n, points, 3): along the axis, and across it in two directions, in distances between columns.
        local = maker(chosen.size, config.points, rng) * columns.spacing[chosen, None, None]
        directions = np.stack([columns.axes[chosen], columns.across[0][chosen], columns.across[1][chosen]], axis=1)
        places.append((columns.centres[chosen, None] + local @ directions).reshape(-1, 3))
        brightness.append(np.repeat(rng.uniform(0.3, 1.2, chosen.size), config.points))
    if not places:
        return np.zeros((0, 3)), np.zeros(0)
    return np.concatenate(places), np.concatenate(brightness)


def neurites(columns: Columns, config: OpticLobeConfig, rng: np.random.Generator) -> Points:
    """Places (P, 3) along cubic Bézier curves that come from below the layer and end close above their column."""
    count = len(columns.centres)
    owners = np.repeat(np.arange(count), config.neurites)
    owners = owners[rng.random(owners.size) >= config.dropped_neurites]
    distance = columns.spacing[owners, None]
    up, sideways, forward = columns.axes[owners], columns.across[0][owners], columns.across[1][owners]

    def aside(most: float) -> Points:
        bent: Points = rng.uniform(-most, most, distance.shape) * sideways
        return bent + rng.uniform(-most, most, distance.shape) * forward

    end = columns.centres[owners] + up * distance * 0.25 + rng.normal(0, 0.05, up.shape) * distance
    start = columns.centres[owners] - up * distance * config.label_depth + aside(0.3) * distance
    first = start + up * rng.uniform(0, 0.2, distance.shape) + aside(0.1)
    second = end - up * rng.uniform(0, 0.2, distance.shape) + aside(0.1)
    t = np.linspace(0, 1, 60)[:, None, None]
    curve = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3 * end
    return curve.reshape(-1, 3)


def label_columns(columns: Columns, config: OpticLobeConfig, shape: Shape) -> NDArray[np.uint16]:
    """Ids (Z, Y, X) of the columns that are not empty, 1 … in their order, 0 elsewhere.

    Each is a cone about its axis, widest where it leaves the layer; a voxel in two of them is the one's whose axis is
    nearer.
    """
    ids = np.zeros(shape, np.uint16)
    nearest = np.full(shape, np.inf, np.float32)
    sides = np.array(shape)
    for number, index in enumerate(np.flatnonzero(columns.kinds != EMPTY), 1):
        depth = config.label_depth * columns.spacing[index]
        radius = config.label_diameter * columns.spacing[index] / 2
        axis, centre = columns.axes[index], columns.centres[index]
        ends = np.stack([centre - axis * depth / 2, centre + axis * depth / 2])
        # A disc across an axis reaches as far along z as the axis leans away from z.
        reach = radius * np.sqrt((1 - axis**2).clip(0))
        low = np.floor(((ends - reach).min(0)) * sides).astype(int).clip(0, sides)
        high = np.ceil(((ends + reach).max(0)) * sides).astype(int).clip(0, sides) + 1
        box = tuple(slice(a, min(b, side)) for a, b, side in zip(low, high, shape, strict=True))
        z, y, x = (
            ((np.arange(part.start, part.stop) + 0.5) / side - middle).astype(np.float32)
            for part, side, middle in zip(box, shape, centre, strict=True)
        )
        if not (z.size and y.size and x.size):
            continue
        along = z[:, None, None] * axis[0] + y[:, None] * axis[1] + x * axis[2]
        away = (z**2)[:, None, None] + (y**2)[:, None] + x**2 - along**2
        width = radius * (TAPER + (1 - TAPER) * (along / depth + 0.5))
        inside = (np.abs(along) <= depth / 2) & (away <= width**2) & (away < nearest[box])
        ids[box][inside] = number
        nearest[box][inside] = away[inside]
    return ids


def _rotation(degrees: Points) -> Points:
    """About z, then y, then x."""
    (sz, sy, sx), (cz, cy, cx) = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    about_z = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    turn: Points = about_x @ about_y @ about_z
    return turn


def _kept_of(points: Points, rng: np.random.Generator) -> NDArray[np.bool_]:
    """What lies on one side of a random plane, which cuts off less than a third of the sample."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    kept: NDArray[np.bool_] = (points - 0.5) @ direction < rng.uniform(0.5 - CUT, 0.8)
    return kept


def _spacing(points: Points, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean distance of each chosen point to its six nearest."""
    apart = np.linalg.norm(points[chosen, None] - points[None], axis=-1)
    return np.partition(apart, 6, axis=1)[:, 1:7].mean(1)


def _across(axes: Points) -> tuple[Points, Points]:
    """Two unit vectors that stand on each axis and on each other."""
    helper = np.eye(3)[np.abs(axes).argmin(1)]
    first = np.cross(axes, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return first, np.cross(axes, first)


def _grown(seeds: Points, rounds: int, spread: Points, points: int, rng: np.random.Generator) -> Points:
    """(n, points, 3): every seed (n, s, 3) throws off points around it, and those again, ever closer."""
    found = seeds
    for number in range(1, rounds):
        children = found[:, rng.integers(0, found.shape[1], 3 * found.shape[1])]
        found = np.concatenate([found, children + rng.normal(0, 1, children.shape) * spread / 2**number], axis=1)
    chosen = rng.integers(0, found.shape[1], (found.shape[0], points))
    places = np.take_along_axis(found, chosen[..., None], axis=1)
    return places + rng.normal(0, 1, places.shape) * spread / 2**rounds


def _dense(count: int, points: int, rng: np.random.Generator) -> Points:
    """Kind A: ten seeds, three rounds; deviation 0.2 along the axis and 0.12 across, times 1.2."""
    spread = 1.2 * np.array([0.2, 0.12, 0.12])
    return _grown(rng.normal(0, 1, (count, 10, 3)) * spread, 3, spread, points, rng)


def _clumped(count: int, points: int, rng: np.random.Generator) -> Points:
    """Kind B: two seeds, four rounds; deviations as of kind A."""
    spread = np.array([0.2, 0.12, 0.12])
    return _grown(rng.normal(0, 1, (count, 2, 3)) * spread, 4, spread, points, rng)


def _ring(count: int, points: int, rng: np.random.Generator) -> Points:
    """Kind C: 75 seeds on a ring of radius 0.3, two rounds; a deviation of 0.1 in all."""
    angle = rng.uniform(0, 360, (count, 75))
    ring = np.stack([np.zeros_like(angle), 0.3 * np.cos(np.radians(angle)), 0.3 * np.sin(np.radians(angle))], axis=-1)
    spread = np.full(3, 0.1)
    return _grown(ring + rng.normal(0, 0.85, ring.shape) * spread, 2, spread, points, rng)
