"""OME-XML, the description inside an OME-TIFF -> dimensions, voxel size, channels, and the page of every plane.

It may name other files as parts of an image. They are told apart and counted, and never opened.
"""

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from seglib.data.readers.base import MAX_PLANES, MAX_SIDE, SourceFile
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

_START = re.compile(r"<(\w+:)?OME[\s>]")
_ENTITIES = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_MAX_CHARACTERS = 64 << 20
# The parsed tree takes some hundred bytes for each; the largest real files have six for a plane.
_MAX_MARKS = 3_000_000
_MAX_IMAGES = 1000
_MAX_NAMED = 4 * MAX_PLANES
_MAX_NAME = 100
_NOWHERE = -1
_DTYPES = {"bit": "uint8", "float": "float32", "double": "float64"}


class NotUsable(Exception):
    """The XML is not such that planes can be found by it; the text says why, to follow a file's name."""


@dataclass(frozen=True, kw_only=True)
class OmeImage:
    """One image of the XML.

    name: “Image:0” and what its author called it. dtype: of its pixels, as the XML says.
    axes, counts: a letter of TCZ and a number for each dimension along which pages are counted, slowest first; those
        of length 1 are left out.
    plane: rows and columns. samples: of a pixel, as stored.
    pages: number of the page in this file for each plane, in C order of `counts`; -1 where the XML names none.
    elsewhere: how many planes lie in other files. files: in how many files the image lies.
    """

    name: str
    dtype: str
    axes: str
    counts: tuple[int, ...]
    plane: tuple[int, int]
    samples: int
    pages: NDArray[np.int64]
    elsewhere: int
    files: int
    voxel_size_nm: tuple[float | None, float | None, float | None]
    channel_names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Counts, rows, columns, and samples where there are several."""
        return (*self.counts, *self.plane, *([self.samples] if self.samples > 1 else []))


def is_ome(description: str) -> bool:
    """Whether a TIFF's description is OME-XML."""
    return bool(_START.search(description, 0, 8192))


def read_ome(source: SourceFile, description: str, page_count: int) -> tuple[OmeImage, ...]:
    """All images that the XML of a file with `page_count` pages describes.

    Raises NotUsable where it is damaged or describes no image, and DataError where it is made to do harm.
    """
    root = _parsed(source, description)
    own_id = root.get("UUID", "")
    elements = [element for element in root if _tag(element) == "Image"]
    if not elements:
        other = any(_tag(element) == "BinaryOnly" for element in root)
        raise NotUsable("has its OME metadata in another file" if other else "has OME metadata without an image")
    if len(elements) > _MAX_IMAGES:
        raise DataError(f"{source.name} names {len(elements):,} images. Export them one by one.")
    images: list[OmeImage] = []
    try:
        for number, element in enumerate(elements):
            images.append(_image(source, own_id, number, element, page_count))
            if sum(len(image.pages) for image in images) > _MAX_NAMED:
                raise DataError(f"{source.name} names more planes than can be read. Export its images one by one.")
    except DataError:
        raise
    except (ValueError, LookupError, ArithmeticError) as error:
        raise NotUsable("has OME metadata that are damaged or incomplete") from error
    return tuple(images)


def choose_image(source: SourceFile, images: tuple[OmeImage, ...]) -> OmeImage:
    """The image named by `source.member`, otherwise the first that lies in this file.

    Raises DataError where there is none, where it lies in several files, and where planes of it are missing.
    """
    if source.member:
        wanted = [image for image in images if source.member in (image.name, image.name.split(" ", 1)[0])]
        if not wanted:
            names = ", ".join(image.name for image in images[:10])
            raise DataError(f"{source.name} has no image {source.member[:_MAX_NAME]}. It has: {names}.")
        chosen = wanted[0]
    else:
        here = [image for image in images if not image.elsewhere]
        chosen = here[0] if here else max(images, key=lambda image: len(image.pages) - image.elsewhere)
    planes = len(chosen.pages)
    if chosen.elsewhere:
        raise DataError(
            f"{source.name} is one of {chosen.files:,} files over which {chosen.name} is spread: it holds "
            f"{planes - chosen.elsewhere:,} of {planes:,} planes, and other files are not followed. Export the image "
            "as one file (bfconvert, or Fiji with Bio-Formats), or save each file without OME metadata and import them."
        )
    missing = int((chosen.pages == _NOWHERE).sum())
    if missing:
        raise DataError(
            f"{source.name} says that {chosen.name} has {planes:,} planes, but {missing:,} of them are not in the "
            "file. It was probably not written to its end: copy or export it again, or save it as plain TIFF."
        )
    return chosen


def _parsed(source: SourceFile, description: str) -> ElementTree.Element:
    if len(description) > _MAX_CHARACTERS or description.count("<") > _MAX_MARKS:
        raise DataError(f"{source.name} has more OME metadata than can be read. Export it again, as plain TIFF.")
    if _ENTITIES.search(description):
        # OME-XML has no use for these; files that have are made to fill the memory.
        raise DataError(f"{source.name} has OME metadata with a DOCTYPE or ENTITY, which is refused. Export it again.")
    try:
        return ElementTree.fromstring(description)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NotUsable("has OME metadata that are damaged") from error


def _image(source: SourceFile, own_id: str, number: int, element: ElementTree.Element, page_count: int) -> OmeImage:
    pixels = next((child for child in element if _tag(child) == "Pixels"), None)
    if pixels is None:
        raise ValueError("an image without pixels")
    channels = [child for child in pixels if _tag(child) == "Channel"]
    order = pixels.attrib["DimensionOrder"]
    if sorted(order) != sorted("XYZCT") or not order.startswith("XY"):
        raise ValueError(f"not an order of dimensions: {order!r}")
    sizes = {letter: _size(pixels.attrib[f"Size{letter}"]) for letter in "XYZCT"}
    samples = {_size(channel.get("SamplesPerPixel", "1")) for channel in channels} or {1}
    if len(samples) > 1 or sizes["C"] % min(samples):
        raise ValueError("channels of different kinds")
    sizes["S"] = min(samples)
    sizes["C"] //= sizes["S"]
    outer = order[:1:-1]
    if math.prod(sizes[letter] for letter in outer) > MAX_PLANES:
        raise ValueError("more planes than any file has")
    pages, elsewhere, files = _locate(source, own_id, pixels, {a: sizes[a] for a in outer}, page_count)
    kept = "".join(letter for letter in outer if sizes[letter] > 1)
    names = tuple(_text(channel.get("Name", "")) for channel in channels)
    kind = pixels.get("Type", pixels.get("PixelType", ""))
    return OmeImage(
        name=f"Image:{number} {_text(element.get('Name', ''))}".strip(),
        dtype=_DTYPES.get(kind, _text(kind)),
        axes=kept,
        counts=tuple(sizes[letter] for letter in kept),
        plane=(sizes["Y"], sizes["X"]),
        samples=sizes["S"],
        pages=pages,
        elsewhere=elsewhere,
        files=files,
        voxel_size_nm=(_physical(pixels, "Z"), _physical(pixels, "Y"), _physical(pixels, "X")),
        channel_names=names if all(names) and len(names) == sizes["C"] and sizes["S"] == 1 else (),
    )


def _locate(
    source: SourceFile, own_id: str, pixels: ElementTree.Element, outer: dict[str, int], page_count: int
) -> tuple[NDArray[np.int64], int, int]:
    """The page of every plane, how many planes lie in other files, and in how many files all lie."""
    counts = tuple(outer.values())
    planes = math.prod(counts)
    pages = np.full(planes, _NOWHERE, np.int64)
    elsewhere = np.zeros(planes, bool)
    blocks = [child for child in pixels if _tag(child) == "TiffData"]
    # A renamed file without an id of its own is told by being the only one.
    named = {_reference(block) for block in blocks} - {None}
    alone = len(named) == 1 and not own_id
    named_planes = 0
    if not blocks:
        stored = min(planes, page_count)
        pages[:stored] = np.arange(stored)
    for block in blocks:
        first = [_first(block, letter, outer, pixels) for letter in outer]
        start = int(np.ravel_multi_index(first, counts))
        reference = _reference(block)
        here = reference is None or alone or _is_own(source, own_id, reference)
        directory = _whole(block.get("IFD", "0"))
        count = _whole(block.get("PlaneCount", block.get("NumPlanes", "1" if "IFD" in block.attrib else "0")))
        count = count or (max(page_count - directory, 0) if here else planes)
        stop = min(start + count, planes)
        named_planes += stop - start
        if named_planes > 4 * planes + 1000:
            raise ValueError("planes that are named again and again")
        elsewhere[start:stop] = not here
        if here:
            numbers = np.arange(directory, directory + stop - start)
            pages[start:stop] = np.where(numbers < page_count, numbers, _NOWHERE)
    return pages, int(elsewhere.sum()), max(len(named), 1)


def _reference(block: ElementTree.Element) -> tuple[str, str] | None:
    """(id, name) of the file that a block of planes lies in; None where it lies in the file itself."""
    uuid = next((child for child in block if _tag(child) == "UUID"), None)
    if uuid is None:
        return None
    return (uuid.text or "").strip(), uuid.get("FileName", "")


def _is_own(source: SourceFile, own_id: str, reference: tuple[str, str]) -> bool:
    identity, file_name = reference
    if own_id and identity == own_id.strip():
        return True
    return PurePosixPath(file_name).name.lower() == PurePosixPath(source.name).name.lower()


def _first(block: ElementTree.Element, letter: str, outer: dict[str, int], pixels: ElementTree.Element) -> int:
    first = _whole(block.get(f"First{letter}", "0"))
    if letter == "C" and first >= outer["C"]:
        # Some programs count the samples of a pixel as channels here.
        return first * outer["C"] // _size(pixels.attrib["SizeC"])
    return first


def _physical(pixels: ElementTree.Element, letter: str) -> float | None:
    unit = nanometres(pixels.get(f"PhysicalSize{letter}Unit", "µm"))
    try:
        return length_nm(float(pixels.attrib[f"PhysicalSize{letter}"]), unit)
    except (KeyError, ValueError):
        return None


def _size(text: str) -> int:
    size = _whole(text)
    if not 0 < size <= MAX_SIDE:
        raise ValueError(f"not a size: {text[:20]!r}")
    return size


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or len(text) > 12:
        raise ValueError(f"not a whole number: {text[:20]!r}")
    return int(text)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(text: str) -> str:
    """A name as one short line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_MAX_NAME]
