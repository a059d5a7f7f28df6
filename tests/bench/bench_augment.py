"""How fast patches are augmented, against MONAI's transforms that do the same.

    python tests/bench/bench_augment.py [--rounds 7] [--patches 8]

Patches of 64³ with labels; rotation about any axis, scaling, shear, elastic deformation and flips, then brightness,
contrast, gamma and noise, each of them every time, in one thread. MONAI's affine and elastic parts are fused in one
resampling by its own Rand3DElasticd. Both run in turns in this process, so that noise hits both alike.
Exits with 1 where fewer than six times as many patches a second are made.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.transforms import (
    Compose,
    Rand3DElasticd,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from seglib.config import StandardAugmentationConfig
from seglib.data.augment import plan_augmentation

SIDE = 64
LEAST_RATIO = 6.0
ALWAYS = dict.fromkeys(("rotate", "scale", "shear", "elastic", "brightness", "contrast", "gamma", "noise"), 1.0)


def ours(patches: int) -> Callable[[], None]:
    config = StandardAugmentationConfig(**ALWAYS, turn=0.0, flip=0.5, blur=0.0)
    augmentation = plan_augmentation(config, (SIDE,) * 3, (1.0, 1.0, 1.0))
    assert augmentation is not None
    wide = [SIDE + 2 * more for more in augmentation.reach]
    images = torch.rand(patches, 1, *wide) * 2 - 1
    targets = (images[:, 0] > 0).to(torch.uint8)
    rng = np.random.default_rng(0)

    def run() -> None:
        found, labels = augmentation(images, targets, rng)
        assert found.shape[2:] == labels.shape[1:] == (SIDE,) * 3

    return run


def monais(patches: int) -> Callable[[], None]:
    both, image = ["image", "label"], ["image"]
    turn = (np.pi / 6,) * 3
    pipeline = Compose(
        [
            Rand3DElasticd(both, sigma_range=(6, 8), magnitude_range=(60, 100), prob=1.0, rotate_range=turn,
                           shear_range=(0.17,) * 3, scale_range=(0.2,) * 3, mode=["bilinear", "nearest"],
                           padding_mode="reflection"),
            *[RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)],
            RandShiftIntensityd(image, offsets=0.2, prob=1.0),
            RandScaleIntensityd(image, factors=0.25, prob=1.0),
            RandAdjustContrastd(image, gamma=(0.77, 1.3), prob=1.0),
            RandGaussianNoised(image, std=0.1, prob=1.0),
        ]
    )  # fmt: skip
    images = torch.rand(patches, 1, SIDE, SIDE, SIDE) * 2 - 1
    samples = [{"image": one, "label": (one > 0).float()} for one in images]

    def run() -> None:
        for sample in samples:
            assert pipeline(dict(sample))["image"].shape[1:] == (SIDE,) * 3

    return run


def rate(run: Callable[[], None], patches: int) -> float:
    began = time.perf_counter()
    run()
    return patches / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--patches", type=int, default=8)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    mine, peers = ours(parsed.patches), monais(parsed.patches)
    mine(), peers()
    here, there = [], []
    for _ in range(parsed.rounds):
        here.append(rate(mine, parsed.patches))
        there.append(rate(peers, parsed.patches))
    ratios = [a / b for a, b in zip(here, there, strict=True)]
    print(f"seglib   {statistics.median(here):8.1f} patches of {SIDE}³ a second, one thread")
    print(f"MONAI    {statistics.median(there):8.1f}")
    print(
        f"ratio    {statistics.median(ratios):8.2f}   (target ≥ {LEAST_RATIO}; rounds {[round(r, 2) for r in ratios]})"
    )
    return 0 if statistics.median(ratios) >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
