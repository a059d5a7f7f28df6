"""How large patches, batches and networks can be: as large as the data ask for and the machine allows.

In the spirit of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): a patch as deep as wide in nanometres,
as large as memory allows, halved along each axis until about four voxels are left, in batches of at least two.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

from seglib.config import DataConfig, LossConfig, ModelConfig, PatchConfig, RunConfig, UNet2DConfig, UNet3DConfig
from seglib.data.splits import Shape
from seglib.data.volumes import VoxelSize
from seglib.models import is_flat, model_stride
from seglib.training.advice import flat_levels
from seglib.training.cost import estimate_cost
from seglib.training.machine import Machine

FEWEST_PLANES = 4
# Voxels of a patch beyond which more of the surroundings tells little, in 3D and in 2D; nnU-Net's usual patches.
MOST_VOXELS, MOST_PIXELS = 128**3, 512**2
DEEPEST_SIDE, DEEPEST_SIDE_ON_CPU = 4, 8
MOST_LEVELS = 6
MOST_BATCH = 16
# A network should not see more than so much of the training part in a step.
BATCH_SHARE = 0.05
MEMORY_SHARE = 0.6
STEP_S = 1.0
# A step backwards costs about twice as much as one forwards.
PASSES = 3
CHANNELS, CHANNELS_ON_CPU = (32, 16, 8, 4), (16, 8, 4)
MOST_RATIO = 16.0
REFERENCE, REFERENCE_SIDES = 64**3, (32, 64, 64)
HALVINGS = 50
ROUNDS = 4
Limit = Literal["volumes", "objects", "memory", "time", "enough"]


@dataclass(frozen=True)
class Needs:
    """What the data ask for.

    room: (z, y, x) of the usual training part; voxel_size_nm: (z, y, x); voxels: of all training parts.
    objects: (z, y, x) in voxels that hold nine of ten objects, or None where that is not known.
    inputs, classes: what the network takes and learns.
    """

    room: Shape
    voxel_size_nm: VoxelSize
    voxels: int
    objects: Shape | None
    inputs: int
    classes: int

    @property
    def flat(self) -> bool:
        """Whether there are too few planes for a network that sees depth."""
        return self.room[0] < FEWEST_PLANES

    @property
    def deep(self) -> float:
        """How many times as deep as wide voxels are."""
        return self.voxel_size_nm[0] / (sum(self.voxel_size_nm[1:]) / 2)


@dataclass(frozen=True)
class Sizes:
    """A patch (z, y, x), how many make a batch, and the network they are for. limit: what keeps the patch from more.

    step_s: seconds a training step takes, roughly; patch_adds: multiply-adds of a patch forwards.
    """

    patch: Shape
    batch: int
    model: ModelConfig
    limit: Limit
    step_s: float
    patch_adds: float


@dataclass(frozen=True)
class _Allowance:
    """voxels: that a step may hold, by memory and by time. adds: multiply-adds of a voxel forwards."""

    by_memory: float
    by_time: float
    adds: float

    @property
    def voxels(self) -> float:
        return min(self.by_memory, self.by_time)


def fit_unet(needs: Needs, machine: Machine, loss: LossConfig) -> Sizes:
    """Patch, batch and U-Net for these data on this machine; a narrower one where only tiny patches would fit."""
    channels = CHANNELS_ON_CPU if machine.is_cpu else CHANNELS
    for start in channels:
        sizes = _with_channels(needs, machine, loss, start)
        if _wide_enough(sizes.patch, needs) or start == channels[-1]:
            break
    return sizes


def fit_patch(needs: Needs, machine: Machine, loss: LossConfig, model: ModelConfig) -> Sizes:
    """Patch and batch for a network that stays as it is."""
    allowed = _allowance(needs, machine, loss, model)
    patch, limit = _patch(needs, allowed, model_stride(model))
    return _sized(needs, machine, model, patch, limit, allowed)


def levels_of(patch: Shape, needs: Needs, deepest_side: int) -> tuple[int, int]:
    """(depth, flat levels) of a U-Net that halves a patch until its sides are about `deepest_side`, 4 along z.

    Levels halve in the plane only until voxels are about as deep as wide, and where planes are too few to be halved.
    """
    halvings = max(1, min(MOST_LEVELS - 1, _halvings(min(patch[1:]), deepest_side)))
    if needs.flat:
        return halvings + 1, 0
    along = min(halvings - flat_levels(needs.voxel_size_nm, halvings + 1), _halvings(patch[0], DEEPEST_SIDE))
    return halvings + 1, halvings - max(0, along)


def _halvings(side: int, deepest_side: int) -> int:
    """How often a side is halved until it is nearest to another."""
    return round(math.log2(side / deepest_side))


def shaped(voxels: float, needs: Needs, stride: Shape) -> Shape:
    """The patch (z, y, x) of about so many voxels that is as deep as wide in nanometres, within the room there is.

    Sides are multiples of `stride`, the nearest below, and at least one of it, though that be more than the room.
    """
    ratio = min(MOST_RATIO, max(1 / MOST_RATIO, needs.deep))
    room = (1, *needs.room[1:]) if needs.flat else needs.room

    def sides(scale: float) -> list[float]:
        # What there is no room for along one axis is taken along the others.
        return [max(1.0, min(most, scale * share)) for most, share in zip(room, (1 / ratio, 1.0, 1.0), strict=True)]

    low, high = 0.0, max(room) * max(1.0, ratio)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(sides(middle)) <= voxels else (low, middle)
    found = high if math.prod(sides(high)) <= voxels else low
    z, y, x = (max(step, int(side + 1e-6) // step * step) for side, step in zip(sides(found), stride, strict=True))
    return z, y, x


def _with_channels(needs: Needs, machine: Machine, loss: LossConfig, channels: int) -> Sizes:
    """The U-Net of so many start channels; patch and depth follow from each other, found in a few rounds."""
    deepest = DEEPEST_SIDE_ON_CPU if machine.is_cpu else DEEPEST_SIDE
    patch = shaped(REFERENCE, needs, (1, 1, 1))
    known: list[ModelConfig] = []
    for _ in range(ROUNDS):
        model = _unet(levels_of(patch, needs, deepest), needs, channels)
        if model in known:
            break
        known.append(model)
        allowed = _allowance(needs, machine, loss, model)
        patch, limit = _patch(needs, allowed, model_stride(model))
    sizes = _sized(needs, machine, model, patch, limit, allowed)
    # Batch statistics are steadier, but there are none of a single patch.
    return sizes if sizes.batch > 1 else replace(sizes, model=model.model_copy(update={"norm": "instance"}))


def _unet(levels: tuple[int, int], needs: Needs, channels: int) -> ModelConfig:
    depth, flat = levels
    if needs.flat:
        return UNet2DConfig(depth=depth, start_channels=channels)
    return UNet3DConfig(depth=depth, flat_levels=flat, start_channels=channels)


def _patch(needs: Needs, allowed: _Allowance, stride: Shape) -> tuple[Shape, Limit]:
    """The patch, and what keeps it from being larger."""
    most = allowed.voxels / 2
    wanted = _most(needs, stride)
    patch = shaped(min(most, wanted), needs, stride)
    if all(side + step > room for side, step, room in zip(patch, stride, needs.room, strict=True)):
        return patch, "volumes"
    if most < wanted:
        return patch, "memory" if allowed.by_memory < allowed.by_time else "time"
    return patch, "objects" if needs.objects and wanted > _usual_most(needs) else "enough"


def _usual_most(needs: Needs) -> int:
    return MOST_PIXELS if needs.flat else MOST_VOXELS


def _most(needs: Needs, stride: Shape) -> int:
    """Voxels beyond which a patch need not grow: nine of ten objects fit, and there is something around them."""
    usual = _usual_most(needs)
    if needs.objects is None:
        return usual
    # As the patch has a shape of its own, it is the largest side that decides.
    longest = max(size * nm for size, nm in zip(needs.objects, needs.voxel_size_nm, strict=True))
    sides = [min(room, longest / nm) for room, nm in zip(needs.room, needs.voxel_size_nm, strict=True)]
    return max(usual, math.prod(math.ceil(side / step) * step for side, step in zip(sides, stride, strict=True)))


def _sized(
    needs: Needs, machine: Machine, model: ModelConfig, patch: Shape, limit: Limit, allowed: _Allowance
) -> Sizes:
    voxels = math.prod(patch)
    seen = max(2, int(BATCH_SHARE * needs.voxels / voxels))
    batch = max(1 if allowed.by_memory < 2 * voxels else 2, min(MOST_BATCH, seen, int(allowed.voxels / voxels)))
    adds = allowed.adds * voxels
    return Sizes(patch, batch, model, limit, PASSES * batch * adds / machine.rate, adds)


def _wide_enough(patch: Shape, needs: Needs) -> bool:
    """Whether a patch is large enough for its network: as wide as 48 voxels, or as all there is."""
    return all(side >= min(48, room // 2) for side, room in zip(patch[1:], needs.room[1:], strict=True))


def _allowance(needs: Needs, machine: Machine, loss: LossConfig, model: ModelConfig) -> _Allowance:
    """What a step may hold, from one estimate: activations and multiply-adds grow with the voxels."""
    bytes_fixed, bytes_a_voxel, adds = _per_voxel(model, loss, needs.inputs, needs.classes, machine.half)
    memory = MEMORY_SHARE * machine.memory_bytes - bytes_fixed
    return _Allowance(memory / bytes_a_voxel, STEP_S * machine.rate / (PASSES * adds), adds)


@functools.lru_cache(maxsize=256)
def _per_voxel(model: ModelConfig, loss: LossConfig, inputs: int, classes: int, half: bool) -> tuple[int, float, float]:
    """(bytes that any batch takes, bytes of a voxel in training, multiply-adds of a voxel forwards) of a network."""
    stride = model_stride(model)
    z, y, x = (
        max(least, -(-side // step) * step)
        for side, least, step in zip(REFERENCE_SIDES, model.smallest, stride, strict=True)
    )
    shape = (1 if is_flat(model) else z, y, x)
    config = RunConfig(
        data=DataConfig(dataset=1), model=model, loss=loss, patches=PatchConfig(shape=shape, batch_size=2)
    )
    cost = estimate_cost(config, inputs=inputs, classes=classes, half=half)
    voxels = math.prod(shape)
    return cost.fixed_bytes, (cost.memory_bytes - cost.fixed_bytes) / (2 * voxels), cost.multiply_adds / voxels
