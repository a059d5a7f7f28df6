"""Where files lie and what they are called -> which are images, which are labels, and who may belong to whom.

Only names are looked at. Every function here gives Roles, or None where its convention is not what the names follow.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from seglib.data.readers import stem_of
from seglib.data.readers.base import SourceFile

IMAGE_NAMES = {"image", "images", "img", "imgs", "raw", "raw_data", "input", "inputs"}
LABEL_NAMES = {"label", "labels", "mask", "masks", "annotation", "annotations", "gt", "truth", "target", "targets"}
LABEL_NAMES |= {"seg", "segmentation", "segmentations", "ground_truth", "groundtruth"}
_SHOWN = 5
_LABEL_WORDS = "labels?|cp_masks?|masks?|segs?|segmentations?|gt|ground_?truth|annotations?|annotated|truth|targets?"
_IMAGE_WORDS = "images?|imgs?|raw|inputs?|im"
_LABEL_END = re.compile(rf"(?:^|[-_. ])(?:{_LABEL_WORDS})$", re.IGNORECASE)
_LABEL_START = re.compile(rf"^(?:{_LABEL_WORDS})(?:$|[-_. ])", re.IGNORECASE)
_IMAGE_END = re.compile(rf"(?:^|[-_. ])(?:{_IMAGE_WORDS})$", re.IGNORECASE)
_IMAGE_START = re.compile(rf"^(?:{_IMAGE_WORDS})(?:$|[-_. ])", re.IGNORECASE)
_CHANNEL = re.compile(r"^(.+)_([0-9]{4})$", re.DOTALL)
_POSITION = re.compile(r"^(?:(.*?)[-_ ]?)(raw_data|masks)$", re.IGNORECASE)
_POSITION_FOLDER = re.compile(r"^pos[-_ ]?[0-9]+$", re.IGNORECASE)
NNUNET = {"imagestr": "image", "labelstr": "label", "imagests": "test", "labelsts": "test"}


@dataclass(frozen=True)
class Unit:
    """One image or one label map: a file, or the files of its channels in order.

    bucket: its labels or image are looked for among units of the same bucket only.
    inner: the folders within the bucket that may say more. stem: the name to pair by.
    group: the folders that say which volumes belong together.
    """

    sources: tuple[SourceFile, ...]
    bucket: str
    inner: tuple[str, ...]
    stem: str
    group: str = ""


@dataclass(frozen=True)
class Roles:
    """Which files are what.

    convention: in words that follow “Recognised: ”, empty for none.
    by_name_only: images and labels of other names never belong together.
    separate: the images are unrelated 2D images. numbered: numbers in the images' names may be those of sections.
    """

    convention: str
    images: tuple[Unit, ...]
    labels: tuple[Unit, ...]
    by_name_only: bool = False
    separate: bool = False
    numbered: bool = True
    notes: tuple[str, ...] = ()


def nnunet(files: Sequence[SourceFile]) -> Roles | None:
    """nnU-Net: imagesTr/CASE_0000.ext, a file a channel, with labelsTr/CASE.ext; imagesTs has no labels."""
    found: dict[str, list[tuple[SourceFile, str]]] = defaultdict(list)
    for source in files:
        folders = folders_of(source.name)
        place = _last(folders, NNUNET)
        found[NNUNET[folders[place].casefold()] if place >= 0 else "other"].append((source, "/".join(folders[:place])))
    if not found["image"]:
        return None
    channels: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
    units, notes = [], []
    for source, bucket in found["image"]:
        stem = stem_of(source.name)
        case, number = parts.groups() if (parts := _CHANNEL.match(stem)) else (stem, "0000")
        if channels[bucket, case].setdefault(number, source) is not source:
            notes.append(f"{source.name} is channel {number} of {case} a second time; it became a volume of its own.")
            units.append(Unit((source,), bucket, (), f"{case} again"))
    for (bucket, case), numbered in channels.items():
        units.append(Unit(tuple(numbered[number] for number in sorted(numbered)), bucket, (), case))
    numbers = {tuple(sorted(numbered)) for numbered in channels.values()}
    if len(numbers) > 1:
        notes.append("Not every case has the same channels: some files named CASE_0000, CASE_0001, … are missing.")
    labels = [Unit((source,), bucket, (), stem_of(source.name)) for source, bucket in found["label"]]
    notes += _left_out([source for source, _ in found["test"]], "in imagesTs, which has no labels to learn from")
    notes += _left_out([source for source, _ in found["other"]], "neither in imagesTr nor in labelsTr")
    return Roles(
        "nnU-Net (imagesTr and labelsTr)",
        tuple(units),
        tuple(labels),
        by_name_only=True,
        numbered=False,
        notes=tuple(notes),
    )


def positions(files: Sequence[SourceFile]) -> Roles | None:
    """X_raw_data/PosNNN/name with X_masks/PosNNN/name, any X or none: separate 2D images, a group a position."""
    images: list[Unit] = []
    labels: list[Unit] = []
    others: list[SourceFile] = []
    for source in files:
        folders = folders_of(source.name)
        place = next((at for at in range(len(folders) - 2, -1, -1) if _is_position(folders[at : at + 2])), -1)
        if place < 0:
            others.append(source)
            continue
        kind = _POSITION.match(folders[place])
        prefix = (kind[1] or "") if kind else ""
        bucket = "/".join(part for part in (*folders[:place], prefix, folders[place + 1]) if part)
        unit = Unit((source,), bucket.casefold(), folders[place + 2 :], stem_of(source.name), bucket)
        (labels if kind and kind[2].casefold() == "masks" else images).append(unit)
    if not images or not labels:
        return None
    return Roles(
        "positions (raw_data/Pos… and masks/Pos…)",
        tuple(images),
        tuple(labels),
        separate=True,
        numbered=False,
        notes=_left_out(others, "in no folder such as X_raw_data/Pos001 or X_masks/Pos001"),
    )


def named_folders(files: Sequence[SourceFile]) -> Roles | None:
    """Folders called images and labels (or raw and masks, …) beside each other, at any depth."""
    named = [(source, folders_of(source.name)) for source in files]
    placed = [(source, folders, _last(folders, IMAGE_NAMES | LABEL_NAMES)) for source, folders in named]
    label_above = {folders[:at] for _, folders, at in placed if at >= 0 and folders[at].casefold() in LABEL_NAMES}
    image_above = {folders[:at] for _, folders, at in placed if at >= 0 and folders[at].casefold() in IMAGE_NAMES}
    images: list[Unit] = []
    labels: list[Unit] = []
    others: list[SourceFile] = []
    for source, folders, at in placed:
        if at >= 0 and folders[at].casefold() in LABEL_NAMES:
            labels.append(_unit(source, folders[:at], folders[at + 1 :]))
        elif folders in label_above and folders not in image_above:
            images.append(_unit(source, folders, ()))  # labels/ lies in the folder of the images
        elif at >= 0:
            images.append(_unit(source, folders[:at], folders[at + 1 :]))
        else:
            others.append(source)
    if not images and others:
        images, others = [_unit(source, folders_of(source.name), ()) for source in others], []
    if not labels or not images:
        return None
    notes = _left_out(others, "beside the folders of images and labels")
    return Roles("folders of images and labels", tuple(images), tuple(labels), notes=notes)


def suffixes(files: Sequence[SourceFile]) -> Roles | None:
    """Labels beside their images, with a word such as _mask or _labels before or after the same name."""
    images: list[Unit] = []
    labels: list[Unit] = []
    alone: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for source in files:
        folders, stem = folders_of(source.name), stem_of(source.name)
        base = without_label_word(stem)
        unit = Unit((source,), "/".join(folders), (), stem if base is None else base)
        (images if base is None else labels).append(unit)
        if base is None:
            alone[folders].append(stem)
    # label.tif has no name of its own: it belongs to the only image of its folder.
    for place, unit in enumerate(labels):
        only = alone[folders_of(unit.sources[0].name)]
        if not unit.stem and len(only) == 1:
            labels[place] = replace(unit, stem=only[0])
    known = {(unit.bucket, plain_stem(unit.stem)) for unit in images}
    if not any((unit.bucket, plain_stem(unit.stem)) in known for unit in labels):
        return None
    return Roles(
        "labels beside their images (name.tif and name_mask.tif)", tuple(images), tuple(labels), by_name_only=True
    )


def given_apart(files: Sequence[SourceFile], labels: Sequence[SourceFile]) -> Roles:
    """Images and labels as the person gave them, in two places."""
    return Roles("", tuple(_below_common(files)), tuple(_below_common(labels)))


def all_images(files: Sequence[SourceFile]) -> Roles:
    """Every file is an image of its own."""
    return Roles("", tuple(_below_common(files)), ())


def without_label_word(stem: str) -> str | None:
    """The stem without a word such as _mask at its end or start; None where there is no such word."""
    for word in (_LABEL_END, _LABEL_START):
        base = word.sub("", stem, count=1)
        if base != stem:
            return base
    return None


def plain_stem(stem: str) -> str:
    """What is left of a stem to compare: no word for image or label, no difference of upper and lower case."""
    base = without_label_word(stem)
    base = stem if base is None else base
    for word in (_IMAGE_END, _IMAGE_START):
        if word.search(base):
            base = word.sub("", base, count=1)
            break
    return base.casefold()


def some(names: Sequence[str]) -> str:
    """Up to five names for a message, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def folders_of(name: str) -> tuple[str, ...]:
    """The folders in a file's name."""
    return _parts(name.rpartition("/")[0])


@lru_cache(maxsize=1024)
def _parts(folder: str) -> tuple[str, ...]:
    return tuple(part for part in folder.split("/") if part)


def shared_folders(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first folders that all paths have in common."""
    if not paths:
        return ()
    first, last = min(paths), max(paths)
    return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def _last(folders: tuple[str, ...], names: Container[str]) -> int:
    """Place of the innermost folder with one of these names, −1 for none."""
    return next((at for at in range(len(folders) - 1, -1, -1) if folders[at].casefold() in names), -1)


def _is_position(pair: tuple[str, ...]) -> bool:
    return bool(_POSITION.match(pair[0]) and _POSITION_FOLDER.match(pair[1]))


def _unit(source: SourceFile, above: tuple[str, ...], inner: tuple[str, ...]) -> Unit:
    return Unit((source,), "/".join(above), inner, stem_of(source.name), "/".join(above))


def _below_common(sources: Sequence[SourceFile]) -> list[Unit]:
    """Units of one bucket, with the folders below those that all files share."""
    folders = [folders_of(source.name) for source in sources]
    shared = len(shared_folders(folders))
    return [
        Unit((source,), "", inner[shared:], stem_of(source.name))
        for source, inner in zip(sources, folders, strict=True)
    ]


def _left_out(sources: Sequence[SourceFile], where: str) -> tuple[str, ...]:
    if not sources:
        return ()
    count = "1 file was" if len(sources) == 1 else f"{len(sources):,} files were"
    return (f"{count} left out, {where}: {some([source.name for source in sources])}.",)
