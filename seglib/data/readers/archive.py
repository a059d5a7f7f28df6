"""A zip of images, unpacked under names of our own.

A member's path is never used as a path: it only says what the file is called and which folder (images, labels) it
was in. What the archive says about sizes is checked first and then counted, since headers can lie.
"""

import contextlib
import itertools
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from seglib.data.readers import SourceFile, is_supported, supported_text
from seglib.errors import DataError

MAX_MEMBERS = 20_000
MAX_UNPACKED_BYTES = 64 << 30
MAX_NAME = 255
_BLOCK = 1 << 20
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
_JUNK = {"thumbs.db", "desktop.ini"}
_FOREIGN = (
    zipfile.BadZipFile,
    NotImplementedError,  # a compression zipfile does not know
    RuntimeError,  # a password
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
)


def unpack(
    archive: SourceFile, into: Path, *, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_UNPACKED_BYTES
) -> list[SourceFile]:
    """Unpacks the images of a zip into an existing folder and returns them, named as in the zip.

    Other files and what macOS and Windows add are left out. What was unpacked before an error is removed.
    Raises DataError where it is no zip, holds no image, is protected, damaged or too large, or where a member is a
    link, an archive, twice there, or has a name that would lead out of the folder.
    """
    unpacked: list[Path] = []
    try:
        with _opened(archive) as opened:
            members = _wanted(archive, opened.infolist(), max_members)
            _check_sizes(archive, members, max_bytes)
            left = max_bytes
            sources = []
            for index, member in enumerate(members):
                path = into / f"{index:06d}{PurePosixPath(member.filename).suffix.lower()}"
                unpacked.append(path)
                left -= _extract(archive, opened, member, path, left)
                sources.append(SourceFile(path, member.filename))
            return sources
    except BaseException:
        for path in unpacked:
            path.unlink(missing_ok=True)
        raise


def _wanted(archive: SourceFile, members: Sequence[zipfile.ZipInfo], max_members: int) -> list[zipfile.ZipInfo]:
    if len(members) > max_members:
        raise DataError(f"{archive.name} has {len(members):,} files in it; at most {max_members:,} can be imported.")
    seen: set[str] = set()
    for member in members:
        if not member.is_dir():
            _check_member(archive, member, seen)
    files = [member for member in members if not member.is_dir() and not _is_junk(member.filename)]
    wanted = [member for member in files if is_supported(member.filename)]
    if not wanted:
        found = ", ".join(member.filename for member in files[:5]) or "nothing"
        raise DataError(f"{archive.name} holds no image. Found: {found}. Wanted: {supported_text()}.")
    return wanted


def _check_member(archive: SourceFile, member: zipfile.ZipInfo, seen: set[str]) -> None:
    # zipfile cuts a name at its first NUL, so the name as written is the one to look at.
    name = member.orig_filename
    shown = repr(name[:80])[1:-1]
    where = f"{archive.name} cannot be unpacked: {shown}"
    parts = name.split("/")
    if any(ord(character) < 32 for character in name) or "\\" in name or ":" in parts[0]:
        raise DataError(f"{where} has a character that no file name may have. Zip the folder again.")
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{where} points outside the archive. Zip the folder again, without full paths.")
    if any(len(part.encode()) > MAX_NAME for part in parts) or len(name) > 4 * MAX_NAME:
        raise DataError(f"{where}… has a name of {len(name):,} characters. Rename it and zip again.")
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(f"{where} is a link or a device, not a file. Zip the files themselves.")
    if member.flag_bits & 1:
        raise DataError(f"{where} is protected by a password. Zip the folder again without one.")
    if not _is_junk(name) and PurePosixPath(name).suffix.lower() in _ARCHIVES:
        raise DataError(f"{where} is an archive in an archive. Unpack it first, then zip the images.")
    if name.casefold() in seen:
        raise DataError(f"{where} is there twice. Zip the folder again.")
    seen.add(name.casefold())


def _check_sizes(archive: SourceFile, members: Sequence[zipfile.ZipInfo], max_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise _too_large(archive, max_bytes)
    # Members that share bytes (a "quoted overlap" bomb) unpack to far more than the archive could hold.
    ordered = sorted(members, key=lambda member: member.header_offset)
    for member, following in itertools.pairwise(ordered):
        if member.header_offset + member.compress_size > following.header_offset:
            raise DataError(
                f"{archive.name} is damaged: {following.filename} overlaps {member.filename}. Zip it again."
            )


def _extract(archive: SourceFile, opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, limit: int) -> int:
    """Writes one member to `path` and returns its size in bytes."""
    written = 0
    with opened.open(member) as packed, path.open("xb") as file:
        while block := packed.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise _too_large(archive, limit)
            file.write(block)
    return written


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1].lower() in _JUNK


def _too_large(archive: SourceFile, limit: int) -> DataError:
    return DataError(
        f"{archive.name} unpacks to more than {limit / 2**30:.3g} GiB. "
        "Import the unpacked folder on the server instead."
    )


@contextlib.contextmanager
def _opened(archive: SourceFile) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive.path) as opened:
            yield opened
    except DataError:
        raise
    except _FOREIGN as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{archive.name} is not a zip, or damaged ({detail}). Zip the folder again.") from error
    except OSError as error:
        raise DataError(f"{archive.name} cannot be unpacked ({error.strerror or error}).") from error
