"""How the pages of a TIFF make an image, as ImageJ, tifffile or nobody wrote in its description."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import tifffile

from seglib.data.readers.base import MAX_PLANES, SourceFile, guess_axes, size_text
from seglib.data.readers.tiff_pages import Page, cut_off
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

VoxelSize = tuple[float | None, float | None, float | None]
# Dots per inch that programs write without having measured anything.
_SCREEN_AND_PRINT = (1, 72, 75, 90, 96, 100, 120, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200, 2400)
_INCH, _CENTIMETRE = 2, 3
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PAGE_AXES = set("TCZ")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the pages of a file make an image.

    axes, counts: a letter and a number for each dimension along which pages are counted, slowest first.
    known: whether the file says so.
    block: the pixels of all planes follow each other behind the first page, which is the only one.
    """

    axes: str
    counts: tuple[int, ...]
    known: bool
    block: bool = False
    voxel_size_nm: VoxelSize = (None, None, None)
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def describe_pages(source: SourceFile, raw: tifffile.TiffPage, pages: tuple[Page, ...]) -> Layout:
    """The layout of a file without OME metadata. raw: its first page with all tags; pages: those that are images.

    Raises DataError where the description names planes that are not there.
    """
    text = next((t for t in (raw.description, raw.description1) if t.startswith(("ImageJ=", '{"shape"'))), "")
    if raw.is_stk:
        raise DataError(
            f"{source.name} is a MetaMorph stack, whose planes are not listed as pages. Open it in Fiji and save it "
            "as TIFF."
        )
    if text.startswith("ImageJ="):
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        layout = _imagej(source, said, pages)
        return replace(layout, voxel_size_nm=_calibrated(said, raw))
    if text:
        meta = _json(text)
        said = {key: str(meta[key]) for key in ("spacing", "unit") if key in meta}
        layout = _shaped(source, meta, pages)
        return replace(layout, voxel_size_nm=_calibrated(said, raw))
    return replace(_plain(len(pages)), voxel_size_nm=_printed(raw))


def plain_layout(raw: tifffile.TiffPage, pages: tuple[Page, ...], note: str) -> Layout:
    """Every page a plane, with a note that says why."""
    return replace(_plain(len(pages), note), voxel_size_nm=_printed(raw))


def _plain(pages: int, *notes: str) -> Layout:
    if pages == 1:
        return Layout(axes="", counts=(), known=True, notes=notes)
    return Layout(axes="Z", counts=(pages,), known=False, notes=notes)


def _imagej(source: SourceFile, said: dict[str, str], pages: tuple[Page, ...]) -> Layout:
    counts = {key: _count(said.get(name)) for key, name in zip("CZT", ("channels", "slices", "frames"), strict=True)}
    listed = len(pages)
    if math.prod(counts.values()) != listed and counts["C"] == pages[0].samples:
        counts["C"] = 1  # the samples of a pixel are sometimes counted as channels
    planes = max(math.prod(counts.values()), 1)
    stated = planes if planes > 1 else _count(said.get("images"))
    _check_block(source, pages, stated)
    if planes == 1:
        note = f"{source.name} does not say what its {stated} images are; they are taken for planes."
        layout = _plain(max(stated, listed), *([note] if stated > 1 else []))
        return replace(layout, block=listed < stated)
    if listed not in (1, planes):
        return _plain(listed, f"{source.name} has {listed} pages but ImageJ noted {planes}; every page became a plane.")
    order = said.get("order", "czt").lower()
    axes = "".join(reversed(order)).upper() if sorted(order) == ["c", "t", "z"] else "TZC"
    kept = "".join(letter for letter in axes if counts[letter] > 1)
    return Layout(axes=kept, counts=tuple(counts[a] for a in kept), known=True, block=listed < planes)


def _shaped(source: SourceFile, meta: dict[str, Any], pages: tuple[Page, ...]) -> Layout:
    """What tifffile noted: {"shape": [7, 33, 40], "axes": "ZYX", "truncated": true}."""
    shape = meta.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        return _plain(len(pages))
    separate, rows, columns, interleaved = pages[0].layout
    inner = [[separate, rows, columns], [rows, columns, interleaved], [rows, columns]]
    own = next((i for i in inner if shape[-len(i) :] == i and math.prod(i) == math.prod(pages[0].layout)), None)
    if own is None:
        return _plain(len(pages), f"The shape noted in {source.name} is not that of its pages; it is not used.")
    outer = tuple(shape[: len(shape) - len(own)])
    planes = math.prod(outer)
    if len(pages) > 1 and planes < len(pages):
        return _plain(len(pages))  # several images were written one after the other
    _check_block(source, pages, planes)
    letters = str(meta.get("axes", "")).upper()
    named = dict(zip(range(len(outer)), letters, strict=False)) if len(letters) == len(shape) else {}
    long = [place for place, count in enumerate(outer) if count > 1]
    counts = tuple(outer[place] for place in long)
    axes = "".join(named.get(place, "?") for place in long)
    known = set(axes) <= _PAGE_AXES and len(set(axes)) == len(axes)
    notes: tuple[str, ...] = ()
    if not known:
        axes, counts, notes = _guessed(source, counts, (rows, columns))
    return Layout(axes=axes, counts=counts, known=known, block=len(pages) < planes, notes=notes)


def _guessed(
    source: SourceFile, counts: tuple[int, ...], plane: tuple[int, int]
) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    if len(counts) == 1:
        return "Z", counts, ()
    try:
        axes = guess_axes((*counts, *plane))
    except DataError:
        return (
            "Z",
            (math.prod(counts),),
            (f"The planes of {source.name} are {size_text(counts)}; they became one row.",),
        )
    return axes.removesuffix("YX"), counts, ()


def _check_block(source: SourceFile, pages: tuple[Page, ...], planes: int) -> None:
    """Raises DataError where planes are neither listed as pages nor lie in one run behind the first."""
    if planes <= len(pages):
        return
    if planes > MAX_PLANES:
        raise DataError(f"{source.name} says it holds {planes:,} planes; at most {MAX_PLANES:,} can be imported.")
    # ImageJ writes stacks above 4 GB this way, tifffile with `truncate`.
    if len(pages) > 1 or pages[0].data < 0:
        raise DataError(
            f"{source.name} says it holds {planes:,} planes but lists {len(pages):,}. Open it in Fiji and save it "
            "as an image sequence, or with Bio-Formats as BigTIFF."
        )
    if pages[0].data + planes * pages[0].byte_count > source.path.stat().st_size:
        raise cut_off(source)


def _calibrated(said: dict[str, str], raw: tifffile.TiffPage) -> VoxelSize:
    """The voxel size where a unit of length is noted, and the resolution is pixels per unit."""
    unit = nanometres(said.get("unit", ""))
    if unit is None:
        return _printed(raw)
    if unit == nanometres("inch") and _is_screen_or_print(_per_unit(raw, _X_RESOLUTION)):
        return None, None, None
    units = [nanometres(said[key]) if key in said else unit for key in ("zunit", "yunit")]
    spacing = _number(said.get("spacing"))
    return (
        length_nm(spacing, units[0]),
        length_nm(_inverse(_per_unit(raw, _Y_RESOLUTION)), units[1]),
        length_nm(_inverse(_per_unit(raw, _X_RESOLUTION)), unit),
    )


def _printed(raw: tifffile.TiffPage) -> VoxelSize:
    """The voxel size by TIFF's own resolution, where it is not one that only screens and printers have."""
    unit = raw.tags.valueof(_RESOLUTION_UNIT, _INCH)
    unit_nm = {_INCH: nanometres("inch"), _CENTIMETRE: nanometres("cm")}.get(unit) if isinstance(unit, int) else None
    x, y = _per_unit(raw, _X_RESOLUTION), _per_unit(raw, _Y_RESOLUTION)
    if unit_nm is None or any(_is_screen_or_print(n, 2.54 if unit == _CENTIMETRE else 1) for n in (x, y)):
        return None, None, None
    return None, length_nm(_inverse(y), unit_nm), length_nm(_inverse(x), unit_nm)


def _is_screen_or_print(per_unit: float | None, to_inch: float = 1) -> bool:
    if per_unit is None or per_unit == 1:
        return True
    return any(math.isclose(per_unit * to_inch, dots, rel_tol=0.01) for dots in _SCREEN_AND_PRINT)


def _per_unit(raw: tifffile.TiffPage, tag: int) -> float | None:
    value = raw.tags.valueof(tag)
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return None


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _count(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() and len(text) < 10 and int(text) > 0 else 1


def _json(text: str) -> dict[str, Any]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}
