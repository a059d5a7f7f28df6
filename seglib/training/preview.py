"""A small piece of the validation part that is segmented after every validation, to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config import RunConfig
from seglib.config.labels import IGNORE
from seglib.data.parts import TrainingPart
from seglib.inference.deciding import decide
from seglib.inference.predict import Predictor, predict_slabs

MOST = (8, 512, 512)
COARSE = 32
LOOKS = 48


@dataclass(frozen=True)
class PreviewCrop:
    """The piece shown. image: (C, Z, Y, X) raw; target: (Z, Y, X) class ids."""

    image: NDArray[Any]
    target: NDArray[np.uint8]

    @property
    def labels(self) -> NDArray[np.uint16]:
        """What is shown as labels: nothing where nothing is annotated."""
        annotated = (self.target != IGNORE).any()
        return self.target.astype(np.uint16) if annotated else np.zeros(self.target.shape, np.uint16)


def choose_crop(parts: Sequence[TrainingPart]) -> PreviewCrop:
    """The piece, at most 8 × 512 × 512, with the most foreground of all validation parts; else from the middle.

    Of parts that are read from disk a limited number of places is looked at.
    """
    best, most = None, -1
    looks = max(1, LOOKS // max(1, sum(not part.in_memory for part in parts)))
    for part in parts:
        start, foreground = _densest(part.target[:]) if part.in_memory else _densest_seen(part, looks)
        if foreground > most:
            best, most = (part, start), foreground
    assert best is not None
    part, start = best
    if not most:
        z, y, x = (max(0, whole - side) // 2 for side, whole in zip(MOST, part.shape, strict=True))
        start = (z, y, x)
    depth, height, width = (min(side, whole) for side, whole in zip(MOST, part.shape, strict=True))
    shape = (depth, height, width)
    return PreviewCrop(part.image_at(start, shape), np.ascontiguousarray(part.target_at(start, shape)))


def predict_crop(predictor: Predictor, crop: PreviewCrop, config: RunConfig) -> NDArray[np.uint16]:
    """Class ids (Z, Y, X) the network gives the piece."""
    slabs = predict_slabs(
        predictor,
        crop.image,
        tile=config.patches.shape,
        overlap=config.validation.overlap,
        batch_size=config.patches.batch_size,
    )
    found = [decide(slab.probabilities, predictor.activation, 0.5) for slab in slabs]
    return np.concatenate(found).astype(np.uint16)


def _densest(target: NDArray[np.uint8]) -> tuple[tuple[int, int, int], int]:
    """Where the window of MOST with the most foreground starts, looked for on a coarse grid."""
    best, most = (0, 0, 0), -1
    sides = [min(side, whole) for side, whole in zip(MOST, target.shape, strict=True)]
    steps = [2, COARSE, COARSE]
    grids = [range(0, whole - side + 1, step) for whole, side, step in zip(target.shape, sides, steps, strict=True)]
    # A summed-volume table answers every window with eight look-ups.
    table = np.pad(((target > 0) & (target != IGNORE)).astype(np.int32), ((1, 0), (1, 0), (1, 0)))
    for axis in range(3):
        np.cumsum(table, axis=axis, out=table)
    for z in grids[0]:
        for y in grids[1]:
            for x in grids[2]:
                a, b, c = z + sides[0], y + sides[1], x + sides[2]
                inside = (
                    int(table[a, b, c]) - table[z, b, c] - table[a, y, c] - table[a, b, x]
                    + table[z, y, c] + table[z, b, x] + table[a, y, x] - table[z, y, x]
                )  # fmt: skip
                if inside > most:
                    best, most = (z, y, x), int(inside)
    return best, most


def _densest_seen(part: TrainingPart, looks: int) -> tuple[tuple[int, int, int], int]:
    """As `_densest`, but of windows at so many places that fill the part evenly."""
    best, most = (0, 0, 0), -1
    rooms = [whole - min(side, whole) for side, whole in zip(MOST, part.shape, strict=True)]
    for place in range(looks):
        share = (place + 0.5) / looks
        # Each axis runs through its room at its own pace.
        z, y, x = (int((share * pace % 1) * room) for room, pace in zip(rooms, (1, 7, 31), strict=True))
        target = part.target_at((z, y, x), MOST)
        inside = int(((target > 0) & (target != IGNORE)).sum())
        if inside > most:
            best, most = (z, y, x), inside
    return best, most
