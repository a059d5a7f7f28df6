"""Optimisers and learning-rate schedules from their configs."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from seglib.config import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OptimiserConfig,
    PlateauConfig,
    ScheduleConfig,
    SGDConfig,
)


def build_optimiser(
    config: OptimiserConfig, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimiser a config describes. parameters: all of one rate, or groups as torch has them."""
    rate, decay = config.learning_rate, config.weight_decay
    match config:
        case AdamConfig():
            return torch.optim.Adam(parameters, rate, weight_decay=decay)
        case AdamWConfig():
            return torch.optim.AdamW(parameters, rate, weight_decay=decay)
        case SGDConfig():
            return torch.optim.SGD(parameters, rate, momentum=config.momentum, weight_decay=decay, nesterov=True)


class Schedule:
    """A learning-rate schedule that is told of steps and of validation scores, and uses the one it needs.

    total_steps: length of the whole run, where a cosine ends.
    """

    def __init__(self, config: ScheduleConfig, optimiser: torch.optim.Optimizer, *, total_steps: int) -> None:
        self._by_step: LambdaLR | None = None
        self._by_score: ReduceLROnPlateau | None = None
        match config:
            case CosineConfig(final_share=end):
                self._by_step = LambdaLR(optimiser, lambda step: cosine(step / max(1, total_steps), end))
            case ConstantConfig():
                self._by_step = LambdaLR(optimiser, lambda step: 1.0)
            case PlateauConfig(factor=factor, patience=patience):
                self._by_score = ReduceLROnPlateau(optimiser, mode="max", factor=factor, patience=patience)

    def after_step(self) -> None:
        """Tells it that the optimiser made a step."""
        if self._by_step:
            self._by_step.step()

    def after_validation(self, score: float) -> None:
        """Tells it the validation score (higher is better)."""
        if self._by_score:
            self._by_score.step(score)

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` needs to go on; no code in it, so that it loads with weights_only."""
        inner = self._by_step or self._by_score
        assert inner is not None
        return {key: value for key, value in inner.state_dict().items() if key != "lr_lambdas"}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Goes on from what `state_dict` gave."""
        if self._by_step:
            self._by_step.load_state_dict({**state, "lr_lambdas": [None]})
        if self._by_score:
            self._by_score.load_state_dict(state)


def cosine(share: float, end: float) -> float:
    """Factor on the learning rate after `share` (0–1) of the run: from 1 down to `end` along half a cosine."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
