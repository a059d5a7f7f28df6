"""Every kind of loss once or more, and random batches for them."""

from typing import Any, get_args

import torch
from torch import Tensor

from seglib.config import (
    BCELossConfig,
    BoundaryDiceLossConfig,
    CategoricalFocalLossConfig,
    ClDiceLossConfig,
    CrossEntropyLossConfig,
    DiceBCELossConfig,
    DiceCategoricalFocalLossConfig,
    DiceCELossConfig,
    DiceFocalLossConfig,
    DiceLossConfig,
    FocalLossConfig,
    FocalTverskyLossConfig,
    GeneralisedDiceLossConfig,
    JaccardLossConfig,
    LovaszLossConfig,
    SumLossConfig,
    TverskyLossConfig,
    WeightedBCELossConfig,
    WeightedLossConfig,
)
from seglib.config.labels import IGNORE
from seglib.config.losses import AnyLoss
from seglib.losses import outputs_of

FREQUENT = "by_frequency"
EITHER = [
    DiceLossConfig(),
    DiceLossConfig(smooth=0, class_weights=FREQUENT),
    GeneralisedDiceLossConfig(),
    GeneralisedDiceLossConfig(weighting="simple", smooth=0),
    FocalLossConfig(gamma=0.5, positive_weight=3, class_weights=FREQUENT),
    DiceFocalLossConfig(),
    TverskyLossConfig(class_weights=FREQUENT),
    FocalTverskyLossConfig(smooth=0),
    JaccardLossConfig(smooth=0),
    LovaszLossConfig(class_weights=FREQUENT),
    BoundaryDiceLossConfig(thickness=2),
    ClDiceLossConfig(dice_weight=0.3),
    ClDiceLossConfig(smooth=0, thinning=1),
]
CONFIGS = [
    *EITHER,
    *(config.model_copy(update={"classes": "compete"}) for config in EITHER),
    BCELossConfig(positive_weight=7),
    BCELossConfig(class_weights=FREQUENT),
    DiceBCELossConfig(),
    WeightedBCELossConfig(),
    CrossEntropyLossConfig(label_smoothing=0.1),
    CrossEntropyLossConfig(class_weights=FREQUENT),
    CategoricalFocalLossConfig(),
    DiceCategoricalFocalLossConfig(jaccard=True, class_weights=FREQUENT),
    DiceCELossConfig(),
    SumLossConfig(
        parts=(WeightedLossConfig(weight=2, loss=DiceLossConfig()), WeightedLossConfig(loss=BCELossConfig()))
    ),
]


def all_kinds() -> list[type[Any]]:
    """The class of every kind there is."""
    return [*get_args(AnyLoss), SumLossConfig]


def name(config: Any) -> str:
    """What tests of a config are called."""
    return "-".join(str(value) for value in config.model_dump(exclude={"parts"}).values())


def shares_for(classes: int) -> list[float]:
    """Shares of background and classes, each rarer than the one before."""
    raw = [0.5**k for k in range(classes + 1)]
    return [one / sum(raw) for one in raw]


def batch(
    config: Any, classes: int = 2, shape: tuple[int, ...] = (3, 5, 4), *, seed: int = 0, ignored: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Logits (2, outputs, *shape) and class ids (2, *shape), of which a share was not annotated."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((2, outputs_of(config, classes), *shape), generator=generator)
    target = torch.randint(0, classes + 1, (2, *shape), generator=generator).to(torch.uint8)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target
