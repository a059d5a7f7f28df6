"""Files that came through the browser: what they are known by, how much has arrived, and which belong together.

A file is known by its name, size, time of change and a checksum of what is in it, so that a person who chooses the
same file again goes on where it stopped, and two files that only look alike are never taken for one another.
Names are for people; every path is made from an id.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from seglib.data.readers.base import SourceFile
from seglib.errors import DataError, SeglibError
from seglib.workspace import Workspace

MAX_FILES = 100_000
MAX_FILE_BYTES = 1 << 40
MAX_NAME = 1024
# Up to this size the checksum is of the whole file; above, of three samples. uploads.js does the same.
SMALL_BYTES = 1 << 20
SAMPLE_BYTES = 64 << 10
# What the browser sends of a large file at a time.
SLICE_BYTES = 8 << 20
# Training and the store need room as well.
KEPT_FREE_BYTES = 2 << 30
# What the folder and the two files of an upload take besides the data.
_OVERHEAD_BYTES = 12 << 10

_manifests = threading.Lock()


class UploadRefused(SeglibError):
    """An upload that cannot go on. status: as HTTP says it; facts: what the browser needs to go on by itself."""

    def __init__(self, message: str, status: int, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.facts = dict(facts or {})


@dataclass(frozen=True)
class Claim:
    """What the browser says of a file.

    name: clean, parts separated by “/”. size: bytes. modified: ms since 1970. sample: CRC-32, see `sample_of`.
    """

    name: str
    size: int
    modified: int
    sample: int

    @property
    def upload_id(self) -> str:
        text = json.dumps([self.name, self.size, self.modified, self.sample])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Manifest:
    """Uploaded files that belong together."""

    id: str
    files: int
    bytes: int


def uploaded_files(workspace: Workspace, manifest_id: str) -> tuple[SourceFile, ...]:
    """The files of a manifest, in the order they were chosen. Raises DataError where they are gone."""
    entries = _entries(workspace.upload_manifest(manifest_id))
    files = tuple(SourceFile(workspace.upload(entry["id"]) / "data", entry["name"]) for entry in entries)
    if not files or not all(file.path.exists() for file in files):
        raise DataError("The uploaded files are no longer on the server. Choose them again.")
    return files


def find_manifest(workspace: Workspace, manifest_id: object) -> Manifest | None:
    """What is in a manifest, or None where there is none of that id, whatever was given as an id."""
    if not isinstance(manifest_id, str):
        return None
    try:
        with workspace.upload_manifest(manifest_id).open() as file:
            head = json.loads(file.readline())
    except (SeglibError, FileNotFoundError, ValueError):  # not an id, not there, spoilt
        return None
    return Manifest(manifest_id, head["files"], head["bytes"])


def forget_uploads(workspace: Workspace, manifest_id: str) -> None:
    """Removes a manifest and its files, but for those that another manifest needs."""
    entries = _entries(workspace.upload_manifest(manifest_id))
    forget(workspace, [entry["id"] for entry in entries], manifest_id=manifest_id)


def forget(workspace: Workspace, upload_ids: Iterable[str], *, manifest_id: str | None = None) -> None:
    """Removes a manifest, if one is given, and files that no other manifest needs."""
    folders = {upload_id: workspace.upload(upload_id) for upload_id in upload_ids}
    with _manifests:
        if manifest_id is not None:
            workspace.upload_manifest(manifest_id).unlink(missing_ok=True)
        for upload_id in folders.keys() - _needed(workspace):
            shutil.rmtree(folders[upload_id], ignore_errors=True)


def read_claim(value: object) -> Claim:
    """A claim from the browser's JSON. Raises UploadRefused for what is none."""
    if not isinstance(value, dict):
        raise UploadRefused("A file to upload is described by name, size, modified and sample.", 400)
    size = _whole_number(value.get("size"), least=0, below=1 << 53)
    modified = _whole_number(value.get("modified"), least=-(1 << 53), below=1 << 53)
    sample = _whole_number(value.get("sample"), least=0, below=1 << 32)
    claim = Claim(clean_name(value.get("name")), size, modified, sample)
    if size > MAX_FILE_BYTES:
        raise UploadRefused(
            f"{claim.name} is larger than 1 TiB, which is the most that can be uploaded. Split it.", 413
        )
    return claim


def clean_name(name: object) -> str:
    """A relative name to show: “/” between parts, no “.” or “..”. Raises UploadRefused for what is no name."""
    if not isinstance(name, str) or not name or len(name) > MAX_NAME:
        raise UploadRefused(f"A file's name, with its folders, has 1 to {MAX_NAME:,} characters. Rename it.", 400)
    # Cc: control characters, NUL among them; Cs: halves of characters, which cannot be stored as text.
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise UploadRefused(f"The file name {name!a} has control characters in it. Rename the file.", 400)
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts:
        raise UploadRefused(f"{name!a} is no file name. Rename the file.", 400)
    return "/".join(parts)


def sample_of(size: int, read: Callable[[int, int], bytes]) -> int:
    """CRC-32 of a small file, or of the first, middle and last 64 KiB of a large one.

    read: gives bytes from (start, count).
    """
    if size <= SMALL_BYTES:
        return zlib.crc32(read(0, size))
    checksum = 0
    for start in (0, size // 2, size - SAMPLE_BYTES):
        checksum = zlib.crc32(read(start, SAMPLE_BYTES), checksum)
    return checksum


def require_room(workspace: Workspace, size: int, *, files: int = 1) -> None:
    """Raises UploadRefused (507) where `size` more bytes in `files` files would fill the disk, 413 for too many."""
    if files > MAX_FILES:
        raise UploadRefused(
            f"These are {files:,} files; at most {MAX_FILES:,} can be uploaded together. Zip them, or leave some out.",
            413,
        )
    spare = shutil.disk_usage(workspace.root).free - KEPT_FREE_BYTES
    needed = size + files * _OVERHEAD_BYTES
    if needed > spare:
        raise UploadRefused(
            f"There is no room on the server's disk: {_size_text(needed)} are needed and {_size_text(max(0, spare))} "
            f"are free ({_size_text(KEPT_FREE_BYTES)} are always kept). Make room there, then continue.",
            507,
        )


def register(workspace: Workspace, claims: Sequence[Claim]) -> list[int]:
    """How many bytes of each file are here; large ones can be sent from now on.

    Raises UploadRefused where there is no room for the rest.
    """
    received = [_received_of(workspace, claim) for claim in claims]
    require_room(workspace, sum(claim.size for claim in claims) - sum(received), files=len(claims))
    for claim in claims:
        folder = workspace.upload(claim.upload_id)
        if claim.size > SMALL_BYTES:
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(folder / "meta.json", [asdict(claim)])
        if folder.exists():
            os.utime(folder)  # not to be swept
    return received


def arrived(workspace: Workspace, upload_id: str) -> tuple[int, Claim]:
    """How many bytes of a registered file are here, and what it will be. Raises UploadRefused (404) for others."""
    folder = workspace.upload(upload_id)
    try:
        claim = Claim(**json.loads((folder / "meta.json").read_bytes()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise UploadRefused("The server does not know this upload (any more).", 404) from error
    return _size_of(folder / "data"), claim


def store_small(workspace: Workspace, claim: Claim, content: bytes) -> None:
    """Stores a file of up to SMALL_BYTES at once. Raises UploadRefused where the content is not what was claimed.

    Nothing is forced onto the disk: what a power cut spoils no longer has the checksum when it is registered again.
    """
    if len(content) != claim.size or zlib.crc32(content) != claim.sample:
        raise UploadRefused(f"{claim.name} changed while it was uploaded. Choose it again.", 422)
    folder = workspace.upload(claim.upload_id)
    with _disk_full_is_said():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_bytes(content)
        (folder / "meta.json").write_text(json.dumps(asdict(claim)))


class Arriving:
    """A registered file that grows at its end. A `with` closes it; what was written stays, whatever happened."""

    def __init__(self, workspace: Workspace, upload_id: str, offset: int) -> None:
        """Raises UploadRefused where `offset` is not where the file ends (409, with the true end), or 404."""
        self.received, self.claim = arrived(workspace, upload_id)
        if offset != self.received:
            raise UploadRefused(
                f"{self.claim.name} goes on at byte {self.received:,}, not {offset:,}.",
                409,
                {"received": self.received},
            )
        require_room(workspace, min(self.claim.size - offset, SLICE_BYTES), files=0)
        self._path = workspace.upload(upload_id) / "data"
        try:
            self._file = self._path.open("ab", buffering=0)
        except FileNotFoundError as error:
            raise UploadRefused("This upload was removed.", 404) from error

    def __enter__(self) -> "Arriving":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, content: bytes | bytearray) -> None:
        """Appends. Raises UploadRefused (413) for more than was claimed, 507 where the disk is full."""
        if self.received + len(content) > self.claim.size:
            raise UploadRefused(f"More arrived of {self.claim.name} than its {self.claim.size:,} bytes.", 413)
        view = memoryview(content)
        with _disk_full_is_said():
            while view:
                written = self._file.write(view)
                self.received += written
                view = view[written:]

    def finish(self) -> None:
        """Forces what arrived onto the disk and, at the end of the file, compares it with the claim.

        Raises UploadRefused (422) for another content, of which nothing is kept.
        """
        with _disk_full_is_said():
            os.fsync(self._file.fileno())
        if self.received < self.claim.size:
            return
        with self._path.open("rb") as file:
            right = sample_of(self.claim.size, lambda start, count: _read_at(file, start, count)) == self.claim.sample
        if not right:
            shutil.rmtree(self._path.parent, ignore_errors=True)
            raise UploadRefused(f"{self.claim.name} changed while it was uploaded. Choose it again.", 422)


def create_manifest(workspace: Workspace, upload_ids: Sequence[str], *, replaces: str | None = None) -> Manifest:
    """Keeps which complete files belong together; the same files have the same manifest.

    replaces: a manifest to remove; its files stay. Raises UploadRefused (409, with `missing`) where some are not whole.
    """
    if not 1 <= len(upload_ids) <= MAX_FILES or len(set(upload_ids)) != len(upload_ids):
        raise UploadRefused(f"A list of uploads has 1 to {MAX_FILES:,} different files.", 400)
    manifest_id = hashlib.sha256("".join(upload_ids).encode()).hexdigest()[:32]
    with _manifests:
        entries: list[dict[str, Any]] = []
        missing: list[str] = []
        for upload_id in upload_ids:
            claim = _whole(workspace, upload_id)
            if claim is None:
                missing.append(upload_id)
            else:
                entries.append({"id": upload_id, "name": claim.name, "size": claim.size})
        if missing:
            raise UploadRefused(f"{len(missing):,} of the files are not here yet.", 409, {"missing": missing})
        # The head comes first, so that a page of 40,000 files need not read them all to count them.
        made = Manifest(manifest_id, len(entries), sum(entry["size"] for entry in entries))
        with _disk_full_is_said():
            _write_whole(workspace.upload_manifest(manifest_id), [{"files": made.files, "bytes": made.bytes}, *entries])
        if replaces is not None and replaces != manifest_id:
            workspace.upload_manifest(replaces).unlink(missing_ok=True)
    return made


def _entries(manifest: Path) -> list[dict[str, Any]]:
    """The files of a manifest; none where it is gone, or spoilt by a power cut."""
    try:
        head, *entries = map(json.loads, manifest.read_text().splitlines())
    except (FileNotFoundError, ValueError):
        return []
    return entries if len(entries) == head["files"] else []


def _whole_number(value: object, *, least: int, below: int) -> int:
    if type(value) is not int or not least <= value < below:
        raise UploadRefused("Size, time of change and checksum of a file are whole numbers.", 400)
    return value


def _needed(workspace: Workspace) -> set[str]:
    needed: set[str] = set()
    for path in (workspace.root / "uploads" / "manifests").glob("*.jsonl"):
        needed.update(entry["id"] for entry in _entries(path))
    return needed


def _received_of(workspace: Workspace, claim: Claim) -> int:
    folder = workspace.upload(claim.upload_id)
    if claim.size > SMALL_BYTES:
        return min(_size_of(folder / "data"), claim.size)
    if _whole(workspace, claim.upload_id) != claim:
        return 0
    return claim.size if zlib.crc32((folder / "data").read_bytes()) == claim.sample else 0


def _whole(workspace: Workspace, upload_id: str) -> Claim | None:
    try:
        received, claim = arrived(workspace, upload_id)
    except UploadRefused:
        return None
    return claim if received == claim.size and (workspace.upload(upload_id) / "data").exists() else None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_at(file: Any, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _write_whole(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes lines of JSON so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{threading.get_ident()}.half")
    half.write_text("\n".join(map(json.dumps, lines)))
    os.replace(half, path)


@contextlib.contextmanager
def _disk_full_is_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "The server's disk is full. What arrived is kept: make room there, then continue."
        raise UploadRefused(message, 507) from error


def _size_text(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 5e7 else f"{size / 1e6:,.1f} MB"
