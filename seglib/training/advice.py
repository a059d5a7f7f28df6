"""Settings to start from, fitted to a data set's sizes so that they can run as they are."""

import math
from collections.abc import Sequence

from seglib.config import (
    AutoSplitConfig,
    DataConfig,
    LabelScheme,
    ModelConfig,
    PatchConfig,
    RandomSamplingConfig,
    RunConfig,
    UNet2DConfig,
    UNet3DConfig,
)
from seglib.data.report.measure import VolumeFacts
from seglib.data.splits import Member, Shape, split_data
from seglib.data.volumes import VoxelSize
from seglib.models.zoo.wnet import WNetConfig
from seglib.store.datasets import DatasetRow, VolumeRow
from seglib.training.suggestion import Suggestion

DEMO_NAME = "Demo cells"
PATCH_VOXELS = 64**3
WANTED_2D: Shape = (1, 256, 256)
DEEPEST = 4
UNLABELLED_CHANNELS = 16


def config_for(dataset: DatasetRow) -> RunConfig:
    """Settings that can run on a data set as they are; without any labels, of a network that needs none."""
    labelled = [volume for volume in dataset.volumes if volume.has_labels]
    members = [Member(volume.name, volume.shape_zyx, volume.group) for volume in labelled or dataset.volumes]
    first = (labelled or dataset.volumes)[0]
    config = first_config(dataset.id, members, labels=dataset.labels, voxel_size_nm=first.voxel_size_nm)
    return config if labelled else _unlabelled(config)


def learns_classes(labels: LabelScheme) -> bool:
    """Whether labels tell several things apart: more than one class, or objects with borders."""
    return len(labels.classes) > 1 or labels.borders is not None


def learned_volumes(dataset: DatasetRow, config: RunConfig) -> list[VolumeRow]:
    """The volumes of a data set a run is about: those with labels, or all for a network that needs none."""
    return [volume for volume in dataset.volumes if volume.has_labels or not config.model.needs_labels]


def first_config(
    dataset_id: int, members: Sequence[Member], *, labels: LabelScheme, voxel_size_nm: VoxelSize = (1.0, 1.0, 1.0)
) -> RunConfig:
    """A config whose patch and depth fit every training part of these volumes.

    labels: several classes, or objects with borders, are each learned; otherwise the foreground is.
    voxel_size_nm: (z, y, x); patches are about as deep as wide in nanometres.
    A network without depth is taken where there are fewer than four planes.
    """
    data = DataConfig(dataset=dataset_id, labels=labels, task="classes" if learns_classes(labels) else "foreground")
    split = split_data(members, AutoSplitConfig(), seed=0)
    room = [min(region.shape[axis] for region in split.training) for axis in range(3)]
    flat = room[0] < 4
    wanted = WANTED_2D if flat else suggested_patch(voxel_size_nm, depth=room[0])
    patch = [min(side, have) for side, have in zip(wanted, room, strict=True)]
    limiting = min(patch[1:] if flat else patch)
    # The deepest level keeps at least two voxels, as instance normalisation needs.
    depth = max(2, min(DEEPEST, limiting.bit_length(), max(patch).bit_length() - 1))
    step = 2 ** (depth - 1)
    fitted = [side if flat and axis == 0 else max(step, side // step * step) for axis, side in enumerate(patch)]
    model: ModelConfig = UNet2DConfig(depth=depth)
    if not flat:
        model = UNet3DConfig(depth=depth, flat_levels=flat_levels(voxel_size_nm, depth))
    return RunConfig(data=data, model=model, patches=PatchConfig(shape=(fitted[0], fitted[1], fitted[2])))


def _unlabelled(config: RunConfig) -> RunConfig:
    """The config with WNet3D, narrow enough for a laptop, and patches it takes."""
    model = WNetConfig(start_channels=UNLABELLED_CHANNELS)
    z, y, x = (max(step, side // step * step) for side, step in zip(config.patches.shape, model.stride, strict=True))
    patches = config.patches.model_copy(update={"shape": (z, y, x)})
    return config.model_copy(update={"model": model, "patches": patches})


def suggestion_for(dataset: DatasetRow, volumes: Sequence[VolumeFacts]) -> Suggestion:
    """Settings suggested for a data set on this machine. volumes: its report. Raises ConfigError as `suggest` does."""
    # They size networks with torch, and advice is asked for before it is there.
    from seglib.training.machine import this_machine
    from seglib.training.suggest import suggest

    return suggest(dataset.id, volumes, dataset.labels, this_machine())


def recipe_for(dataset: DatasetRow, name: str) -> Suggestion:
    """A published recipe for a data set, changed where the data force it. Raises ConfigError as `apply_recipe` does."""
    from seglib.training.fitting import apply_recipe
    from seglib.training.recipes import RECIPES

    start = config_for(dataset)
    used = learned_volumes(dataset, RECIPES[name].make(start) if name in RECIPES else start)
    members = [Member(volume.name, volume.shape_zyx, volume.group) for volume in used]
    return apply_recipe(name, start, members, dataset.volumes[0].voxel_size_nm)


def flat_levels(voxel_size_nm: VoxelSize, depth: int) -> int:
    """So many levels shrink in the plane only until voxels are about as deep as wide."""
    ratio = voxel_size_nm[0] / (sum(voxel_size_nm[1:]) / 2)
    return max(0, min(depth - 1, round(math.log2(max(1.0, ratio)))))


def suggested_patch(voxel_size_nm: VoxelSize, *, depth: int) -> Shape:
    """A patch (z, y, x) of about 262,000 voxels that is as deep as wide in nanometres, in multiples of 8 and 16.

    depth: planes there are; a patch that cannot be that deep is wider instead.
    Voxels that are more than 16 times as deep as wide are treated as if they were 16 times.
    """
    ratio = min(16.0, max(1 / 16, voxel_size_nm[0] / (sum(voxel_size_nm[1:]) / 2)))
    side = (PATCH_VOXELS * ratio) ** (1 / 3)
    planes = max(8, round(side / ratio / 8) * 8)
    if planes > depth:
        planes = depth
        side = (PATCH_VOXELS / planes) ** 0.5
    across = max(16, round(side / 16) * 16)
    return planes, across, across


def with_labels(config: RunConfig, labels: LabelScheme) -> RunConfig:
    """The config with how label values are read, where it does not say so itself."""
    if config.data.labels is not None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"labels": labels})})


def demo_config(dataset_id: int) -> RunConfig:
    """A run of well under a minute on a laptop's CPU, on the demo data."""
    config = RunConfig(
        name="Demo run",
        data=DataConfig(dataset=dataset_id),
        patches=PatchConfig(shape=(16, 64, 64)),
        sampling=RandomSamplingConfig(per_epoch=32),
        model=UNet3DConfig(depth=3, start_channels=8),
    )
    return config.model_copy(update={"length": config.length.model_copy(update={"epochs": 10})})
