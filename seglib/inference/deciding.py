"""What is decided by probabilities, in NumPy alone, so that a server of planes need not load torch for it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE

if TYPE_CHECKING:
    from seglib.losses import Activation


def decide(
    probabilities: NDArray[np.float32], activation: "Activation", threshold: float | Sequence[float]
) -> NDArray[np.uint8]:
    """Class ids (…) from foreground probabilities (K, …): the likeliest class where it is likely enough.

    threshold: 0–1, of all classes or of each. A sigmoid class is likely enough above it. A softmax class has to beat
    the background by threshold : 1 − threshold, so that at 0.5 the likeliest of all, background included, wins.
    """
    best = probabilities.argmax(0).astype(np.uint8)
    highest = np.take_along_axis(probabilities, best[None].astype(np.intp), 0)[0]
    limits = np.full(len(probabilities), threshold, np.float32)
    limit = limits[0] if (limits == limits[0]).all() else limits[best]
    if activation == "softmax":
        # The same as `evidence` above the limit, without a division.
        return np.where(highest * (1 - limit) > (1 - probabilities.sum(0)) * limit, best + 1, 0).astype(np.uint8)
    return np.where(highest > limit, best + 1, 0).astype(np.uint8)


def evidence(probabilities: NDArray[np.float32], activation: "Activation") -> NDArray[np.float32]:
    """What `decide` compares with thresholds: float32 (K, …), 0 for all classes but the likeliest of a voxel.

    Of a softmax it is the share of the class in what it and the background have together. Found where this is above a
    class's threshold, a voxel is found by `decide`, so that thresholds can be tried one class at a time.
    """
    values = probabilities
    if activation == "softmax":
        background = np.maximum(1 - probabilities.sum(0), 0)
        values = probabilities / np.maximum(probabilities + background, np.float32(1e-12))
    if len(probabilities) == 1:
        return values
    ids = np.arange(len(probabilities)).reshape(-1, *[1] * (probabilities.ndim - 1))
    return np.where(ids == probabilities.argmax(0), values, np.float32(0))


def class_table(labelled: Sequence[str], known: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 (256,): class id of labels -> class id of a model; IGNORE stays IGNORE, all others are background.

    labelled, known: names of the classes 1 … K of either. Classes are matched by their names, or as they come where
    there is one on both sides.
    """
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    if len(labelled) == len(known) == 1:
        table[1] = 1
        return table
    places = {name: index for index, name in enumerate(known, 1)}
    for index, name in enumerate(labelled, 1):
        table[index] = places.get(name, 0)
    return table
