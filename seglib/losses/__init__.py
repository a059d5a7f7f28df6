"""Losses by the `kind` of their config: functions of logits and class ids.

Two families: sigmoid losses look at each foreground class by itself (one output a class, background is what no
class claims); cross-entropy lets background and classes compete in one softmax (one output more).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DiceBCELossConfig, DiceLossConfig, LossConfig

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
            return lambda logits, target: F.cross_entropy(logits.float(), target.long(), label_smoothing=smoothing)


def activation_of(config: LossConfig) -> Activation:
    """How the outputs trained with this loss become probabilities."""
    return "softmax" if config.kind == "cross_entropy" else "sigmoid"


def outputs_of(config: LossConfig, classes: int) -> int:
    """How many outputs the network needs. classes: foreground classes."""
    return classes + 1 if activation_of(config) == "softmax" else classes


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float) -> Tensor:
    """1 − Dice of the probabilities, summed over batch and space, averaged over classes (Milletari et al. 2016).

    logits: (N, K, …), sigmoid; target: (N, …) class ids 0 … K.
    """
    probability = logits.float().sigmoid().transpose(0, 1).flatten(1)
    truth = one_hot(target, logits.shape[1]).transpose(0, 1).flatten(1)
    overlap = (probability * truth).sum(1)
    size = probability.sum(1) + truth.sum(1)
    return (1 - (2 * overlap + smooth) / (size + smooth).clamp_min(1e-7)).mean()


def bce_loss(logits: Tensor, target: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, averaged over voxels and classes; foreground counts `positive_weight` times."""
    truth = one_hot(target, logits.shape[1])
    weight = torch.tensor(positive_weight, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits.float(), truth, pos_weight=weight)


def one_hot(target: Tensor, classes: int) -> Tensor:
    """float32 (N, K, …) from class ids (N, …); background has no channel."""
    ids = torch.arange(1, classes + 1, device=target.device, dtype=target.dtype)
    return (target.unsqueeze(1) == ids.view(1, -1, *[1] * (target.ndim - 1))).float()
