"""How fast instances of a large volume are matched against StarDist's own matching, and in how much memory.

    python tests/bench/bench_instances.py [--side 512] [--rounds 3]

A pair of side³ volumes with 5,000 objects each, matched at all thresholds. Both are measured in processes of their
own, in turns: seconds, and the most memory beyond the two volumes. Prints medians over rounds and their ratios, and
whether both found the same. Aims at 512³: no slower than StarDist, and half its memory.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from seglib.metrics.contingency import count_pairs  # noqa: E402
from seglib.metrics.instances import THRESHOLDS, count_instances, instance_scores, match_objects  # noqa: E402

GRID = (10, 20, 25)
Found = list[tuple[int, int, int, float]]


def make_pair(side: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Ellipsoids in a grid; those predicted are moved and resized, one in ten is missed and one in ten split."""
    rng = np.random.default_rng(0)
    cell = np.array([side // count for count in GRID])
    truth, prediction = np.zeros((2, side, side, side), np.uint32)
    count = int(np.prod(GRID))
    axes = np.ogrid[tuple(slice(0, length) for length in cell)]

    def ellipsoid(shift: NDArray[np.float64], size: float) -> NDArray[np.bool_]:
        parts = zip(axes, cell / 2, shift, strict=True)
        return sum(((axis - half * (1 + move)) / (half * size)) ** 2 for axis, half, move in parts) <= 1

    for number, place in enumerate(np.ndindex(*GRID), start=1):
        box = tuple(slice(low, low + length) for low, length in zip(place * cell, cell, strict=True))
        truth[box][ellipsoid(np.zeros(3), rng.uniform(0.8, 1.1))] = number
        if rng.random() < 0.9:
            found = ellipsoid(rng.uniform(-0.2, 0.2, 3), rng.uniform(0.75, 1.1))
            prediction[box][found] = number
            if rng.random() < 0.1:
                found[: cell[0] // 2] = False
                prediction[box][found] = number + count
    return truth, prediction


def ours(truth: NDArray[np.uint32], prediction: NDArray[np.uint32]) -> Found:
    matchings = match_objects(count_pairs(truth, prediction))
    return [(one.hits, one.false_alarms, one.misses, one.panoptic_quality) for one in matchings]


def all_scores(truth: NDArray[np.uint32], prediction: NDArray[np.uint32]) -> Found:
    instance_scores(count_instances(count_pairs(truth, prediction)))
    return []


def stardists(truth: NDArray[np.uint32], prediction: NDArray[np.uint32]) -> Found:
    from stardist.matching import matching

    found = matching(truth, prediction, thresh=THRESHOLDS)
    return [(int(one.tp), int(one.fp), int(one.fn), float(one.panoptic_quality)) for one in found]


WORK: dict[str, Callable[[NDArray[np.uint32], NDArray[np.uint32]], Found]] = {
    "seglib": ours,
    "stardist": stardists,
    "seglib, all scores": all_scores,
}


def measure(name: str, folder: Path) -> None:
    """In a process of its own: prints seconds, megabytes beyond the volumes, and what was found."""
    truth, prediction = (np.load(folder / f"{one}.npy") for one in ("truth", "prediction"))
    small = truth[:2, :8, :8]
    WORK[name](small, small)  # imports, and StarDist's compiling
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    found = WORK[name](truth, prediction)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([seconds, (peak - before) / 1e6, found]))


def measured(name: str, folder: Path) -> tuple[float, float, Found]:
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes, found = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes, [tuple(one) for one in found]


def compare(side: int, rounds: int) -> int:
    names = [name for name in WORK if name != "stardist" or importlib.util.find_spec("stardist")]
    if "stardist" not in names:
        print("stardist is not installed: there is nothing to compare with")
    times: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, volume in zip(("truth", "prediction"), make_pair(side), strict=True):
            np.save(Path(folder) / f"{name}.npy", volume)
        for _ in range(rounds):  # in turns, as the machine's speed drifts
            for name in names:
                seconds, megabytes, results[name] = measured(name, Path(folder))
                times[name].append(seconds)
                memory[name].append(megabytes)
    for name in names:
        spread = ", ".join(f"{seconds:.2f}" for seconds in times[name])
        seconds, megabytes = statistics.median(times[name]), statistics.median(memory[name])
        print(f"{name:20} {seconds:7.2f} s  {megabytes:7.0f} MB   ({spread} s)")
    if "stardist" not in names:
        return 0
    slower = statistics.median(a / b for a, b in zip(times["seglib"], times["stardist"], strict=True))
    larger = statistics.median(a / b for a, b in zip(memory["seglib"], memory["stardist"], strict=True))
    same = np.allclose(results["seglib"], results["stardist"], rtol=1e-6)
    print(f"seglib / stardist: time {slower:.2f} (wanted ≤ 1), memory {larger:.2f} (wanted ≤ 0.5); same result: {same}")
    return 0 if same and slower <= 1 and larger <= 0.5 else 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.measure:
        measure(parsed.measure, parsed.folder)
        return 0
    return compare(parsed.side, parsed.rounds)


if __name__ == "__main__":
    sys.exit(main())
