"""The steps of an import, from a door to a data set; decoding happens in other processes."""

import contextlib
import errno
import itertools
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from seglib.config.labels import LabelScheme
from seglib.data.pairing import Proposal
from seglib.data.planning import ImportRequest, clean_name, request_problems
from seglib.errors import DataError
from seglib.ingest.gathering import Door
from seglib.ingest.isolated import run_isolated
from seglib.ingest.labelling import read_labels
from seglib.ingest.looking import Preview
from seglib.ingest.staging import StagedVolume, Watch, refuse
from seglib.ingest.worker import (
    GATHER,
    JOBS,
    PREVIEW,
    PROPOSAL,
    REQUEST,
    STAGE,
    STAGED,
    GatherJob,
    StageJob,
    StageResult,
)
from seglib.store import Store
from seglib.store.datasets import add_dataset, find_fingerprint
from seglib.workspace import Workspace

MANY_ITEMS = 128
MOST_WORKERS = 4
Progress = Callable[[int, int, str], None]
Cancelled = Callable[[], bool]


class Desk:
    """A place to work on one import: find files, look at them, import them. A context manager; closing cleans up.

    Every step may be given `progress` (done, total, what is being done) and `cancelled`, and raises DataError with
    every problem found, or WorkCancelled.
    isolated: decode in processes of their own; only files that are trusted may be decoded in this one.
    """

    def __init__(self, workspace: Workspace, *, isolated: bool = True) -> None:
        self._workspace = workspace
        self._isolated = isolated
        self._folder = workspace.root / "scratch" / uuid.uuid4().hex
        self._folder.mkdir(parents=True)
        # A page that is closed midway drops its desk without a word.
        self._removal = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes what was unpacked."""
        self._removal()

    def find(self, door: Door, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> Proposal:
        """The files behind a door and what they could become."""
        unpacked = self._folder / uuid.uuid4().hex
        unpacked.mkdir()
        payload = GATHER.dump_json(GatherJob(door, unpacked))
        return PROPOSAL.validate_json(self._run("gather", [payload], progress, cancelled)[0])

    def look(
        self, request: ImportRequest, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Preview:
        """What an import would make; problems are told, not raised."""
        return PREVIEW.validate_json(self._run("look", [REQUEST.dump_json(request)], progress, cancelled)[0])

    def stage(
        self,
        request: ImportRequest,
        folder: Path,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> StageResult:
        """Writes all volumes of a request to a folder, `<index>.zarr` each; many items by several processes."""
        if request.layout == "auto" and len(request.items) > MANY_ITEMS:
            preview = self.look(request, progress=progress, cancelled=cancelled)
            request = replace(request, layout=preview.layout)
        payloads = [STAGE.dump_json(StageJob(request, a, b, folder)) for a, b in _shares(request)]
        results = [STAGED.validate_json(text) for text in self._run("stage", payloads, progress, cancelled)]
        volumes = tuple(volume for result in results for volume in result.volumes)
        return StageResult(volumes, tuple(dict.fromkeys(note for result in results for note in result.notes)))

    def _run(
        self, job: str, payloads: Sequence[bytes], progress: Progress | None, cancelled: Cancelled | None
    ) -> list[bytes]:
        tell = progress or (lambda done, total, text: None)
        asked = cancelled or (lambda: False)
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        with _disk_errors(self._workspace):
            try:
                if not self._isolated:
                    return [JOBS[job](payload, Watch(0, tell, asked)) for payload in payloads]
                return run_isolated(job, payloads, folder, progress=tell, cancelled=asked)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def import_images(
    workspace: Workspace,
    store: Store,
    door: Door,
    *,
    name: str,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    note: Callable[[str], None] | None = None,
) -> int:
    """Imports all images behind a door, without their labels, and returns the id of the data set.

    name: of the data set where the files suggest none; the rest is as for `import_dataset`.
    """
    with Desk(workspace) as desk:
        # Until it is imported, what was unpacked lies in the desk.
        proposal = desk.find(door, progress=progress, cancelled=cancelled)
        items = tuple(replace(item, labels=()) for item in proposal.items)
        request = ImportRequest(name=proposal.name or name, items=items)
        return import_dataset(workspace, store, request, progress=progress, cancelled=cancelled, note=note)


def import_dataset(
    workspace: Workspace,
    store: Store,
    request: ImportRequest,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    note: Callable[[str], None] | None = None,
    isolated: bool = True,
) -> int:
    """Imports files as a data set and returns its id.

    progress: called with (planes done, planes to do, what is being done).
    cancelled: asked all the time; true ends the import with WorkCancelled.
    note: called with what a person should know about the result, such as how the kind of labels was guessed.
    isolated: see Desk.
    Raises DataError, with every problem found, where the files cannot be used; nothing is left behind then.
    """
    refuse(request_problems(request))
    tell = note or (lambda text: None)
    with workspace.scratch() as scratch, _disk_errors(workspace), Desk(workspace, isolated=isolated) as desk:
        result = desk.stage(request, scratch, progress=progress, cancelled=cancelled)
        facts = [volume.facts for volume in result.volumes if volume.facts is not None]
        labels, counts, notes = read_labels(request, facts)
        twin = find_fingerprint(store, [volume.row.fingerprint for volume in result.volumes])
        for text in (*result.notes, *notes):
            tell(text)
        if twin:
            tell(f"The same files were imported before, as {twin}.")
        name = clean_name(request.name)
        return commit(workspace, store, scratch, name=name, labels=labels, counts=counts, volumes=result.volumes)


def already_imported(store: Store, preview: Preview) -> str | None:
    """Name of a data set that was imported from one of the same files, or None."""
    return find_fingerprint(store, preview.fingerprints)


def commit(
    workspace: Workspace,
    store: Store,
    scratch: Path,
    *,
    name: str,
    labels: LabelScheme,
    counts: dict[int, int] | None,
    volumes: Sequence[StagedVolume],
) -> int:
    """Moves the volumes of `scratch` to their places and makes the rows, or neither."""
    placed: list[Path] = []

    def place(index: int, volume_id: int) -> None:
        target = workspace.volume(volume_id)
        # The id is new, so what lies there was left by a process killed before its rows were committed.
        if target.exists():
            shutil.rmtree(target)
        (scratch / f"{volumes[index].index}.zarr").rename(target)
        placed.append(target)

    workspace.volume(1).parent.mkdir(parents=True, exist_ok=True)
    try:
        rows = [volume.row for volume in volumes]
        return add_dataset(store, name=name, labels=labels, label_counts=counts, volumes=rows, place=place)
    except BaseException:
        for path in placed:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _shares(request: ImportRequest) -> list[tuple[int, int]]:
    """Which items each process takes. Sections of one volume stay together."""
    count = len(request.items)
    workers = min(MOST_WORKERS, os.cpu_count() or 1) if count > MANY_ITEMS and request.layout == "volumes" else 1
    edges = [round(share * count / workers) for share in range(workers + 1)]
    return list(itertools.pairwise(edges))


@contextlib.contextmanager
def _disk_errors(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"The disk of {workspace.root} is full. Free some space and import again.") from error
