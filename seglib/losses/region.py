"""Losses that judge regions: how prediction and label overlap, summed over batch and space, for each class.

Where classes compete only those of the foreground are judged, unless the answer counts background as a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seglib.losses.targets import Answer, class_mean, sums


@dataclass(frozen=True)
class Overlap:
    """Probable voxels of each class that are right, all probable ones, and all labelled ones; float32 (classes,)."""

    right: Tensor
    found: Tensor
    present: Tensor


def overlap(answer: Answer) -> Overlap:
    """The overlap of a batch, over what was annotated."""
    probability, truth = answer.probability, answer.truth
    return Overlap(sums(probability * truth), sums(probability), sums(truth))


def missing(part: Tensor, whole: Tensor, smooth: float) -> Tensor:
    """1 − part / whole, both with `smooth` added; without smoothing nothing over nothing is 1, with no gradient."""
    return 1 - (part + smooth) / (whole + smooth).clamp_min(1e-7)


def dice(answer: Answer, *, smooth: float, class_weights: Sequence[float] | None = None) -> Tensor:
    """1 − Dice of the probabilities (Milletari et al. 2016), averaged over classes; scalar."""
    of = overlap(answer)
    return class_mean(missing(2 * of.right, of.found + of.present, smooth), answer, class_weights)


def jaccard(answer: Answer, *, smooth: float, class_weights: Sequence[float] | None = None) -> Tensor:
    """1 − intersection over union of the probabilities, averaged over classes; scalar."""
    of = overlap(answer)
    return class_mean(missing(of.right, of.found + of.present - of.right, smooth), answer, class_weights)


def tversky(
    answer: Answer,
    *,
    alpha: float,
    beta: float,
    smooth: float,
    gamma: float = 1.0,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """1 − Tversky index (Salehi et al. 2017), averaged over classes; scalar.

    alpha, beta: how much false alarms and misses count.
    gamma: each class's loss is raised to 1 / gamma before the mean (Abraham and Khan 2019).
    """
    of = overlap(answer)
    all_of_it = of.right + alpha * (of.found - of.right) + beta * (of.present - of.right)
    losses = missing(of.right, all_of_it, smooth)
    if gamma != 1:
        # Kept from 0, where the root has no gradient.
        losses = losses.clamp_min(1e-7).pow(1 / gamma)
    return class_mean(losses, answer, class_weights)


def generalised_dice(answer: Answer, *, weighting: Literal["square", "simple"], smooth: float) -> Tensor:
    """1 − one Dice over all classes, each weighed by its volume in the batch (Sudre et al. 2017); scalar.

    weighting: a class counts (smallest / its volume), squared or simple, where smallest is the volume of the smallest
    class in the batch. One that is not in the batch counts as the smallest, as in MONAI.
    """
    of = overlap(answer)
    there = of.present > 0
    smallest = torch.where(there, of.present, torch.inf).amin()
    weight = torch.where(there, smallest / of.present.clamp_min(1), 1.0)
    if weighting == "square":
        weight = weight**2
    loss = missing(2 * (weight * of.right).sum(), (weight * (of.found + of.present)).sum(), smooth)
    return loss if answer.numbers is None else loss * (answer.numbers > 0).any()


def lovasz(answer: Answer, *, class_weights: Sequence[float] | None = None) -> Tensor:
    """Lovász extension of 1 − intersection over union (Berman et al. 2018), averaged over classes; scalar.

    The errors are those of the probabilities. Where classes compete, those that are not in the batch are left out, as
    published; where each is decided by itself, the loss of one that is not there is its largest false alarm.
    """
    truth = answer.truth.transpose(0, 1).flatten(1)
    errors = (truth - answer.probability.transpose(0, 1).flatten(1)).abs()
    if answer.counted is not None:
        # Behind all others, where they change no rank and weigh nothing.
        counted = answer.counted.expand_as(answer.truth).transpose(0, 1).flatten(1)
        errors = torch.where(counted > 0, errors, -1.0)
    errors, order = errors.sort(1, descending=True)
    errors, truth = errors.clamp_min(0), truth.gather(1, order)
    present = truth.sum(1, keepdim=True)
    # How much each further error adds to 1 − intersection / union; not as a difference, which would lose its digits.
    inside, union = present - truth.cumsum(1), present + (1 - truth).cumsum(1)
    steps = torch.where(truth > 0, 1 / union, inside / (union * (union - 1).clamp_min(1)))
    losses = torch.where(present[:, 0] > 0, (errors * steps).sum(1), errors[:, 0])
    if answer.activation == "sigmoid":
        return class_mean(losses, answer, class_weights)
    there = (present[:, 0] > 0).float()
    return class_mean(losses * there, answer, class_weights) / class_mean(there, answer, class_weights).clamp_min(1e-9)
