"""From what a person points at on the server to the files to import."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seglib.data.readers.archive import unpack
from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import find_files, find_pairs, natural_order, split_pairs
from seglib.errors import DataError


@dataclass(frozen=True)
class Found:
    """Image and label files, each in natural order, and what they could be called together."""

    images: tuple[SourceFile, ...]
    labels: tuple[SourceFile, ...]
    name: str


def files_at(images: str, labels: str, scratch: Path, *, resolve: Callable[[str], Path]) -> Found:
    """The files at a path: a file, a zip, a folder of images, or a folder that holds images and labels.

    labels: a path of its own, or empty where the first one holds both or there are none.
    scratch: an existing folder for what is in zips. resolve: turns a person's text into a path, or refuses it.
    Raises DataError where a path leads nowhere or holds no image.
    """
    path = resolve(images)
    if labels.strip():
        return Found(_listed(path, scratch), _listed(resolve(labels), scratch), path.stem)
    if path.is_dir():
        found_images, found_labels = find_pairs(path)
        return Found(tuple(found_images), tuple(found_labels), path.name)
    paired_images, paired_labels = split_pairs(_listed(path, scratch))
    return Found(tuple(paired_images), tuple(paired_labels), path.stem)


def expand(sources: list[SourceFile], scratch: Path) -> list[SourceFile]:
    """The files with zips replaced by what is in them, in natural order. Raises DataError for a bad zip."""
    expanded: list[SourceFile] = []
    for source in sources:
        if Path(source.name).suffix.lower() != ".zip":
            expanded.append(source)
            continue
        inside = scratch / f"zip-{len(list(scratch.iterdir()))}"
        inside.mkdir()
        expanded += unpack(source, inside)
    return natural_order(expanded)


def existing_path(text: str) -> Path:
    """A path of the person at the command line. Raises DataError where there is nothing."""
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise DataError(f"{text} does not exist.")
    return path


def _listed(path: Path, scratch: Path) -> tuple[SourceFile, ...]:
    if path.is_dir():
        return tuple(find_files(path))
    return tuple(expand([SourceFile(path, path.name)], scratch))
