"""The batch size a device learns fastest with, found by real steps with larger and larger batches."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from seglib.config import RunConfig
from seglib.data.patches import Batch
from seglib.data.volumes import Volume
from seglib.training.cost import MB, estimate_cost
from seglib.training.setup import Setup
from seglib.training.step import make_step
from seglib.training.trials import TrialProgress, prepare_trial, set_rate, undisturbed

# The largest batch that settings allow.
MOST = 256
SHARE_OF_FREE = 0.9
# Steps of one size are timed for so long, but at least and at most so many.
TIMED_S = 1.0
LEAST_TIMED, MOST_TIMED = 2, 10
# Speeds that differ by less count as the same.
SAME = 0.05


@dataclass(frozen=True)
class BatchTry:
    """One batch size. fits: whether memory sufficed; patches_per_s: None where it did not.

    memory_mb: the most that was used on CUDA; estimated on other devices, and where it does not fit.
    """

    batch: int
    fits: bool
    memory_mb: float
    patches_per_s: float | None


@dataclass(frozen=True)
class BatchSizes:
    """What was tried, in order. sentence: what to make of it.

    suggestion: the smallest size that is about as fast as the fastest, None where none fits.
    """

    tries: tuple[BatchTry, ...]
    suggestion: int | None
    sentence: str


def find_batch_size(
    config: RunConfig, volumes: Sequence[Volume], *, weights: Mapping[str, Tensor] | None = None, most: int = MOST
) -> Iterator[TrialProgress | BatchSizes]:
    """Makes real steps with 1, 2, 4, … patches; says how far it is, and at last what it found.

    It ends where memory does not suffice (estimated first, but on CUDA), where two sizes in a row are no faster than
    smaller ones, at as many patches as an epoch has, and at `most`. Reading patches is not timed: runs read ahead.
    volumes, weights: as for `train`, of which nothing is changed. Raises as `prepare` does.
    """
    tries: list[BatchTry] = []
    with undisturbed(config):
        yield TrialProgress(0, 1, "Reading the volumes")
        setup = prepare_trial(config, volumes, weights)
        # At rate 0 a step takes as long, and no loss can explode.
        set_rate(setup, 0.0)
        available = psutil.virtual_memory().available
        limit = min(most, setup.sampler.per_epoch)
        sizes = [2**power for power in range(limit.bit_length())]
        for done, size in enumerate(sizes):
            yield TrialProgress(done, len(sizes), _said(size, tries))
            tried = yield from _try(setup, size, available, TrialProgress(done, len(sizes), _said(size, tries)))
            tries.append(tried)
            if not tried.fits or no_faster(tries):
                break
    yield judge_sizes(tries)


def _said(size: int, tries: Sequence[BatchTry]) -> str:
    before = f"; {tries[-1].batch}: {tries[-1].patches_per_s:.3g} patches/s" if tries else ""
    return f"Batch size {size}{before}"


def _try(
    setup: Setup, size: int, available: int, progress: TrialProgress
) -> Generator[TrialProgress | BatchSizes, None, BatchTry]:
    """One size; says the same progress after every step, so that whoever waits can cancel."""
    batch = setup.sampler.batch(0, size)
    on_cuda = setup.device.type == "cuda"
    estimated = _estimate(setup, batch)
    if not on_cuda and estimated > SHARE_OF_FREE * available:
        return BatchTry(size, False, estimated / MB, None)
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setup.device)
    seconds: list[float] = []
    # The first step finds memory and algorithms, and is not timed.
    while len(seconds) <= LEAST_TIMED or (len(seconds) <= MOST_TIMED and sum(seconds[1:]) < TIMED_S):
        before = time.perf_counter()
        if make_step(setup, batch, step=len(seconds), micro=size) is None:
            return BatchTry(size, False, estimated / MB, None)
        if on_cuda:
            torch.cuda.synchronize(setup.device)
        seconds.append(time.perf_counter() - before)
        yield progress
    used = torch.cuda.max_memory_allocated(setup.device) if on_cuda else estimated
    # Other work of the machine only ever makes a step slower.
    return BatchTry(size, True, used / MB, size / min(seconds[1:]))


def _estimate(setup: Setup, batch: Batch) -> int:
    """Bytes a step with a batch takes."""
    reach = setup.augmentation.reach if setup.augmentation else (0, 0, 0)
    sides = [side - 2 * more for side, more in zip(batch.targets.shape[1:], reach, strict=True)]
    update = {"shape": (sides[0], sides[1], sides[2]), "batch_size": len(batch.targets)}
    config = setup.config.model_copy(update={"patches": setup.config.patches.model_copy(update=update)})
    inputs, half = setup.predictor.normalisation.channels, setup.predictor.half is not None
    return estimate_cost(config, inputs=inputs, classes=len(setup.names), half=half).memory_bytes


def no_faster(tries: Sequence[BatchTry]) -> bool:
    """Whether the last two sizes are about as slow as a smaller one, or slower."""
    speeds = [tried.patches_per_s or 0.0 for tried in tries]
    return len(speeds) > 2 and max(speeds[-2:]) < (1 + SAME) * max(speeds[:-2])


def judge_sizes(tries: Sequence[BatchTry]) -> BatchSizes:
    """What these tries, from small to large, say."""
    speeds = {tried.batch: tried.patches_per_s for tried in tries if tried.patches_per_s is not None}
    if not speeds:
        sentence = "Not even one patch fits into memory: take smaller patches or fewer start channels."
        return BatchSizes(tuple(tries), None, sentence)
    fastest = max(speeds, key=speeds.__getitem__)
    chosen = min(size for size, speed in speeds.items() if speed >= (1 - SAME) * speeds[fastest])
    memory = next(tried.memory_mb for tried in tries if tried.batch == chosen)
    sentence = f"A batch of {chosen} learns from {speeds[chosen]:.3g} patches a second, in {memory / 1024:.2g} GB"
    sentence += "." if chosen == fastest else f"; {fastest} is less than {100 * SAME:.0f} % faster."
    if not tries[-1].fits:
        sentence += f" {tries[-1].batch} patches do not fit into memory."
    elif no_faster(tries):
        sentence += " Larger ones would be no faster."
    return BatchSizes(tuple(tries), chosen, sentence)
