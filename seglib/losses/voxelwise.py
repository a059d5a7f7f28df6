"""Losses that judge every voxel by itself and average: cross-entropies and focal losses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.config.labels import IGNORE
from seglib.losses.targets import Answer, sums, weight_tensor

# How many values class ids may have.
_IDS = 256


def binary_cross_entropy(
    answer: Answer,
    *,
    positive_weights: float | Sequence[float] = 1.0,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """Binary cross-entropy of a sigmoid, averaged over annotated voxels and classes; scalar.

    positive_weights: how many times foreground counts, for all classes or one number a class.
    class_weights: one number a class, or None where all count alike.
    """
    weight = torch.as_tensor(positive_weights, device=answer.logits.device, dtype=torch.float32)
    weight = weight.view(-1, *[1] * (answer.logits.ndim - 2))
    plain = answer.counted is None and class_weights is None
    options: dict[str, Any] = {"pos_weight": weight, "reduction": "mean" if plain else "none"}
    each = F.binary_cross_entropy_with_logits(answer.logits, answer.truth, **options)
    return each if plain else _mean(each, answer, class_weights)


def focal(
    answer: Answer, *, gamma: float, positive_weight: float = 1.0, class_weights: Sequence[float] | None = None
) -> Tensor:
    """Focal loss of a sigmoid (Lin et al. 2017), averaged over annotated voxels and classes; scalar.

    Binary cross-entropy times (1 − p) to the power of gamma, where p is the probability of what is right.
    positive_weight: how many times foreground counts; alpha of the paper is w / (1 + w) of it.
    """
    right = answer.logits * (2 * answer.truth - 1)
    # The power as an exponential of a logarithm: finite, and with finite gradients, however sure the network is.
    each = (gamma * F.logsigmoid(-right)).exp() * F.softplus(-right)
    if positive_weight != 1:
        each = each * (1 + (positive_weight - 1) * answer.truth)
    return _mean(each, answer, class_weights)


def cross_entropy(
    answer: Answer, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
) -> Tensor:
    """Cross-entropy of a softmax over background and classes, averaged over annotated voxels; scalar.

    class_weights: one number for background and each class: voxels count as much as what they are.
    """
    ids = answer.target.long()
    options: dict[str, Any] = {"label_smoothing": label_smoothing, "ignore_index": IGNORE}
    if class_weights is not None:
        options["weight"] = weight_tensor(class_weights, replace(answer, background=True))
    elif answer.counted is None:
        return F.cross_entropy(answer.logits, ids, **options)
    total = F.cross_entropy(answer.logits, ids, reduction="sum", **options)
    return total / _importance(answer, ids, class_weights).sum().clamp_min(1e-9)


def categorical_focal(
    answer: Answer,
    *,
    gamma: float,
    alpha: float = 1.0,
    foreground_weight: float = 1.0,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """Focal loss of a softmax over background and classes, averaged over annotated voxels and outputs; scalar.

    As in segmentation_models: alpha times cross-entropy times (1 − p) to the power of gamma, where p is the probability
    of what is right. MONAI's focal loss with a softmax is this with alpha 1.
    foreground_weight: how many times voxels of any class count beside those of the background.
    class_weights: as for cross_entropy.
    """
    ids, outputs = answer.target.long(), answer.logits.shape[1]
    entropy = F.cross_entropy(answer.logits, ids, reduction="none", ignore_index=IGNORE)
    # Kept from 0, where the power of a gamma below 1 has no gradient.
    each = alpha / outputs * (1 - (-entropy).exp()).clamp_min(1e-6).pow(gamma) * entropy
    if foreground_weight != 1:
        first, *others = class_weights or [1.0] * outputs
        class_weights = [first, *(foreground_weight * one for one in others)]
    if class_weights is None and answer.counted is None:
        return each.mean()
    importance = _importance(answer, ids, class_weights)
    return (each * importance).sum() / importance.sum().clamp_min(1e-9)


def _mean(each: Tensor, answer: Answer, class_weights: Sequence[float] | None) -> Tensor:
    """The mean of (N, classes, *space) over what was annotated, weighed by class; 0 where nothing was."""
    if answer.counted is None and class_weights is None:
        return each.mean()
    totals = sums(each if answer.counted is None else each * answer.counted)
    numbers = torch.full_like(totals, each[:, 0].numel()) if answer.numbers is None else answer.numbers
    weight = torch.ones_like(totals) if class_weights is None else weight_tensor(class_weights, answer)
    return (weight * totals).sum() / (weight * numbers).sum().clamp_min(1e-9)


def _importance(answer: Answer, ids: Tensor, class_weights: Sequence[float] | None) -> Tensor:
    """float32 (N, *space): how much each voxel counts by what it is; 0 where it was not annotated."""
    if class_weights is None and answer.counted is not None:
        return answer.counted[:, 0]
    table = torch.ones(_IDS, device=ids.device)
    table[IGNORE] = 0
    if class_weights is not None:
        table[: len(class_weights)] = weight_tensor(class_weights, replace(answer, background=True))
    return table[ids]
