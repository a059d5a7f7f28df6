"""From what a person points at on the server to the files to import, and looking through its folders."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seglib.data.lists import read_list
from seglib.data.readers import TILE_LIST, is_image, is_supported, supported_text
from seglib.data.readers.archive import unpack
from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import (
    MAX_FILES,
    ZARR,
    allowed_roots,
    entries_of,
    find_images,
    is_folder,
    natural_key,
    natural_order,
    readable,
)
from seglib.errors import DataError

MAX_ENTRIES = 2000
ARCHIVE, LIST = ".zip", ".txt"

EntryKind = Literal["folder", "zarr", "file", "archive", "list"]


@dataclass(frozen=True)
class FolderEntry:
    """Something in a folder that can be opened or imported.

    path: what to ask for next. size_bytes: None for folders. modified: seconds since 1970.
    """

    name: str
    path: str
    kind: EntryKind
    size_bytes: int | None
    modified: float


@dataclass(frozen=True)
class FolderListing:
    """What is in a folder of the server.

    parent: the path of the folder above, None where that is not allowed.
    entries: folders first, then the rest, each in natural order; at most MAX_ENTRIES.
    more: how many entries are left out because there are too many.
    others: how many files and links are left out because they cannot be imported.
    """

    path: str
    parent: str | None
    entries: tuple[FolderEntry, ...]
    more: int
    others: int


def files_at(path_text: str, *, resolve: Callable[[str], Path], scratch: Path) -> tuple[SourceFile, ...]:
    """Everything to import at a path, in natural order.

    A path is an image, a Zarr folder, a folder (with all below it), a zip, a .txt list of images, or a .json list of
    tiles. scratch: an existing folder for what is in zips. resolve: turns a person's text into a path, or refuses it.
    Raises DataError where the path leads nowhere, or what is there cannot be imported.
    """
    path = resolve(path_text)
    if path.is_dir() and not path.name.lower().endswith(ZARR):
        return tuple(find_images(path))
    return expand([SourceFile(path, readable(path.name))], scratch)


def expand(sources: Sequence[SourceFile], scratch: Path) -> tuple[SourceFile, ...]:
    """The files with zips and .txt lists replaced by what is in them, in natural order.

    Raises DataError for a bad zip or list, and for a file that cannot be imported.
    """
    expanded: list[SourceFile] = []
    for source in sources:
        ending = Path(source.name).suffix.lower()
        if ending == ARCHIVE:
            inside = scratch / f"zip-{len(list(scratch.iterdir()))}"
            inside.mkdir()
            expanded += unpack(source, inside)
        elif ending == LIST:
            expanded += read_list(source)
        elif is_supported(source.name):
            expanded.append(source)
        else:
            raise DataError(
                f"{source.name} cannot be imported. Wanted: a folder, a {ARCHIVE}, a {LIST} list of images, a "
                f"{TILE_LIST} list of tiles, or a file ending in {supported_text()}."
            )
    return tuple(natural_order(expanded))


def existing_path(text: str) -> Path:
    """A path of the person at the command line. Raises DataError where there is nothing."""
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise DataError(f"{text} does not exist.")
    return path


def roots() -> tuple[Path, ...]:
    """The folders from which to start looking: the allowed ones that are there."""
    return tuple(path for path in allowed_roots() if path.is_dir())


def list_folder(path_text: str, *, resolve: Callable[[str], Path]) -> FolderListing:
    """What a person can open or import in a folder. Names that begin with a dot are left out.

    resolve: turns a person's text into a path, or refuses it; links it refuses are left out.
    Raises DataError where the path is refused, is no folder, or cannot be read.
    """
    folder = resolve(path_text)
    kinds: dict[str, EntryKind] = {}
    entries = entries_of(folder)
    for entry in entries[:MAX_FILES]:
        if kind := _kind(entry, resolve):
            kinds[entry.name] = kind
    ordered = sorted(kinds, key=lambda name: (kinds[name] != "folder", natural_key(name), name))
    shown = [_entry(folder / name, kinds[name]) for name in ordered[:MAX_ENTRIES]]
    return FolderListing(
        path=readable(str(folder)),
        parent=_parent(folder, resolve),
        entries=tuple(shown),
        more=len(ordered) - len(shown) + max(0, len(entries) - MAX_FILES),
        others=len(entries[:MAX_FILES]) - len(kinds),
    )


def _kind(entry: os.DirEntry[str], resolve: Callable[[str], Path]) -> EntryKind | None:
    if readable(entry.name) != entry.name or (entry.is_symlink() and not _accepted(entry.path, resolve)):
        return None
    ending = Path(entry.name).suffix.lower()
    if is_folder(entry):
        return "zarr" if ending == ZARR else "folder"
    try:
        if not entry.is_file() or ending == ZARR:
            return None
    except OSError:
        return None
    if ending == ARCHIVE:
        return "archive"
    if ending in (LIST, TILE_LIST):
        return "list"
    return "file" if is_image(entry.name) else None


def _accepted(path: str, resolve: Callable[[str], Path]) -> bool:
    try:
        resolve(path)
    except DataError:
        return False
    return True


def _entry(path: Path, kind: EntryKind) -> FolderEntry:
    try:
        found = path.stat()
    except OSError:  # gone since it was listed
        return FolderEntry(path.name, str(path), kind, None, 0.0)
    size = None if kind in ("folder", "zarr") else found.st_size
    return FolderEntry(path.name, str(path), kind, size, found.st_mtime)


def _parent(folder: Path, resolve: Callable[[str], Path]) -> str | None:
    if folder.parent == folder or not _accepted(str(folder.parent), resolve):
        return None
    return str(folder.parent)
