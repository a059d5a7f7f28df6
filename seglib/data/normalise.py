"""Grey values to what a network takes: fixed by the training part, kept with the model, the same at prediction."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
CLIP = 3.0
SAMPLES = 2_000_000


@dataclass(frozen=True)
class Normalisation:
    """Per channel, the grey values that become −1 and +1. Values beyond ±3 are clipped there."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """A float32 image from one of any dtype. image: (C, …), C as many as `low` has."""
        shape = (-1,) + (1,) * (image.ndim - 1)
        low = np.array(self.low, np.float32).reshape(shape)
        scale = 2 / (np.array(self.high, np.float32).reshape(shape) - low)
        result = image.astype(np.float32)
        result -= low
        result *= scale
        result -= 1
        return np.clip(result, -CLIP, CLIP, out=result)


def measure(images: Iterable[NDArray[Any]]) -> Normalisation:
    """The normalisation of training images (C, Z, Y, X): their 0.5 and 99.5 percentiles, channel by channel."""
    parts = list(images)
    step = max(1, sum(part[0].size for part in parts) // SAMPLES)
    low, high = [], []
    for channel in range(parts[0].shape[0]):
        sample = np.concatenate([part[channel].ravel()[::step] for part in parts]).astype(np.float64)
        a, b = np.percentile(sample[np.isfinite(sample)], [LOW_PERCENT, HIGH_PERCENT])
        low.append(float(a))
        high.append(float(b) if b > a else float(a) + 1.0)
    return Normalisation(tuple(low), tuple(high))
