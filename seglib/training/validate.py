"""Judging a network on the validation part: all of it, tile by tile, as a prediction would be made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seglib.config import RunConfig
from seglib.config.labels import IGNORE
from seglib.data.parts import Target, TrainingPart
from seglib.data.patches import grid_starts
from seglib.data.splits import Shape
from seglib.inference.predict import Predictor, decide, predict_slabs
from seglib.inference.tiles import fitting_tile
from seglib.losses import Activation, Loss
from seglib.metrics.overlap import Counts, count_overlap, dice, iou, mean_score, no_counts
from seglib.models.base import SelfJudged

THRESHOLD = 0.5


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    loss: mean over the tiles in which something was annotated, or over windows for a network that judges itself.
    counts: annotated voxels of the whole validation part; annotated: whether there are any.
    """

    loss: float
    counts: Counts
    annotated: bool

    def scores(self, names: Sequence[str]) -> dict[str, float]:
        """Loss and, where something is annotated, mean Dice and IoU; for several classes Dice per class by its name."""
        if not self.annotated:
            return {"loss": self.loss}
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
    counts, annotated = no_counts(classes), False
    judges_itself = not config.model.needs_labels
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
            on_tiles=None if judges_itself else add_loss,
        )
        for slab in slabs:
            truth = part.target[slab.z : slab.z + slab.probabilities.shape[1]]
            counts += count_overlap(decide(slab.probabilities, predictor.activation, THRESHOLD), truth, classes)
            annotated = annotated or bool((truth != IGNORE).any())
            if stop():
                return None
        if judges_itself:
            losses.extend(_own_losses(predictor, part, tile))
    return Verdict(float(np.mean(losses)) if losses else 0.0, counts, annotated)


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


def _own_losses(predictor: Predictor, part: TrainingPart, tile: Shape) -> list[float]:
    """The loss a network finds for itself in windows that cover the part."""
    result = []
    judge: Callable[[Tensor], SelfJudged] = predictor.network.judge  # type: ignore[assignment]
    for z, y, x in grid_starts(part.shape, tile, 0.0).tolist():
        image = predictor.normalisation.apply(part.image_at((z, y, x), tile))
        batch = torch.from_numpy(image[None]).to(predictor.device)
        with torch.inference_mode(), torch.autocast(predictor.device.type, torch.bfloat16, enabled=predictor.half):
            result.append(float(judge(batch).loss))
    return result


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
