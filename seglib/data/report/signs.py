"""What goes wrong at microscopes and with files, seen in a few planes of a volume."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.data.volumes import Array

PLANES = 8
LARGEST_SIDE = 4096
MIDDLE = 512
ROW_SAMPLES = 512
Edge = Literal["top", "bottom", "left", "right"]
EDGES: tuple[Edge, ...] = ("top", "bottom", "left", "right")

# Rows of a bar are mostly one grey value, and those of an image are not.
BAR_SHARE, IMAGE_SHARE = 0.5, 0.25
FEWEST_ROWS = 3
BORDER_MOST = 0.3

SHIFT_MOST = 12
SHIFT_PLANES_MOST = 2
SHIFT_LEAST = 2
SHIFT_GAIN = 1.5
SHIFT_SURE = 0.05
SHIFT_STANDS = 5.0

THUMBNAIL = 16


@dataclass(frozen=True)
class Bar:
    """Rows or columns at an edge that hold no image. constant: one grey value, and no writing on it."""

    edge: Edge
    width: int
    constant: bool


@dataclass(frozen=True)
class Signs:
    """bars: at the edges of every plane. shift: (z, y, x) voxels by which labels seem to lie beside the image, or None.

    dtype: what the values look like, in words, where they do not look like their type; else empty.
    thumbnail: a tiny standardised picture of the volume, to find twins by; empty where it is constant.
    """

    bars: tuple[Bar, ...]
    shift: tuple[int, int, int] | None
    dtype: str
    thumbnail: tuple[int, ...]


def find_signs(image: Array, labels: Array | None) -> Signs:
    """Looks at up to eight planes of an image (C, Z, Y, X) and of its labels (Z, Y, X)."""
    depth = int(image.shape[1])
    chosen = sorted({int((place + 0.5) * depth / PLANES) for place in range(PLANES)})
    box = _middle(image.shape[2:])
    planes = [np.asarray(image[0:1, z : z + 1, *_whole_or(image.shape[2:])])[0, 0] for z in chosen]
    return Signs(
        bars=_bars(planes),
        shift=_shift(image, labels, chosen, box) if labels is not None else None,
        dtype=_dtype_sign(planes),
        thumbnail=_thumbnail(planes),
    )


def _whole_or(sides: tuple[int, ...]) -> tuple[slice, slice]:
    """All of a plane; of a huge one its middle, with both edges of neither axis left out where that is possible."""
    y, x = (slice(0, side) if side <= 2 * LARGEST_SIDE else slice(0, 2 * LARGEST_SIDE) for side in sides)
    return y, x


def _middle(sides: tuple[int, ...]) -> tuple[slice, slice]:
    y, x = (slice(max(0, (side - MIDDLE) // 2), max(0, (side - MIDDLE) // 2) + min(side, MIDDLE)) for side in sides)
    return y, x


def _bars(planes: list[NDArray[Any]]) -> tuple[Bar, ...]:
    """Bars that all planes have."""
    found = []
    for edge in EDGES:
        turned = [_with_edge_on_top(plane, edge) for plane in planes]
        height = turned[0].shape[0]
        reach = int(height * BORDER_MOST)
        if reach < FEWEST_ROWS:
            continue
        # The middle row is image: where it looks like a bar too, all is one colour and there is none to be told.
        shares = np.array([[_mode_share(row) for row in plane[: reach + 1]] for plane in turned]).min(0)
        inner = np.median([_mode_share(row) for plane in turned for row in plane[reach : height - reach : 7][:40]])
        if inner > IMAGE_SHARE:
            continue
        # Rows with writing lie between the bar's ground and the image.
        image = shares < (inner + BAR_SHARE) / 2
        width = int(np.argmax(image)) if image.any() else 0
        if width >= FEWEST_ROWS and np.median(shares[:width]) >= BAR_SHARE:
            found.append(Bar(edge, width, bool((shares[:width] > 0.995).all())))
    return tuple(found)


def _with_edge_on_top(plane: NDArray[Any], edge: Edge) -> NDArray[Any]:
    match edge:
        case "top":
            return plane
        case "bottom":
            return plane[::-1]
        case "left":
            return plane.T
        case "right":
            return plane.T[::-1]


def _mode_share(row: NDArray[Any]) -> float:
    """How much of a row is its commonest value."""
    some = row[:: max(1, row.size // ROW_SAMPLES)]
    return float(np.unique(some, return_counts=True)[1].max()) / some.size


def _dtype_sign(planes: list[NDArray[Any]]) -> str:
    """Words for values that do not look like their type."""
    values = np.concatenate([plane[::2, ::2].ravel() for plane in planes])
    dtype = values.dtype
    finite = values[np.isfinite(values)] if dtype.kind == "f" else values
    distinct = np.unique(finite)
    if 0 < len(distinct) <= 3:
        return "has hardly more than two different values, as a mask has: it may be labels, not an image"
    if dtype.kind == "f":
        whole = len(distinct) <= 65_536 and bool((distinct == np.rint(distinct)).all())
        return "has whole numbers only, kept in a type for fractions, which does no harm" if whole else ""
    if dtype.itemsize == 2 and _rough(values.byteswap()) < 0.25 * _rough(values):
        return "looks as if its bytes were swapped: it was probably written with the other byte order"
    if dtype.itemsize <= 2 and len(distinct) > 32 and any(_wraps(plane) for plane in planes):
        return "jumps between its lowest and highest values, as numbers do that grew too large for their type"
    if dtype.itemsize == 1:
        return ""
    step = int(np.gcd.reduce(distinct.astype(np.int64)))
    if step >= 16 and len(distinct) > 8:
        return f"has only multiples of {step}: it was probably scaled up from fewer bits, which does no harm"
    if dtype.itemsize == 2 and int(distinct[0]) >= 0 and int(distinct[-1]) < 256:
        return "has values up to 255 only, kept in 16 bits, which does no harm"
    return ""


def _rough(values: NDArray[Any]) -> float:
    """How much neighbours differ, in standard deviations."""
    numbers = values.astype(np.float64)
    return float(np.abs(np.diff(numbers)).mean() / (numbers.std() or 1.0))


def _wraps(plane: NDArray[Any]) -> bool:
    """Whether a plane is much smoother once its values start half the range later."""
    wide = 2 ** (8 * plane.dtype.itemsize)
    values = plane.astype(np.int64) - int(np.iinfo(plane.dtype).min)
    jumps = np.abs(np.diff(values, axis=1))
    turned = np.abs(np.diff((values + wide // 2) % wide, axis=1))
    return bool((jumps > wide // 2).mean() > 0.002 and turned.mean() < 0.6 * jumps.mean())


def _shift(image: Array, labels: Array, chosen: list[int], box: tuple[slice, slice]) -> tuple[int, int, int] | None:
    """By how much labels would have to move for their outlines to fall on edges of the image, where that is clear.

    The gradient of the image is correlated with the outlines of the labels at every shift of up to twelve voxels in
    the plane, and two planes up and down.
    """
    depth = int(image.shape[1])
    total: dict[int, NDArray[np.float64]] = {}
    for z in chosen:
        outline = _outline(np.asarray(labels[z : z + 1, *box])[0])
        if not outline.any():
            continue
        reach = SHIFT_PLANES_MOST if depth > 4 * SHIFT_PLANES_MOST else 0
        for dz in range(-reach, reach + 1):
            if 0 <= z + dz < depth:
                edges = _edges(np.asarray(image[0:1, z + dz : z + dz + 1, *box])[0, 0])
                total[dz] = total.get(dz, 0) + _correlations(edges, outline)
    if not total:
        return None
    best = max(total, key=lambda dz: float(total[dz].max()))
    y, x = np.unravel_index(int(total[best].argmax()), total[best].shape)
    shift = (best, int(y) - SHIFT_MOST, int(x) - SHIFT_MOST)
    there = float(total[0][SHIFT_MOST, SHIFT_MOST])
    most = float(total[best].max())
    count = len(chosen)
    middle = float(np.median(total[best]))
    spread = 1.5 * float(np.median(np.abs(total[best] - middle)))
    # Noise has a best shift too, but one that stands out little from all the others.
    clear = most > SHIFT_SURE * count and most > SHIFT_GAIN * max(there, 0.0) and most > middle + SHIFT_STANDS * spread
    far = max(abs(shift[1]), abs(shift[2])) >= SHIFT_LEAST or shift[0] != 0
    # A best shift at the end of what was tried is no best.
    inside = max(abs(shift[1]), abs(shift[2])) < SHIFT_MOST
    return shift if clear and far and inside else None


def _outline(ids: NDArray[Any]) -> NDArray[np.bool_]:
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return edge


def _edges(plane: NDArray[Any]) -> NDArray[np.float32]:
    grey = np.nan_to_num(plane.astype(np.float32))
    low, high = np.percentile(grey, [1, 99])
    smooth = ndimage.gaussian_filter(grey.clip(low, high), 1.5)
    return np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))


def _correlations(edges: NDArray[np.float32], outline: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Correlation of both at every shift of the outline, (2 m + 1, 2 m + 1), by Fourier transform."""
    a = edges - edges.mean()
    b = ndimage.gaussian_filter(outline.astype(np.float32), 1.0)
    b -= b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b)) or 1.0
    sides = [side + SHIFT_MOST for side in a.shape]
    product = np.fft.rfft2(a, sides) * np.conj(np.fft.rfft2(b, sides))
    whole = np.fft.irfft2(product, sides) / scale
    rolled = np.roll(whole, (SHIFT_MOST, SHIFT_MOST), axis=(0, 1))
    side = 2 * SHIFT_MOST + 1
    found: NDArray[np.float64] = rolled[:side, :side].astype(np.float64)
    return found


def _thumbnail(planes: list[NDArray[Any]]) -> tuple[int, ...]:
    """Up to three planes as 16 × 16 means without slow shading, standardised, in steps of 1/32 deviation."""
    count = len(planes)
    # As far from both ends, so that a volume upside down has the same planes in another order.
    chosen = [planes[place] for place in sorted({count // 4, (count - 1) // 2, count - 1 - count // 4})]
    if len(chosen) == 3:
        chosen[1] = (planes[(count - 1) // 2].astype(np.float64) + planes[count // 2]) / 2
    parts = []
    for plane in chosen:
        if min(plane.shape) < THUMBNAIL:
            return ()
        rows = np.linspace(0, plane.shape[0], THUMBNAIL + 1).astype(int)[:-1]
        columns = np.linspace(0, plane.shape[1], THUMBNAIL + 1).astype(int)[:-1]
        grey = np.nan_to_num(plane.astype(np.float64))
        areas = np.add.reduceat(np.add.reduceat(np.ones_like(grey), rows, 0), columns, 1)
        small = np.add.reduceat(np.add.reduceat(grey, rows, 0), columns, 1) / areas
        parts.append(small - ndimage.gaussian_filter(small, 4, mode="nearest"))
    whole = np.concatenate([part.ravel() for part in parts])
    deviation = float(whole.std())
    if deviation <= 1e-9 * max(1.0, float(np.abs(whole).max())):
        return ()
    return tuple(np.clip(np.rint(whole / deviation * 32), -127, 127).astype(int).tolist())
