"""The learning-rate range test: which rate the loss falls fastest at.

After Smith 2017 (Cyclical Learning Rates for Training Neural Networks): the rate grows evenly in its logarithm over a
few dozen steps. Where it is too small the loss stays, then it falls, and where it is too large it explodes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from seglib.config import RunConfig
from seglib.data.volumes import Volume
from seglib.errors import OutOfMemory, TrainingError
from seglib.training.step import make_step
from seglib.training.trials import TrialProgress, prepare_trial, set_rate, undisturbed

STEPS = 80
# Rates to try, by the kind of optimiser: plain gradients take larger ones than those scaled by their size.
RATES = {"adam": (1e-6, 1.0), "adamw": (1e-6, 1.0), "rmsprop": (1e-6, 1.0), "sgd": (1e-5, 10.0)}
EXPLODED = 4.0
WINDOW = 5
# Smoothing, as a share of the steps: less, and the noise of single batches is steeper than the fall.
SMOOTHING = 1 / 16
# A fall has to be so many times its own uncertainty, and so much of the first loss.
CERTAIN = 6.0
LEAST_FALL = 0.01


@dataclass(frozen=True)
class RateTest:
    """What a range test found. rates, losses: of each step; smoothed: the losses without the noise of batches.

    suggestion: the rate at the steepest fall, None where the loss never fell; sentence: what to make of it.
    In `smoothed` a loss beyond what counts as exploded, and beyond the first ones, counts as just that.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    sentence: str


def sweep_rates(
    config: RunConfig,
    volumes: Sequence[Volume],
    *,
    weights: Mapping[str, Tensor] | None = None,
    low: float | None = None,
    high: float | None = None,
    steps: int = STEPS,
) -> Iterator[TrialProgress | RateTest]:
    """Learns from training patches at growing rates; says how far it is, and at last what it found.

    Patches are varied as in a run. It ends early once the loss explodes.
    volumes, weights: as for `train`, and not changed; an encoder learns also where a run freezes it at first.
    low, high: first and last rate; left out, they fit the optimiser.
    Raises as `prepare` does, and OutOfMemory where a batch does not fit.
    """
    usual = RATES[config.optimiser.kind]
    planned = np.geomspace(low or usual[0], high or usual[1], steps).tolist()
    losses: list[float] = []
    with undisturbed(config):
        yield TrialProgress(0, steps, "Reading the volumes")
        setup = prepare_trial(config, volumes, weights)
        for number, rate in enumerate(planned):
            set_rate(setup, rate)
            batch = setup.sampler.batch(number, setup.patches_per_step)
            try:
                result = make_step(setup, batch, step=number, micro=config.patches.batch_size)
            except TrainingError:  # the loss is no number: as far as rates can go
                break
            if result is None:
                raise OutOfMemory(
                    f"A batch of {config.patches.batch_size} does not fit into memory: find a batch size first."
                )
            losses.append(result.loss)
            if exploded(losses):
                break
            yield TrialProgress(number + 1, steps, f"Learning rate {rate:.1e}, loss {result.loss:.3g}")
    yield judge_rates(planned[: len(losses)], losses, broke_off=len(losses) < steps)


def exploded(losses: Sequence[float]) -> bool:
    """Whether the last few losses are more than four times the best few so far; for negative ones as far above them."""
    if len(losses) <= WINDOW:
        return False
    means = sliding_window_view(np.asarray(losses), WINDOW).mean(axis=-1)
    return bool(means[-1] > _ceiling(means.min()))


def _ceiling(best: float) -> float:
    return float(best + (EXPLODED - 1) * abs(best))


def judge_rates(rates: Sequence[float], losses: Sequence[float], *, broke_off: bool = False) -> RateTest:
    """What a test with these rates, growing evenly in their logarithm, and losses says.

    broke_off: whether it ended before its last rate.
    """
    if len(losses) <= WINDOW:
        sentence = "The loss exploded within the first steps: look at the data, or begin at lower rates."
        return RateTest(tuple(rates), tuple(losses), tuple(losses), None, sentence)
    sigma = max(1.0, SMOOTHING * len(losses))
    best = sliding_window_view(np.asarray(losses), WINDOW).mean(axis=-1).min()
    capped = np.minimum(losses, max(_ceiling(best), *losses[:WINDOW]))
    smoothed = gaussian_filter1d(capped, sigma, mode="reflect")
    lowest = int(smoothed.argmin())
    if not _fell(capped, smoothed, lowest, sigma):
        sentence = (
            f"The loss did not fall at any rate from {rates[0]:.1e} to {rates[-1]:.1e}: look whether the labels fit "
            "the images, or learn from more patches at a step."
        )
        return RateTest(tuple(rates), tuple(losses), tuple(smoothed.tolist()), None, sentence)
    slopes = np.gradient(smoothed, np.log(rates))
    # Two digits are more than the test can tell.
    suggestion = float(f"{rates[int(slopes[: lowest + 1].argmin())]:.1e}")
    sentence = f"The loss falls fastest near a learning rate of {suggestion:.1e}."
    if broke_off:
        sentence += f" Beyond {rates[-1]:.1e} it explodes."
    return RateTest(tuple(rates), tuple(losses), tuple(smoothed.tolist()), suggestion, sentence)


def _fell(losses: NDArray[np.float64], smoothed: NDArray[np.float64], lowest: int, sigma: float) -> bool:
    """Whether the way to the lowest loss is more than chance: a Gaussian averages about 2 √π σ losses."""
    fall = smoothed[0] - smoothed[lowest]
    noise = np.std(losses[: lowest + 1] - smoothed[: lowest + 1])
    uncertainty = noise / np.sqrt(2 * np.sqrt(np.pi) * sigma)
    return bool(fall > CERTAIN * uncertainty and fall > LEAST_FALL * abs(smoothed[0]))
