"""A run's folder as one zip, made while it is sent: nothing of it is ever whole in memory or on disk."""

import io
import os
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from seglib.errors import SeglibError
from seglib.workspace import Workspace

CHUNK = 2**20
# Text shrinks to a fraction; weights, pictures and the chunks of a preview are as small as they get.
SHRINKS = (".json", ".csv", ".txt", ".svg")


@dataclass(frozen=True)
class RunFile:
    """A file of a run. name: its place in the folder, with slashes; size: in bytes."""

    path: Path
    name: str
    size: int

    @property
    def is_checkpoint(self) -> bool:
        """Whether it holds a network's weights: a saved state, or a model made for other programs."""
        return self.name.startswith(("checkpoints/", "models/"))


def run_files(workspace: Workspace, run_id: int, *, checkpoints: bool = True) -> list[RunFile]:
    """What is in a run's folder, by name; without links, and without files that are still being written.

    checkpoints: whether the saved states are among them.
    Raises SeglibError where the run has left no files.
    """
    root = workspace.run(run_id)
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            unfinished = any(part.endswith((".tmp", ".lock")) for part in path.relative_to(root).parts)
            if unfinished or path.is_symlink() or not path.is_file():
                continue
            file = RunFile(path, path.relative_to(root).as_posix(), path.stat().st_size)
            if checkpoints or not file.is_checkpoint:
                found.append(file)
    if not found:
        raise SeglibError(f"Run {run_id} has left no files: it has not begun yet, or was deleted.")
    return sorted(found, key=lambda file: file.name)


def zipped(files: Iterable[RunFile], folder: str) -> Iterator[bytes]:
    """A zip of files in pieces of about a megabyte, to be sent or written one after the other.

    folder: where they are within the zip. A file that vanished meanwhile is left out; sizes may be beyond 4 GB.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for file in files:
            try:
                source = file.path.open("rb")
            except FileNotFoundError:  # an earlier state that was let go
                continue
            with source, archive.open(_entry(file, folder), "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def _entry(file: RunFile, folder: str) -> zipfile.ZipInfo:
    # Dates before 1980, which a copied folder may have, do not exist in a zip.
    changed = max(time.localtime(file.path.stat().st_mtime)[:6], (1980, 1, 1, 0, 0, 0))
    entry = zipfile.ZipInfo(f"{folder}/{file.name}", changed)
    entry.compress_type = zipfile.ZIP_DEFLATED if file.path.suffix in SHRINKS else zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    return entry


class _Sink(io.RawIOBase):
    """Takes what a zip file writes, to be fetched piece by piece. It cannot go back, so nothing waits to be changed."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
