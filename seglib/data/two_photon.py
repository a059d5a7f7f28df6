"""What a two-photon microscope makes of fluorescent points, and whole samples of the fly's optic lobe.

The steps are those of the 3dsegmentation toolkit: points in a box, haze about each, a plateau where the detector
saturates, photon noise, camera noise, and a stretch of dark against bright. Where its text leaves open how a number
enters, it is said beside the number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.config.synthetic import OpticLobeConfig
from seglib.data.optic_lobe import Columns, fluorescence, label_columns, neurites, place_columns
from seglib.data.splits import Shape

# Haze of one point of brightness 1, at its place; it falls off as a Gaussian of so many voxels.
HAZE = (0.0005, 0.0025)
HAZE_VOXELS = 4.0
HAZE_STEP = 2
PLATEAU = 0.1
PHOTONS = (10.0, 30.0)
# Exponent on brightness: below 1, dark columns are lifted towards bright ones.
STRETCH = (0.7, 1.0)
NEURITE_BRIGHTNESS = 0.15


@dataclass(frozen=True)
class OpticLobeSample:
    """One sample. image: float32 (Z, Y, X), about 0 … 1; ids: uint16 (Z, Y, X), 0 outside of columns."""

    image: NDArray[np.float32]
    ids: NDArray[np.uint16]
    columns: Columns


def optic_lobe_sample(config: OpticLobeConfig, *, seed: int, index: int = 0) -> OpticLobeSample:
    """Sample number `index` of a seed; both may be 0, and each gives another sample, the same every time."""
    rng = np.random.default_rng([seed, index])
    columns = place_columns(config, rng)
    places, brightness = fluorescence(columns, config, rng)
    fibres = neurites(columns, config, rng)
    places = np.concatenate([places, fibres])
    brightness = np.concatenate([brightness, np.full(len(fibres), NEURITE_BRIGHTNESS)])
    image = render(places, brightness, config, rng)
    return OpticLobeSample(image, label_columns(columns, config, config.shape), columns)


def render(
    places: NDArray[np.float64], brightness: NDArray[np.float64], config: OpticLobeConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The image (Z, Y, X) of points (P, 3), in sides of the sample, of some brightness (P,)."""
    sharp = _binned(places, brightness, config.shape, 1)
    for axis in range(3):  # a box of two voxels along each axis
        body = [slice(None)] * 3
        body[axis] = slice(1, None)
        before = [slice(None)] * 3
        before[axis] = slice(None, -1)
        sharp[tuple(body)] += sharp[tuple(before)].copy()
    # The detector saturates: PLATEAU of the brightest is as bright as it gets.
    most = PLATEAU * float(sharp.max(initial=0)) or 1.0
    np.minimum(sharp, most, out=sharp)
    sharp /= most
    np.power(sharp, np.float32(rng.uniform(*STRETCH)), out=sharp)
    sharp += rng.uniform(*HAZE) * _haze(places, brightness, config.shape)
    photons = np.float32(rng.uniform(*PHOTONS))
    image = rng.poisson(sharp * photons).astype(np.float32)
    image /= photons
    image += np.float32(config.noise) * rng.standard_normal(config.shape, dtype=np.float32)
    return image


def _haze(places: NDArray[np.float64], brightness: NDArray[np.float64], shape: Shape) -> NDArray[np.float32]:
    """The sum of a Gaussian of height 1 about every point, made small and enlarged, as it is smooth."""
    coarse = _binned(places, brightness, shape, HAZE_STEP)
    sigma = HAZE_VOXELS / HAZE_STEP
    blurred = ndimage.gaussian_filter(coarse, sigma, mode="constant", truncate=3) * (2 * np.pi) ** 1.5 * sigma**3
    for axis, side in enumerate(shape):
        blurred = _enlarged(blurred, axis, side)
    return blurred


def _enlarged(image: NDArray[np.float32], axis: int, side: int) -> NDArray[np.float32]:
    """Linear interpolation along one axis."""
    place = ((np.arange(side) + 0.5) / HAZE_STEP - 0.5).clip(0, image.shape[axis] - 1)
    low = np.minimum(place.astype(int), max(0, image.shape[axis] - 2))
    share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    high = np.minimum(low + 1, image.shape[axis] - 1)
    enlarged: NDArray[np.float32] = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return enlarged


def _binned(
    places: NDArray[np.float64], brightness: NDArray[np.float64], shape: Shape, step: int
) -> NDArray[np.float32]:
    """Brightness summed up in boxes of `step` voxels."""
    sides = [-(-side // step) for side in shape]
    index = np.floor(places * (np.array(shape) / step)).astype(np.int64)
    inside = ((index >= 0) & (index < sides)).all(1)
    flat = np.ravel_multi_index(tuple(index[inside].T), sides)
    return np.bincount(flat, brightness[inside], minlength=int(np.prod(sides))).reshape(sides).astype(np.float32)
