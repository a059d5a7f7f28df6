"""From a door – a path on this machine or uploaded files – to a proposal of volumes."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from seglib.data.doors import LIST, existing_path, expand, files_at
from seglib.data.pairing import Proposal, propose
from seglib.data.readers import SourceFile
from seglib.data.readers.sources import confine
from seglib.ingest.staging import Watch


@dataclass(frozen=True)
class Door:
    """Where the files of an import are.

    path, labels_path: on this machine; labels_path is empty where the first one holds both, or there are none.
    confined: whether paths must lie in the allowed folders, as those of the dashboard must.
    images, labels: uploaded files, used where path is empty.
    """

    path: str = ""
    labels_path: str = ""
    confined: bool = True
    images: tuple[SourceFile, ...] = ()
    labels: tuple[SourceFile, ...] = ()


def gather(door: Door, scratch: Path, watch: Watch) -> Proposal:
    """Finds the files behind a door and proposes what they could become.

    scratch: an existing folder for what is in zips; it must last until the import is over.
    Raises DataError where there is nothing to import, or a path must not be followed.
    """
    watch.step(0, "Looking for files")
    resolve = confine if door.confined else existing_path
    if door.path:
        images = files_at(door.path, resolve=resolve, scratch=scratch)
        labels = files_at(door.labels_path, resolve=resolve, scratch=scratch) if door.labels_path.strip() else ()
        first = door.path.rstrip("/")
    else:
        images, labels = expand(door.images, scratch), expand(door.labels, scratch)
        first = door.images[0].name if door.images else ""
    watch.step(0, "Finding which labels belong to which image")
    proposal = propose(images, labels)
    # A list is made of images that have nothing to do with each other.
    separate = proposal.separate or first.lower().endswith(LIST)
    return replace(proposal, name=proposal.name or PurePosixPath(first).stem, separate=separate)
