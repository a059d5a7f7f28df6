"""Planned volumes written to a folder, in one pass over their files and in bounded memory.

This is the part of an import that decodes files, so it runs in a process of its own (ingest/isolated.py) and knows
neither workspace nor database.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from seglib.data import checks
from seglib.data.planning import PlannedVolume
from seglib.data.pyramids import Level, layer_writer, levels_of
from seglib.data.readers import SourceFile
from seglib.data.readers.axes import OrientedFile
from seglib.data.small import is_small, small_layer, write_group
from seglib.data.stacks import Stack
from seglib.data.volumes import (
    TRUTH,
    VoxelSize,
    contrast_of,
    image_description,
    label_group,
    labels_description,
    layers_description,
    scales_of,
)
from seglib.errors import DataError, WorkCancelled
from seglib.store.datasets import NewVolume

MOST_COUNTED = 256
MOST_PROBLEMS = 20
_SAMPLED_PLANES = 16
_SAMPLED_VOXELS = 1 << 16
_SAMPLED_BYTES = 64 << 10
_SLAB_BYTES = 128 << 20
_SMALL_SLAB_BYTES = 8 << 20


class Writer(Protocol):
    """What takes the planes of a layer from front to back."""

    @property
    def slab_planes(self) -> int:
        """How many planes are best written at once."""
        ...

    def write(self, planes: NDArray[Any], /) -> None:
        """Appends planes (C, dz, Y, X), or (dz, Y, X) of labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """What a volume's labels hold.

    counts: value -> voxels, background included; None for more than 256 values.
    objects: different values apart from 0.
    seen, compact: how often a value was met in some planes, and how often it lay there in one piece.
    dtype: in the files. not_annotated: the value that stands for −1, where there was one.
    colours: value -> #rrggbb, from a colour table.
    """

    counts: dict[int, int] | None
    objects: int
    seen: int
    compact: int
    dtype: str
    not_annotated: int | None = None
    colours: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedVolume:
    """A volume written to `<folder>/<index>.zarr`, and its row to be."""

    index: int
    row: NewVolume
    facts: LabelFacts | None


@dataclass
class Watch:
    """Counts planes for the person waiting, and asks whether they still want to."""

    total: int
    progress: Callable[[int, int, str], None] = lambda done, total, text: None
    cancelled: Callable[[], bool] = lambda: False
    done: int = 0

    def step(self, planes: int, text: str) -> None:
        """Says that so many more planes are about to be done. Raises WorkCancelled."""
        if self.cancelled():
            raise WorkCancelled("The import was stopped; nothing was kept.")
        self.progress(self.done, self.total, text)
        self.done += planes


def stage_volumes(volumes: Sequence[tuple[int, PlannedVolume]], folder: Path, watch: Watch) -> list[StagedVolume]:
    """Writes volumes, each given with its index, to `<folder>/<index>.zarr`.

    Raises DataError with what is wrong, file by file, up to 20 problems.
    """
    staged, problems = [], []
    for index, volume in volumes:
        try:
            staged.append(_stage(index, volume, folder / f"{index}.zarr", watch))
        except WorkCancelled:
            raise
        except DataError as error:
            problems += str(error).splitlines()
            if len(problems) >= MOST_PROBLEMS:
                break
    refuse(problems)
    return staged


def refuse(problems: Sequence[str]) -> None:
    """Raises DataError that lists the problems, if there are any."""
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError("\n".join(["Nothing was imported, because:", *(f"- {problem}" for problem in problems)]))


def fingerprint(sources: Sequence[SourceFile]) -> str:
    """sha256 over the files' sizes and bytes at their start, middle and end, whatever they are called."""
    digest = hashlib.sha256()
    for source in sources:
        for path in _files_of(source.path):
            size = path.stat().st_size
            digest.update(f"{size}\0{source.member}\0".encode())
            with path.open("rb") as file:
                for offset in sorted({0, size // 2, max(0, size - _SAMPLED_BYTES)}):
                    file.seek(offset)
                    digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(found for found in path.rglob("*") if found.is_file())
    return files[:: max(1, len(files) // 1000)]


def _stage(index: int, volume: PlannedVolume, path: Path, watch: Watch) -> StagedVolume:
    shape_czyx = volume.image.shape_czyx
    target = _Target(path, levels_of(shape_czyx[1:], volume.voxel_size_nm), volume.voxel_size_nm)
    contrast = _write_image(target, volume, watch)
    facts = None if volume.labels is None else _write_labels(target, volume.labels, watch)
    row = NewVolume(
        name=volume.name,
        group=volume.group,
        shape_czyx=shape_czyx,
        dtype=str(volume.image.dtype),
        voxel_size_nm=volume.voxel_size_nm,
        channel_names=volume.channel_names,
        has_labels=facts is not None,
        label_counts=facts.counts if facts else None,
        objects=facts.objects if facts else None,
        contrast=contrast,
        fingerprint=fingerprint(volume.sources),
    )
    return StagedVolume(index, row, facts)


@dataclass(frozen=True)
class _Target:
    """Where a volume is written to, and its levels."""

    path: Path
    levels: tuple[Level, ...]
    voxel_size_nm: VoxelSize

    @property
    def is_small(self) -> bool:
        return is_small(self.levels[0].shape_zyx)

    @property
    def labels(self) -> Path:
        return self.path / "labels" / TRUTH

    @property
    def scales(self) -> list[tuple[float, ...]]:
        return scales_of(self.levels, self.voxel_size_nm)

    def image_layer(self, channels: int, dtype: np.dtype[Any]) -> AbstractContextManager[Writer]:
        if self.is_small:
            return small_layer(self.path, self.levels[0].shape_zyx, channels=channels, dtype=dtype)
        group = zarr.create_group(store=str(self.path), zarr_format=3)
        return layer_writer(group, self.levels, channels=channels, dtype=dtype, average=True)

    def label_layer(self, dtype: np.dtype[Any]) -> AbstractContextManager[Writer]:
        if self.is_small:
            shutil.rmtree(self.labels, ignore_errors=True)  # of a first try with fewer bits
            return small_layer(self.labels, self.levels[0].shape_zyx, channels=0, dtype=dtype)
        group = label_group(self.path, TRUTH)
        return layer_writer(group, self.levels, channels=0, dtype=dtype, average=False)

    def describe(self, folder: Path, attributes: Mapping[str, Any]) -> None:
        if self.is_small:
            write_group(folder, attributes)
        else:
            zarr.open_group(store=str(folder), mode="r+").attrs.update(dict(attributes))


def _write_image(target: _Target, volume: PlannedVolume, watch: Watch) -> tuple[float, float]:
    """Writes the image with its pyramid and metadata; returns what grey of channel 0 is shown black and white."""
    channels, depth, _, _ = volume.image.shape_czyx
    samples, every = [], max(1, depth // _SAMPLED_PLANES)
    with target.image_layer(channels, volume.image.dtype) as writer:
        for z0, planes in _slabs(volume.image, writer, watch, f"Importing {volume.name}"):
            writer.write(planes)
            sampled = planes[:, -z0 % every :: every].reshape(channels, -1)
            samples.append(sampled[:, :: max(1, sampled.shape[1] // _SAMPLED_VOXELS)].copy())
    windows = [contrast_of(channel) for channel in np.concatenate(samples, axis=1)]
    scales = [(1.0, *scale) for scale in target.scales]
    names = volume.channel_names
    description = image_description(name=volume.name, scales=scales, windows=windows, channel_names=names)
    target.describe(target.path, description)
    return windows[0]


def _write_labels(target: _Target, labels: Stack, watch: Watch) -> LabelFacts:
    try:
        scan = _copy_labels(target, labels, _stored_dtype(labels), watch)
    except _TooLarge:
        scan = _copy_labels(target, labels, np.dtype(np.uint64), watch)
    if target.is_small:
        write_group(target.labels.parent, layers_description([TRUTH]))
    target.describe(target.labels, labels_description(name=TRUTH, scales=target.scales))
    colours = {value: colour for file in labels.files for value, colour in file.file.colours.items()}
    return scan.facts(str(labels.dtype), colours)


def _copy_labels(target: _Target, labels: Stack, dtype: np.dtype[Any], watch: Watch) -> "_LabelScan":
    scan = _LabelScan(set(np.linspace(0, labels.shape_czyx[1] - 1, _SAMPLED_PLANES).astype(int).tolist()))
    problems: list[str] = []
    with target.label_layer(dtype) as writer:
        start = 0
        # File by file, so that every file with a problem is named.
        for file in labels.files:
            try:
                _copy_label_file(file, start, writer, dtype, scan, watch)
            except WorkCancelled:
                raise
            except DataError as error:
                problems.append(str(error))
            start += file.shape_czyx[1]
        if problems:
            raise DataError("\n".join(problems))
    return scan


def _copy_label_file(
    file: OrientedFile, start: int, writer: Writer, dtype: np.dtype[Any], scan: "_LabelScan", watch: Watch
) -> None:
    name = file.source.name
    for z0, planes in _slabs(Stack((file,)), writer, watch, f"Importing {name}"):
        whole = checks.colour_labels(planes) if len(planes) == 3 else checks.whole_labels(planes[0], name)
        if whole.dtype.itemsize > dtype.itemsize:
            raise _TooLarge
        scan.add(start + z0, whole, had_negative=planes.dtype.kind != "u" and bool((planes < 0).any()))
        writer.write(whole.astype(dtype, copy=False))


class _TooLarge(Exception):
    """A label value does not fit into 32 bits."""


def _stored_dtype(labels: Stack) -> np.dtype[Any]:
    if labels.shape_czyx[0] == 3:
        return np.dtype(np.uint32)
    if labels.dtype.kind == "u":
        return labels.dtype
    return checks.whole_labels(np.empty(0, labels.dtype), "").dtype


def _slabs(stack: Stack, writer: Writer, watch: Watch, text: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Planes from front to back, as many at once as are cheap to read and fit into memory."""
    channels, depth, rows, columns = stack.shape_czyx
    plane_bytes = channels * rows * columns * stack.dtype.itemsize
    thick = writer.slab_planes
    wanted = max(stack.chunk_planes, _SMALL_SLAB_BYTES // plane_bytes, thick)
    planes = max(thick, min(wanted, _SLAB_BYTES // plane_bytes) // thick * thick)
    with stack.opened() as read_planes:
        for z0 in range(0, depth, planes):
            z1 = min(depth, z0 + planes)
            watch.step(z1 - z0, text)
            yield z0, read_planes(z0, z1)


class _LabelScan:
    """Adds up what label values there are, slab by slab."""

    def __init__(self, looked_at: set[int]) -> None:
        self._looked_at = looked_at
        self._counts: Counter[int] | None = Counter()
        self._values: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._seen = self._compact = 0
        self._not_annotated: int | None = None

    def add(self, z0: int, labels_zyx: NDArray[Any], *, had_negative: bool) -> None:
        values, voxels = checks.count_values(labels_zyx)
        self._values = np.union1d(self._values, values)
        if self._counts is not None:
            self._counts.update(dict(zip(values.tolist(), voxels.tolist(), strict=True)))
            if len(self._counts) > MOST_COUNTED:
                self._counts = None
        if had_negative:
            self._not_annotated = checks.not_annotated(labels_zyx.dtype)
        for z in range(z0, z0 + len(labels_zyx)):
            if z in self._looked_at:
                pieces = checks.pieces_per_value(labels_zyx[z - z0])
                self._seen += len(pieces)
                self._compact += sum(count == 1 for count in pieces.values())

    def facts(self, dtype: str, colours: Mapping[int, str]) -> LabelFacts:
        present = {int(value) for value in self._values[:MOST_COUNTED]}
        return LabelFacts(
            counts=dict(sorted(self._counts.items())) if self._counts is not None else None,
            objects=int(np.count_nonzero(self._values)),
            seen=self._seen,
            compact=self._compact,
            dtype=dtype,
            not_annotated=self._not_annotated,
            colours={value: colour for value, colour in colours.items() if value in present},
        )
