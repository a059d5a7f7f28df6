"""A network as something that predicts: probabilities of whole volumes, and what is decided by them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.data.normalise import Normalisation
from seglib.data.splits import Shape
from seglib.data.volumes import Array
from seglib.inference.sweep import Look, Source, Start, columns_of, sweep, tiles_of
from seglib.inference.tiles import Tiling, margins_of, plan_tiles
from seglib.losses import Activation

OnTiles = Callable[[Tensor, Sequence[Start]], None]


@dataclass(frozen=True)
class Predictor:
    """A network with all it needs to be applied.

    network: (N, C, Z, Y, X) -> logits (N, outputs, Z, Y, X), on `device`, in evaluation mode.
    classes: how many foreground classes it tells apart. stride: what tile sides must be multiples of.
    half: the type of 16 bits to compute in; None for float32. layout: of images in memory, as the network's weights.
    """

    network: nn.Module
    normalisation: Normalisation
    activation: Activation
    stride: tuple[int, int, int]
    classes: int
    device: torch.device
    half: torch.dtype | None
    layout: torch.memory_format = torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """A context in which layers compute in this precision."""
        return torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None)

    def logits(self, images: Tensor) -> Tensor:
        """float32 logits of normalised images (N, C, Z, Y, X), on the device."""
        batch = images.to(self.device).contiguous(memory_format=self.layout)
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
    tile: Shape,
    overlap: float,
    batch_size: int,
    on_tiles: OnTiles | None = None,
) -> Iterator[Slab]:
    """Foreground probabilities of an image (C, Z, Y, X), slab by slab along z, every plane once.

    tile: (z, y, x) wanted; smaller where the image is. overlap: share of a tile neighbours have in common.
    on_tiles: shown each batch of raw logits and where its tiles start (for the validation loss).
    For images whose planes fit into memory several times; larger ones are for `sweep`.
    """
    tiling = _tiling(predictor, image.shape[1:], tile, overlap)

    def apply(cuts: Sequence[Tensor], starts: Sequence[Start]) -> Tensor:
        logits = predictor.logits(cuts[0])
        if on_tiles:
            on_tiles(logits, starts)
        return foreground_probabilities(logits, predictor.activation)

    look = Look(apply, predictor.classes, predictor.device, batch_size)
    source = Source(image, [predictor.normalisation])
    channels = int(image.shape[0])
    tiles, blocks = tiles_of(tiling, channels, predictor.device), sweep(tiling, source, look)
    if len(columns_of(tiling, channels, predictor.device)) == 1:
        for block in blocks:
            yield Slab(block.start[0], block.values.cpu().numpy(), block.tiles_done, tiles)
        return
    whole = np.empty((predictor.classes, *image.shape[1:]), np.float32)
    for block in blocks:
        _, depth, height, width = block.values.shape
        z, y, x = block.start
        whole[:, z : z + depth, y : y + height, x : x + width] = block.values.cpu().numpy()
    yield Slab(0, whole, tiles, tiles)


def count_tiles(predictor: Predictor, image: Array, tile: Shape, overlap: float) -> int:
    """How many tiles `predict_slabs` takes for an image (C, Z, Y, X)."""
    return tiles_of(_tiling(predictor, image.shape[1:], tile, overlap), int(image.shape[0]), predictor.device)


def _tiling(predictor: Predictor, room: Sequence[int], tile: Shape, overlap: float) -> Tiling:
    margins = margins_of(tile, overlap)
    return plan_tiles(room, tile, predictor.stride, margins, blending="gaussian", mirrored=False)


def foreground_probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """float32 (N, K, …), one channel a foreground class, from logits (N, outputs, …)."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)[:, 1:]
