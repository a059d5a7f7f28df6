"""Which files are meant: naming, natural order, image and label folders, and server paths a user may name."""

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from seglib.data.readers import is_supported, supported_text
from seglib.data.readers.base import SourceFile
from seglib.errors import DataError

ROOTS_ENVIRONMENT = "SEGLIB_DATA_ROOTS"
IMAGE_NAMES = {"image", "images", "img", "imgs", "raw", "input", "inputs"}
LABEL_NAMES = {"label", "labels", "mask", "masks", "annotation", "annotations", "gt", "truth", "target", "targets"}
_COMMON_ROOTS = ("/data", "/mnt", "/media", "/srv", "/Volumes")


def natural_key(name: str) -> tuple[tuple[int, str] | str, ...]:
    """Sorts names as people do: "2" before "10", upper and lower case together."""
    parts = re.split(r"([0-9]+)", name.casefold())
    # Digits are compared by length, then as text, since int() refuses very long ones.
    return tuple((len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(parts))


def natural_order(sources: Iterable[SourceFile]) -> list[SourceFile]:
    """The files in natural order of their names."""
    return sorted(sources, key=lambda source: (natural_key(source.name), source.name))


def find_files(folder: Path) -> list[SourceFile]:
    """The supported files directly in a folder, in natural order, named `folder/file`.

    Raises DataError, with what was found instead, where the folder is missing, cannot be read or has no such file,
    and where a file is a link out of the allowed folders.
    """
    found = _supported(folder)
    if not found:
        raise DataError(_nothing_in(folder))
    return found


def find_pairs(folder: Path) -> tuple[list[SourceFile], list[SourceFile]]:
    """The image files and the label files of a folder, each in natural order; no labels is an empty list.

    Sub-folders called images and labels (or raw, masks, …) are looked into; else two files image.* and label.*;
    else every file is an image.
    Raises DataError where there is no image.
    """
    if not folder.is_dir():
        raise DataError(_nothing_in(folder))
    subfolders = natural_order(
        SourceFile(path, path.name)
        for path in _listed(folder)
        if path.name.casefold() in IMAGE_NAMES | LABEL_NAMES and path.is_dir()
    )
    nested = [source for sub in subfolders for source in _supported(sub.path)]
    # The folder's own name says nothing here: labels in a folder called images/ are still called label.tif.
    direct = [SourceFile(source.path, source.path.name) for source in _supported(folder)]
    has_images = any(_role(PurePosixPath(source.name)) == "image" for source in nested)
    images, labels = split_pairs(nested if has_images else [*direct, *nested])
    if not images:
        raise DataError(_nothing_in(folder))
    return images, labels


def split_pairs(sources: Sequence[SourceFile]) -> tuple[list[SourceFile], list[SourceFile]]:
    """Splits files into images and labels by the folder in their names, else by being called image.* and label.*.

    A file in no such folder is an image. Each list is in natural order. Raises DataError where all are labels.
    """
    roles = {source.name: _role(PurePosixPath(source.name)) for source in sources}
    images = [source for source in sources if roles[source.name] != "label"]
    labels = [source for source in sources if roles[source.name] == "label"]
    if sources and not images:
        raise DataError(
            f"All {len(labels)} files are labels by their names (such as {labels[0].name}); the images are missing. "
            "Put images into a folder `images` and labels into a folder `labels`."
        )
    return natural_order(images), natural_order(labels)


def allowed_roots() -> list[Path]:
    """The folders of the server from which a user may import; $SEGLIB_DATA_ROOTS replaces the usual ones."""
    chosen = os.environ.get(ROOTS_ENVIRONMENT, "").strip()
    if chosen:
        wanted = [Path(part).expanduser() for part in chosen.split(os.pathsep) if part.strip()]
    else:
        usual = [Path.home(), Path.cwd().parent, Path(tempfile.gettempdir())]
        # A home or parent that is the whole disk would allow everything.
        wanted = [path for path in usual if path.resolve() != Path(path.resolve().anchor)]
        wanted += [path for path in map(Path, _COMMON_ROOTS) if path.is_dir()]
    return list(dict.fromkeys(path.resolve() for path in wanted))


def confine(text: str) -> Path:
    """A path a user typed, links resolved, where it lies in an allowed folder and exists.

    Raises DataError where it is empty, malformed, outside the allowed folders (the message lists them), or missing.
    """
    trimmed = text.strip()
    if not trimmed:
        raise DataError("No folder was given. Type the path of a folder on the server.")
    if any(ord(character) < 32 for character in trimmed) or trimmed.startswith("\\\\"):
        raise DataError("That is not a path of a folder on this server: it has characters that paths cannot have.")
    try:
        path = Path(trimmed).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{trimmed[:200]} is not a path that can be followed. Check its spelling.") from error
    # Outside the allowed folders the answer must not tell whether something is there.
    if not _is_allowed(path):
        roots = ", ".join(map(str, allowed_roots())) or "none"
        raise DataError(
            f"{trimmed[:200]} is outside the folders from which data may be imported ({roots}). Copy the data there, "
            f"or add its folder to {ROOTS_ENVIRONMENT} (folders separated by {os.pathsep!r}) and restart the server."
        )
    try:
        path.stat()
    except OSError as error:
        raise DataError(f"{trimmed[:200]} cannot be opened ({error.strerror}). Check its spelling.") from error
    return path


def _is_allowed(path: Path) -> bool:
    return any(path.is_relative_to(root) for root in allowed_roots())


def _role(name: PurePosixPath) -> str:
    for part in reversed(name.parts[:-1]):
        if part.casefold() in LABEL_NAMES:
            return "label"
        if part.casefold() in IMAGE_NAMES:
            return "image"
    return "label" if name.stem.casefold() in LABEL_NAMES else ""


def _supported(folder: Path) -> list[SourceFile]:
    found = []
    for path in _listed(folder):
        if path.name.startswith(".") or not is_supported(path.name) or not path.is_file():
            continue
        if path.is_symlink() and not _is_allowed(path.resolve()):
            raise DataError(f"{path.name} is a link to a file outside the folders from which data may be imported.")
        found.append(SourceFile(path, f"{folder.name}/{path.name}"))
    return natural_order(found)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be opened ({error.strerror}). Check the path.") from error


def _nothing_in(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder. Give the folder that holds the images."
    names = [path.name + "/" * path.is_dir() for path in _listed(folder)]
    found = "it is empty" if not names else "it has " + ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
    return f"There is no image in the folder {folder}: {found}. Wanted: files ending in {supported_text()}."
