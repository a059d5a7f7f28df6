"""Losses by the `kind` of their config: functions of logits and class ids.

Two families: sigmoid losses look at each foreground class by itself (one output a class, background is what no
class claims); cross-entropy lets background and classes compete in one softmax (one output more).

Voxels of the class id 255 were not annotated: no loss counts them, and where nothing was annotated the loss is 0.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DiceBCELossConfig, DiceLossConfig, LossConfig
from seglib.config.labels import IGNORE
from seglib.models.base import SelfJudged

Loss = Callable[[Tensor, Tensor], Tensor]
Activation = Literal["sigmoid", "softmax"]


def build_loss(config: LossConfig) -> Loss:
    """The loss a config describes: (logits (N, outputs, Z, Y, X), class ids (N, Z, Y, X) uint8) -> scalar, float32."""
    match config:
        case DiceLossConfig(smooth=smooth):
            return lambda logits, target: dice_loss(logits, target, smooth=smooth)
        case BCELossConfig(positive_weight=weight):
            return lambda logits, target: bce_loss(logits, target, positive_weight=weight)
        case DiceBCELossConfig(dice_weight=share, smooth=smooth):
            return lambda logits, target: (
                share * dice_loss(logits, target, smooth=smooth) + (1 - share) * bce_loss(logits, target)
            )
        case CrossEntropyLossConfig(label_smoothing=smoothing):
            return lambda logits, target: cross_entropy(logits, target, label_smoothing=smoothing)


def total_loss(
    loss: Loss, found: Tensor | list[Tensor] | SelfJudged, target: Tensor, network: nn.Module
) -> tuple[Tensor, Tensor]:
    """The logits that count, and the loss of all that a network found.

    found: logits, or those of several depths or stacks, whose losses add up with the network's own `loss_weights`;
    or what a network gives that judges itself, whose loss stands for `loss`.
    """
    if isinstance(found, SelfJudged):
        return found.logits, found.loss
    if isinstance(found, Tensor):
        return found, loss(found, target)
    weights: list[float] = network.loss_weights  # type: ignore[assignment]
    losses = [weight * loss(one, target) for weight, one in zip(weights, found, strict=True)]
    return found[-1], torch.stack(losses).sum()


def activation_of(config: LossConfig) -> Activation:
    """How the outputs trained with this loss become probabilities."""
    return "softmax" if config.kind == "cross_entropy" else "sigmoid"


def outputs_of(config: LossConfig, classes: int) -> int:
    """How many outputs the network needs. classes: foreground classes."""
    return classes + 1 if activation_of(config) == "softmax" else classes


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float) -> Tensor:
    """1 − Dice of the probabilities, summed over batch and space, averaged over classes (Milletari et al. 2016).

    logits: (N, K, …), sigmoid; target: (N, …) class ids 0 … K, 255 is left out.
    """
    counted = _counted(target)
    probability = logits.float().sigmoid() if counted is None else logits.float().sigmoid() * counted
    probability = probability.transpose(0, 1).flatten(1)
    truth = one_hot(target, logits.shape[1]).transpose(0, 1).flatten(1)
    overlap = (probability * truth).sum(1)
    size = probability.sum(1) + truth.sum(1)
    loss = (1 - (2 * overlap + smooth) / (size + smooth).clamp_min(1e-7)).mean()
    # Without smoothing nothing over nothing would count as a total miss.
    return loss if counted is None else loss * counted.any()


def bce_loss(logits: Tensor, target: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, averaged over voxels and classes; foreground counts `positive_weight` times.

    logits: (N, K, …); target: (N, …) class ids 0 … K, 255 is left out.
    """
    truth, counted = one_hot(target, logits.shape[1]), _counted(target)
    weight = torch.tensor(positive_weight, device=logits.device)
    if counted is None:
        return F.binary_cross_entropy_with_logits(logits.float(), truth, pos_weight=weight)
    each = F.binary_cross_entropy_with_logits(logits.float(), truth, pos_weight=weight, reduction="none")
    return (each * counted).sum() / (counted.sum() * logits.shape[1]).clamp_min(1)


def cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float) -> Tensor:
    """Cross-entropy of a softmax over background and classes, averaged over voxels.

    logits: (N, K + 1, …); target: (N, …) class ids 0 … K, 255 is left out.
    """
    counted = _counted(target)
    if counted is None:
        return F.cross_entropy(logits.float(), target.long(), label_smoothing=label_smoothing)
    options: dict[str, Any] = {"ignore_index": IGNORE, "label_smoothing": label_smoothing, "reduction": "sum"}
    return F.cross_entropy(logits.float(), target.long(), **options) / counted.sum().clamp_min(1)


def _counted(target: Tensor) -> Tensor | None:
    """float32 (N, 1, …): 1 where a voxel counts; None where all do, which most data have."""
    counted = target != IGNORE
    # Meta tensors, by which memory is estimated, have no values to look at.
    return None if target.is_meta or bool(counted.all()) else counted.unsqueeze(1).float()


def one_hot(target: Tensor, classes: int) -> Tensor:
    """float32 (N, K, …) from class ids (N, …); background has no channel, and 255 is in none."""
    ids = torch.arange(1, classes + 1, device=target.device, dtype=target.dtype)
    return (target.unsqueeze(1) == ids.view(1, -1, *[1] * (target.ndim - 1))).float()
