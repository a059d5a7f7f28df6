"""Which files are meant: natural order, folders and what is in them, and the server paths a user may name."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from seglib.data.readers import is_image, supported_text
from seglib.data.readers.base import SourceFile
from seglib.errors import DataError

ROOTS_ENVIRONMENT = "SEGLIB_DATA_ROOTS"
MAX_DEPTH = 8
MAX_FILES = 200_000
ZARR = ".zarr"
# nnU-Net's description of a data set: no image, but it says what the labels of the images beside it mean.
DESCRIPTION = "dataset.json"
_COMMON_ROOTS = ("/data", "/mnt", "/media", "/srv", "/Volumes")
_NUMBERS = re.compile("([0-9]+)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def natural_key(name: str) -> tuple[tuple[int, str] | str, ...]:
    """Sorts names as people do: "2" before "10", upper and lower case together."""
    parts = _NUMBERS.split(name.casefold())
    # Digits are compared by length, then as text, since int() refuses very long ones.
    return tuple((len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(parts))


def natural_order(sources: Iterable[SourceFile]) -> list[SourceFile]:
    """The files in natural order of their names; the order they come in does not matter."""
    return sorted(
        sources, key=lambda source: (natural_key(source.name), source.name, source.member, os.fspath(source.path))
    )


def find_images(folder: Path, *, max_depth: int = MAX_DEPTH, max_files: int = MAX_FILES) -> list[SourceFile]:
    """The images in a folder and the folders below it, in natural order, named `folder/sub/file`.

    A Zarr folder is one image. Names that begin with a dot are left out; nnU-Net's dataset.json is taken along.
    Raises DataError, with what was found instead, where the folder cannot be read or has no image, where it holds more
    than `max_files` files or folders more than `max_depth` deep, and where a link leads out of the allowed folders.
    """
    found = []
    for count, (entry, name) in enumerate(_walk(folder, max_depth), 1):
        if count > max_files:
            raise DataError(f"The folder {folder} holds more than {max_files:,} files. Choose a folder within it.")
        if _is_wanted(entry):
            found.append(SourceFile(Path(entry.path), name))
    if not any(is_image(source.name) for source in found):
        raise DataError(_nothing_in(folder))
    return natural_order(found)


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What is directly in a folder, in order of names, without those that begin with a dot.

    Raises DataError where it is no folder or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give the folder that holds the images.")
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be opened ({error.strerror}). Check who may read it.") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; False where that cannot be found out."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def readable(name: str) -> str:
    """The name with what is no text in it (bytes of other encodings) replaced, so that it can be shown and stored."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
        raise DataError(
            f"{trimmed[:200]} is outside the folders from which data may be imported ({roots_text()}). Copy the data "
            f"there, or add its folder to {ROOTS_ENVIRONMENT} (folders separated by {os.pathsep!r}) and restart the "
            "server."
        )
    try:
        path.stat()
    except OSError as error:
        raise DataError(f"{trimmed[:200]} cannot be opened ({error.strerror}). Check its spelling.") from error
    return path


def confined_to(base: Path) -> Callable[[str], Path | None]:
    """A function from a path written in a list in the folder `base` to the file it means, links resolved.

    It gives None for what lies neither in an allowed folder nor below `base`; whether the file exists is not looked at.
    """
    allowed = [*allowed_roots(), base.resolve()]

    # Lists name many files in few folders; resolving each by itself would take a minute for a million.
    @lru_cache(maxsize=1 << 16)
    def real_folder(folder: Path) -> Path | None:
        return _within(folder, allowed)

    def locate(text: str) -> Path | None:
        written = base / text
        if has_control(text) or written.name in ("", ".."):
            return None
        folder = real_folder(written.parent)
        if folder is None:
            return None
        path = folder / written.name
        return _within(path, allowed) if path.is_symlink() else path

    return locate


def has_control(text: str) -> bool:
    """Whether there are characters in it that neither a path nor a message should have."""
    return bool(_CONTROL.search(text))


def without_control(text: str) -> str:
    """The text with an underscore for each such character."""
    return _CONTROL.sub("_", text)


def roots_text() -> str:
    """The allowed folders for a message."""
    return ", ".join(map(str, allowed_roots())) or "none"


def _walk(folder: Path, max_depth: int) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every file and Zarr folder in a folder and below, with its name for people."""
    top = folder.resolve()
    locate = confined_to(top)
    pending, walked = [(folder, readable(folder.name), 0)], {_identity(folder)}
    while pending:
        path, name, depth = pending.pop()
        for entry in entries_of(path):
            child = f"{name}/{readable(entry.name)}".lstrip("/")
            target = _link_target(entry, child, locate) if entry.is_symlink() else None
            if not is_folder(entry) or entry.name.lower().endswith(ZARR):
                yield entry, child
                continue
            # A link to a folder around or below this one would show its files twice; links may also run in a circle.
            if target is not None and (target.is_relative_to(top) or top.is_relative_to(target)):
                continue
            if (identity := _identity(Path(entry.path))) in walked:
                continue
            if depth == max_depth:
                raise DataError(
                    f"{child} lies more than {max_depth} folders below {folder}. Choose a folder nearer to the images."
                )
            walked.add(identity)
            pending.append((Path(entry.path), child, depth + 1))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise DataError(f"{folder} is not a folder that can be opened ({error.strerror}). Check the path.") from error
    return found.st_dev, found.st_ino


def _link_target(entry: os.DirEntry[str], name: str, locate: Callable[[str], Path | None]) -> Path | None:
    """Where a link leads. Raises DataError where that is not allowed, unless it would not be imported anyhow."""
    target = locate(entry.path)
    if target is None and (is_image(entry.name) or is_folder(entry)):
        raise DataError(
            f"{name} is a link out of the folders from which data may be imported ({roots_text()}). Copy the data "
            "there, or remove the link."
        )
    return target


def _is_wanted(entry: os.DirEntry[str]) -> bool:
    if not is_image(entry.name) and entry.name.lower() != DESCRIPTION:
        return False
    try:
        return entry.is_dir() == entry.name.lower().endswith(ZARR) and (entry.is_dir() or entry.is_file())
    except OSError:
        return False


def _is_allowed(path: Path) -> bool:
    return any(path.is_relative_to(root) for root in allowed_roots())


def _within(path: Path, allowed: list[Path]) -> Path | None:
    """The path, links resolved, or None where it leads out of the allowed folders."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle
        return None
    return real if any(real.is_relative_to(root) for root in allowed) else None


def _nothing_in(folder: Path) -> str:
    names = sorted(readable(entry.name) + "/" * is_folder(entry) for entry in entries_of(folder))
    found = "it is empty" if not names else "it has " + ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
    return f"There is no image in the folder {folder}: {found}. Wanted: files ending in {supported_text()}."
