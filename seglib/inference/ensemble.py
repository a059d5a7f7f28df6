"""One or several networks, and flipped and turned copies of what they see, as one set of probabilities."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from seglib.config.predicting import Merging, Variations
from seglib.data.normalise import Normalisation
from seglib.data.volumes import Array
from seglib.inference.devices import is_out_of_memory
from seglib.inference.predict import Predictor, foreground_probabilities
from seglib.inference.sweep import Look, Source, Start
from seglib.losses import Activation

# Which axes of (N, C, Z, Y, X) are flipped, and whether y and x change places before.
Variation = tuple[tuple[int, ...], bool]
PLAIN: Variation = ((), False)


@dataclass
class Ensemble:
    """Predictors that are asked alike and answer together.

    predictors: of the same classes and activation, on one device. variations: of each tile, the plain one among them.
    spread: whether the disagreement of the answers is given as a further channel.
    pieces: into how many parts batches are cut because memory did not suffice; 1 at first.
    """

    predictors: Sequence[Predictor]
    variations: Sequence[Variation] = (PLAIN,)
    merging: Merging = "mean"
    spread: bool = False
    pieces: int = 1
    _order: list[int] = field(init=False)
    _ways: list[Normalisation] = field(init=False)

    def __post_init__(self) -> None:
        distinct = list(dict.fromkeys(predictor.normalisation for predictor in self.predictors))
        self._ways = distinct
        self._order = [distinct.index(predictor.normalisation) for predictor in self.predictors]

    @property
    def device(self) -> torch.device:
        return self.predictors[0].device

    @property
    def activation(self) -> Activation:
        return self.predictors[0].activation

    def source(self, image: Array, *, empty: float | None = None) -> Source:
        """An image (C, Z, Y, X) as these networks take it, see `Source`."""
        return Source(image, self._ways, empty)

    def look(self, classes: int, batch_size: int) -> Look:
        """How a sweep asks these networks: a channel a foreground class, and the disagreement where it is wanted."""
        return Look(self.probabilities, classes + self.spread, self.device, batch_size)

    def probabilities(self, cuts: Sequence[Tensor], starts: Sequence[Start]) -> Tensor:
        """float32 (N, K, Z, Y, X) of normalised cuts (N, C, Z, Y, X), one for each way of normalising.

        Batches are cut into smaller ones where memory does not suffice. Raises what torch raises where not even one
        tile fits.
        """
        while True:
            try:
                size = -(-len(starts) // self.pieces)
                parts = [[cut[i : i + size] for cut in cuts] for i in range(0, len(starts), size)]
                found = [self._merged(part) for part in parts]
                return found[0] if len(found) == 1 else torch.cat(found)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.pieces >= len(starts):
                    raise
            # Outside the exception, which holds on to every tensor on its way.
            self.pieces = min(2 * self.pieces, len(starts))
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _merged(self, cuts: Sequence[Tensor]) -> Tensor:
        count, total, squares, extreme = 0, None, None, None
        for answer in self._answers(cuts):
            count += 1
            if self.merging == "mean" or self.spread:
                total = answer if total is None else total + answer
            if self.spread:
                squares = answer.square() if squares is None else squares + answer.square()
            if self.merging != "mean":
                pick = torch.minimum if self.merging == "min" else torch.maximum
                extreme = answer if extreme is None else pick(extreme, answer)
        mean = None if total is None else total / count if count > 1 else total
        merged = mean if extreme is None else extreme
        assert merged is not None
        if squares is None or mean is None:
            return merged
        # Answers lie in 0–1, so that their standard deviation is at most a half.
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt().amax(1, keepdim=True)
        return torch.cat([merged, 2 * deviation], 1)

    def _answers(self, cuts: Sequence[Tensor]) -> Iterator[Tensor]:
        """The probabilities of each network for each variation, turned back."""
        for predictor, way in zip(self.predictors, self._order, strict=True):
            for axes, turned in self.variations:
                images = cuts[way].transpose(-1, -2) if turned else cuts[way]
                images = images.flip(axes) if axes else images
                with torch.inference_mode():
                    found = foreground_probabilities(predictor.logits(images), predictor.activation)
                found = found.flip(axes) if axes else found
                yield found.transpose(-1, -2) if turned else found


def variations_of(kind: Variations, *, deep: bool, square: bool) -> tuple[Variation, ...]:
    """The copies that are looked at, the plain one first.

    deep: whether tiles have several planes, which are flipped too; square: whether rows and columns of a tile may
    change places. Flips in three dimensions are 8, turns in the plane 8, with flips of z 16.
    """
    if kind == "none":
        return (PLAIN,)
    flips = [(), (-1,), (-2,), (-2, -1)]
    if deep:
        flips += [(-3, *axes) for axes in flips]
    turned = (False, True) if kind == "flips_turns" and square else (False,)
    return tuple((axes, turn) for turn in turned for axes in flips)


def entropy(probabilities: Tensor, activation: Activation) -> Tensor:
    """How undecided foreground probabilities (K, …) are: float32 (1, …), 0 for certain to 1 for all alike.

    Of classes that are decided each by itself, that of the least certain one.
    """
    p = probabilities.clamp(0, 1)
    if activation == "softmax":
        p = torch.cat([(1 - p.sum(0, keepdim=True)).clamp_min(0), p])
        nats = -torch.special.xlogy(p, p).sum(0, keepdim=True)
        return nats / float(np.log(len(p)))
    nats = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p))
    return (nats / float(np.log(2))).amax(0, keepdim=True)
