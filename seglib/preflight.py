"""Everything that would make a training fail, found before it starts and said file by file."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from seglib.config import (
    FileWeightsConfig,
    ImageNetConfig,
    LabelScheme,
    RunConfig,
    RunWeightsConfig,
    UNet2DConfig,
    UNet3DConfig,
)
from seglib.data.normalise import channels_of
from seglib.data.patches import fitting_patch, patches_per_epoch
from seglib.data.splits import Member, Region, Shape, Split, describe, split_data
from seglib.errors import ConfigError
from seglib.inference.devices import use_half
from seglib.models import is_flat, model_stride
from seglib.models.networks.unet import GROUPS
from seglib.store.datasets import DatasetRow, VolumeRow
from seglib.training.advice import learned_volumes, with_labels
from seglib.training.cost import Cost, estimate_cost
from seglib.training.followers import rank_devices
from seglib.training.setup import NEEDS_LABELS, class_names, memory_for_volumes
from seglib.workspace import Workspace

MOST_OF_MEMORY = 0.9
DISK_FLOOR_BYTES = 500 * 2**20


@dataclass(frozen=True)
class Problem:
    """One sentence about what is wrong. kind: an `error` keeps the run from starting, a `warning` does not."""

    kind: Literal["error", "warning"]
    text: str


@dataclass(frozen=True)
class Preflight:
    """What a training would do.

    cost: None where it could not be estimated; memory_available: bytes free on the device.
    training, validation, test: (volume name, which part of it) of what trains, what judges and what is kept back.
    patch: (z, y, x) that is drawn, no larger than the training parts; steps_per_epoch: 0 where that is not known.
    works: the patch nearest to the one asked for that the network takes.
    """

    problems: tuple[Problem, ...]
    cost: Cost | None
    memory_available: int
    device: str
    training: tuple[tuple[str, str], ...]
    validation: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    training_voxels: int
    validation_voxels: int
    test_voxels: int
    patch: Shape
    works: Shape
    steps_per_epoch: int
    classes: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not any(problem.kind == "error" for problem in self.problems)


def check_run(workspace: Workspace, dataset: DatasetRow, config: RunConfig) -> Preflight:
    """Looks at a config and its data set without reading a voxel."""
    problems: list[Problem] = []
    config = with_labels(config, dataset.labels)
    wanted = config.patches.shape
    volumes = learned_volumes(dataset, config)
    problems += _data_problems(workspace, dataset, volumes)
    if config.model.needs_labels:
        problems += _label_problems(dataset, volumes, config.data.scheme)
    try:
        classes = class_names(config)
    except ConfigError as error:
        classes = ()
        if volumes:  # else it was said that there are no labels at all
            problems.append(Problem("error", str(error)))
    split, split_problems = _split(config, volumes)
    problems += split_problems
    shapes = [region.shape for region in split.training]
    patch, patches, seen = _patches(config, shapes)
    config = config.model_copy(update={"patches": config.patches.model_copy(update={"shape": seen})})
    shape_problems = _patch_problems(config, wanted) or _norm_problems(config)
    problems += shape_problems + _padding_notes(wanted, patch, split.training, volumes)
    problems += filter(None, [_disk_problem(workspace), _weights_problem(config)])
    device, available, device_problems = _device(config)
    problems += device_problems
    cost = None
    if device and classes and volumes and not shape_problems:
        try:
            cost = _cost(config, volumes, len(classes), device)
            problems += [*_memory_problems(config, cost, available), *_size_problems(config, cost)]
        except ConfigError as error:
            problems.append(Problem("error", str(error)))
        except (RuntimeError, ValueError) as error:  # torch's own, of a dry run
            problems.append(Problem("error", f"The network does not take patches of {_sizes(seen)}: {error}"))
        problems += _reading_note(config, split, volumes)
    return Preflight(
        problems=tuple(problems),
        cost=cost,
        memory_available=available,
        device=device,
        training=_names(split.training, volumes),
        validation=_names(split.validation, volumes),
        test=_names(split.test, volumes),
        training_voxels=_voxels(split.training),
        validation_voxels=_voxels(split.validation),
        test_voxels=_voxels(split.test),
        patch=patch,
        works=_working(wanted, config),
        steps_per_epoch=-(-patches // config.patches.batch_size),
        classes=classes,
    )


def _split(config: RunConfig, volumes: Sequence[VolumeRow]) -> tuple[Split, list[Problem]]:
    if not volumes:
        return Split((), ()), []
    try:
        members = [Member(volume.name, volume.shape_zyx, volume.group) for volume in volumes]
        return split_data(members, config.split, config.length.seed), []
    except ConfigError as error:
        return Split((), ()), [Problem("error", str(error))]


def _patches(config: RunConfig, shapes: Sequence[Shape]) -> tuple[Shape, int, Shape]:
    """The patch that is drawn, how many make an epoch, and the largest piece the network sees."""
    stride = model_stride(config.model)
    if not shapes:
        return config.patches.shape, 0, config.patches.shape
    patch = fitting_patch(config.patches.shape, shapes, stride)
    seen = _largest(shapes, stride) if config.sampling.kind == "whole" else patch
    return patch, patches_per_epoch(config.sampling, shapes, patch), seen


def _data_problems(workspace: Workspace, dataset: DatasetRow, volumes: Sequence[VolumeRow]) -> list[Problem]:
    problems = []
    if not volumes:
        problems.append(Problem("error", f"{dataset.name} has no labels, and {NEEDS_LABELS}"))
    for volume in volumes:
        if not workspace.volume(volume.id).exists():
            problems.append(Problem("error", f"{volume.name}: its files are gone from the workspace. Import it again."))
        if volume.shape_czyx[0] != volumes[0].shape_czyx[0]:
            problems.append(
                Problem(
                    "error",
                    f"{volume.name} has {volume.shape_czyx[0]} channel(s) but {volumes[0].name} has "
                    f"{volumes[0].shape_czyx[0]}: all volumes of a data set must have the same.",
                )
            )
    unlabelled = [volume.name for volume in dataset.volumes if volume not in volumes]
    if unlabelled and volumes:
        problems.append(Problem("warning", f"Without labels, and left out: {_some(unlabelled)}."))
    return problems


def _label_problems(dataset: DatasetRow, volumes: Sequence[VolumeRow], labels: LabelScheme) -> list[Problem]:
    """What can be said of label values from their counts alone."""
    counted = [volume for volume in volumes if volume.label_counts is not None]
    empty = [volume.name for volume in counted if not _foreground(volume, labels)]
    problems = []
    if volumes and len(empty) == len(volumes):
        text = f"{dataset.name}: no voxel of any volume is labelled, so there is nothing to learn."
        return [Problem("error", f"{text} Look under Labels on the Datasets page.")]
    if empty:
        problems.append(Problem("warning", f"Nothing is labelled in {_some(empty)}."))
    full = [v.name for v in counted if set(v.label_counts or {}) <= _foreground(v, labels) | set(labels.ignore)]
    if full and labels.kind == "instances":
        problems.append(Problem("warning", f"Every voxel is an object, and none background, in {_some(full)}."))
    present = {value for volume in counted for value in volume.label_counts or {}}
    absent = [part.name for part in labels.classes if not present & set(part.values)]
    if absent and len(counted) == len(volumes):
        problems.append(Problem("warning", f"No voxel belongs to the class {_some(absent)}."))
    return problems


def _foreground(volume: VolumeRow, labels: LabelScheme) -> set[int]:
    """The label values of a volume that are something to learn."""
    present = set(volume.label_counts or {}) - set(labels.ignore)
    if labels.kind == "classes":
        return present & {value for part in labels.classes for value in part.values}
    return present - set(labels.background)


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _patch_problems(config: RunConfig, wanted: Shape) -> list[Problem]:
    """What is wrong with the patch asked for."""
    stride = model_stride(config.model)
    if is_flat(config.model) and wanted[0] != 1:
        return [Problem("error", f"A 2D network works plane by plane: set the patch's z to 1 (it is {wanted[0]}).")]
    if not any(side % step for side, step in zip(wanted, stride, strict=True)):
        seen, least = config.patches.shape, config.model.smallest
        if all(side >= need for side, need in zip(seen, least, strict=True)):
            return []
        text = f"The network needs patches of at least {_sizes(least)} (z × y × x), and {_sizes(seen)} are taken"
        return [Problem("error", f"{text}: take larger ones where the volumes are that large, or another network.")]
    works = _sizes(_nearest(wanted, stride))
    return [
        Problem(
            "error",
            f"The patch {_sizes(wanted)} does not fit this network: its sides must be multiples of {_sizes(stride)} "
            f"(z × y × x). {works} works{', or take a smaller depth' if hasattr(config.model, 'depth') else ''}.",
        )
    ]


def _nearest(wanted: Shape, stride: Shape) -> Shape:
    """The patch nearest to one that a network of this stride takes."""
    z, y, x = (max(step, round(side / step) * step) for side, step in zip(wanted, stride, strict=True))
    return z, y, x


def _working(wanted: Shape, config: RunConfig) -> Shape:
    """The patch nearest to one that the network takes, and no smaller than it needs."""
    nearest = _nearest(wanted, model_stride(config.model))
    z, y, x = (max(side, least) for side, least in zip(nearest, config.model.smallest, strict=True))
    return z, y, x


def _padding_notes(
    wanted: Shape, patch: Shape, training: Sequence[Region], volumes: Sequence[VolumeRow]
) -> list[Problem]:
    """What happens where volumes are smaller than the patch."""
    notes = []
    if patch != wanted:
        notes.append(
            Problem(
                "warning",
                f"No training part is as large as the patch {_sizes(wanted)}: patches of {_sizes(patch)} are taken "
                "(z × y × x).",
            )
        )
    small = [
        volumes[region.volume].name
        for region in training
        if any(side > room for side, room in zip(patch, region.shape, strict=True))
    ]
    if small:
        notes.append(
            Problem(
                "warning",
                f"Smaller than the patch {_sizes(patch)} (z × y × x), and mirrored at the edges: {_some(small)}. What "
                "is added is not learned from.",
            )
        )
    return notes


def _norm_problems(config: RunConfig) -> list[Problem]:
    """An error where the norm of a U-Net's deepest level would be over a single value."""
    if not isinstance(config.model, UNet2DConfig | UNet3DConfig):
        return []
    sides = zip(config.patches.shape, model_stride(config.model), strict=True)
    values = int(np.prod([side // step for side, step in sides]))
    if config.model.norm == "batch":
        values *= config.patches.batch_size
    if config.model.norm == "group":
        values *= -(-config.model.start_channels * 2 ** (config.model.depth - 1) // GROUPS)
    if values > 1 or config.model.norm == "none":
        return []
    return [
        Problem(
            "error",
            f"At depth {config.model.depth} the patch {' × '.join(map(str, config.patches.shape))} shrinks to a single "
            f"voxel, which {config.model.norm} normalisation cannot work with: take a smaller depth or a larger patch.",
        )
    ]


def _device(config: RunConfig) -> tuple[str, int, list[Problem]]:
    """The device and its free memory in bytes; none, and why, where this machine has no such device, or too few."""
    try:
        device = rank_devices(config)[0]
    except ConfigError as error:
        return "", 0, [Problem("error", str(error))]
    if device.startswith("cuda"):
        return device, torch.cuda.mem_get_info(device)[0], []
    return device, psutil.virtual_memory().available, []


def _cost(config: RunConfig, volumes: Sequence[VolumeRow], classes: int, device: str) -> Cost:
    inputs = channels_of(config.normalisation, volumes[0].shape_czyx[0])
    half = use_half(torch.device(device), config.compute.precision)
    return estimate_cost(config, inputs=inputs, classes=classes, half=half)


def _memory_problems(config: RunConfig, cost: Cost, available: int) -> list[Problem]:
    problems = []
    if cost.memory_bytes > MOST_OF_MEMORY * available:
        share = (MOST_OF_MEMORY * available - cost.fixed_bytes) / (cost.memory_bytes - cost.fixed_bytes)
        batch = int(config.patches.batch_size * share)
        advice = f"a batch of {batch}" if batch > 0 else "smaller patches or fewer start channels"
        problems.append(
            Problem(
                "error",
                f"One step needs about {cost.memory_bytes / 2**30:.1f} GB of memory and {available / 2**30:.1f} GB are "
                f"free: take {advice}.",
            )
        )
    return problems


def _size_problems(config: RunConfig, cost: Cost) -> list[Problem]:
    """An error where the network is larger or smaller than the run allows."""
    millions, limits = cost.parameters / 1e6, config.compute
    if limits.least_parameters <= millions <= limits.most_parameters:
        return []
    beyond = "more than" if millions > limits.most_parameters else "fewer than"
    limit = limits.most_parameters if millions > limits.most_parameters else limits.least_parameters
    text = f"The network has {millions:.4g} million parameters, {beyond} the {limit:g} million allowed"
    return [Problem("error", f"{text}: change the network, or the limit under More settings.")]


def _reading_note(config: RunConfig, split: Split, volumes: Sequence[VolumeRow]) -> list[Problem]:
    """A warning where not all volumes can be kept in memory."""
    allowed = memory_for_volumes(config)
    needed = 0
    for region in (*split.training, *split.validation):
        row = volumes[region.volume]
        needed += _size(region.shape) * (row.shape_czyx[0] * np.dtype(row.dtype).itemsize + 1)
    if needed <= allowed:
        return []
    return [
        Problem(
            "warning",
            f"The volumes take {needed / 2**30:.1f} GB and {allowed / 2**30:.1f} GB of memory are theirs: the largest "
            "are read from disk while the network learns.",
        )
    ]


def _disk_problem(workspace: Workspace) -> Problem | None:
    """An error where the disk of the workspace is nearly full."""
    free = shutil.disk_usage(workspace.root).free
    if free > DISK_FLOOR_BYTES:
        return None
    return Problem(
        "error", f"Only {free / 2**20:.0f} MB are free on the disk of the workspace {workspace.root}: make room."
    )


def _weights_problem(config: RunConfig) -> Problem | None:
    """An error where the weights to start with are not said, or are of no use for the network."""
    match config.weights:
        case RunWeightsConfig(run=0):
            return Problem("error", "Choose the run whose weights to start with, or start from scratch.")
        case FileWeightsConfig(path=path) if not path.strip():
            return Problem("error", "Say which file holds the weights to start with, or start from scratch.")
        case FileWeightsConfig(path=path) if not Path(path.strip()).is_file():
            return Problem("error", f"There is no file {path.strip()} to take weights from. Check its spelling.")
        case ImageNetConfig() if config.model.kind != "smp":
            return Problem("error", "ImageNet weights are for SM-UNet's encoders: choose that network.")
    return None


def _largest(shapes: Sequence[Shape], stride: Shape) -> Shape:
    """What a batch of whole parts is padded to, at most."""
    z, y, x = (-(-side // step) * step for side, step in zip(np.max(shapes, axis=0).tolist(), stride, strict=True))
    return z, y, x


def _names(regions: Sequence[Region], volumes: Sequence[VolumeRow]) -> tuple[tuple[str, str], ...]:
    return tuple((volumes[r.volume].name, describe(r, volumes[r.volume].shape_zyx)) for r in regions)


def _voxels(regions: Sequence[Region]) -> int:
    return sum(_size(region.shape) for region in regions)


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _size(shape: Sequence[int]) -> int:
    z, y, x = shape
    return z * y * x
