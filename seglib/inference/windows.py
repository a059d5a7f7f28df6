"""What a network is best shown at once when it predicts: how large windows, and how many of them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from seglib.config.predicting import TilesConfig
from seglib.data.splits import Shape
from seglib.inference.tiles import fitting_tile, margins_of, rounded_up

# Layers that mix all of a window, by what their classes are called: torch's norms, pooling over everything, and the
# squeeze-and-excitation of encoders.
POOLED = ("SqueezeExcite", "SEModule", "SEBlock", "SCSEModule", "MBConvBlock", "PositionEmbedding", "PatchEmbedding")
# Of the memory that is free, and at most.
SHARE_OF_FREE, MOST_CPU, MOST_GPU = 0.25, 2**30, 2**34
# Beyond this a window is no faster for being larger.
ENOUGH_CPU, ENOUGH_GPU = 2**21, 2**24
MOST_AT_ONCE = 64


@dataclass(frozen=True)
class Windows:
    """tile: (z, y, x); margins: at each side, see `plan_tiles`; batch_size: tiles at once; notes: what was chosen."""

    tile: Shape
    margins: Shape
    batch_size: int
    notes: tuple[str, ...]


def choose_windows(
    config: TilesConfig,
    room: Sequence[int],
    *,
    network: nn.Module,
    patch: Shape,
    stride: Shape,
    bytes_per_voxel: float,
    device: torch.device,
) -> Windows:
    """Windows for a volume (z, y, x).

    patch: what the network was trained on; bytes_per_voxel: of memory that it takes to predict one.
    A network that mixes all of a window is shown windows as large as its patches, as it would see something else in
    others; any other one larger windows where memory allows, of which fewer voxels are computed twice.
    """
    margins = margins_of(patch, config.overlap)
    mixing = mixes_window(network)
    budget = memory_for_windows(device)
    if any(config.window):
        wanted = tuple(
            rounded_up(side or own, step) for side, own, step in zip(config.window, patch, stride, strict=True)
        )
        tile = fitting_tile(room, wanted, stride)
        notes = [f"Windows of {_sizes(tile)} voxels, as asked for."]
        if mixing and tile != fitting_tile(room, patch, stride):
            notes.append(
                f"{_why(mixing)} Windows of another size than the training patch, {_sizes(patch)}, may be worse."
            )
    elif mixing:
        tile = fitting_tile(room, patch, stride)
        notes = [f"{_why(mixing)} Windows are as large as the training patch, {_sizes(patch)} voxels."]
    else:
        enough = ENOUGH_GPU if device.type == "cuda" else ENOUGH_CPU
        most = max(_volume(patch), min(enough, int(budget / bytes_per_voxel)))
        tile = _largest(room, patch, stride, margins, most)
        notes = [f"Windows of {_sizes(tile)} voxels; the training patch was {_sizes(patch)}."]
    batch = config.batch_size or _batch(tile, bytes_per_voxel, budget, device)
    return Windows(tile, _inside(margins, tile), batch, tuple(notes))


def mixes_window(network: nn.Module) -> str:
    """What in a network makes its answer depend on all of a window, in words; nothing where there is no such thing."""
    for module in network.modules():
        name = type(module).__name__
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm)
        if isinstance(module, nn.GroupNorm) or (batch_norm and not module.track_running_stats):
            return "normalises over the whole window"
        if name.startswith("Adaptive") or name.startswith(POOLED):
            return "looks at the whole window at once"
    return ""


def memory_for_windows(device: torch.device) -> int:
    """How many bytes the windows under way may take."""
    if device.type == "cuda":
        return min(MOST_GPU, int(SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]))
    return min(MOST_CPU, int(SHARE_OF_FREE * psutil.virtual_memory().available))


def _largest(room: Sequence[int], patch: Shape, stride: Shape, margins: Shape, most: int) -> Shape:
    """The windows of at most so many voxels with which the fewest are computed in all."""
    choices = [_sides(*of) for of in zip(room, patch, stride, margins, strict=True)]
    sizes = ((_volume((z[0], y[0], x[0])), z, y, x) for z, y, x in itertools.product(*choices))
    fitting = [(size * z[1] * y[1] * x[1], size, (z[0], y[0], x[0])) for size, z, y, x in sizes if size <= most]
    if not fitting:
        return fitting_tile(room, patch, stride)
    # Of choices that cost about the same the smallest window, which takes the least memory.
    least = min(cost for cost, _, _ in fitting)
    return min((size, tile) for cost, size, tile in fitting if cost <= 1.02 * least)[1]


def _sides(room: int, patch: int, stride: int, margin: int) -> list[tuple[int, int]]:
    """Sides a window can have along an axis, not much smaller than the patch, and how many it takes of each."""
    if patch == 1:
        return [(1, room)]
    whole = rounded_up(room, stride)
    if room <= patch:
        return [(whole, 1)]
    padded = rounded_up(room + 2 * rounded_up(margin, stride), stride)
    fewest = (padded - 2 * margin) / max(1, patch - 2 * margin)
    sides = {
        rounded_up(math.ceil((padded - 2 * margin) / count) + 2 * margin, stride)
        for count in range(2, math.ceil(fewest) + 1)
    }
    found = [(side, _count(padded, side, stride, margin)) for side in sorted({patch, *sides}) if side < room]
    return [*found, (whole, 1)]


def _count(padded: int, side: int, stride: int, margin: int) -> int:
    """How many windows `plan_tiles` takes."""
    step = max(stride, (side - 2 * margin) // stride * stride)
    return 1 + -(-(padded - side) // step)


def _inside(margins: Shape, tile: Shape) -> Shape:
    """Margins that leave something of a tile."""
    z, y, x = (min(margin, (side - 1) // 2) for margin, side in zip(margins, tile, strict=True))
    return z, y, x


def _batch(tile: Shape, bytes_per_voxel: float, budget: int, device: torch.device) -> int:
    enough = ENOUGH_GPU if device.type == "cuda" else ENOUGH_CPU // 8
    fitting = int(min(budget / bytes_per_voxel, enough) / _volume(tile))
    return max(1, min(MOST_AT_ONCE, fitting))


def _why(mixing: str) -> str:
    return f"This network {mixing}, so that what it finds depends on how much it sees."


def _volume(sides: Sequence[int]) -> int:
    z, y, x = sides
    return z * y * x


def _sizes(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))
