"""A zip of images, unpacked under names of our own.

A member's path is never used as a path: it only says what the file is called and which folder (images, labels) it
was in. Only within a Zarr folder, whose parts find each other by name, are names kept, below a folder of ours and
checked part by part. What the archive says about sizes is checked first and then counted, since headers can lie.
"""

import contextlib
import itertools
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seglib.data.readers import SourceFile, ending_of, is_image, stem_of, supported_text
from seglib.data.readers.sources import DESCRIPTION, ZARR, has_control
from seglib.errors import DataError

MAX_MEMBERS = 200_000
MAX_UNPACKED_BYTES = 64 << 30
MAX_NAME = 255
_BLOCK = 1 << 20
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
_JUNK = {"thumbs.db", "desktop.ini"}
_ZARR_NOTES = {".zarray", ".zgroup", ".zattrs", ".zmetadata"}
_ZARR_TOPS = {"zarr.json", ".zarray", ".zgroup"}
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


@dataclass(frozen=True)
class _Wanted:
    """A member to unpack. tree: the path in the zip of the Zarr folder it is in, None where it is in none."""

    member: zipfile.ZipInfo
    tree: str | None

    @property
    def name(self) -> str:
        return self.member.filename

    @property
    def inner(self) -> tuple[str, ...]:
        """The parts of its path below the Zarr folder."""
        return PurePosixPath(self.name).parts[len(PurePosixPath(self.tree or "").parts) :]


def unpack(
    archive: SourceFile, into: Path, *, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_UNPACKED_BYTES
) -> list[SourceFile]:
    """Unpacks the images of a zip into an existing folder and returns them, named as in the zip.

    A Zarr folder in the zip, or a zip that is one itself, is one image. nnU-Net's dataset.json is taken along; other
    files and what macOS and Windows add are left out. What was unpacked before an error is removed.
    Raises DataError where it is no zip, holds no image, is protected, damaged or too large, or where a member is a
    link, an archive, twice there, or has a name that would lead out of the folder.
    """
    unpacked, into = dict[str, SourceFile](), into.resolve()
    try:
        with _opened(archive) as opened:
            wanted = _wanted(archive, opened.infolist(), max_members)
            _check_sizes(archive, [one.member for one in wanted], max_bytes)
            left = max_bytes
            for one in wanted:
                key = one.name if one.tree is None else one.tree + "/"
                if key not in unpacked:
                    unpacked[key] = _place(archive, one, into / f"{len(unpacked):06d}")
                path = unpacked[key].path
                if one.tree is not None:
                    path = _path_in_tree(archive, one, path)
                left -= _extract(archive, opened, one.member, path, left)
            return list(unpacked.values())
    except BaseException:
        for source in unpacked.values():
            if source.path.is_dir():
                shutil.rmtree(source.path)
            source.path.unlink(missing_ok=True)
        raise


def _wanted(archive: SourceFile, members: Sequence[zipfile.ZipInfo], max_members: int) -> list[_Wanted]:
    if len(members) > max_members:
        raise DataError(f"{archive.name} has {len(members):,} files in it; at most {max_members:,} can be imported.")
    seen: set[str] = set()
    for member in members:
        if not member.is_dir():
            _check_member(archive, member, seen)
    is_tree = any(member.filename in _ZARR_TOPS for member in members)
    files = [_Wanted(member, _tree_of(member, is_tree)) for member in members if not member.is_dir()]
    files = [one for one in files if not _is_junk(one.name, in_tree=one.tree is not None)]
    wanted = [one for one in files if one.tree is not None or _is_kept(one.name)]
    if not any(one.tree is not None or is_image(one.name) for one in wanted):
        found = ", ".join(one.name for one in files[:5]) or "nothing"
        raise DataError(f"{archive.name} holds no image. Found: {found}. Wanted: {supported_text()}.")
    return wanted


def _tree_of(member: zipfile.ZipInfo, is_tree: bool) -> str | None:
    """The outermost Zarr folder above a member; the zip itself where that is one."""
    if is_tree:
        return ""
    parts = member.filename.split("/")
    depth = next((depth for depth, part in enumerate(parts[:-1], 1) if part.lower().endswith(ZARR)), 0)
    return "/".join(parts[:depth]) if depth else None


def _is_kept(name: str) -> bool:
    # A file that is called .zarr is none: Zarr is a folder.
    image = is_image(name) and not name.lower().endswith(ZARR)
    return image or name.rsplit("/", 1)[-1].lower() == DESCRIPTION


def _place(archive: SourceFile, one: _Wanted, path: Path) -> SourceFile:
    """Where a member or its Zarr folder goes, under a name of ours; the folder is made."""
    if one.tree is None:
        ending = ending_of(one.name)
        return SourceFile(path.with_name(path.name + ending), one.name)
    folder = path.with_name(path.name + ZARR)
    folder.mkdir()
    return SourceFile(folder, one.tree or f"{stem_of(archive.name.removesuffix('.zip'))}{ZARR}")


def _path_in_tree(archive: SourceFile, one: _Wanted, tree: Path) -> Path:
    """Where a part of a Zarr folder goes, its folders made. Raises DataError where that is not below `tree`."""
    where = f"{archive.name} cannot be unpacked: {one.name[:80]!r}"
    for part in one.inner:
        # Most of this was refused before; here a name becomes a path, so nothing is taken on trust.
        if part in ("", ".", "..") or has_control(part) or set(part) & set("/\\:"):
            raise DataError(f"{where} has a name that is not safe. Zip the folder again.")
    path = tree.joinpath(*one.inner)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{where} lies in something that is a file. Zip the folder again.") from error
    if path == tree or not path.resolve().is_relative_to(tree) or path.exists():
        raise DataError(f"{where} has a name that is not safe. Zip the folder again.")
    return path


def _check_member(archive: SourceFile, member: zipfile.ZipInfo, seen: set[str]) -> None:
    # zipfile cuts a name at its first NUL, so the name as written is the one to look at.
    name = member.orig_filename
    shown = repr(name[:80])[1:-1]
    where = f"{archive.name} cannot be unpacked: {shown}"
    parts = name.split("/")
    if has_control(name) or "\\" in name or ":" in parts[0]:
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
    if not _is_junk(name) and not is_image(name) and PurePosixPath(name).suffix.lower() in _ARCHIVES:
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


def _is_junk(name: str, *, in_tree: bool = False) -> bool:
    parts = name.split("/")
    hidden = [part for part in parts if part.startswith(".") and not (in_tree and part in _ZARR_NOTES)]
    return "__MACOSX" in parts or bool(hidden) or parts[-1].lower() in _JUNK


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
