"""Tiled prediction in bounded memory: whole planes come out as soon as no later tile can change them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.data.normalise import Normalisation
from seglib.data.volumes import Array
from seglib.inference.tiles import blend_window, fitting_tile, tile_starts
from seglib.losses import Activation

Start = tuple[int, int, int]
OnTiles = Callable[[Tensor, Sequence[Start]], None]


@dataclass(frozen=True)
class Predictor:
    """A network with all it needs to be applied.

    network: (N, C, Z, Y, X) -> logits (N, outputs, Z, Y, X), on `device`, in evaluation mode.
    stride: what tile sides must be multiples of.
    half: the type of 16 bits to compute in; None for float32.
    """

    network: nn.Module
    normalisation: Normalisation
    activation: Activation
    stride: tuple[int, int, int]
    device: torch.device
    half: torch.dtype | None

    def autocast(self) -> torch.autocast:
        """A context in which layers compute in this precision."""
        return torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None)

    def logits(self, images: NDArray[np.float32]) -> Tensor:
        """float32 logits of normalised images (N, C, Z, Y, X), on the device."""
        batch = torch.from_numpy(images).to(self.device)
        with torch.inference_mode(), self.autocast():
            return self.network(batch).float()


@dataclass(frozen=True)
class Slab:
    """Finished planes. z: the first one; probabilities: float32 (K, dz, Y, X), one channel a foreground class."""

    z: int
    probabilities: NDArray[np.float32]
    tiles_done: int
    tiles: int


def predict_slabs(
    predictor: Predictor,
    image: Array,
    *,
    tile: tuple[int, int, int],
    overlap: float,
    batch_size: int,
    on_tiles: OnTiles | None = None,
) -> Iterator[Slab]:
    """Foreground probabilities of an image (C, Z, Y, X), slab by slab along z, every plane once.

    tile: (z, y, x) wanted; smaller where the image is. overlap: share of a tile neighbours have in common.
    on_tiles: shown each batch of raw logits and where its tiles start (for the validation loss).
    Memory: one row of tiles, `tile[0]` planes deep, of input and of float32 results.
    """
    room = image.shape[1:]
    tile = fitting_tile(room, tile, predictor.stride)
    padded = [max(side, whole) for side, whole in zip(tile, room, strict=True)]
    z_starts, y_starts, x_starts = (tile_starts(whole, side, overlap) for whole, side in zip(padded, tile, strict=True))
    window = blend_window(tile, flat=overlap == 0)
    tiles, done = len(z_starts) * len(y_starts) * len(x_starts), 0
    sums: NDArray[np.float32] | None = None
    weights = np.zeros((tile[0], *padded[1:]), np.float32)
    for row, z in enumerate(z_starts):
        planes = _read(image, z, tile[0], padded[1:], predictor.normalisation)
        places = [(z, y, x) for y in y_starts for x in x_starts]
        for first in range(0, len(places), batch_size):
            batch = places[first : first + batch_size]
            cut = [planes[:, :, y : y + tile[1], x : x + tile[2]] for _, y, x in batch]
            logits = predictor.logits(np.stack(cut))
            if on_tiles:
                on_tiles(logits, batch)
            probabilities = foreground_probabilities(logits, predictor.activation).cpu().numpy()
            if sums is None:
                sums = np.zeros((probabilities.shape[1], *weights.shape), np.float32)
            for (_, y, x), values in zip(batch, probabilities, strict=True):
                sums[:, :, y : y + tile[1], x : x + tile[2]] += values * window
                weights[:, y : y + tile[1], x : x + tile[2]] += window
            done += len(batch)
        assert sums is not None
        finished = (z_starts[row + 1] if row + 1 < len(z_starts) else room[0]) - z
        keep = (slice(None, finished), slice(None, room[1]), slice(None, room[2]))
        yield Slab(z, sums[(slice(None), *keep)] / weights[keep], done, tiles)
        _shift(sums[0:], finished)
        _shift(weights[None], finished)


def count_tiles(room: Sequence[int], wanted: Sequence[int], stride: Sequence[int], overlap: float) -> int:
    """How many tiles a prediction of a volume (z, y, x) takes."""
    tile = fitting_tile(room, wanted, stride)
    return int(np.prod([len(tile_starts(max(a, b), a, overlap)) for a, b in zip(tile, room, strict=True)]))


def foreground_probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """float32 (N, K, …), one channel a foreground class, from logits (N, outputs, …)."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)[:, 1:]


def decide(
    probabilities: NDArray[np.float32], activation: Activation, threshold: float | Sequence[float]
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


def evidence(probabilities: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
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


def _read(image: Array, z: int, depth: int, plane: Sequence[int], normalisation: Normalisation) -> NDArray[np.float32]:
    """Normalised planes z … z + depth, mirrored at the far ends up to the padded size."""
    values: NDArray[Any] = np.asarray(image[:, z : z + depth])
    missing = [(0, 0)] + [(0, want - have) for want, have in zip((depth, *plane), values.shape[1:], strict=True)]
    return np.pad(normalisation.apply(values), missing, mode="symmetric")


def _shift(values: NDArray[np.float32], planes: int) -> None:
    """Moves planes (…, Z, Y, X) to the front by `planes` in place and clears the rest."""
    kept = values.shape[1] - planes
    if kept > 0:
        values[:, :kept] = values[:, planes:].copy()
    values[:, max(kept, 0) :] = 0
