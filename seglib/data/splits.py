"""Which part of the data trains, which only judges and which is kept for the end. They never share a voxel."""

import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from seglib.config import (
    AutoSplitConfig,
    BlockSplitConfig,
    FoldSplitConfig,
    GroupSplitConfig,
    HandSplitConfig,
    SplitConfig,
    VolumeSplitConfig,
)
from seglib.errors import ConfigError

Shape = tuple[int, int, int]
FEW_GROUPS = 4
AXES = "zyx"


@dataclass(frozen=True)
class Region:
    """A box of one volume. volume: its index; start, stop: (z, y, x), stop exclusive."""

    volume: int
    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Split:
    """Regions that train, regions that validate, and regions that nothing sees before the end."""

    training: tuple[Region, ...]
    validation: tuple[Region, ...]
    test: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Member:
    """What a split needs to know of a volume. shape: (z, y, x); volumes with the same group stay together."""

    name: str
    shape: Shape
    group: str = ""

    @property
    def family(self) -> str:
        return self.group or self.name


def split_data(members: Sequence[Member], config: SplitConfig, seed: int) -> Split:
    """Divides volumes into training, validation and test as the config says.

    seed: for the order in which groups are drawn.
    Raises ConfigError where training or validation would be empty.
    """
    families = sorted({member.family for member in members})
    match config:
        case BlockSplitConfig():
            return _split_blocks(members, config, config.gap)
        case AutoSplitConfig() if len(families) < FEW_GROUPS:
            return _split_blocks(members, config, 0)
        case AutoSplitConfig() | VolumeSplitConfig():
            return _by_families(members, *_drawn(families, config, seed))
        case FoldSplitConfig():
            return _by_families(members, *_fold(families, config, seed))
        case GroupSplitConfig():
            return _by_patterns(members, config)
        case HandSplitConfig():
            return _by_hand(members, config)


def longest_axis(shapes: Sequence[Shape]) -> int:
    """Index (0 z, 1 y, 2 x) of the axis along which the smallest volume is longest."""
    return int(np.argmax(np.min(np.array(shapes), axis=0)))


def describe(region: Region, whole: Shape) -> str:
    """The region in words, such as `all of it` or `x 0–1637`."""
    parts = [
        f"{axis} {start}–{stop - 1}"
        for axis, start, stop, side in zip(AXES, region.start, region.stop, whole, strict=True)
        if (start, stop) != (0, side)
    ]
    return ", ".join(parts) or "all of it"


def fits(member: Member, patterns: str) -> bool:
    """Whether a volume's group, its name or a folder in either fits one of the patterns (`*09, pos?`), case counting.

    A group or folder fits as a whole; a name fits with or without its ending.
    """
    texts = {member.group, member.name} - {""}
    texts |= {part for text in texts for part in PurePosixPath(text).parts}
    texts |= {PurePosixPath(text).stem for text in texts}
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts for pattern in wanted)


def _drawn(
    families: Sequence[str], config: AutoSplitConfig | VolumeSplitConfig, seed: int
) -> tuple[set[str], set[str]]:
    """Groups that validate and groups that test."""
    test, rest = _kept_for_test(families, config.test_share, seed)
    if len(rest) < 2:
        raise _too_few("Validation by volumes", len(families), 2 + (config.test_share > 0))
    count = min(len(rest) - 1, max(1, round(config.validation_share * len(families))))
    return set(rest[:count]), test


def _fold(families: Sequence[str], config: FoldSplitConfig, seed: int) -> tuple[set[str], set[str]]:
    test, rest = _kept_for_test(families, config.test_share, seed)
    if len(rest) < config.folds:
        raise _too_few(f"Cross-validation in {config.folds} folds", len(families), config.folds + bool(test))
    return set(rest[config.fold - 1 :: config.folds]), test


def _kept_for_test(families: Sequence[str], share: float, seed: int) -> tuple[set[str], list[str]]:
    """Groups of the test part, and all others in the order they are drawn."""
    order = np.random.default_rng([seed, 1]).permutation(len(families))
    drawn = [families[index] for index in order]
    count = max(1, round(share * len(families))) if share else 0
    # From the end, so that a test part leaves the order of the others as it is.
    return set(drawn[len(drawn) - count :]), drawn[: max(0, len(drawn) - count)]


def _too_few(what: str, have: int, needed: int) -> ConfigError:
    return ConfigError(
        f"{what} needs at least {needed} volumes (or groups of volumes), and the data set has {have}: choose a block "
        "for validation, or import more volumes."
    )


def _by_families(members: Sequence[Member], validation: set[str], test: set[str]) -> Split:
    return _by_choice(members, lambda m: m.family in validation, lambda m: m.family in test)


def _by_patterns(members: Sequence[Member], config: GroupSplitConfig) -> Split:
    both = [m.name for m in members if fits(m, config.validation) and fits(m, config.test)]
    if both:
        raise ConfigError(f"{both[0]} fits the patterns of validation and those of test: make them exclude each other.")
    split = _by_choice(members, lambda m: fits(m, config.validation), lambda m: fits(m, config.test))
    _refuse_torn_groups(members, split)
    return split


def _by_hand(members: Sequence[Member], config: HandSplitConfig) -> Split:
    names = {member.name for member in members}
    unknown = [name for name in (*config.validation, *config.test) if name not in names]
    if unknown:
        raise ConfigError(f"There is no labelled volume {unknown[0]} in this data set: choose the volumes anew.")
    validation, test = set(config.validation), set(config.test)
    return _by_choice(members, lambda m: m.name in validation, lambda m: m.name in test)


def _by_choice(
    members: Sequence[Member], validates: Callable[[Member], bool], tests: Callable[[Member], bool]
) -> Split:
    parts: dict[str, list[Region]] = {"training": [], "validation": [], "test": []}
    for index, member in enumerate(members):
        part = "test" if tests(member) else "validation" if validates(member) else "training"
        parts[part].append(Region(index, (0, 0, 0), member.shape))
    for part in ("training", "validation"):
        if not parts[part]:
            raise ConfigError(f"No volume is left for {part}: change how the data are split, or import more volumes.")
    return Split(*(tuple(regions) for regions in parts.values()))


def _refuse_torn_groups(members: Sequence[Member], split: Split) -> None:
    """Raises ConfigError where volumes of one group fall into different parts."""
    training = {members[region.volume].group for region in split.training} - {""}
    judging = {members[region.volume].group for region in (*split.validation, *split.test)}
    if torn := training & judging:
        raise ConfigError(
            f"The patterns tear the group {min(torn)} apart, some of it would train and some judge: choose patterns "
            "that fit whole groups."
        )


def _split_blocks(members: Sequence[Member], config: AutoSplitConfig | BlockSplitConfig, gap: int) -> Split:
    shapes = [member.shape for member in members]
    axis = longest_axis(shapes) if config.axis == "auto" else AXES.index(config.axis)
    training, validation, test = [], [], []
    for index, member in enumerate(members):
        length = member.shape[axis]
        judged = max(1, math.ceil(config.validation_share * length))
        kept = max(1, math.ceil(config.test_share * length)) if config.test_share else 0
        first_kept = length - kept
        first_judged = first_kept - (gap if kept else 0) - judged
        trained = first_judged - gap
        if trained < 1:
            raise ConfigError(
                f"{member.name} is only {length} voxel(s) long along {AXES[axis]}, too short to cut a validation block "
                "from it: choose another block axis, a smaller gap, or validation by volumes."
            )
        training.append(_block(index, member.shape, axis, 0, trained))
        validation.append(_block(index, member.shape, axis, first_judged, first_judged + judged))
        if kept:
            test.append(_block(index, member.shape, axis, first_kept, length))
    return Split(tuple(training), tuple(validation), tuple(test))


def _block(volume: int, shape: Shape, axis: int, start: int, stop: int) -> Region:
    low, high = [0, 0, 0], list(shape)
    low[axis], high[axis] = start, stop
    return Region(volume, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
