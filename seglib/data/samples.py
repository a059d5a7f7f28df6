"""Made-up samples of every kind, by number."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seglib.config.synthetic import OpticLobeConfig, RingImagesConfig
from seglib.data.ring_images import ring_sample
from seglib.data.splits import Shape
from seglib.data.two_photon import optic_lobe_sample


@dataclass(frozen=True)
class Sample:
    """One sample. image: float32 (Z, Y, X), about 0 … 1; ids: uint16 (Z, Y, X) of its objects, 0 outside.

    geometry: name -> array (N, 3), z y x, of what the sample was made from; empty where there is nothing to tell.
    """

    image: NDArray[np.float32]
    ids: NDArray[np.uint16]
    geometry: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def shape_of(config: OpticLobeConfig | RingImagesConfig) -> Shape:
    """(z, y, x) of every sample."""
    return config.shape if isinstance(config, OpticLobeConfig) else (1, config.side, config.side)


def make_sample(config: OpticLobeConfig | RingImagesConfig, *, seed: int, index: int) -> Sample:
    """Sample number `index` of a seed, the same every time."""
    if isinstance(config, RingImagesConfig):
        return Sample(*ring_sample(config, seed=seed, index=index))
    made = optic_lobe_sample(config, seed=seed, index=index)
    columns = made.columns
    geometry = {
        "points": columns.centres,
        "e_r": columns.axes,
        "e_theta": columns.across[0],
        "e_phi": columns.across[1],
    }
    return Sample(made.image, made.ids, geometry)
