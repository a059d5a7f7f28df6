"""An import in a thread of its own, so that a page that is drawn anew, or closed, does not cut it off."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from seglib.errors import DataError, SeglibError
from seglib.ingest import ImportCancelled, ImportRequest, already_imported, import_dataset, plan_import
from seglib.store import Store
from seglib.workspace import Workspace

logger = logging.getLogger(__name__)
Collect = Callable[[Path], ImportRequest]


@dataclass(frozen=True)
class ImportState:
    """How far an import is.

    done, total: planes; text: what is being done now.
    dataset: id of the finished data set. error: why there is none. notes: what a person should know about it.
    """

    done: int = 0
    total: int = 0
    text: str = "Looking at the files"
    dataset: int | None = None
    error: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def is_over(self) -> bool:
        return self.dataset is not None or bool(self.error)


class BackgroundImport:
    """One import under way. `state` may be read at any time; `cancel` leaves nothing behind.

    collect: gathers the files into an existing scratch folder and says what they mean; may raise DataError.
    """

    def __init__(self, workspace: Workspace, store: Store, collect: Collect) -> None:
        self._workspace = workspace
        self._store = store
        self._collect = collect
        self._cancelled = threading.Event()
        self.state = ImportState()
        self._thread = threading.Thread(target=self._run, name="seglib-import", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ends the import after the planes at hand."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> ImportState:
        """The state once the import is over, or after the time given."""
        self._thread.join(timeout_s)
        return self.state

    def _run(self) -> None:
        try:
            with self._workspace.scratch() as scratch:
                dataset, notes = self._import(self._collect(scratch))
            self.state = ImportState(dataset=dataset, notes=notes)
        except ImportCancelled:
            self.state = ImportState(error="The import was cancelled; nothing of it was kept.")
        except SeglibError as error:
            self.state = ImportState(error=str(error))
        except Exception as error:  # a bug must not leave the page waiting for ever
            logger.exception("An import failed")
            self.state = ImportState(error=f"An unexpected error ended the import: {error!r}. Nothing of it was kept.")

    def _import(self, request: ImportRequest) -> tuple[int, tuple[str, ...]]:
        plan = plan_import(request)
        if plan.problems:
            raise DataError("\n".join(plan.problems))
        twin = already_imported(self._store, plan)
        notes: list[str] = []

        def progress(done: int, total: int, text: str) -> None:
            self.state = ImportState(done, total, text)

        dataset = import_dataset(
            self._workspace,
            self._store,
            request,
            progress=progress,
            cancelled=self._cancelled.is_set,
            note=notes.append,
        )
        if twin:
            notes.append(f"The same files were imported before, as {twin}.")
        return dataset, tuple(notes)
