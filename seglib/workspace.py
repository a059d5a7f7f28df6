"""The folder everything lives in. Every path is made here, from ids, never from a user's text.

<root>/studio.db                     runs, data sets, metrics (SQLite)
<root>/volumes/<id>.zarr             one imported volume (OME-Zarr)
<root>/runs/<id>/                    config.json, environment.json, history.csv, steps.csv, log.txt, curves.png and
                                     .svg, checkpoints/, preview.zarr, models/
<root>/predictions/<id>/             labels.zarr and exported files
<root>/uploads/<id>/                 data and meta.json of one file from a browser, until it is imported
<root>/uploads/manifests/<id>.jsonl  which uploaded files belong together
<root>/scratch/                      work in progress; emptied of the dead at start
"""

import contextlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from seglib.errors import SeglibError

ENVIRONMENT = "SEGLIB_WORKSPACE"
SCRATCH_LIFETIME_S = 24 * 3600
UPLOAD_LIFETIME_S = 7 * 24 * 3600
# Made by us of random bits or a digest; \Z, because $ would let a line end pass.
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}\Z")
# One name for each step: more than seven digits only where seven do not suffice.
_CHECKPOINT = re.compile(r"(last|best|previous|step-([0-9]{7}|[1-9][0-9]{7,14}))\Z")


@dataclass(frozen=True)
class Workspace:
    """One workspace folder; made on first use.

    root: absolute path of the folder.
    """

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "studio.db"

    def volume(self, volume_id: int) -> Path:
        """Path of an imported volume. Raises SeglibError for what is no id, as do all paths here."""
        return self._numbered("volumes", volume_id).with_suffix(".zarr")

    def run(self, run_id: int) -> Path:
        """Folder of a training run's files."""
        return self._numbered("runs", run_id)

    def checkpoint(self, run_id: int, kind: str) -> Path:
        """Path of a run's checkpoint; kind is `last`, `best`, `previous` or what `step_name` makes of a step."""
        if not isinstance(kind, str) or not _CHECKPOINT.match(kind):
            raise SeglibError(f"A checkpoint is 'last', 'best', 'previous' or such as 'step-0000123', not {kind!r}.")
        return self.run(run_id) / "checkpoints" / f"{kind}.pt"

    def config(self, run_id: int) -> Path:
        """Path of a training run's settings."""
        return self.run(run_id) / "config.json"

    def environment(self, run_id: int) -> Path:
        """Path of what a training run was computed with: versions, machine, data."""
        return self.run(run_id) / "environment.json"

    def history(self, run_id: int) -> Path:
        """Path of a training run's scores, one row an epoch or validation."""
        return self.run(run_id) / "history.csv"

    def steps(self, run_id: int) -> Path:
        """Path of a training run's losses, one row a step."""
        return self.run(run_id) / "steps.csv"

    def log(self, run_id: int) -> Path:
        """Path of what a training run said."""
        return self.run(run_id) / "log.txt"

    def curves(self, run_id: int) -> Path:
        """Path of a training run's curves as a PNG; the SVG beside it differs in the suffix."""
        return self.run(run_id) / "curves.png"

    def preview(self, run_id: int) -> Path:
        """Path of a training run's preview crop."""
        return self.run(run_id) / "preview.zarr"

    def models(self, run_id: int) -> Path:
        """Folder of the files made of a training run's network for other programs."""
        return self.run(run_id) / "models"

    def report(self, dataset_id: int) -> Path:
        """Path of what was measured of a data set; it can be made again."""
        return self._numbered("reports", dataset_id).with_suffix(".json")

    def prediction(self, run_id: int) -> Path:
        """Folder of a prediction's files."""
        return self._numbered("predictions", run_id)

    def upload(self, upload_id: str) -> Path:
        """Folder of one file that came through the browser. Ids are 32 hexadecimal digits."""
        return self.root / "uploads" / _checked_upload_id(upload_id)

    def upload_manifest(self, manifest_id: str) -> Path:
        """Path of the list of uploaded files that belong together."""
        return self.root / "uploads" / "manifests" / f"{_checked_upload_id(manifest_id)}.jsonl"

    def _numbered(self, folder: str, number: int) -> Path:
        # bool is an int, and int("٣") is 3: only a plain positive int names a folder.
        if type(number) is not int or number < 1:
            raise SeglibError(f"{number!r} is not an id in {folder}.")
        return self.root / folder / str(number)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of its own for work in progress, removed on the way out, whatever happened."""
        path = self.root / "scratch" / uuid.uuid4().hex
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def discard(self, paths: Iterable[Path]) -> threading.Thread:
        """Takes folders away at once and deletes them in the background; returns the thread that does it.

        What a killed process leaves of them is swept with the scratch.
        """
        trash = self.root / "scratch" / uuid.uuid4().hex
        trash.mkdir(parents=True)
        for index, path in enumerate(paths):
            with contextlib.suppress(FileNotFoundError):  # gone already is what was wanted
                path.rename(trash / str(index))
        thread = threading.Thread(target=shutil.rmtree, args=(trash, True), name="seglib-discard", daemon=True)
        thread.start()
        return thread

    def sweep_scratch(self, older_than_s: float = SCRATCH_LIFETIME_S) -> None:
        """Removes scratch folders that a killed process left behind."""
        now = time.time()
        for path in (self.root / "scratch").glob("*"):
            with contextlib.suppress(OSError):  # another process may be removing the same folder
                if now - path.stat().st_mtime > older_than_s:
                    shutil.rmtree(path, ignore_errors=True)

    def sweep_uploads(self, older_than_s: float = UPLOAD_LIFETIME_S) -> None:
        """Removes uploaded files, and lists of them, that nobody wrote to or asked for in a week."""
        now = time.time()
        for path in (self.root / "uploads").glob("*"):
            if not _UPLOAD_ID.match(path.name):
                continue
            with contextlib.suppress(OSError):  # another process may be removing the same folder
                if now - max(part.stat().st_mtime for part in (path, *path.iterdir())) > older_than_s:
                    shutil.rmtree(path, ignore_errors=True)
        for path in (self.root / "uploads" / "manifests").glob("*"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > older_than_s:
                    path.unlink()


def open_workspace(root: str | os.PathLike[str] | None = None) -> Workspace:
    """The workspace at `root`, else at $SEGLIB_WORKSPACE, else `seglib-workspace` in the home folder.

    Raises SeglibError where the folder cannot be made or written to.
    """
    chosen = Path(root or os.environ.get(ENVIRONMENT) or Path.home() / "seglib-workspace")
    path = chosen.expanduser().resolve()
    try:
        for name in ("volumes", "runs", "predictions", "scratch", "uploads/manifests"):
            (path / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeglibError(
            f"The workspace folder {path} cannot be made ({error.strerror}). "
            f"Set {ENVIRONMENT} to a folder you may write to."
        ) from error
    return Workspace(path)


def step_name(step: int) -> str:
    """What is kept of a step is called so: `step-0000123`."""
    return f"step-{step:07d}"


def _checked_upload_id(upload_id: str) -> str:
    if not isinstance(upload_id, str) or not _UPLOAD_ID.match(upload_id):
        raise SeglibError(f"{upload_id!r} is not an id in uploads.")
    return upload_id
