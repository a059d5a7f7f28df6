"""A batch as losses look at it: logits beside labels, what was annotated, and the weights of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from seglib.config.labels import IGNORE
from seglib.config.losses import Activation, ClassWeights
from seglib.errors import ConfigError

# A class counts at most this many times as much as the most frequent one.
MOST_WEIGHT = 100.0


@dataclass(frozen=True)
class Answer:
    """What a network said about a batch, and what would have been right.

    logits: float32 (N, outputs, *space), space of one to three axes.
    target: uint8, class ids (N, *space), or (N, K, *space) of 0 and 1 where a voxel may be of several classes; 255 is
    what was not annotated.
    counted: float32 (N, 1 or K, *space), 1 where a voxel was annotated; None where all were.
    background: whether background counts as the first class of a softmax.
    """

    logits: Tensor
    target: Tensor
    activation: Activation
    counted: Tensor | None
    background: bool = False

    @property
    def classes(self) -> int:
        return self.logits.shape[1] - (self.activation == "softmax" and not self.background)

    @cached_property
    def truth(self) -> Tensor:
        """float32 (N, classes, *space): 1 where a voxel is of a class, 0 where not or not annotated."""
        if self.target.ndim == self.logits.ndim:
            return (self.target == 1).float()
        return one_hot(self.target, self.classes, first=0 if self.background else 1)

    @cached_property
    def probability(self) -> Tensor:
        """float32 (N, classes, *space), 0 where not annotated."""
        if self.activation == "sigmoid":
            found = self.logits.sigmoid()
        else:
            found = self.logits.softmax(1)[:, 0 if self.background else 1 :]
        return found if self.counted is None else found * self.counted

    @cached_property
    def numbers(self) -> Tensor | None:
        """float32 (classes,): voxels of the batch that were annotated for each class; None where all were."""
        return None if self.counted is None else sums(self.counted).expand(self.classes)


def compare(logits: Tensor, target: Tensor, activation: Activation) -> Answer:
    """Logits (N, outputs, *space) beside labels (N, *space) or (N, K, *space), see Answer.

    Raises ConfigError where voxels may be of several classes but classes compete.
    """
    counted: Tensor | None = None
    # Meta tensors, by which memory is estimated, have no values to look at.
    if not target.is_meta:
        mask = target != IGNORE
        if not bool(mask.all()):
            counted = (mask if target.ndim == logits.ndim else mask.unsqueeze(1)).float()
    if target.ndim == logits.ndim:
        if activation == "softmax":
            raise ConfigError(
                "Voxels of these labels may be of several classes at once, but classes compete in this loss: choose "
                "one that decides each class by itself."
            )
        if target.shape[1] != logits.shape[1]:
            raise ConfigError(f"The labels have {target.shape[1]} classes, but the network {logits.shape[1]} outputs.")
    return Answer(logits.float(), target, activation, counted)


def one_hot(target: Tensor, classes: int, *, first: int = 1) -> Tensor:
    """float32 (N, classes, *space) from class ids (N, *space); the first channel is the id `first`, 255 is in none."""
    ids = torch.arange(first, first + classes, device=target.device, dtype=target.dtype)
    return (target.unsqueeze(1) == ids.view(1, -1, *[1] * (target.ndim - 1))).float()


def sums(values: Tensor) -> Tensor:
    """(K,) from (N, K, *space): sums over the batch and space."""
    return values.sum([0, *range(2, values.ndim)])


def class_mean(losses: Tensor, answer: Answer, weights: Sequence[float] | None) -> Tensor:
    """The mean of one loss a class (classes,) over those annotated in the batch, weighed; 0 where none was."""
    if weights is None and answer.numbers is None:
        return losses.mean()
    weight = torch.ones_like(losses) if weights is None else weight_tensor(weights, answer)
    if answer.numbers is not None:
        weight = weight * (answer.numbers > 0)
    return (losses * weight).sum() / weight.sum().clamp_min(1e-9)


def weight_tensor(weights: Sequence[float], answer: Answer) -> Tensor:
    """float32 (classes,), on the device of the logits. Raises ConfigError where there are not as many weights."""
    _check(len(weights) - answer.background, answer.classes - answer.background)
    return torch.tensor(weights, device=answer.logits.device)


def foreground_weights(choice: ClassWeights, shares: Sequence[float] | None) -> tuple[float, ...] | None:
    """A weight for each of the classes 1 … K; None where all count alike.

    By frequency they are inverse to the shares of the classes, at most 100 times the one of the most frequent class,
    with mean 1. A class that never occurs counts as the most frequent one. Without shares all count alike.
    Raises ConfigError where as many were not given by hand.
    """
    if isinstance(choice, tuple):
        if shares is not None:
            _check(len(choice), len(shares) - 1)
        return choice
    return _inverse(shares[1:]) if choice == "by_frequency" and shares else None


def voxel_weights(choice: ClassWeights, shares: Sequence[float] | None) -> tuple[float, ...] | None:
    """The same for background and each class, where they compete for voxels; by hand background weighs 1."""
    if choice == "by_frequency" and shares:
        return _inverse(shares)
    given = foreground_weights(choice, shares)
    return None if given is None else (1.0, *given)


def check_shares(shares: Sequence[float]) -> None:
    """Raises ConfigError where these are no shares of background and at least one class, each 0–1."""
    if len(shares) < 2 or not all(0 <= share <= 1 for share in shares):
        raise ConfigError(f"Shares of background and classes are numbers between 0 and 1, not {list(shares)}.")


def _inverse(shares: Sequence[float]) -> tuple[float, ...]:
    most = max(shares)
    raw = [min(most / share, MOST_WEIGHT) if share > 0 else 1.0 for share in shares]
    return tuple(len(raw) * one / sum(raw) for one in raw)


def _check(given: int, expected: int) -> None:
    if given != expected:
        raise ConfigError(
            f"Class weights by hand: {given} given, but {expected} needed, one for each class that is learned, in "
            f"their order and without background, such as {', '.join(['1'] * expected)}."
        )
