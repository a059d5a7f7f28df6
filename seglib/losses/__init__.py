"""Losses by the `kind` of their config: functions of logits and labels.

Two families: sigmoid losses look at each foreground class by itself (one output a class, background is what no
class claims, and voxels may be of several classes); softmax losses let background and classes compete (one output
more). Those that judge regions look at foreground classes alone in either.

Voxels of the class id 255 were not annotated: no loss counts them, and where nothing was annotated the loss is 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seglib.config.losses import (
    Activation,
    AnyLoss,
    BCELossConfig,
    BoundaryDiceLossConfig,
    CategoricalFocalLossConfig,
    ClDiceLossConfig,
    CrossEntropyLossConfig,
    Decision,
    DiceBCELossConfig,
    DiceCategoricalFocalLossConfig,
    DiceCELossConfig,
    DiceFocalLossConfig,
    DiceLossConfig,
    FocalLossConfig,
    FocalTverskyLossConfig,
    GeneralisedDiceLossConfig,
    JaccardLossConfig,
    LossConfig,
    LovaszLossConfig,
    SumLossConfig,
    TverskyLossConfig,
    WeightedBCELossConfig,
    activation_of,
    needs_shares,
)
from seglib.losses import region, shapes, voxelwise
from seglib.losses.targets import Answer, check_shares, compare, foreground_weights, one_hot, voxel_weights
from seglib.models.base import SelfJudged

__all__ = [
    "Activation",
    "Loss",
    "activation_of",
    "bce_loss",
    "build_loss",
    "cross_entropy",
    "dice_loss",
    "needs_shares",
    "one_hot",
    "outputs_of",
    "total_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]
Judge = Callable[[Answer], Tensor]
# A class counts at most this many times, or this little, to be balanced with what it is not.
MOST_BALANCE = 1000.0


def build_loss(config: LossConfig, *, shares: Sequence[float] | None = None) -> Loss:
    """The loss a config describes: (logits (N, outputs, *space), labels uint8) -> scalar, float32.

    Labels are class ids (N, *space), or (N, K, *space) of 0 and 1 where a voxel may be of several classes; 255 is what
    was not annotated. Space is (Z, Y, X) or (Y, X).
    shares: how much of the annotated training voxels background and each class are, K + 1 numbers in 0–1, see
    `needs_shares`; without them what weighs by them weighs all classes alike.
    Raises ConfigError where class weights by hand are not as many as there are classes; without `shares` the loss does
    so when it is called, as where voxels may be of several classes but classes compete.
    """
    if shares is not None:
        check_shares(shares)
    activation = activation_of(config)
    judges = [(weight, _judge(part, shares)) for weight, part in _parts(config) if weight]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        answer = compare(logits, target, activation)
        return torch.stack([judge(answer) * weight for weight, judge in judges]).sum()

    return loss


def outputs_of(config: LossConfig, classes: int) -> int:
    """How many channels a network needs for so many foreground classes."""
    return classes + 1 if activation_of(config) == "softmax" else classes


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


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float) -> Tensor:
    """1 − Dice of each class by itself, see `region.dice`; logits (N, K, …), target as for `build_loss`."""
    return region.dice(compare(logits, target, "sigmoid"), smooth=smooth)


def bce_loss(logits: Tensor, target: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, see `voxelwise.binary_cross_entropy`; logits (N, K, …), target as for `build_loss`."""
    return voxelwise.binary_cross_entropy(compare(logits, target, "sigmoid"), positive_weights=positive_weight)


def cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float) -> Tensor:
    """Cross-entropy, see `voxelwise.cross_entropy`; logits (N, K + 1, …), target (N, …) class ids, 255 is left out."""
    return voxelwise.cross_entropy(compare(logits, target, "softmax"), label_smoothing=label_smoothing)


def _parts(config: LossConfig) -> list[tuple[float, AnyLoss]]:
    """What a loss adds up, and with which weights; of Dice + clDice the rest stands for clDice alone."""
    rest: AnyLoss
    decision: Decision
    match config:
        case SumLossConfig(parts=parts):
            return [(one.weight * weight, loss) for one in parts for weight, loss in _parts(one.loss)]
        case DiceBCELossConfig(class_weights=weights):
            rest, decision = BCELossConfig(class_weights=weights), "each_by_itself"
        case DiceCELossConfig(class_weights=weights, label_smoothing=smoothing):
            rest, decision = CrossEntropyLossConfig(class_weights=weights, label_smoothing=smoothing), "compete"
        case DiceFocalLossConfig(classes=decision):
            rest = FocalLossConfig(
                gamma=config.gamma,
                positive_weight=config.positive_weight,
                class_weights=config.class_weights,
                classes=decision,
            )
        case ClDiceLossConfig(classes=decision):
            rest = config
        case _:
            return [(1.0, config)]
    dice = DiceLossConfig(class_weights=config.class_weights, classes=decision, smooth=config.smooth)
    return [(config.dice_weight, dice), (1 - config.dice_weight, rest)]


def _judge(config: AnyLoss, shares: Sequence[float] | None) -> Judge:
    """What one loss makes of an answer."""
    match config:
        case WeightedBCELossConfig():
            return partial(voxelwise.binary_cross_entropy, positive_weights=_balance(shares))
        case GeneralisedDiceLossConfig(weighting=weighting, smooth=smooth):
            return partial(region.generalised_dice, weighting=weighting, smooth=smooth)
        case BCELossConfig() | FocalLossConfig() | CrossEntropyLossConfig() | CategoricalFocalLossConfig():
            return _voxel_judge(config, shares)
        case DiceCategoricalFocalLossConfig():
            return partial(_axon_recipe, config=config, class_weights=voxel_weights(config.class_weights, shares))
    weights = foreground_weights(config.class_weights, shares)
    if isinstance(config, LovaszLossConfig):
        return partial(region.lovasz, class_weights=weights)
    more: dict[str, Any] = {"smooth": config.smooth, "class_weights": weights}
    match config:
        case JaccardLossConfig():
            return partial(region.jaccard, **more)
        case TverskyLossConfig(alpha=alpha, beta=beta):
            return partial(region.tversky, alpha=alpha, beta=beta, **more)
        case FocalTverskyLossConfig(alpha=alpha, beta=beta, gamma=gamma):
            return partial(region.tversky, alpha=alpha, beta=beta, gamma=gamma, **more)
        case BoundaryDiceLossConfig(weight=weight, thickness=thickness):
            return partial(shapes.boundary_dice, weight=weight, thickness=thickness, **more)
        case ClDiceLossConfig(thinning=thinning):
            return partial(shapes.cldice, thinning=thinning, **more)
        case _:
            return partial(region.dice, **more)


def _voxel_judge(
    config: BCELossConfig | FocalLossConfig | CrossEntropyLossConfig | CategoricalFocalLossConfig,
    shares: Sequence[float] | None,
) -> Judge:
    each = foreground_weights(config.class_weights, shares)
    compete = voxel_weights(config.class_weights, shares)
    match config:
        case BCELossConfig(positive_weight=positive):
            return partial(voxelwise.binary_cross_entropy, positive_weights=positive, class_weights=each)
        case FocalLossConfig(gamma=gamma, positive_weight=positive, classes="each_by_itself"):
            return partial(voxelwise.focal, gamma=gamma, positive_weight=positive, class_weights=each)
        case FocalLossConfig(gamma=gamma, positive_weight=positive):
            return partial(voxelwise.categorical_focal, gamma=gamma, foreground_weight=positive, class_weights=compete)
        case CrossEntropyLossConfig(label_smoothing=smoothing):
            return partial(voxelwise.cross_entropy, label_smoothing=smoothing, class_weights=compete)
        case CategoricalFocalLossConfig(gamma=gamma, alpha=alpha):
            return partial(voxelwise.categorical_focal, gamma=gamma, alpha=alpha, class_weights=compete)


def _axon_recipe(
    answer: Answer, *, config: DiceCategoricalFocalLossConfig, class_weights: Sequence[float] | None
) -> Tensor:
    """Dice + categorical focal (+ Jaccard) as segmentation_models adds them up: with background as a class.

    The recipe's own code multiplies each class's Dice by a third: a sum of these losses can do so.
    """
    loss = voxelwise.categorical_focal(answer, gamma=config.gamma, alpha=config.alpha, class_weights=class_weights)
    everything = replace(answer, background=True)
    loss = loss + region.dice(everything, smooth=config.smooth, class_weights=class_weights)
    if config.jaccard:
        loss = loss + region.jaccard(everything, smooth=config.smooth, class_weights=class_weights)
    return loss


def _balance(shares: Sequence[float] | None) -> tuple[float, ...] | float:
    """How often foreground counts, (1 − p) / p for a class of the share p, so that it weighs as much as the rest."""
    if shares is None:
        return 1.0
    return tuple(min(max((1 - p) / p, 1 / MOST_BALANCE), MOST_BALANCE) if p > 0 else 1.0 for p in shares[1:])
