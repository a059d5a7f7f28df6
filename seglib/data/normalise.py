"""Grey values to what a network takes: fixed by the training part, kept with the model, the same at prediction."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError

LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
CLIP = 3.0
SAMPLES = 2_000_000


@dataclass(frozen=True)
class Normalisation:
    """Per channel, the grey values that become −1 and +1. Values beyond ±3 are clipped there."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """A float32 image from one of any dtype. image: (C, …), C as many as `low` has. NaN becomes −1, as black."""
        shape = (-1,) + (1,) * (image.ndim - 1)
        low = np.array(self.low, np.float32).reshape(shape)
        # In double precision, as large grey values that differ by little are one number in single.
        scale = (2 / (np.array(self.high) - np.array(self.low))).astype(np.float32).reshape(shape)
        result = image.astype(np.float32)
        result -= low
        result *= scale
        result -= 1
        np.clip(result, -CLIP, CLIP, out=result)
        if image.dtype.kind == "f":
            result[np.isnan(result)] = -1
        return result


def measure(images: Iterable[NDArray[Any]]) -> Normalisation:
    """The normalisation of training images (C, Z, Y, X): their 0.5 and 99.5 percentiles, channel by channel.

    Raises DataError where a channel has no number in it.
    """
    parts = list(images)
    step = max(1, sum(part[0].size for part in parts) // SAMPLES)
    low, high = [], []
    for channel in range(parts[0].shape[0]):
        sample = np.concatenate([_sample(part[channel], step) for part in parts]).astype(np.float64)
        sample = sample[np.isfinite(sample)]
        if not sample.size:
            raise DataError(f"Channel {channel + 1} of the training images holds no finite grey value: import it anew.")
        a, b = np.percentile(sample, [LOW_PERCENT, HIGH_PERCENT])
        low.append(float(a))
        high.append(float(b) if b > a else float(a) + 1.0)
    return Normalisation(tuple(low), tuple(high))


def _sample(image_zyx: NDArray[Any], step: int) -> NDArray[Any]:
    """About every `step`-th voxel, in every column alike."""
    while math.gcd(step, image_zyx.shape[-1]) > 1:  # a shared divisor would skip some columns for ever
        step += 1
    return image_zyx.ravel()[::step]
