"""Losses that look at the shape of labels: their outer boundary, and the centre lines of thin structures."""

from collections.abc import Sequence

from torch import Tensor

from seglib.losses.neighbours import highest_in_box, lowest_in_cross
from seglib.losses.region import missing, overlap
from seglib.losses.targets import Answer, class_mean, sums


def boundary_dice(
    answer: Answer, *, weight: float, thickness: int, smooth: float, class_weights: Sequence[float] | None = None
) -> Tensor:
    """1 − Dice in which the ring around each label counts `weight` times, averaged over classes; scalar.

    The ring is the label grown by `thickness` voxels along every axis, less the label. What was not annotated is in no
    ring and makes none.
    """
    ring = highest_in_box(answer.truth, thickness) - answer.truth
    of = overlap(answer)
    outside = (weight - 1) * sums(answer.probability * ring)
    losses = missing(2 * of.right, of.found + outside + of.present, smooth)
    return class_mean(losses, answer, class_weights)


def cldice(answer: Answer, *, thinning: int, smooth: float, class_weights: Sequence[float] | None = None) -> Tensor:
    """1 − clDice (Shit et al. 2021), averaged over classes; scalar.

    clDice is the harmonic mean of how much of the predicted centre line lies in the label and how much of the label's
    lies in the prediction.
    thinning: how often structures are thinned to find their centre lines.
    """
    centre, true_centre = (skeleton(x, thinning, answer.counted) for x in (answer.probability, answer.truth))
    precision = (sums(centre * answer.truth) + smooth) / (sums(centre) + smooth).clamp_min(1e-7)
    recall = (sums(true_centre * answer.probability) + smooth) / (sums(true_centre) + smooth).clamp_min(1e-7)
    losses = 1 - 2 * precision * recall / (precision + recall).clamp_min(1e-7)
    return class_mean(losses, answer, class_weights)


def skeleton(values: Tensor, thinning: int, counted: Tensor | None = None) -> Tensor:
    """Soft centre lines (N, K, *space), 0–1, of probabilities or labels: what opening takes away at each thinning.

    counted: (N, 1 or K, *space), 1 where a voxel was annotated. The others are as if outside the image: they thin
    nothing, and hold no line. None where all were annotated.
    """
    lines = (values - highest_in_box(_thinned(values, counted), 1)).relu()
    for _ in range(thinning):
        values = _thinned(values, counted)
        more = (values - highest_in_box(_thinned(values, counted), 1)).relu()
        lines = lines + (more - lines * more).relu()
    return lines


def _thinned(values: Tensor, counted: Tensor | None) -> Tensor:
    if counted is None:
        return lowest_in_cross(values)
    return lowest_in_cross(values.masked_fill(counted == 0, 1.0)) * counted
