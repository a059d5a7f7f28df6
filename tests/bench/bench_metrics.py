"""How fast predictions are scored, against what others do for the same scores, and with how much memory.

    python tests/bench/bench_metrics.py [--rounds 5] [--side 256]

Overlap: all scores of 512³ voxels of five classes, against NumPy's bincount of the pairs as int64.
Surfaces: 95 % Hausdorff distance and average surface distance of side³ voxels, against MONAI, which is asked for each
in turn; one class of large blobs, of thin ones and of crumbs, and three classes at once.
Thresholds: the best of one class over 100 million voxels, against NumPy's histogram of both sides.
Both run in turns in this process, so that noise hits both alike. Memory is what comes on top of the inputs.
Exits with 1 where a target is missed.
"""

import argparse
import ctypes
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2]))

from seglib.metrics.overlap import count_confusion, overlap_scores
from seglib.metrics.surfaces import hausdorff95, measure_surfaces, surface_distance
from seglib.metrics.thresholds import best_thresholds, count_probabilities

CLASSES = 5
SPACING_NM = (40.0, 8.0, 8.0)
MOST_SECONDS, MOST_MB = 2.0, 500
LEAST_RATIO = 3.0
Labels = NDArray[np.uint8]


class _Peak:
    """How much memory this process takes at most beyond what it had at the start, sampled."""

    def __enter__(self) -> "_Peak":
        # What earlier rounds freed is still held by the allocator, and would hide what this one needs.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._process, self._over = psutil.Process(), threading.Event()
        self._before, self.bytes = self._process.memory_info().rss, 0
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.002):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)


@dataclass(frozen=True)
class Cost:
    """What scoring once took: seconds by the clock and of all cores, and MB beyond the inputs."""

    seconds: float
    core_seconds: float
    megabytes: float


def measure(run: Callable[[], object]) -> Cost:
    with _Peak() as peak:
        began, worked = time.perf_counter(), time.process_time()
        run()
        seconds, core_seconds = time.perf_counter() - began, time.process_time() - worked
    return Cost(seconds, core_seconds, peak.bytes / 2**20)


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[Cost, float]:
    """Prints medians, and the most memory; returns our cost and how many times as long the others take."""
    pairs = [(measure(ours), measure(theirs)) for _ in range(rounds)]
    costs = [
        Cost(
            statistics.median(cost.seconds for cost in column),
            statistics.median(cost.core_seconds for cost in column),
            max(cost.megabytes for cost in column),
        )
        for column in zip(*pairs, strict=True)
    ]
    ratio = statistics.median(other.seconds / own.seconds for own, other in pairs)
    told = [f"{cost.seconds:6.2f} s ({cost.core_seconds:6.2f} s of cores) {cost.megabytes:5.0f} MB" for cost in costs]
    print(f"{name:30} {told[0]}   peer {told[1]}   ratio {ratio:4.1f}", flush=True)
    return costs[0], ratio


def overlap(rounds: int) -> bool:
    rng = np.random.default_rng(0)
    small = ndimage.gaussian_filter(rng.normal(size=(CLASSES + 1, 128, 128, 128)), (0, 4, 4, 4)).argmax(0)
    truth = small.astype(np.uint8).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    prediction = np.roll(truth, 3, axis=1)
    noisy = rng.integers(0, prediction.size, prediction.size // 20)
    prediction.ravel()[noisy] = rng.integers(0, CLASSES + 1, noisy.size, dtype=np.uint8)
    names = [f"class {k}" for k in range(CLASSES)]
    side = CLASSES + 1

    def ours() -> object:
        return overlap_scores(count_confusion(prediction, truth, CLASSES), names)

    def plain() -> object:
        return np.bincount(truth.ravel().astype(np.int64) * side + prediction.ravel(), minlength=side * side)

    cost, _ = compare("overlap, 512³, 5 classes", ours, plain, rounds)
    return cost.seconds <= MOST_SECONDS and cost.megabytes <= MOST_MB


def blobs(side: int, classes: int, share: float, sigma: float = 8) -> tuple[Labels, Labels]:
    """Prediction and truth: `share` of the voxels belong to each class, and the two agree but for their rims."""
    rng = np.random.default_rng(0)
    smooth, other = (ndimage.gaussian_filter(rng.normal(size=(side,) * 3).astype(np.float32), sigma) for _ in range(2))
    edges = np.quantile(smooth, 1 - share * np.arange(classes, 0, -1))
    return (
        np.digitize(smooth + 0.25 * other, edges).astype(np.uint8),
        np.digitize(smooth, edges).astype(np.uint8),
    )


def surfaces(name: str, pair: tuple[Labels, Labels], classes: int, rounds: int) -> bool:
    prediction, truth = pair
    ids = np.arange(1, classes + 1)[:, None, None, None]
    one_hot = [torch.from_numpy(one == ids)[None] for one in pair]

    def ours() -> object:
        found = measure_surfaces(prediction, truth, classes, voxel_size_nm=SPACING_NM)
        return hausdorff95(found), surface_distance(found)

    def monais() -> object:
        given = {"include_background": True, "spacing": SPACING_NM}
        return (
            compute_hausdorff_distance(*one_hot, percentile=95, **given)[0].numpy(),
            compute_average_surface_distance(*one_hot, symmetric=True, **given)[0].numpy(),
        )

    np.testing.assert_allclose(ours(), monais(), rtol=1e-4)
    return compare(name, ours, monais, rounds)[1] >= LEAST_RATIO


def thresholds(rounds: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (100, 1000, 1000), dtype=np.uint8)
    probabilities = rng.random((1, *truth.shape), dtype=np.float32)

    def ours() -> object:
        return best_thresholds(count_probabilities(probabilities, truth))

    def plain() -> object:
        return [np.histogram(probabilities[0][truth == k], 200, (0, 1)) for k in (0, 1)]

    compare("thresholds, 100 Mvoxel", ours, plain, rounds)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=256)
    parsed = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # MONAI's about itself
    reached = [overlap(parsed.rounds)]
    for name, classes, share, sigma in (
        ("large blobs", 1, 0.3, 8),
        ("thin blobs", 1, 0.05, 8),
        ("crumbs", 1, 0.1, 2),
        ("three classes", 3, 0.1, 8),
    ):
        pair = blobs(parsed.side, classes, share, sigma)
        reached.append(surfaces(f"surfaces, {parsed.side}³, {name}", pair, classes, parsed.rounds))
    thresholds(parsed.rounds)
    print(f"wanted: overlap ≤ {MOST_SECONDS:g} s and {MOST_MB} MB, surfaces a ratio ≥ {LEAST_RATIO:g}")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
