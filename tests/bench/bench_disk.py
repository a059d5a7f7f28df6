"""What a training step waits for patches of a volume far larger than its memory budget.

    python tests/bench/bench_disk.py [--folder /tmp] [--gb 16] [--budget 2] [--steps 60]

Writes a noisy uint16 volume of that many GB with labels (it does not compress to nothing), then trains a U-Net in
bf16 on random 64³ patches of it, augmented, with that many GB for volumes. Printed is the share of the steps' time that
was spent waiting for patches, and the peak memory of the process.
Exits with 1 where more than 5 % is waited, or memory goes beyond the budget by more than the network itself needs.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from seglib.config import (
    BlockSplitConfig,
    ComputeConfig,
    DataConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
    RunConfig,
    UNet3DConfig,
)
from seglib.data.prefetch import Prefetcher
from seglib.data.volumes import TRUTH, create_labels, create_volume, open_volume, set_contrast
from seglib.events import Note, StepDone
from seglib.training.loop import train

MOST_WAITING = 0.05
WARM_UP = 5
SIDE = 2048
SLAB = 16


def write_volume(path: Path, gb: float) -> None:
    """A volume (Z, 2048, 2048) of smooth blobs in noise; blobs are labelled 1."""
    depth = int(gb * 2**30 / 2 / SIDE**2) // SLAB * SLAB
    image = create_volume(
        path, name="large", shape_czyx=(1, depth, SIDE, SIDE), dtype=np.uint16, voxel_size_nm=(1,) * 3
    )
    labels = create_labels(path, TRUTH, shape_zyx=(depth, SIDE, SIDE), dtype=np.uint8, voxel_size_nm=(1,) * 3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4000, (SLAB, SIDE, SIDE), dtype=np.uint16)
    y, x = np.ogrid[:SIDE, :SIDE]
    for z in range(0, depth, SLAB):
        blobs = np.sin(y / 31 + z / 40) * np.sin(x / 37 - z / 50) > 0.7
        image[0, z : z + SLAB] = np.roll(noise, 997 * z, axis=2) + 3000 * blobs.astype(np.uint16)
        labels[z : z + SLAB] = np.broadcast_to(blobs, (SLAB, SIDE, SIDE)).astype(np.uint8)
    set_contrast(path, (0, 7000))


def config(budget: float) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset=1),
        split=BlockSplitConfig(validation_share=0.02),
        patches=PatchConfig(shape=(64, 64, 64), batch_size=2),
        sampling=RandomSamplingConfig(per_epoch=100_000),
        model=UNet3DConfig(depth=4, start_channels=16),
        length=LengthConfig(epochs=1),
        compute=ComputeConfig(memory_gb=budget),
    )


def measure(path: Path, budget: float, steps: int) -> tuple[float, float, float]:
    """Seconds of the steps, seconds of them waiting, and bytes of memory at most."""
    waited = 0.0
    take = Prefetcher.take

    def timed(self: Prefetcher) -> object:  # type: ignore[type-arg]
        nonlocal waited
        began = time.perf_counter()
        try:
            return take(self)
        finally:
            waited += time.perf_counter() - began

    Prefetcher.take = timed  # type: ignore[method-assign, assignment]
    seconds, done = 0.0, 0
    began = time.perf_counter()
    for event in train(config(budget), [open_volume(path)]):
        if isinstance(event, Note):
            print(f"  {event.text}")
        if isinstance(event, StepDone):
            done += 1
            if done == 1:
                print(f"  first step after {time.perf_counter() - began:.0f} s")
            if done == WARM_UP:
                waited, seconds = 0.0, 0.0
            elif done > WARM_UP:
                seconds += event.seconds
            if done == WARM_UP + steps:
                break
    return seconds, waited, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--gb", type=float, default=16.0)
    parser.add_argument("--budget", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=60)
    parsed = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=parsed.folder))
    try:
        began = time.perf_counter()
        write_volume(folder / "large.zarr", parsed.gb)
        print(f"wrote {parsed.gb:g} GB in {time.perf_counter() - began:.0f} s")
        seconds, waited, peak = measure(folder / "large.zarr", parsed.budget, parsed.steps)
    finally:
        shutil.rmtree(folder)
    print(f"steps     {seconds / parsed.steps:8.3f} s each, {parsed.steps} of them")
    print(f"waiting   {100 * waited / seconds:8.2f} %   (target ≤ {100 * MOST_WAITING:g} %)")
    print(f"memory    {peak / 2**30:8.2f} GB at most, volumes had {parsed.budget:g}")
    return 0 if waited <= MOST_WAITING * seconds else 1


if __name__ == "__main__":
    sys.exit(main())
