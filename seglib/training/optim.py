"""Optimisers and learning-rate schedules from their configs, and gradients kept short."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from seglib.config import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    OptimiserConfig,
    PlateauConfig,
    PolynomialConfig,
    RMSpropConfig,
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
        case RMSpropConfig():
            return torch.optim.RMSprop(parameters, rate, alpha=config.smoothing, weight_decay=decay)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """The length of the gradient of all parameters together, as it was before it is shortened to `most`.

    most: 0 leaves the gradient as it is. Parameters without a gradient are left out.
    A gradient that is not finite has a length that is not, and cannot be shortened.
    """
    weights = [parameter for parameter in parameters if parameter.grad is not None]
    length = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if most:
        nn.utils.clip_grads_with_norm_(weights, most, length)
    return float(length)


class Schedule:
    """A learning-rate schedule that is told of steps and of validation scores, and uses the one it needs.

    Every group of the optimiser follows it from its own rate. But for plateaus the rate follows from the step alone, so
    that with another `total_steps`, as when a finished run is made longer, it goes on where the longer run would be.

    total_steps: length of the whole run, where falling schedules end.
    """

    def __init__(self, config: ScheduleConfig, optimiser: torch.optim.Optimizer, *, total_steps: int) -> None:
        self._optimiser = optimiser
        self._rates = [float(group["lr"]) for group in optimiser.param_groups]
        self._step = 0
        # Torch's LambdaLR would do the same, but complains where a step in 16 bits was left out.
        self._shape = _shape(config, total_steps)
        # A plateau lowers the rate of an optimiser of nothing: what it has left of the rate, which warm-up varies too.
        self._left = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._plateau: ReduceLROnPlateau | None = None
        if isinstance(config, PlateauConfig):
            # Any rise is a better score. Torch's usual threshold, a part of the best score, is wrong for negative ones.
            self._plateau = ReduceLROnPlateau(
                self._left, "max", config.factor, config.patience, threshold=0.0, threshold_mode="abs"
            )
        self._set_rates()

    def after_step(self) -> None:
        """Tells it that the optimiser made a step."""
        self._step += 1
        self._set_rates()

    def after_validation(self, score: float) -> None:
        """Tells it the validation score (higher is better)."""
        if self._plateau is not None:
            self._plateau.step(score)
            self._set_rates()

    def _set_rates(self) -> None:
        factor = self._shape(self._step) * self._left.param_groups[0]["lr"]
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on; no code in it, so that it loads with weights_only."""
        state: dict[str, Any] = {"step": self._step, "rates": self._rates}
        if self._plateau is not None:
            state |= {"plateau": self._plateau.state_dict(), "left": self._left.param_groups[0]["lr"]}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave, of this or an earlier version.

        The optimiser must have its own state already.
        """
        if "rates" not in state:
            state = _upgraded(state, now=self._optimiser.param_groups[0]["lr"], at_first=self._rates)
        self._step, self._rates = state["step"], list(state["rates"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])
            self._left.param_groups[0]["lr"] = state["left"]
        self._set_rates()


def _upgraded(state: dict[str, Any], *, now: float, at_first: Sequence[float]) -> dict[str, Any]:
    """A state of an earlier version, which was that of torch's LambdaLR, or of a plateau that lowered rates itself."""
    if "num_bad_epochs" in state:
        return {"step": 0, "rates": at_first, "plateau": state, "left": now / at_first[0]}
    return {"step": state["last_epoch"], "rates": state["base_lrs"]}


def _shape(config: ScheduleConfig, total: int) -> Callable[[int], float]:
    """Factor on the learning rate by the steps made: warm-up, times what the schedule is without."""

    def shape(step: int) -> float:
        match config:
            case CosineConfig():
                factor = cosine(step / max(1, total), config.final_share)
            case PolynomialConfig():
                factor = polynomial(step / max(1, total), config.power)
            case OneCycleConfig():
                factor = one_cycle(step, total, config)
            case ConstantConfig() | PlateauConfig():
                factor = 1.0
        return warm_up(step, config.warm_up) * factor

    return shape


def warm_up(step: int, steps: int) -> float:
    """Factor on the learning rate after `step` steps: 1 from step `steps` on, and on an even rise from 0 before."""
    return min(1.0, (step + 1) / (steps + 1))


def cosine(share: float, end: float) -> float:
    """Factor on the learning rate after `share` (0–1) of the run: from 1 down to `end` along half a cosine."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def polynomial(share: float, power: float) -> float:
    """Factor on the learning rate after `share` (0–1) of the run: a power of the share that is left."""
    return (1 - min(1.0, share)) ** power


def one_cycle(step: int, total: int, config: OneCycleConfig) -> float:
    """Factor on the learning rate after `step` of `total` steps: up to 1, then down, each along half a cosine.

    The rise ends with its last step and the fall with the last of all, as torch's OneCycleLR has them
    (Smith and Topin 2017, Super-Convergence).
    """
    peak, last = config.rise * total - 1, total - 1
    step = min(step, last)
    if step < peak:
        return 1 - (1 - config.start_share) * cosine(step / peak, 0)
    return cosine((step - peak) / (last - peak), config.end_share)
