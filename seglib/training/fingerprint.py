"""What settings rest on in the report of a data set: what is learned, from which part, and how large it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglib.config import AutoSplitConfig, BlockSplitConfig, DataConfig, LabelScheme, SplitConfig
from seglib.data.report.findings import class_shares
from seglib.data.report.measure import VolumeFacts
from seglib.data.splits import Member, Split, describe, split_data
from seglib.errors import ConfigError
from seglib.training.advice import learns_classes
from seglib.training.sizing import Needs
from seglib.training.suggestion import Reason

# Tried in this order.
SPLITS: tuple[SplitConfig, ...] = (
    AutoSplitConfig(),
    BlockSplitConfig(axis="x"),
    BlockSplitConfig(axis="y"),
    BlockSplitConfig(axis="z"),
)


@dataclass(frozen=True)
class Fingerprint:
    """volumes: that a run learns from or is judged on; names: of the classes 1 … K that it learns.

    parts: the volumes as `split` divides them; shares: class id -> share (0 … 1) of the annotated voxels of the
    training part, 0 being background; empty where nothing is labelled.
    reasons: why it is learned and divided so.
    """

    data: DataConfig
    volumes: tuple[VolumeFacts, ...]
    names: tuple[str, ...]
    split: SplitConfig
    parts: Split
    shares: dict[int, float]
    needs: Needs
    reasons: tuple[Reason, ...]

    @property
    def rarest(self) -> tuple[str, float]:
        """The rarest class of the training part and its share (0 … 1); a share of 0 where there is none."""
        found = [(self.shares[value], name) for value, name in enumerate(self.names, 1) if self.shares.get(value)]
        share, name = min(found, default=(0.0, self.names[0]))
        return name, share

    @property
    def grey_place(self) -> float:
        """Where the mean grey value lies between the lowest (0) and the highest (1); mean over volumes."""
        places = [(grey.mean - grey.low) / (grey.high - grey.low or 1.0) for grey in (f.grey[0] for f in self.volumes)]
        return float(np.mean(places))

    @property
    def judged_voxels(self) -> int:
        """Voxels of the part that judges."""
        return sum(int(np.prod(region.shape)) for region in self.parts.validation)


def take_fingerprint(dataset: int, volumes: Sequence[VolumeFacts], labels: LabelScheme) -> Fingerprint:
    """The fingerprint of a data set. dataset: its id; volumes: its report, in the order of the data set.

    Without any labelled voxel all volumes count, and nothing is learned from labels.
    Raises ConfigError where the data cannot be divided into training and validation in any way.
    """
    labelled = any(facts.labels and facts.labels.labelled for facts in volumes)
    classes = labelled and learns_classes(labels)
    data = DataConfig(dataset=dataset, labels=labels, task="classes" if classes else "foreground")
    names = labels.names(data.task)
    used = tuple(facts for facts in volumes if facts.labels is not None) if labelled else tuple(volumes)
    split, parts, why = _split(used, names)
    return Fingerprint(
        data=data,
        volumes=used,
        names=names,
        split=split,
        parts=parts,
        shares=class_shares(used, parts.training) if labelled else {},
        needs=_needs(used, parts, len(names)),
        reasons=(*_task_reasons(used, names), Reason("split", why)),
    )


def _task_reasons(volumes: Sequence[VolumeFacts], names: Sequence[str]) -> list[Reason]:
    if len(names) > 1:
        return [Reason("data.task", f"The labels tell {len(names)} classes apart, so each is learned.")]
    objects = sum(facts.labels.objects.count for facts in volumes if facts.labels and facts.labels.objects)
    if not objects:
        return []
    text = f"The labels are {objects:,} single objects, and all of them are learned as foreground."
    return [Reason("data.task", text)]


def _split(volumes: Sequence[VolumeFacts], names: Sequence[str]) -> tuple[SplitConfig, Split, str]:
    """The first split both of whose parts hold all classes, or else the one that misses fewest; and why."""
    members = [Member(facts.name, facts.shape, facts.group) for facts in volumes]
    found: list[tuple[int, SplitConfig, Split]] = []
    errors: list[ConfigError] = []
    for config in SPLITS:
        try:
            split = split_data(members, config, 0)
        except ConfigError as error:  # another one may do
            errors.append(error)
            continue
        held = [class_shares(volumes, part) for part in (split.training, split.validation)]
        missing = sum(not shares.get(value) for shares in held for value in range(1, len(names) + 1))
        found.append((missing, config, split))
    if not found:
        raise errors[0]
    missing, config, split = min(found, key=lambda one: one[0])
    first = split.validation[0]
    where = describe(first, volumes[first.volume].shape)
    if where == "all of it":
        return config, split, f"There are {len(volumes)} volumes, so {len(split.validation)} judge and never train."
    text = f"the last fifth of each judges and never trains, as {where} of {volumes[first.volume].name}"
    if missing < found[0][0]:
        return config, split, f"Cut in another way, one of the parts would lack a class: {text}."
    many = len(volumes) > 1
    return config, split, f"There {'are' if many else 'is'} only {len(volumes)} volume{'s' * many}: {text}."


def _needs(volumes: Sequence[VolumeFacts], parts: Split, classes: int) -> Needs:
    """Medians are those of one of the volumes: the lower of the two in the middle."""
    shapes = np.array([region.shape for region in parts.training])
    z, y, x = (int(side) for side in np.percentile(shapes, 50, axis=0, method="lower"))
    sizes = np.array([facts.voxel_size_nm for facts in volumes])
    deep, high, wide = (float(nm) for nm in np.percentile(sizes, 50, axis=0, method="lower"))
    extents = [f.labels.objects.extents for f in volumes if f.labels and f.labels.objects and f.labels.objects.count]
    return Needs(
        room=(z, y, x),
        voxel_size_nm=(deep, high, wide),
        voxels=int(shapes.prod(1).sum()),
        objects=_largest(extents) if extents else None,
        inputs=volumes[0].channels,
        classes=classes,
    )


def _largest(extents: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    z, y, x = (max(sides) for sides in zip(*extents, strict=True))
    return z, y, x
