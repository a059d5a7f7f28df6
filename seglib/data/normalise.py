"""Grey values to what a network takes: fixed by the training part, kept with the model, the same at prediction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config import (
    EncoderRangeConfig,
    FixedRangeConfig,
    MinMaxConfig,
    NormalisationConfig,
    PercentileConfig,
    ZScoreConfig,
)
from seglib.data.volumes import Array
from seglib.errors import DataError

CLIP = 3.0
CLIP_DEVIATIONS = 10.0
SAMPLES = 2_000_000
WINDOW = (8, 512, 512)
WINDOWS = 64
# Mean and standard deviation of the images encoders were trained on, red, green, blue, at grey values 0 … 1.
ENCODERS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
COLOURS = 3


@dataclass(frozen=True)
class Normalisation:
    """(grey − centre) × scale, clipped to ±clip, a number for each channel that the network takes.

    sources: which channel of the image each of them comes from.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    clip: tuple[float, ...]
    sources: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Channels the network takes."""
        return len(self.centre)

    @property
    def image_channels(self) -> int:
        """Channels an image must have."""
        return max(self.sources) + 1

    def apply(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """A float32 image (channels, …) from one (image_channels, …) of any dtype. NaN becomes as black as can be."""
        result = np.empty((self.channels, *image.shape[1:]), np.float32)
        for out, source, centre, scale, clip in zip(
            result, self.sources, self.centre, self.scale, self.clip, strict=True
        ):
            # The centre is taken off in the image's own precision: large integers that differ by little are one
            # number in single precision.
            grey = image[source]
            if grey.dtype.itemsize > (4 if grey.dtype.kind == "f" else 2):
                np.subtract(grey, centre, out=out, casting="unsafe", dtype=np.float64)
            else:
                np.subtract(grey, np.float32(centre), out=out, dtype=np.float32)
            out *= np.float32(scale)
            np.clip(out, -clip, clip, out=out)
            if grey.dtype.kind == "f":
                out[np.isnan(out)] = -min(1.0, clip)
        return result


def between(low: Sequence[float], high: Sequence[float]) -> Normalisation:
    """Grey values `low` become −1 and `high` +1, channel by channel; values beyond ±3 are clipped there."""
    centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    scale = tuple(2 / (b - a) for a, b in zip(low, high, strict=True))
    return Normalisation(centre, scale, (CLIP,) * len(centre), tuple(range(len(centre))))


def measure(images: Sequence[Array], config: NormalisationConfig) -> Normalisation:
    """The normalisation that the training images (C, Z, Y, X) ask for.

    Percentiles, mean and deviation are of about two million voxels of each channel, spread evenly over the images;
    the smallest and largest value are of all voxels.
    Raises DataError where a channel has no number in it, or the channels do not fit the config.
    """
    channels = range(int(images[0].shape[0]))
    match config:
        case FixedRangeConfig(low=low, high=high):
            return between([low] * len(channels), [high] * len(channels))
        case MinMaxConfig():
            return between(*_spread(*zip(*(_extremes(images, channel) for channel in channels), strict=True)))
    samples = [_finite(_sample(images, channel), channel) for channel in channels]
    match config:
        case PercentileConfig(low=low, high=high):
            found = [np.percentile(sample, [low, high]) for sample in samples]
            return between(*_spread(*zip(*found, strict=True)))
        case ZScoreConfig():
            centre = tuple(float(sample.mean()) for sample in samples)
            scale = tuple(1 / (float(sample.std()) or 1.0) for sample in samples)
            return Normalisation(centre, scale, (CLIP_DEVIATIONS,) * len(centre), tuple(channels))
        case EncoderRangeConfig():
            return _of_encoder(samples, config)


def channels_of(config: NormalisationConfig, image_channels: int) -> int:
    """How many channels the network takes of images with so many."""
    return COLOURS if isinstance(config, EncoderRangeConfig) else image_channels


def _of_encoder(samples: Sequence[NDArray[np.float64]], config: EncoderRangeConfig) -> Normalisation:
    if len(samples) not in (1, COLOURS):
        raise DataError(
            f"A pretrained encoder takes grey or colour images, and these have {len(samples)} channels: choose another "
            "normalisation."
        )
    sources = tuple(range(COLOURS)) if len(samples) == COLOURS else (0,) * COLOURS
    found = [np.percentile(sample, [config.low, config.high]) for sample in samples]
    low, high = _spread(*zip(*found, strict=True))
    means, deviations = ENCODERS[config.statistics]
    # ((grey − low) / (high − low) − mean) / deviation, as one shift and one factor.
    centre = tuple(low[s] + mean * (high[s] - low[s]) for s, mean in zip(sources, means, strict=True))
    scale = tuple(1 / ((high[s] - low[s]) * d) for s, d in zip(sources, deviations, strict=True))
    return Normalisation(centre, scale, (CLIP_DEVIATIONS,) * COLOURS, sources)


def _spread(low: Sequence[float], high: Sequence[float]) -> tuple[list[float], list[float]]:
    """The same ranges, none of them empty."""
    return [float(a) for a in low], [float(b) if b > a else float(a) + 1.0 for a, b in zip(low, high, strict=True)]


def _sample(images: Sequence[Array], channel: int) -> NDArray[Any]:
    """About two million voxels of a channel, spread evenly over images in memory, in windows over those on disk."""
    on_disk = [image for image in images if not isinstance(image, np.ndarray)]
    windows = max(1, WINDOWS // max(1, len(on_disk)))
    parts: list[NDArray[Any]] = []
    for image in images:
        parts += [image] if isinstance(image, np.ndarray) else _windows(image, windows)
    step = max(1, sum(part[0].size for part in parts) // SAMPLES)
    return np.concatenate([_every(part[channel], step) for part in parts])


def _windows(image: Array, count: int) -> list[NDArray[Any]]:
    """So many windows of an image (C, Z, Y, X), at places that fill it evenly."""
    room = image.shape[1:]
    sides = [min(side, whole) for side, whole in zip(WINDOW, room, strict=True)]
    # Multiples of irrational numbers spread evenly however many there are (a Kronecker sequence).
    steps = np.array([0.8191725134, 0.6710436067, 0.5497004779])
    places = (np.arange(1, count + 1)[:, None] * steps) % 1
    found = []
    for place in places:
        # Windows stick out at the edges, so that voxels there are seen as often as those in the middle.
        start = [1 - side + int(p * (whole + side - 1)) for p, whole, side in zip(place, room, sides, strict=True)]
        box = tuple(slice(max(0, a), a + side) for a, side in zip(start, sides, strict=True))
        found.append(np.asarray(image[(slice(None), *box)]))
    return found


def _every(image_zyx: NDArray[Any], step: int) -> NDArray[Any]:
    """About every `step`-th voxel, in every column alike."""
    while math.gcd(step, image_zyx.shape[-1]) > 1:  # a shared divisor would skip some columns for ever
        step += 1
    return image_zyx.ravel()[::step]


def _extremes(images: Sequence[Array], channel: int) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for image in images:
        for z in range(0, image.shape[1], WINDOW[0]):
            values = np.asarray(image[channel : channel + 1, z : z + WINDOW[0]])
            values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        raise _no_number(channel)
    return low, high


def _finite(sample: NDArray[Any], channel: int) -> NDArray[np.float64]:
    values = sample.astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        raise _no_number(channel)
    return values


def _no_number(channel: int) -> DataError:
    return DataError(f"Channel {channel + 1} of the training images holds no finite grey value: import it anew.")
