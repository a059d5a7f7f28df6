"""2D images of bright rings: the flat sibling of the optic lobe's columns, after the 3dsegmentation toolkit.

Published: 128 × 128 pixels, rings about 10 pixels wide, labelled where they are brighter than 0.3; 128 images to
train, 32 to validate and 32 to test, of the seeds 111, 999 and 2222. Profile, density and noise are our own.
"""

import numpy as np
from numpy.typing import NDArray

from seglib.config.synthetic import RingImagesConfig

# The middle of a ring's rim and how wide it is, in diameters.
RIM, WIDTH = 0.36, 0.09
# Rings in a square of so many diameters, and how near they may come.
ROOM, NEAREST = 1.7, 1.05


def ring_sample(
    config: RingImagesConfig, *, seed: int, index: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Image number `index` of a seed, float32 (1, Y, X), and the ids of its rings, uint16 (1, Y, X), 0 outside."""
    rng = np.random.default_rng([seed, index])
    side, diameter = config.side, config.diameter
    centres = _places(side, diameter, rng)
    signal = np.zeros((side, side), np.float32)
    ids = np.zeros((side, side), np.uint16)
    nearest = np.full((side, side), np.inf, np.float32)
    for number, (y, x) in enumerate(centres, 1):
        size, brightness = diameter * rng.uniform(0.8, 1.2), rng.uniform(0.5, 1.0)
        low = np.floor(np.array([y, x]) - size).astype(int).clip(0)
        high = np.ceil(np.array([y, x]) + size).astype(int).clip(None, side)
        box = slice(low[0], high[0]), slice(low[1], high[1])
        away = np.hypot(*np.meshgrid(np.arange(low[0], high[0]) - y, np.arange(low[1], high[1]) - x, indexing="ij"))
        profile = brightness * np.exp(-0.5 * ((away / size - RIM) / WIDTH) ** 2)
        signal[box] += profile.astype(np.float32)
        mine = (profile > config.threshold) & (away < nearest[box])
        ids[box][mine] = number
        nearest[box][mine] = away[mine]
    image = signal + np.float32(config.noise) * rng.standard_normal(signal.shape, dtype=np.float32)
    return image[None], ids[None]


def _places(side: int, diameter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places (N, 2) that keep apart, as many as fit into half of the room there is."""
    wanted = max(1, round((side / diameter / ROOM) ** 2))
    tried = rng.uniform(0, side, (20 * wanted, 2))
    kept: list[NDArray[np.float64]] = []
    for place in tried:
        if len(kept) == wanted:
            break
        if not kept or np.hypot(*(np.array(kept) - place).T).min() > NEAREST * diameter:
            kept.append(place)
    return np.array(kept)
