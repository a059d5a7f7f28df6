"""Judging a network on the validation part: all of it, tile by tile, as a prediction would be made."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglib.config import RunConfig
from seglib.config.labels import IGNORE
from seglib.config.training import SURFACE_SCORES
from seglib.data.parts import Target, TrainingPart
from seglib.data.patches import grid_starts
from seglib.data.splits import Shape
from seglib.data.volumes import VoxelSize
from seglib.events import ValidationProgress
from seglib.inference.deciding import decide, evidence
from seglib.inference.predict import Predictor, count_tiles, predict_slabs
from seglib.inference.tiles import fitting_tile
from seglib.losses import Activation, Loss
from seglib.metrics.overlap import (
    Confusion,
    Counts,
    absent,
    count_confusion,
    mean_score,
    no_confusion,
    overlap_scores,
)
from seglib.metrics.surfaces import Surfaces, measure_surfaces, no_surfaces, surface_scores
from seglib.metrics.thresholds import Probabilities, best_thresholds, count_probabilities, no_probabilities
from seglib.models.base import SelfJudged

THRESHOLD = 0.5


@dataclass(frozen=True)
class Judging:
    """How a network is judged. names: of the classes; loss: what it learns by; voxel_size_nm: (z, y, x)."""

    config: RunConfig
    names: tuple[str, ...]
    loss: Loss
    voxel_size_nm: VoxelSize

    @property
    def surfaces(self) -> bool:
        """Whether distances between surfaces are measured."""
        asked = self.config.validation
        return asked.surfaces or asked.best_by in SURFACE_SCORES

    @property
    def tolerance_nm(self) -> float:
        """Up to which distance surfaces count as the same."""
        return self.config.validation.tolerance_nm or max(self.voxel_size_nm)


@dataclass
class Verdict:
    """What validation found, summed up over the parts while it goes on.

    losses: of the tiles in which something was annotated, or of windows for a network that judges itself.
    confusion, probabilities, surfaces: over all annotated voxels of the validation parts.
    """

    judging: Judging
    losses: list[float]
    confusion: Confusion
    probabilities: Probabilities
    surfaces: Surfaces

    @property
    def counts(self) -> Counts:
        return self.confusion.counts

    @property
    def voxels(self) -> int:
        return self.confusion.voxels

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability above which each class is best called found; nothing where nothing is annotated."""
        return tuple(found.value for found in best_thresholds(self.probabilities)) if self.voxels else ()

    @property
    def scores(self) -> dict[str, float]:
        """Loss and, where something is annotated, every score as a mean over classes and per class.

        All but `dice_at_best_threshold` are of decisions at a probability of 0.5.
        """
        loss = {"loss": float(np.mean(self.losses)) if self.losses else 0.0}
        if not self.voxels:
            return loss
        names, tuned = self.judging.names, [found.dice for found in best_thresholds(self.probabilities)]
        scores = loss | overlap_scores(self.confusion, names) | {"dice_at_best_threshold": mean_score(np.array(tuned))}
        if self.judging.surfaces:
            scores |= surface_scores(self.surfaces, names, tolerance_nm=self.judging.tolerance_nm)
        return scores

    @property
    def details(self) -> dict[str, Any]:
        """What is no single number; see `ValidationDone`."""
        if not self.voxels:
            return {}
        return {
            "names": list(self.judging.names),
            "confusion": self.confusion.table.tolist(),
            "thresholds": list(self.thresholds),
            "absent": list(absent(self.counts, self.judging.names)),
        }


def validate(
    predictor: Predictor, parts: Sequence[TrainingPart], judging: Judging, *, stop: Callable[[], bool]
) -> Generator[ValidationProgress, None, Verdict | None]:
    """Segments every validation part whole and compares it with its labels; None where `stop` said so midway."""
    config, classes = judging.config, len(judging.names)
    verdict = Verdict(judging, [], no_confusion(classes), no_probabilities(classes), no_surfaces(classes))
    overlap, judges_itself = config.validation.overlap, not config.model.needs_labels
    tiles = [count_tiles(predictor, part.image, config.patches.shape, overlap) for part in parts]
    for index, part in enumerate(parts):
        tile = fitting_tile(part.shape, config.patches.shape, predictor.stride)

        def add_loss(logits: Tensor, starts: Sequence[tuple[int, int, int]], part: TrainingPart = part) -> None:
            verdict.losses.extend(_tile_losses(logits, starts, part.target, judging.loss))

        slabs = predict_slabs(
            predictor,
            part.image,
            tile=tile,
            overlap=overlap,
            batch_size=config.patches.batch_size,
            on_tiles=None if judges_itself else add_loss,
        )
        found: list[NDArray[np.uint8]] = []
        for slab in slabs:
            truth = part.target[slab.z : slab.z + slab.probabilities.shape[1]]
            decided = decide(slab.probabilities, predictor.activation, THRESHOLD)
            verdict.confusion += count_confusion(decided, truth, classes)
            verdict.probabilities += count_probabilities(evidence(slab.probabilities, predictor.activation), truth)
            found += [decided] if judging.surfaces else []
            yield ValidationProgress(sum(tiles[:index]) + slab.tiles_done, sum(tiles))
            if stop():
                return None
        if judging.surfaces:
            verdict.surfaces += measure_surfaces(
                np.concatenate(found), part.target[:], classes, voxel_size_nm=judging.voxel_size_nm
            )
        if judges_itself:
            verdict.losses.extend(_own_losses(predictor, part, tile))
    return verdict


@torch.no_grad()
def foreground_counts(logits: Tensor, target: Tensor, activation: Activation, classes: int) -> tuple[Counts, int]:
    """Hits, false alarms and misses of a batch of logits (N, outputs, …) at probability 0.5, per class.

    And the number of annotated voxels they are over; the others (255) are left out.
    """
    if activation == "softmax":
        found = logits.argmax(1)
    else:
        highest, best = logits.max(1)
        found = torch.where(highest > 0, best + 1, 0)
    annotated = target != IGNORE
    found = torch.where(annotated, found, 0)
    ids = range(1, classes + 1)
    hits = torch.stack([((found == k) & (target == k)).sum() for k in ids])
    predicted = torch.stack([(found == k).sum() for k in ids])
    present = torch.stack([(target == k).sum() for k in ids])
    # All in one transfer from the device.
    numbers = torch.cat([hits, predicted, present, annotated.sum()[None]]).cpu().numpy()
    right, called, labelled = numbers[:-1].reshape(3, classes)
    return Counts(right, called - right, labelled - right), int(numbers[-1])


def _own_losses(predictor: Predictor, part: TrainingPart, tile: Shape) -> list[float]:
    """The loss a network finds for itself in windows that cover the part."""
    result = []
    judge: Callable[[Tensor], SelfJudged] = predictor.network.judge  # type: ignore[assignment]
    for z, y, x in grid_starts(part.shape, tile, 0.0).tolist():
        image = predictor.normalisation.apply(part.image_at((z, y, x), tile))
        batch = torch.from_numpy(image[None]).to(predictor.device)
        with torch.inference_mode(), predictor.autocast():
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
