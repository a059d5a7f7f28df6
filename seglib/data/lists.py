"""A .txt list of images: a path a line, confined to what a person may import."""

import os
from collections.abc import Callable
from pathlib import Path

from seglib.data.readers import is_image, supported_text
from seglib.data.readers.base import SourceFile, unreadable
from seglib.data.readers.sources import (
    MAX_FILES,
    ROOTS_ENVIRONMENT,
    ZARR,
    confined_to,
    has_control,
    natural_order,
    roots_text,
)
from seglib.errors import DataError

MAX_BYTES = 64 << 20
# Folder names that conventions go by (X_raw_data/Pos001) are kept in front of the names.
_FOLDERS_KEPT = 2


def read_list(source: SourceFile) -> tuple[SourceFile, ...]:
    """The images that a text file lists, in natural order, named by the last folders of their paths.

    A line is a path, absolute or relative to the list's folder; blank lines and lines that start with # are left out.
    Raises DataError, with the number of the line, where a path leads out of the allowed folders and of the list's own
    folder (whether the file exists is not told then), is missing, is no image or is there twice.
    """
    base = Path(os.path.realpath(source.path)).parent
    locate = confined_to(base)
    found: dict[Path, tuple[int, str]] = {}
    for number, line in _lines(source):
        path = _file_in(source, number, line, locate)
        if path in found:
            raise DataError(
                f"{source.name} lists {line[:200]} in line {number} and before in line {found[path][0]}. "
                "Remove one of them."
            )
        found[path] = (number, os.path.normpath(base / line))
        if len(found) > MAX_FILES:
            raise DataError(f"{source.name} lists more than {MAX_FILES:,} files. Split it.")
    if not found:
        raise DataError(f"{source.name} lists no file. Write the path of an image into each line.")
    written = [path for _, path in found.values()]
    common = Path(os.path.commonpath([os.path.dirname(path) for path in written]))  # noqa: PTH120
    top = "/".join(common.parts[1:][-_FOLDERS_KEPT:])
    names = [f"{top}/{Path(path).relative_to(common).as_posix()}".lstrip("/") for path in written]
    return tuple(natural_order(SourceFile(path, name) for path, name in zip(found, names, strict=True)))


def _lines(source: SourceFile) -> list[tuple[int, str]]:
    """The lines that mean something, with their numbers from 1."""
    try:
        size = source.path.stat().st_size
        text = source.path.read_text("utf-8-sig") if size <= MAX_BYTES else ""
    except OSError as error:
        raise unreadable(source, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source.name} is not a text file. A list has the path of an image in each line.") from error
    if size > MAX_BYTES:
        raise DataError(f"{source.name} has {size:,} bytes; a list may have {MAX_BYTES:,}. Split it.")
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _file_in(source: SourceFile, number: int, line: str, locate: Callable[[str], Path | None]) -> Path:
    where = f"Line {number} of {source.name}"
    if "\t" in line:
        raise DataError(
            f"{where} has two columns. List the images alone, and give the labels as a second list, in the place "
            "for labels."
        )
    if has_control(line):
        raise DataError(f"{where} has characters that a path cannot have. A list has the path of an image a line.")
    path = locate(line)
    if path is None:
        raise DataError(
            f"{where}, {line[:200]}, leads out of the list's folder and of the folders from which data may be imported "
            f"({roots_text()}). Copy the data there, or add its folder to {ROOTS_ENVIRONMENT} and restart the server."
        )
    if not is_image(path.name):
        raise DataError(f"{where}, {line[:200]}, is no image by its name. Wanted: {supported_text()}.")
    if not (path.is_dir() if path.name.lower().endswith(ZARR) else path.is_file()):
        raise DataError(f"{where}, {line[:200]}, does not exist. Check its spelling.")
    return path
