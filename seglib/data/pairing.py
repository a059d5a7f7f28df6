"""Which files are images, which labels belong to which image, and what the folders say about it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from seglib.data.conventions import (
    IMAGE_NAMES,
    LABEL_NAMES,
    NNUNET,
    Roles,
    Unit,
    all_images,
    folders_of,
    given_apart,
    named_folders,
    nnunet,
    plain_stem,
    positions,
    shared_folders,
    some,
    suffixes,
)
from seglib.data.descriptions import Description, read_description
from seglib.data.matching import Match, match
from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import DESCRIPTION, natural_key, natural_order, without_control
from seglib.data.series import series_folders, series_notes

MAX_NAME = 200


@dataclass(frozen=True)
class Item:
    """A volume to be, by its files.

    name: unique among the items, 1–200 characters.
    images: one file, or several that are the sections (along z) or the channels of one volume, in order.
    labels: none, one file, or the sections of the labels, in order.
    group: volumes of one group are never split between training and validation.
    files_are: what several image files of this item are.
    """

    name: str
    images: tuple[SourceFile, ...]
    labels: tuple[SourceFile, ...] = ()
    group: str = ""
    files_are: Literal["sections", "channels"] = "sections"


@dataclass(frozen=True)
class Proposal:
    """What a set of files could become; shown to the person and corrected before anything is read.

    name: what the data set could be called.
    convention: which convention was recognised, in words that follow “Recognised: ”; empty for none.
    items: the volumes, in natural order of their names.
    separate: the images are known to be unrelated 2D images; False where they may as well be sections of one volume.
    unused: label files for which no image was found.
    class_names, ignore: what a file of the convention says about label values.
    channel_names: as the convention says, or none.
    notes: what a person should know, such as missing numbers in a series of sections.
    """

    name: str
    convention: str
    items: tuple[Item, ...]
    separate: bool = False
    unused: tuple[SourceFile, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def propose(files: Sequence[SourceFile], labels: Sequence[SourceFile] = ()) -> Proposal:
    """What a set of files could become, by their names alone; nnU-Net's dataset.json is read.

    labels: label files given in a place of their own; empty where they are among `files`, or there are none.
    Every file comes to be in one item, in `unused`, or in a note. The order of the files does not matter.
    """
    notes: list[str] = []
    given, apart = natural_order(dict.fromkeys(files)), natural_order(dict.fromkeys(labels))
    if both := set(given) & set(apart):
        names = [source.name for source in apart if source in both]
        notes.append(f"Given as images and as labels; taken as images: {some(names)}.")
        apart = [source for source in apart if source not in both]
    images, label_files, descriptions = _without_descriptions(given, apart)
    roles = _roles(images, label_files)
    description = _description(roles, descriptions, notes)
    matches, unused, match_notes = match(roles)
    items = _items(roles, matches)
    notes += roles.notes + tuple(match_notes)
    notes += _leftover_notes(items, unused)
    if roles.numbered and not roles.separate:
        notes += series_notes([source for unit in roles.images for source in unit.sources])
    return Proposal(
        name=_common_name(items),
        convention=roles.convention,
        items=items,
        separate=roles.separate,
        unused=tuple(natural_order(source for unit in unused for source in unit.sources)),
        class_names=description.class_names,
        ignore=description.ignore,
        channel_names=description.channel_names,
        notes=tuple(without_control(note) for note in notes),
    )


def _without_descriptions(
    files: Sequence[SourceFile], labels: Sequence[SourceFile]
) -> tuple[list[SourceFile], list[SourceFile], list[SourceFile]]:
    """Images, labels, and the files dataset.json that describe them; one given by itself can only be a tile list."""
    images = [source for source in files if len(files) == 1 or not _is_description(source)]
    found = [source for source in files if len(files) > 1 and _is_description(source)]
    found += [source for source in labels if _is_description(source)]
    return images, [source for source in labels if not _is_description(source)], found


def _is_description(source: SourceFile) -> bool:
    return source.name.rsplit("/", 1)[-1].casefold() == DESCRIPTION


def _roles(files: Sequence[SourceFile], labels: Sequence[SourceFile]) -> Roles:
    everything = [*files, *labels]
    for convention in (nnunet, positions):
        found = convention(everything)
        # Where labels were given apart, what the person said counts more than a folder's name.
        if found and (not labels or _sources(found.labels) == set(labels)):
            return found
    if labels:
        return given_apart(files, labels)
    return named_folders(files) or suffixes(files) or all_images(files)


def _sources(units: Sequence[Unit]) -> set[SourceFile]:
    return {source for unit in units for source in unit.sources}


def _description(roles: Roles, files: Sequence[SourceFile], notes: list[str]) -> Description:
    if not files:
        return Description()
    if not roles.convention.startswith("nnU-Net"):
        notes.append(f"Not used, since there is no folder imagesTr: {some([source.name for source in files])}.")
        return Description()
    if len(files) > 1:
        names = some([source.name for source in files[1:]])
        notes.append(f"Names of classes were taken from {files[0].name}; not used: {names}.")
    description = read_description(files[0])
    notes += description.notes
    return description


def _items(roles: Roles, matches: Sequence[Match]) -> tuple[Item, ...]:
    groups = _groups([found.images[0] for found in matches])
    stems = [_base_name(found) for found in matches]
    counts = Counter(stems)
    ordered = []
    for found, group, stem in zip(matches, groups, stems, strict=True):
        images = tuple(source for unit in found.images for source in unit.sources)
        labels = tuple(source for unit in found.labels for source in unit.sources)
        folders = folders_of(images[0].name)
        place = group or (folders[-1] if folders else "")
        name = f"{place} {stem}".strip() if counts[stem] > 1 else stem
        channels = len(found.images) == 1 and len(images) > 1
        ordered.append(Item(name, images, labels, _clean(group), "channels" if channels else "sections"))
    ordered.sort(key=lambda item: (natural_key(item.name), item.name, _first(item)))
    names = _unique([item.name for item in ordered])
    if names == [item.name for item in ordered]:
        return tuple(ordered)
    named = [replace(item, name=name) for item, name in zip(ordered, names, strict=True)]
    return tuple(sorted(named, key=lambda item: (natural_key(item.name), item.name)))


def _first(item: Item) -> tuple[str, str, str]:
    source = item.images[0]
    return source.name, source.member, str(source.path)


def _base_name(found: Match) -> str:
    """What an item is called: the file's name, or its folder's where that only says image."""
    units = found.images if len(found.images) == 1 else found.labels
    stem = units[0].stem
    folders = folders_of(units[0].sources[0].name)
    return stem if plain_stem(stem) or not folders else folders[-1]


def _groups(units: Sequence[Unit]) -> list[str]:
    """A group for each image: the part of its folders that differs, or none where all have the same."""
    series = series_folders([unit.sources[0] for unit in units])
    paths = [
        (*(part for part in unit.group.split("/") if part), *(unit.inner if _folder(unit) in series else ()))
        for unit in units
    ]
    if len(set(paths)) < 2:
        return [""] * len(units)
    shared = len(shared_folders(paths))
    return ["/".join(path[shared:]) for path in paths]


def _folder(unit: Unit) -> tuple[str, ...]:
    return folders_of(unit.sources[0].name)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, clean, of 1 to 200 characters, and made different by a number where needed."""
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    unique = []
    for name in names:
        base = candidate = _clean(name) or "volume"
        while candidate in taken:
            counts[base] += 1
            number = f" ({counts[base] + 1})"
            candidate = base[: MAX_NAME - len(number)] + number
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _clean(text: str) -> str:
    return without_control(text[:MAX_NAME]).strip()


def _leftover_notes(items: Sequence[Item], unused: Sequence[Unit]) -> list[str]:
    notes = []
    if unused:
        names = sorted((unit.sources[0].name for unit in unused), key=natural_key)
        notes.append(f"Labels without an image, not used: {some(names)}.")
    bare = [item.images[0].name for item in items if not item.labels]
    if bare and len(bare) < len(items):
        notes.append(f"Images without labels: {some(bare)}.")
    return notes


def _common_name(items: Sequence[Item]) -> str:
    """The folder that holds everything, or the only file; empty where the names say nothing."""
    if not items:
        return ""
    folders = shared_folders([folders_of(source.name) for item in items for source in item.images + item.labels])
    known = IMAGE_NAMES | LABEL_NAMES | set(NNUNET)
    telling = [folder for folder in folders if folder.casefold() not in known]
    if telling:
        return _clean(telling[-1])
    return items[0].name if len(items) == 1 else ""
