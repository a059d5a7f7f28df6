"""How good suggested settings are, and how soon, on an electron micrograph of chloroplasts.

    python tests/bench/bench_quality.py DATA [--budget 120] [--peer peer.py] [--peer-budget 600] [--plot quality.svg]

DATA: a folder with `images` and `labels`, a TIFF a section. In the plane every second pixel is kept (means of the
image). Settings are suggested for the left 70 % in x, which also train; the right 30 % judge. Only the time of steps
counts, not that of judging. The peer is a script that takes IMAGE.npy LABEL.npy --axis --test-from --patch --batch
--budget and prints a line of JSON with `seconds`, `steps` and `dice` at each quarter of its budget; it runs after ours.
Prints both curves, and exits with 1 where ours is no better at the end of its budget than the peer is at the end of
its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from seglib.config import BlockSplitConfig, LabelScheme, RunConfig, ValidationConfig
from seglib.data.report.measure import measure_volume
from seglib.data.volumes import Volume
from seglib.events import StepDone, ValidationDone
from seglib.training.loop import train
from seglib.training.machine import this_machine
from seglib.training.suggest import suggest

LABELS = LabelScheme(kind="instances")
JUDGED = 0.3
MARKS = 8
PEER_PATCH, PEER_BATCH = (8, 128, 128), 2


@dataclass(frozen=True)
class Point:
    """Dice of the judged part after so much training."""

    seconds: float
    steps: int
    dice: float


def read(folder: Path, voxel: tuple[float, float, float]) -> Volume:
    """The stack at half its resolution in the plane."""
    image, labels = (
        np.stack([tifffile.imread(path) for path in sorted((folder / kind).glob("*.tif"))])
        for kind in ("images", "labels")
    )
    depth, height, width = image.shape
    halves = image.reshape(depth, height // 2, 2, width // 2, 2).mean((2, 4)).round().astype(image.dtype)
    return Volume(folder.name, halves[None], labels[:, ::2, ::2], voxel_size_nm=voxel)


def suggested(volume: Volume) -> RunConfig:
    """Settings suggested for the part that trains, to be judged on the rest of the volume."""
    edge = first_judged(volume)
    assert volume.labels is not None
    left = Volume("left", volume.image[..., :edge], volume.labels[..., :edge], voxel_size_nm=volume.voxel_size_nm)
    found = suggest(1, [measure_volume(left, LABELS)], LABELS, this_machine())
    for reason in found.reasons:
        print(f"  {reason.field}: {reason.text}")
    return found.config.model_copy(update={"split": BlockSplitConfig(axis="x", validation_share=JUDGED)})


def first_judged(volume: Volume) -> int:
    width = volume.shape_zyx[2]
    return width - int(np.ceil(JUDGED * width))


def ours(volume: Volume, config: RunConfig, budget: float, every: int) -> Iterator[Point]:
    """Dice every so many steps, until the budget is spent."""
    config = config.model_copy(update={"validation": ValidationConfig(interval=every, unit="iterations")})
    spent, steps = 0.0, 0
    for event in train(config, [volume]):
        if isinstance(event, StepDone):
            spent, steps = spent + event.seconds, steps + 1
        if isinstance(event, ValidationDone):
            yield Point(spent, steps, event.scores["dice"])
            if spent >= budget:
                return


def peers(volume: Volume, script: Path, budget: float) -> Iterator[Point]:
    """The same of the peer, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        image, labels = Path(folder, "image.npy"), Path(folder, "labels.npy")
        np.save(image, volume.image[0])
        np.save(labels, volume.labels)
        options = ["--axis", 2, "--test-from", first_judged(volume), "--patch", *PEER_PATCH, "--batch", PEER_BATCH]
        command = [sys.executable, script, image, labels, *options, "--budget", budget]
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            yield Point(found["seconds"], found["steps"], found["dice"])
        if process.wait():
            raise SystemExit(f"The peer ended with status {process.returncode}.")


def told(name: str, points: Iterator[Point]) -> list[Point]:
    found = []
    for point in points:
        print(f"{name:10} {point.seconds:7.1f} s  {point.steps:5d} steps  Dice {point.dice:.4f}", flush=True)
        found.append(point)
    return found


def plot(curves: dict[str, list[Point]], path: Path) -> None:
    """Dice over seconds, a line each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in curves.items():
        axes.plot([point.seconds for point in points], [point.dice for point in points], marker="o", label=name)
    axes.set(xlabel="seconds of training", ylabel="Dice of the right 30 %", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, bbox_inches="tight")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--voxel", type=float, nargs=3, default=(1.0, 1.0, 1.0), metavar=("Z", "Y", "X"))
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of steps")
    parser.add_argument("--every", type=int, default=0, help="judge every so many steps; 0 about eight times")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-budget", type=float, default=600.0)
    parser.add_argument("--plot", type=Path)
    parsed = parser.parse_args()
    volume = read(parsed.data, tuple(parsed.voxel))
    config = suggested(volume)
    curves = {
        "suggested": told("suggested", ours(volume, config, parsed.budget, parsed.every or every_of(config, parsed)))
    }
    if parsed.peer:
        curves["peer"] = told("peer", peers(volume, parsed.peer, parsed.peer_budget))
    if parsed.plot:
        plot(curves, parsed.plot)
    if not parsed.peer:
        return 0
    mine, other = curves["suggested"][-1], curves["peer"][-1]
    reached = next((point.seconds for point in curves["suggested"] if point.dice >= other.dice), None)
    print(f"ratio of Dice    {mine.dice / other.dice:.3f}")
    when = f"after {reached:.0f} s, {other.seconds / reached:.1f} times as fast" if reached else "never"
    print(f"the peer's last Dice of {other.dice:.4f} is reached {when}")
    return 0 if mine.dice >= other.dice else 1


def every_of(config: RunConfig, parsed: argparse.Namespace) -> int:
    """Steps between two judgements: of an epoch of a minute, an eighth of the budget."""
    steps = -(-config.sampling.per_epoch // config.patches.batch_size)
    return max(1, round(steps * parsed.budget / 60 / MARKS))


if __name__ == "__main__":
    sys.exit(main())
