"""How fast volumes are predicted, against MONAI's sliding window; and what a volume on disk costs.

    python tests/bench/bench_predict.py DATA [--steps 60] [--device cpu|cuda] [--rounds 3]
    python tests/bench/bench_predict.py --disk [--megavoxels 2000]

DATA: see `bench_quality.py`. A network learns for a few steps from the left 70 %, with suggested settings, then both
predict the whole stack from memory, in turns: MONAI in float32 with windows as large as the training patch, overlap
0.25, Gaussian blending and the batch it is fastest with; ours as a prediction is made. Dice is of the right 30 %.
With --disk: a small network over a volume on disk, whose planes are as large as those of one of 32 GB, against the
same in memory; peak memory is of a process of its own, above what it uses before it predicts.
Exits with 1 where the rate is less than 3 times MONAI's, Dice is less, the disk costs more than 10 %, or memory grows
by more than 2 GB.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray

from seglib.config import (
    BlockSplitConfig,
    ComputeConfig,
    DeviceConfig,
    LengthConfig,
    PredictConfig,
    RunConfig,
    TilesConfig,
    UNet3DConfig,
)
from seglib.data.normalise import between
from seglib.data.volumes import Array, Volume, create_volume, open_volume
from seglib.events import CheckpointMade
from seglib.inference.devices import half_type
from seglib.inference.ensemble import Ensemble
from seglib.inference.layouts import fastest_layout
from seglib.inference.predict import Predictor
from seglib.inference.sweep import Block, sweep
from seglib.inference.tiles import plan_tiles
from seglib.inference.windows import choose_windows
from seglib.models import build_model, model_stride
from seglib.tasks.trained import load_model
from seglib.tasks.written import encoded
from seglib.training.cost import estimate_cost
from seglib.training.loop import train
from tests.bench.bench_quality import JUDGED, first_judged, read, suggested

LEAST, MOST_DISK_COST, MOST_MEMORY_GB = 3.0, 0.10, 2.0
VOXEL_NM = (10.0, 10.0, 10.0)
BATCHES = (1, 2, 4, 8, 16)


def learned(volume: Volume, steps: int, device: str) -> tuple[Predictor, RunConfig]:
    """A network that has learned for so many steps."""
    config = suggested(volume).model_copy(
        update={
            "split": BlockSplitConfig(axis="x", validation_share=JUDGED),
            "length": LengthConfig(iterations=steps),
            "compute": ComputeConfig(device=device),
        }
    )
    checkpoint = None
    for event in train(config, [volume]):
        if isinstance(event, CheckpointMade) and event.kind == "last":
            checkpoint = event.checkpoint
    assert checkpoint is not None
    return load_model(checkpoint, PredictConfig(run=1, volume=1, compute=DeviceConfig(device=device))).predictor, config


def arranged(predictor: Predictor, config: RunConfig) -> Predictor:
    """The same weights as a prediction has them: in the layout that is faster, in a network of their own."""
    own = replace(predictor, network=copy.deepcopy(predictor.network))
    return fastest_layout(own, config.patches.shape)


def blocks(predictor: Predictor, config: RunConfig, image: Array) -> Iterator[Block]:
    """What comes out of a sweep as a prediction makes it."""
    room, patch = image.shape[1:], config.patches.shape
    cost = estimate_cost(config, inputs=int(image.shape[0]), classes=1, half=predictor.half is not None)
    windows = choose_windows(
        TilesConfig(),
        room,
        network=predictor.network,
        patch=patch,
        stride=predictor.stride,
        bytes_per_voxel=cost.prediction_bytes / (config.patches.batch_size * float(np.prod(patch))),
        device=predictor.device,
    )
    tiling = plan_tiles(room, windows.tile, predictor.stride, windows.margins, blending="gaussian", mirrored=True)
    ensemble = Ensemble([predictor])
    yield from sweep(tiling, ensemble.source(image), ensemble.look(1, windows.batch_size))


def written(found: Iterator[Block], target: Any) -> int:
    """Writes the first class's probabilities, in steps of 1/255, to an array (1, Z, Y, X); the number of tiles."""
    tiles = 0
    for block in found:
        (z, y, x), (_, dz, dy, dx) = block.start, block.values.shape
        target[:, z : z + dz, y : y + dy, x : x + dx] = encoded(block.values[:1], "uint8")
        tiles = block.tiles_done
    return tiles


def ours(predictor: Predictor, config: RunConfig, image: Array) -> NDArray[np.uint8]:
    """Probabilities of the first class in steps of 1/255."""
    result = np.empty((1, *image.shape[1:]), np.uint8)
    written(blocks(predictor, config, image), result)
    return result[0]


def peers(predictor: Predictor, config: RunConfig, image: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Probabilities of the first class, of a normalised image (C, Z, Y, X)."""
    with torch.inference_mode():
        found = sliding_window_inference(
            torch.from_numpy(image)[None].to(predictor.device),
            config.patches.shape,
            batch,
            predictor.network,
            overlap=0.25,
            mode="gaussian",
        )
        assert isinstance(found, torch.Tensor)
        return found[0, 0].sigmoid().cpu().numpy()


def timed(work: Callable[[], NDArray]) -> tuple[float, NDArray]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def dice(found: NDArray, truth: NDArray, edge: int) -> float:
    a, b = found[..., edge:], truth[..., edge:] > 0
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def against_monai(folder: Path, steps: int, device: str, rounds: int) -> bool:
    volume = read(folder, (1.0, 1.0, 1.0))
    predictor, config = learned(volume, steps, device)
    normalised, edge, size = predictor.normalisation.apply(volume.image[:]), first_judged(volume), volume.image[0].size
    peer = {}
    for batch in BATCHES:
        try:
            timed(lambda batch=batch: peers(predictor, config, normalised, batch))
            peer[batch], _ = timed(lambda batch=batch: peers(predictor, config, normalised, batch))
        except torch.OutOfMemoryError:
            break
        if batch > 1 and peer[batch] > 1.3 * min(peer.values()):
            break
    best = min(peer, key=lambda batch: peer[batch])
    own_predictor = arranged(predictor, config)
    timed(lambda: ours(own_predictor, config, volume.image))
    rates = []
    for _ in range(rounds):
        own_s, own = timed(lambda: ours(own_predictor, config, volume.image))
        peer_s, other = timed(lambda: peers(predictor, config, normalised, best))
        rates.append((size / own_s / 1e6, size / peer_s / 1e6))
        print(f"  ours {rates[-1][0]:.2f}, MONAI {rates[-1][1]:.2f} Mvoxel/s (batch {best})", flush=True)
    assert volume.labels is not None
    truth = np.asarray(volume.labels)
    scores = dice(own >= 128, truth, edge), dice(other > 0.5, truth, edge)
    ratio = statistics.median(a / b for a, b in rates)
    where = f"{predictor.device}, {predictor.half or 'float32'}"
    print(f"layout {own_predictor.layout}")
    print(f"{ratio:.2f} × MONAI (wanted {LEAST}) on {where}; Dice {scores[0]:.4f}, MONAI {scores[1]:.4f}")
    return ratio >= LEAST and scores[0] >= scores[1] - 0.001


def from_disk(megavoxels: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        side, depth = 4096, max(8, megavoxels * 10**6 // 4096**2)
        path = Path(folder) / "volume.zarr"
        array = create_volume(
            path, name="large", shape_czyx=(1, depth, side, side), dtype=np.uint8, voxel_size_nm=VOXEL_NM
        )
        rng = np.random.default_rng(0)
        for z in range(0, depth, 4):
            array[:, z : z + 4] = rng.integers(0, 255, (1, min(4, depth - z), side, side), np.uint8)
        command = [sys.executable, __file__, "--part", str(path)]
        parts = [json.loads(subprocess.run([*command, kind], check=True, capture_output=True, text=True).stdout)
                 for kind in ("disk", "memory")]  # fmt: skip
    disk, memory = parts
    cost = 1 - disk["rate"] / memory["rate"]
    print(f"{depth} × {side} × {side}: {disk['rate']:.2f} Mvoxel/s from disk, {memory['rate']:.2f} from memory")
    print(f"the disk costs {cost:.1%} (at most {MOST_DISK_COST:.0%})")
    print(f"{disk['grown_gb']:.2f} GB more memory (at most {MOST_MEMORY_GB})")
    return cost <= MOST_DISK_COST and disk["grown_gb"] <= MOST_MEMORY_GB


def part(path: Path, kind: str) -> None:
    """Predicts a volume with a small network and prints rate and growth."""
    config = RunConfig.model_validate({"data": {"dataset": 1}}).model_copy(
        update={"model": UNet3DConfig(depth=2, start_channels=4, dropout=0)}
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_model(config.model, inputs=1, outputs=1).eval().to(device)
    half = half_type(device, "auto")
    predictor = Predictor(network, between([0.0], [255.0]), "sigmoid", model_stride(config.model), 1, device, half)
    image: Array = open_volume(path).image
    if kind == "memory":
        image = np.asarray(image[:])
    ours(predictor, config, image[:, :8, :512, :512])
    process, most, over = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    tiles = ours_to_disk(predictor, config, image)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    voxels = float(np.prod(image.shape[1:]))
    print(json.dumps({"rate": voxels / seconds / 1e6, "grown_gb": (most[0] - before) / 2**30, "tiles": tiles}))


def ours_to_disk(predictor: Predictor, config: RunConfig, image: Array) -> int:
    """Predicts and writes to an array on disk, as a prediction does; the number of tiles."""
    shape = (1, *image.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        target = create_volume(
            Path(folder) / "found.zarr", name="found", shape_czyx=shape, dtype=np.uint8, voxel_size_nm=VOXEL_NM
        )
        return written(blocks(predictor, config, image), target)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--megavoxels", type=int, default=2000)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.part:
        part(Path(parsed.part[0]), parsed.part[1])
        return 0
    good = True
    if parsed.data:
        good &= against_monai(parsed.data, parsed.steps, parsed.device, parsed.rounds)
    if parsed.disk:
        good &= from_disk(parsed.megavoxels)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
