"""A few training patches as the network would see them, drawn and varied before a run is started."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seglib.config import RunConfig
from seglib.config.labels import IGNORE
from seglib.data.normalise import measure
from seglib.data.palette import PALETTE
from seglib.data.parts import open_parts
from seglib.data.patches import Window
from seglib.data.pictures import grey_picture, painted, visible_range
from seglib.data.splits import Member, Region, Shape, split_data
from seglib.data.volumes import Volume
from seglib.training.setup import plan_drawing

MOST_VOLUMES = 8
MOST_SIDES: Shape = (64, 768, 768)


@dataclass(frozen=True)
class Example:
    """One patch. picture: uint8 (Y, X, 3) of its plane with most labels; plain: the same without labels.

    volume: whose; plane: which plane of the patch; learned: share (0 … 1) of the patch that has a label to learn from.
    """

    volume: str
    picture: NDArray[np.uint8]
    plain: NDArray[np.uint8]
    plane: int
    learned: float


def draw_examples(config: RunConfig, volumes: Sequence[Volume], *, count: int = 8, seed: int = 0) -> list[Example]:
    """So many patches of the training part, each varied as the config says.

    They are drawn from up to eight of the volumes, of large ones from a piece, so that this takes a moment only.
    seed: another one draws others.
    Raises ConfigError where the settings do not fit the data.
    """
    members = [Member(volume.name, volume.shape_zyx, volume.group) for volume in volumes]
    split = split_data(members, config.split, config.length.seed)
    rng = np.random.default_rng([config.length.seed, 5, seed])
    chosen = rng.permutation(len(split.training))[:MOST_VOLUMES]
    regions = [_piece(split.training[index], volumes[split.training[index].volume], rng) for index in chosen]
    scheme, task = config.data.scheme, config.data.task
    parts, _ = open_parts(volumes, regions, scheme=scheme, task=task, memory_bytes=2**40)
    normalisation = measure([part.image for part in parts], config.normalisation)
    sampler, augmentation = plan_drawing(config, parts, normalisation, volumes[0])
    batch = sampler.batch(seed, count)
    images, targets = torch.from_numpy(batch.images), torch.from_numpy(batch.targets)
    if augmentation:
        images, targets = augmentation(images, targets, rng)
    if not config.model.needs_labels:
        targets = torch.zeros_like(targets)
    names = [_name(parts[window.part].name, window) for window in sampler.windows(seed, count)]
    palette = _palette(config)
    return [
        _example(name, image, target, palette)
        for name, image, target in zip(names, images.numpy(), targets.numpy(), strict=True)
    ]


def _piece(region: Region, volume: Volume, rng: np.random.Generator) -> Region:
    """A part of a region that is read in a moment; of a few that are looked at, the one with the most labels."""
    sides = [min(side, most) for side, most in zip(region.shape, MOST_SIDES, strict=True)]
    if tuple(sides) == region.shape:
        return region
    best, most = region, -1
    for _ in range(6):
        low = [
            a + int(rng.integers(0, b - a - s + 1)) for a, b, s in zip(region.start, region.stop, sides, strict=True)
        ]
        high = [a + side for a, side in zip(low, sides, strict=True)]
        piece = Region(region.volume, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
        labelled = int(np.count_nonzero(np.asarray(volume.labels[piece.slices]))) if volume.labels is not None else 0
        if labelled > most:
            best, most = piece, labelled
    return best


def _name(name: str, window: Window) -> str:
    return f"{name}, {' × '.join(map(str, window.shape))}"


def _palette(config: RunConfig) -> NDArray[np.uint8]:
    palette = PALETTE.copy()
    for index, colour in enumerate(config.data.scheme.colours(config.data.task), start=1):
        if colour:
            palette[index] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return palette


def _example(name: str, image: NDArray[np.float32], target: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Example:
    labelled = (target > 0) & (target != IGNORE)
    counts = labelled.sum((1, 2))
    plane = int(counts.argmax()) if counts.any() else target.shape[0] // 2
    plain = grey_picture(image[0, plane], *visible_range(image))
    picture = painted(plain, target[plane], palette)
    return Example(name, picture, plain, plane, float((target != IGNORE).mean()))
