"""Judging a network on the validation part: all of it, tile by tile, as a prediction would be made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seglib.config import RunConfig
from seglib.config.labels import IGNORE
from seglib.data.parts import Target, TrainingPart
from seglib.inference.predict import Predictor, Slab, decide, predict_slabs
from seglib.inference.tiles import fitting_tile
from seglib.losses import Activation, Loss
from seglib.metrics.overlap import Counts, count_overlap, dice, iou, mean_score, no_counts

THRESHOLD = 0.5


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    loss: mean over the tiles in which something was annotated; counts: annotated voxels of the whole validation part.
    """

    loss: float
    counts: Counts

    def scores(self, names: Sequence[str]) -> dict[str, float]:
        """Loss, mean Dice and IoU, and, for several classes, Dice per class under its name."""
        per_class = dice(self.counts)
        result = {"loss": self.loss, "dice": mean_score(per_class), "iou": mean_score(iou(self.counts))}
        if len(names) > 1:
            result |= {f"dice/{name}": float(value) for name, value in zip(names, per_class, strict=True)}
        return result


def validate(
    predictor: Predictor,
    parts: Sequence[TrainingPart],
    config: RunConfig,
    *,
    loss: Loss,
    classes: int,
    stop: Callable[[], bool],
) -> Verdict | None:
    """Segments every validation part whole and compares it with its labels; None where `stop` said so midway."""
    losses: list[float] = []
    counts = no_counts(classes)
    for part in parts:
        tile = fitting_tile(part.target.shape, config.patches.shape, predictor.stride)

        def add_loss(logits: Tensor, starts: Sequence[tuple[int, int, int]], part: TrainingPart = part) -> None:
            losses.extend(_tile_losses(logits, starts, part.target, loss))

        slabs = predict_slabs(
            predictor,
            part.image,
            tile=tile,
            overlap=config.validation.overlap,
            batch_size=config.patches.batch_size,
            on_tiles=add_loss,
        )
        for slab in slabs:
            counts += _count(slab, part.target, predictor, classes)
            if stop():
                return None
    return Verdict(float(np.mean(losses)) if losses else 0.0, counts)


@torch.no_grad()
def foreground_counts(logits: Tensor, target: Tensor, activation: Activation, classes: int) -> Counts:
    """Hits, false alarms and misses of a batch of logits (N, outputs, …) at probability 0.5, per class.

    Voxels that were not annotated (255) are left out.
    """
    if activation == "softmax":
        found = logits.argmax(1)
    else:
        highest, best = logits.max(1)
        found = torch.where(highest > 0, best + 1, 0)
    found = torch.where(target == IGNORE, 0, found)
    ids = range(1, classes + 1)
    hits = torch.stack([((found == k) & (target == k)).sum() for k in ids])
    predicted = torch.stack([(found == k).sum() for k in ids])
    present = torch.stack([(target == k).sum() for k in ids])
    hits, predicted, present = torch.stack([hits, predicted, present]).cpu().numpy()
    return Counts(hits, predicted - hits, present - hits)


def _count(slab: Slab, target: Target, predictor: Predictor, classes: int) -> Counts:
    found = decide(slab.probabilities, predictor.activation, THRESHOLD)
    return count_overlap(found, target[slab.z : slab.z + len(found)], classes)


def _tile_losses(logits: Tensor, starts: Sequence[tuple[int, int, int]], target: Target, loss: Loss) -> list[float]:
    """The loss of each tile over the voxels that lie inside the volume; of tiles without annotation there is none."""
    result = []
    for tile, (z, y, x) in zip(logits, starts, strict=True):
        _, depth, height, width = tile.shape
        truth = target[z : z + depth, y : y + height, x : x + width]
        if (truth == IGNORE).all():
            continue
        inside = tile[:, : truth.shape[0], : truth.shape[1], : truth.shape[2]]
        labels = torch.from_numpy(np.ascontiguousarray(truth)).to(tile.device)
        result.append(float(loss(inside[None], labels[None])))
    return result
