"""How fast synthetic samples of the fly's optic lobe are made, and what takes the time.

    python tests/bench/bench_synthetic.py [--samples 20]

Samples of 128³ in one thread, the median over rounds; then the share of each step. Aim: five a second on one core.
"""

import argparse
import cProfile
import pstats
import statistics
import sys
import time

from seglib.config.synthetic import OpticLobeConfig
from seglib.data.two_photon import optic_lobe_sample

AIM = 5.0
ROUNDS = 5
STEPS = ("place_columns", "fluorescence", "neurites", "render", "label_columns")


def make(samples: int, seed: int) -> None:
    for index in range(samples):
        optic_lobe_sample(OpticLobeConfig(), seed=seed, index=index)


def rate(samples: int, seed: int) -> float:
    began = time.perf_counter()
    make(samples, seed)
    return samples / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=20)
    parsed = parser.parse_args()
    make(2, 0)
    rates = [rate(parsed.samples, seed) for seed in range(ROUNDS)]
    found = statistics.median(rates)
    print(f"{found:.2f} samples of 128³ a second on one core (aim ≥ {AIM:g}; rounds {[round(r, 2) for r in rates]})")
    profile = cProfile.Profile()
    profile.runcall(make, parsed.samples, 0)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(entry[2] for entry in stats.values())
    for name in STEPS:
        spent = sum(entry[3] for place, entry in stats.items() if place[2] == name)
        print(f"  {name:14} {100 * spent / whole:5.1f} %")
    return 0 if found >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
