"""From files to volumes: which files stack up, what their axes are, and everything wrong with that.

Only headers are read here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from seglib.data import checks
from seglib.data.pairing import Item
from seglib.data.readers import SourceFile, open_image
from seglib.data.readers.axes import OrientedFile, orient
from seglib.data.stacks import Stack
from seglib.data.volumes import VoxelSize
from seglib.errors import DataError

MAX_NAME = 200
_MAX_VOXEL_NM = 1e9
_MAX_PROBLEMS = 50

Layout = Literal["auto", "sections", "volumes"]
LabelChoice = Literal["auto", "classes", "instances"]


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What a person asks to import.

    name: of the data set, 1–200 characters.
    items: the volumes to be, by their files.
    layout: sections makes one volume of the images of each group, volumes one of each item; auto decides by names,
        sizes and numbers of planes.
    voxel_size_nm: (z, y, x) in nanometres; None takes what the files say.
    axes, label_axes: a letter for each stored dimension (C, Z, Y, X, T); empty takes what the files say.
    member, label_member: which array inside files that hold several; empty takes the first likely one. Where an item
        has no label files, label_member is looked for in its image files.
    label_kind: whether label values are classes or instances (one id an object); auto guesses.
    class_names: label value -> name, for classes. ignore: label values that mean "not annotated".
    channel_names: one for each channel, where the files do not say.
    """

    name: str
    items: tuple[Item, ...]
    layout: Layout = "auto"
    voxel_size_nm: VoxelSize | None = None
    axes: str = ""
    label_axes: str = ""
    member: str = ""
    label_member: str = ""
    label_kind: LabelChoice = "auto"
    class_names: Mapping[int, str] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedVolume:
    """A volume to be. labels is None without any. voxel_size_nm: (z, y, x)."""

    name: str
    group: str
    image: Stack
    labels: Stack | None
    voxel_size_nm: VoxelSize
    channel_names: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """Every file of the volume, images first."""
        return self.image.sources + (self.labels.sources if self.labels else ())


@dataclass(frozen=True)
class ImportPlan:
    """What an import would make. Where `problems` is not empty it would be refused, and volumes may be missing.

    layout: `sections` or `volumes`, as asked for or as found out.
    """

    volumes: tuple[PlannedVolume, ...]
    layout: Layout
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def plan_import(request: ImportRequest) -> ImportPlan:
    """Opens the headers of all files and says what they would become, and every problem, file by file."""
    problems = request_problems(request)
    notes: list[str] = []
    opened = [_open_item(item, request, problems) for item in request.items]
    items = [item for item in opened if item is not None]
    notes += _file_notes(items)
    sections = len(items) == len(opened) and _as_sections(request, items, notes)
    if sections:
        items = _merge_groups(request, items)
    volumes = [volume for item in items if (volume := _planned(item, request, problems, notes))]
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"… and {len(problems) - _MAX_PROBLEMS:,} more problems."]
    layout: Layout = "sections" if sections else "volumes"
    return ImportPlan(tuple(volumes), layout, tuple(problems), tuple(dict.fromkeys(notes)))


def request_problems(request: ImportRequest) -> list[str]:
    """What is wrong with a request apart from its files."""
    problems = []
    try:
        clean_name(request.name)
    except DataError as error:
        problems.append(str(error))
    size = request.voxel_size_nm
    if size is not None and not all(0 < side <= _MAX_VOXEL_NM for side in size):  # NaN fails both
        sizes = ", ".join(f"{side:g}" for side in size)
        problems.append(f"The voxel size is ({sizes}) nm; give three numbers above 0, for z, y and x.")
    if not request.items:
        problems.append("There is no image to import. Choose at least one image file.")
    return problems


def few_enough(images: int, widest: int) -> bool:
    """Whether so many images may be sections of one volume: a stack has at most a few times as many as it is wide.

    widest: the larger side of an image. A folder of small unrelated pictures may have any number.
    """
    return images <= 4 * widest


def likely_labels(names: Sequence[str]) -> str:
    """Which of the arrays in a file seems to hold labels, by its name; empty for none."""
    return next((name for name in names if re.search("label|mask|seg|truth|gt", name.casefold())), "")


def clean_name(text: str) -> str:
    """A data set's name, trimmed. Raises DataError where it is empty, too long or has control characters."""
    name = text.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise DataError(f"The name has {len(name)} characters; give the data set one of 1 to {MAX_NAME}.")
    # Surrogates stand for bytes that are no text; the database refuses them.
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in name):
        raise DataError("The name has line breaks or other control characters. Type it again.")
    return name


@dataclass(frozen=True)
class _OpenedItem:
    item: Item
    images: tuple[OrientedFile, ...]
    labels: tuple[OrientedFile, ...]


def _open_item(item: Item, request: ImportRequest, problems: list[str]) -> _OpenedItem | None:
    before = len(problems)
    images = [_open(source, request.member, request.axes, problems) for source in item.images]
    marked = item.labels or (item.images if request.label_member else ())
    labels = [_open(source, request.label_member, request.label_axes, problems) for source in marked]
    for label in labels:
        if label is not None:
            problems += _label_file_problems(label)
    if not images:
        problems.append(f"{item.name} has no image file.")
    if len(problems) > before:
        return None
    return _OpenedItem(item, tuple(f for f in images if f), tuple(f for f in labels if f))


def _file_notes(items: Sequence[_OpenedItem]) -> list[str]:
    """What readers noted; a note that many files have in common is told once."""
    told: dict[str, list[str]] = {}
    for item in items:
        for file in (*item.images, *item.labels):
            for note in file.file.notes:
                told.setdefault(note.replace(file.source.name, "\0"), []).append(file.source.name)
    notes = []
    for note, names in told.items():
        more = f" (So do {len(names) - 1:,} more files.)" if len(names) > 1 else ""
        notes.append(note.replace("\0", names[0]) + more)
    return notes


def _open(source: SourceFile, member: str, axes: str, problems: list[str]) -> OrientedFile | None:
    try:
        return orient(open_image(replace(source, member=source.member or member)), axes)
    except DataError as error:
        problems.append(str(error))
        return None


def _label_file_problems(file: OrientedFile) -> list[str]:
    name, channels = file.source.name, file.shape_czyx[0]
    problems = []
    if file.file.lossy:
        problems.append(f"{name} is compressed like a photo, which changes label values. Save labels as PNG or TIFF.")
    if channels not in (1, 3) or (channels == 3 and file.dtype != np.uint8):
        problems.append(
            f"{name} has {channels} channels, but labels have one number a pixel, or an 8-bit colour. Save it so, or "
            "change the axis order of the labels."
        )
    return problems


def _as_sections(request: ImportRequest, items: Sequence[_OpenedItem], notes: list[str]) -> bool:
    """Whether the images of a group are the sections of one volume."""
    if request.layout != "auto":
        return request.layout == "sections"
    if len(items) < 2 or any(len(item.images) > 1 for item in items):
        return False
    if not all(item.images[0].shape_czyx[1] == 1 for item in items):
        return False
    sizes = {item.images[0].shape_czyx[2:] for item in items}
    if len(sizes) > 1:
        notes.append(f"The images differ in size, so each becomes a 2D volume of its own. {_odd_ones(items)}")
        return False
    (size,) = sizes
    series = checks.is_series([item.images[0].source.name for item in items])
    if not series or not few_enough(len(items), max(size)):
        notes.append("The images were taken as separate 2D images, not as sections of one volume.")
        return False
    return True


def _odd_ones(items: Sequence[_OpenedItem]) -> str:
    """Which images are not as large as most, where that is a few."""
    by_size: dict[tuple[int, ...], list[str]] = {}
    for item in items:
        by_size.setdefault(item.images[0].shape_czyx[2:], []).append(item.images[0].source.name)
    usual = max(by_size, key=lambda size: len(by_size[size]))
    odd = [(name, size) for size, names in by_size.items() if size != usual for name in names]
    if len(by_size[usual]) < 2 or len(odd) > len(items) / 2:
        return f"Sizes are {', '.join(' × '.join(map(str, size)) for size in sorted(by_size)[:5])} (y × x) and so on."
    named = ", ".join(f"{name} is {' × '.join(map(str, size))}" for name, size in odd[:5])
    more = f" and {len(odd) - 5:,} more" if len(odd) > 5 else ""
    return f"{named}{more}; the others are {' × '.join(map(str, usual))} (y × x)."


def _merge_groups(request: ImportRequest, items: Sequence[_OpenedItem]) -> list[_OpenedItem]:
    groups: dict[str, list[_OpenedItem]] = {}
    for item in items:
        groups.setdefault(item.item.group, []).append(item)
    merged = []
    for group, members in groups.items():
        images = tuple(file for member in members for file in member.images)
        labels = tuple(file for member in members for file in member.labels)
        name = request.name.strip() if len(groups) == 1 else group or request.name.strip()
        merged.append(_OpenedItem(replace(members[0].item, name=name, group=group), images, labels))
    return merged


def _planned(item: _OpenedItem, request: ImportRequest, problems: list[str], notes: list[str]) -> PlannedVolume | None:
    before = len(problems)
    problems += _unlike(item.images, channels=item.item.files_are == "channels")
    problems += _label_problems(item)
    if len(problems) > before:
        return None
    if item.labels and len(item.images) == len(item.labels):
        names = ([file.source.name for file in files] for files in (item.images, item.labels))
        notes += filter(None, [checks.number_note(*names)])
    name = request.name.strip() if len(request.items) == 1 else item.item.name
    image = Stack(item.images, "c" if item.item.files_are == "channels" else "z")
    voxel_size = request.voxel_size_nm or _voxel_size(item.images[0], notes)
    return PlannedVolume(
        name=name[:MAX_NAME],
        group=item.item.group or name[:MAX_NAME],
        image=image,
        labels=Stack(item.labels) if item.labels else None,
        voxel_size_nm=voxel_size,
        channel_names=_channel_names(item, request, image.shape_czyx[0]),
    )


def _channel_names(item: _OpenedItem, request: ImportRequest, channels: int) -> tuple[str, ...]:
    for names in (request.channel_names, item.images[0].file.channel_names):
        if len(names) == channels:
            return tuple(name[:MAX_NAME] for name in names)
    return ()


def _voxel_size(file: OrientedFile, notes: list[str]) -> VoxelSize:
    z, y, x = (size if size and 0 < size <= _MAX_VOXEL_NM else None for size in file.file.voxel_size_nm)
    if y is None and x is None:
        notes.append("The files do not say how large a voxel is: 1 nm was taken. Set it to see true proportions.")
        return (z or 1.0, 1.0, 1.0)
    y, x = y or x or 1.0, x or y or 1.0
    if z is None and file.shape_czyx[1] > 1:
        notes.append(f"The files say how large a pixel is ({x:g} nm) but not how far planes are apart: {x:g} nm too.")
    return (z or x, y, x)


def _unlike(files: Sequence[OrientedFile], *, channels: bool) -> list[str]:
    first = files[0]
    problems = []
    for file in files[1:]:
        here, there = _alike(file, channels), _alike(first, channels)
        if here != there:
            what = "channels of one volume" if channels else "sections of one volume"
            problems.append(
                f"{file.source.name} is {_section_text(file)} but {first.source.name} is {_section_text(first)}: "
                f"{what} must be alike. Convert it, leave it out, or import each file as a volume."
            )
    return problems


def _alike(file: OrientedFile, channels: bool) -> tuple[Any, ...]:
    c, z, y, x = file.shape_czyx
    return (z, y, x, file.dtype) if channels else (c, y, x, file.dtype)


def _section_text(file: OrientedFile) -> str:
    channels, _, rows, columns = file.shape_czyx
    return f"{rows} × {columns} {file.dtype}" + (f" with {channels} channels" if channels > 1 else "")


def _label_problems(item: _OpenedItem) -> list[str]:
    """What is wrong with the labels of an item; pairs are compared file by file where there is one for each."""
    if not item.labels:
        return []
    if len(item.labels) == len(item.images) and item.item.files_are == "sections":
        pairs = list(zip(item.images, item.labels, strict=True))
        found = [_pair_problem(image, label) for image, label in pairs]
        return [problem for problem in found if problem]
    stack = Stack(item.images, "c" if item.item.files_are == "channels" else "z")
    _, depth, rows, columns = stack.shape_czyx
    planes = sum(label.shape_czyx[1] for label in item.labels)
    image_names = [file.source.name for file in item.images]
    if planes != depth and len(item.labels) > 1:
        return [checks.count_problem(image_names, [label.source.name for label in item.labels])]
    problems = []
    for label in item.labels:
        shape_zyx = label.shape_czyx[1:]
        expected = (depth if len(item.labels) == 1 else shape_zyx[0], rows, columns)
        problems.append(checks.shape_problem(image_names[0], expected, label.source.name, shape_zyx))
    return [problem for problem in problems if problem]


def _pair_problem(image: OrientedFile, label: OrientedFile) -> str | None:
    return checks.shape_problem(image.source.name, image.shape_czyx[1:], label.source.name, label.shape_czyx[1:])
