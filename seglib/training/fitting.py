"""Published settings fitted to a data set: what the data force is changed, and said."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seglib.config import AutoSplitConfig, GroupSplitConfig, ModelConfig, RunConfig, UNet2DConfig, UNet3DConfig
from seglib.data.splits import Member, Shape, Split, split_data
from seglib.data.volumes import VoxelSize
from seglib.errors import ConfigError
from seglib.models import is_flat, model_stride
from seglib.training.recipes import RECIPES
from seglib.training.sizing import FEWEST_PLANES
from seglib.training.suggestion import Reason, Suggestion

# Voxels deeper than wide by less than this are cubes to a network.
CUBES = 2.0
CUBE_SIDE = 112


def apply_recipe(
    name: str, start: RunConfig, members: Sequence[Member], voxel_size_nm: VoxelSize = (1.0, 1.0, 1.0)
) -> Suggestion:
    """The recipe of that name, changed where the data force it; the first reason says what it is.

    start: settings that fit the data set, whose parts that the recipe does not name stay.
    members: the volumes that are learned from; voxel_size_nm: (z, y, x).
    Raises ConfigError for a name there is not, or where the data cannot be divided.
    """
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}. There are: {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    reasons = [Reason("recipe", recipe.source)]
    config = _split(_cubes(recipe.make(start), voxel_size_nm, reasons), members, reasons)
    split = split_data(members, config.split, config.length.seed)
    z, y, x = (int(side) for side in np.max([region.shape for region in split.training], axis=0))
    for fit in (_dimensions, _depth, _patch):
        config = fit(config, (z, y, x), reasons)
    return Suggestion(config, tuple(reasons))


def _split(config: RunConfig, members: Sequence[Member], reasons: list[Reason]) -> RunConfig:
    """By name only where names fit."""
    if not isinstance(config.split, GroupSplitConfig) or _divides(config, members):
        return config
    text = f"No volume or folder is called {config.split.validation} with others beside it, so a fifth judges instead."
    reasons.append(Reason("split", text))
    return config.model_copy(update={"split": AutoSplitConfig()})


def _divides(config: RunConfig, members: Sequence[Member]) -> Split | None:
    try:
        return split_data(members, config.split, config.length.seed)
    except ConfigError:
        return None


def _cubes(config: RunConfig, voxel_size_nm: VoxelSize, reasons: list[Reason]) -> RunConfig:
    """Levels and patches without flat ones where voxels are cubes."""
    model = config.model
    if not isinstance(model, UNet3DConfig) or not model.flat_levels:
        return config
    deep = voxel_size_nm[0] / max(voxel_size_nm[1:])
    if deep >= CUBES:
        return config
    text = f"Voxels are {deep:.3g} times as deep as wide, so no level looks in the plane only."
    reasons.append(Reason("model.flat_levels", text))
    return _with(config, model.model_copy(update={"flat_levels": 0}), (CUBE_SIDE,) * 3)


def _dimensions(config: RunConfig, room: Shape, reasons: list[Reason]) -> RunConfig:
    """A 2D network for data without depth."""
    if room[0] >= FEWEST_PLANES or is_flat(config.model):
        return config
    planes = f"The volumes have {room[0]} plane{'s' * (room[0] > 1)}"
    flat = _flat(config.model)
    if flat is None:
        text = f"{planes} and this network is 3D only: they are mirrored to {model_stride(config.model)[0]}."
        reasons.append(Reason("model", text))
        return config
    reasons.append(Reason("model", f"{planes}, so the network works plane by plane, on patches of one."))
    return _with(config, flat, (1, *config.patches.shape[1:]))


def _depth(config: RunConfig, room: Shape, reasons: list[Reason]) -> RunConfig:
    """Fewer levels where the deepest would be a single voxel."""
    model = config.model
    if not isinstance(model, UNet2DConfig | UNet3DConfig):
        return config
    depth = model.depth
    sides = [min(side, most) for side, most in zip(config.patches.shape, room, strict=True)]
    while model.depth > 2 and all(side < 2 * step for side, step in zip(sides, model_stride(model), strict=True)):
        changes = {"depth": model.depth - 1}
        if isinstance(model, UNet3DConfig):
            changes["flat_levels"] = min(model.flat_levels, model.depth - 2)
        model = model.model_copy(update=changes)
    if model.depth == depth:
        return config
    text = (
        f"{depth} levels would leave a single voxel of the {_sizes(room)} of the largest training part, so "
        f"there are {model.depth}."
    )
    reasons.append(Reason("model.depth", text))
    return _with(config, model, config.patches.shape)


def _flat(model: ModelConfig) -> ModelConfig | None:
    """The 2D sibling of a network, or None where it has none."""
    if isinstance(model, UNet3DConfig):
        shared: dict[str, Any] = model.model_dump(exclude={"kind", "flat_levels"})
        return UNet2DConfig(**shared)
    if "dimensions" in type(model).model_fields:
        return model.model_copy(update={"dimensions": "2D"})
    return None


def _patch(config: RunConfig, room: Shape, reasons: list[Reason]) -> RunConfig:
    """Sides that the network takes, and that fit into the largest training part where it is that large."""
    wanted, stride = config.patches.shape, model_stride(config.model)
    z, y, x = (
        max(least, min(-(-side // step) * step, most // step * step))
        for side, most, step, least in zip(wanted, room, stride, config.model.smallest, strict=True)
    )
    if (z, y, x) == wanted:
        return config
    text = (
        f"Patches are {_sizes((z, y, x))} voxels, not {_sizes(wanted)} (z × y × x): the largest training part has "
        f"{_sizes(room)}, and the network takes multiples of {_sizes(stride)}."
    )
    reasons.append(Reason("patches.shape", text))
    return _with(config, config.model, (z, y, x))


def _with(config: RunConfig, model: ModelConfig, shape: Shape) -> RunConfig:
    return config.model_copy(update={"model": model, "patches": config.patches.model_copy(update={"shape": shape})})


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
