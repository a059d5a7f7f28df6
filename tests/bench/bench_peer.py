"""How many patches a second a training learns from, against another program's loop on the same data and network.

    python tests/bench/bench_peer.py DATA PEER [--model SegResNet|UNet] [--seconds 40] [--rounds 3]

DATA: a folder with `images` and `labels`, a TIFF a section; every second pixel in the plane. PEER: see
`bench_quality.py`; its patches a second are those of its last line. Both have MONAI's network of that name with the
peer's own arguments, patches of 8 × 128 × 128 in batches of two, Adam, a Dice loss, and elastic deformation, affine,
flips, quarter turns and a shift of grey values. They run one after the other, in rounds. Also prints the rate of the
bare step of the same network: forwards, backwards and optimiser on a batch that stays in memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import SegResNet, UNet
from torch import nn

import seglib.training.setup
from seglib.config import (
    AdamConfig,
    BlockSplitConfig,
    ConstantConfig,
    DataConfig,
    DiceLossConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
    RunConfig,
    StandardAugmentationConfig,
)
from seglib.data.volumes import Volume
from seglib.events import StepDone
from seglib.losses import total_loss
from seglib.models.networks.convolution import guard_convolutions
from seglib.models.zoo.monai import SegResNetConfig
from seglib.training.loop import train
from tests.bench.bench_quality import PEER_BATCH, PEER_PATCH, first_judged, read

LEAST = {"SegResNet": 2.1, "UNet": 1.7}
WARM_UP = 3


def network(name: str) -> nn.Module:
    """The network the peer builds under this name."""
    if name == "SegResNet":
        return SegResNet(init_filters=16, in_channels=1, out_channels=1)
    return UNet(3, 1, 1, channels=(16, 32, 64, 128), strides=((1, 2, 2), (1, 2, 2), (2, 2, 2)), num_res_units=2)


def settings() -> RunConfig:
    """What the peer does, as far as settings go."""
    return RunConfig(
        data=DataConfig(dataset=1),
        split=BlockSplitConfig(axis="x", validation_share=0.3),
        patches=PatchConfig(shape=PEER_PATCH, batch_size=PEER_BATCH),
        sampling=RandomSamplingConfig(per_epoch=100_000, foreground_share=0.0),
        augmentation=StandardAugmentationConfig(),
        # Its depth is that of the network that takes its place.
        model=SegResNetConfig(),
        loss=DiceLossConfig(),
        optimiser=AdamConfig(learning_rate=1e-3),
        schedule=ConstantConfig(),
        length=LengthConfig(epochs=1000),
    )


def ours(volume: Volume, name: str, seconds: float) -> float:
    """Patches a second of our loop."""
    seglib.training.setup.build_model = lambda *_, **__: guard_convolutions(network(name))
    began, patches = 0.0, 0
    for event in train(settings(), [volume]):
        if not isinstance(event, StepDone):
            continue
        if event.step == WARM_UP:
            began = time.perf_counter()
        if event.step > WARM_UP:
            patches += event.patches
            if time.perf_counter() - began > seconds:
                break
    return patches / (time.perf_counter() - began)


def bare(volume: Volume, name: str, seconds: float) -> float:
    """Patches a second of the same step on a batch that stays in memory."""
    seglib.training.setup.build_model = lambda *_, **__: guard_convolutions(network(name))
    setup = seglib.training.setup.prepare(settings(), [volume], resume=None)
    image, target = volume.image, volume.labels
    assert target is not None
    z, y, x = PEER_PATCH
    cut = np.stack([image[:, :z, :y, :x]] * PEER_BATCH).astype(np.float32) / 128 - 1
    images = torch.from_numpy(cut).to(setup.device).contiguous(memory_format=setup.layout)
    truth = torch.from_numpy(np.stack([(target[:z, :y, :x] > 0).astype(np.uint8)] * PEER_BATCH)).to(setup.device)

    def step() -> None:
        with setup.predictor.autocast():
            found = setup.learner(images)
        setup.optimiser.zero_grad(set_to_none=True)
        total_loss(setup.loss, found, truth, setup.network)[1].backward()
        setup.optimiser.step()

    for _ in range(WARM_UP):
        step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    if setup.device.type == "cuda":
        torch.cuda.synchronize()
    return steps * PEER_BATCH / (time.perf_counter() - began)


def peers(volume: Volume, script: Path, name: str, seconds: float) -> float:
    """Patches a second of the peer's loop."""
    with tempfile.TemporaryDirectory() as folder:
        image, labels = Path(folder) / "image.npy", Path(folder) / "labels.npy"
        np.save(image, volume.image[0])
        np.save(labels, volume.labels)
        command = [
            sys.executable, str(script), str(image), str(labels), "--axis", "2",
            "--test-from", str(first_judged(volume)), "--patch", *map(str, PEER_PATCH),
            "--batch", str(PEER_BATCH), "--budget", str(seconds), "--model", name,
        ]  # fmt: skip
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    last = json.loads(said.strip().splitlines()[-1])
    return float(last["patches"] / last["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--model", choices=sorted(LEAST), default="SegResNet")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    parsed = parser.parse_args()
    volume, rates = read(parsed.data, (1.0, 1.0, 1.0)), []
    for _ in range(parsed.rounds):
        rates.append(
            (
                ours(volume, parsed.model, parsed.seconds),
                peers(volume, parsed.peer, parsed.model, parsed.seconds),
                bare(volume, parsed.model, parsed.seconds / 3),
            )
        )
        print(f"  ours {rates[-1][0]:.3f}, peer {rates[-1][1]:.3f}, bare step {rates[-1][2]:.3f} patches/s", flush=True)
    ratio = statistics.median(mine / other for mine, other, _ in rates)
    share = statistics.median(mine / step for mine, _, step in rates)
    print(f"{parsed.model}: {ratio:.2f} × the peer (wanted {LEAST[parsed.model]}), {share:.2f} of the bare step")
    return 0 if ratio >= LEAST[parsed.model] else 1


if __name__ == "__main__":
    sys.exit(main())
