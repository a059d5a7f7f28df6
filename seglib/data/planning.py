"""From files to volumes: which files stack up, which labels belong to which image, and everything wrong with that.

Only headers are read here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seglib.data import checks
from seglib.data.readers import ImageFile, SourceFile, open_image
from seglib.data.readers.sources import natural_order
from seglib.data.volumes import VoxelSize
from seglib.errors import DataError

MAX_NAME = 200
_MAX_VOXEL_NM = 1e9


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What a person asks to import.

    name: of the data set, 1–200 characters.
    images, labels: files; put in natural order of their names. No labels is allowed.
    voxel_size_nm: (z, y, x) in nanometres.
    label_kind: whether label values are classes or instances (one id an object); auto guesses.
    layout: sections makes one volume of all files, volumes one of each; auto decides by size and number of planes.
    class_names: label value -> name, for classes.
    """

    name: str
    images: tuple[SourceFile, ...]
    labels: tuple[SourceFile, ...] = ()
    voxel_size_nm: VoxelSize
    label_kind: Literal["classes", "instances", "auto"] = "auto"
    layout: Literal["auto", "sections", "volumes"] = "auto"
    class_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """Files whose planes follow one another along z, read as one array. All have the same rows and columns."""

    files: tuple[ImageFile, ...]

    @property
    def shape_czyx(self) -> tuple[int, int, int, int]:
        c, _, y, x = self.files[0].shape_czyx
        return c, sum(file.shape_czyx[1] for file in self.files), y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.files[0].dtype

    def read_planes(self, z0: int, z1: int) -> NDArray[Any]:
        """Planes z0 … z1 − 1 as (C, z1 − z0, Y, X). Raises DataError where a file is damaged."""
        parts, start = [], 0
        for file in self.files:
            planes = file.shape_czyx[1]
            low, high = max(z0 - start, 0), min(z1 - start, planes)
            if low < high:
                parts.append(file.read_planes(low, high))
            start += planes
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class PlannedVolume:
    """A volume to be. shape_czyx and dtype are the image's; labels is None without any."""

    name: str
    image: Stack
    labels: Stack | None

    @property
    def shape_czyx(self) -> tuple[int, int, int, int]:
        return self.image.shape_czyx

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.image.dtype

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """Every file of the volume, images first."""
        stacks = [self.image] if self.labels is None else [self.image, self.labels]
        return tuple(file.source for stack in stacks for file in stack.files)


@dataclass(frozen=True)
class ImportPlan:
    """What an import would make. Where `problems` is not empty it would be refused, and volumes may be missing."""

    volumes: tuple[PlannedVolume, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def plan_import(request: ImportRequest) -> ImportPlan:
    """Opens the headers of all files and says what they would become, and every problem, file by file."""
    problems = _request_problems(request)
    images = _open_all(request.images, problems)
    labels = _open_all(request.labels, problems)
    notes = [note for file in (*images, *labels) for note in file.notes]
    if len(images) < len(request.images) or len(labels) < len(request.labels):
        if request.labels and len(request.images) != len(request.labels):
            notes.append(f"{len(request.images)} image and {len(request.labels)} label files were given.")
        return ImportPlan((), tuple(problems), tuple(notes))
    problems += [problem for file in labels for problem in _label_file_problems(file)]
    stacks = _stacks(request, images, problems, notes)
    partners = _partners(stacks, labels, problems) if labels else [None] * len(stacks)
    names = _volume_names(request, stacks)
    volumes = tuple(PlannedVolume(*parts) for parts in zip(names, stacks, partners, strict=True))
    return ImportPlan(volumes, tuple(problems), tuple(notes))


def clean_name(text: str) -> str:
    """A data set's name, trimmed. Raises DataError where it is empty, too long or has control characters."""
    name = text.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise DataError(f"The name has {len(name)} characters; give the data set one of 1 to {MAX_NAME}.")
    # Surrogates stand for bytes that are no text; the database refuses them.
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in name):
        raise DataError("The name has line breaks or other control characters. Type it again.")
    return name


def _request_problems(request: ImportRequest) -> list[str]:
    problems = []
    try:
        clean_name(request.name)
    except DataError as error:
        problems.append(str(error))
    if not all(0 < side <= _MAX_VOXEL_NM for side in request.voxel_size_nm):  # NaN fails both
        sizes = ", ".join(f"{side:g}" for side in request.voxel_size_nm)
        problems.append(f"The voxel size is ({sizes}) nm; give three numbers above 0, for z, y and x.")
    if not request.images:
        problems.append("There is no image to import. Choose at least one image file.")
    return problems


def _open_all(sources: Sequence[SourceFile], problems: list[str]) -> list[ImageFile]:
    files = []
    for source in natural_order(sources):
        try:
            files.append(open_image(source))
        except DataError as error:
            problems.append(str(error))
    return files


def _label_file_problems(file: ImageFile) -> list[str]:
    name, channels = file.source.name, file.shape_czyx[0]
    problems = []
    if file.lossy:
        problems.append(f"{name} is compressed like a photo, which changes label values. Save labels as PNG or TIFF.")
    if channels != 1:
        problems.append(f"{name} has {channels} channels, but labels have one. Save it with one number a pixel.")
    return problems


def _stacks(request: ImportRequest, images: Sequence[ImageFile], problems: list[str], notes: list[str]) -> list[Stack]:
    flat = all(file.shape_czyx[1] == 1 for file in images)
    sizes = {file.shape_czyx[2:] for file in images}
    one = request.layout == "sections" or (request.layout == "auto" and flat and len(sizes) == 1 and len(images) > 1)
    if not one:
        if request.layout == "auto" and flat and len(sizes) > 1:
            notes.append("The images differ in size, so each becomes a 2D volume of its own.")
        return [Stack((file,)) for file in images]
    if not images:
        return []
    first = images[0]
    for file in images[1:]:
        if (file.shape_czyx[0], file.shape_czyx[2:], file.dtype) != (
            first.shape_czyx[0],
            first.shape_czyx[2:],
            first.dtype,
        ):
            problems.append(
                f"{file.source.name} is {_section_text(file)} but {first.source.name} is {_section_text(first)}: "
                "sections of one volume must be alike. Convert it, leave it out, or import each file as a volume."
            )
    return [Stack(tuple(images))]


def _section_text(file: ImageFile) -> str:
    channels, _, rows, columns = file.shape_czyx
    return f"{rows} × {columns} {file.dtype}" + (f" with {channels} channels" if channels > 1 else "")


def _partners(stacks: Sequence[Stack], labels: Sequence[ImageFile], problems: list[str]) -> list[Stack | None]:
    """The labels of each stack, None where there is a problem."""
    images = [file for stack in stacks for file in stack.files]
    image_names = [file.source.name for file in images]
    label_names = [file.source.name for file in labels]
    if len(images) == len(labels):
        if numbers := checks.number_problem(image_names, label_names):
            problems.append(numbers)
        pairs = list(zip(images, labels, strict=True))
        problems += [problem for image, label in pairs if (problem := _pair_problem(image, label))]
        partners: list[Stack | None] = []
        remaining = iter(labels)
        for stack in stacks:
            partners.append(Stack(tuple(next(remaining) for _ in stack.files)))
        return partners
    if len(stacks) != 1 or stacks[0].shape_czyx[1] != sum(file.shape_czyx[1] for file in labels):
        problems.append(checks.count_problem(image_names, label_names))
        return [None] * len(stacks)
    # One image of many planes with a label file a plane, or the other way round.
    for label in labels:
        shape = (label.shape_czyx[1], *stacks[0].shape_czyx[2:])
        if problem := checks.shape_problem(image_names[0], shape, label.source.name, label.shape_czyx[1:]):
            problems.append(problem)
    return [Stack(tuple(labels))]


def _pair_problem(image: ImageFile, label: ImageFile) -> str | None:
    return checks.shape_problem(image.source.name, image.shape_czyx[1:], label.source.name, label.shape_czyx[1:])


def _volume_names(request: ImportRequest, stacks: Sequence[Stack]) -> list[str]:
    """The data set's name for its only volume, else the files' names, made different by a number where needed."""
    if len(stacks) == 1:
        return [request.name.strip()]
    names: list[str] = []
    for stack in stacks:
        stem = PurePosixPath(stack.files[0].source.name).stem[:MAX_NAME]
        name, number = stem, 2
        while name in names:
            name, number = f"{stem} ({number})", number + 1
        names.append(name)
    return names
