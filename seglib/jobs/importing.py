"""Work of an import in a thread of its own, so that a page that is drawn anew, or closed, does not cut it off."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from seglib.errors import SeglibError, WorkCancelled

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Progress = Callable[[int, int, str], None]
Cancelled = Callable[[], bool]
Work = Callable[[Progress, Cancelled], Result]


@dataclass(frozen=True)
class WorkState(Generic[Result]):
    """How far the work is.

    done, total: planes, or 0 where that is not known; text: what is being done now.
    result: what it gave. error: why there is none.
    """

    done: int = 0
    total: int = 0
    text: str = "Starting"
    result: Result | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.result is not None or bool(self.error)


class BackgroundWork(Generic[Result]):
    """One piece of work under way. `state` may be read at any time; `cancel` leaves nothing behind.

    work: called with (progress, cancelled); gives a result that is not None; may raise SeglibError.
    """

    def __init__(self, work: Work[Result]) -> None:
        self._work = work
        self._cancelled = threading.Event()
        self._began = time.monotonic()
        self.state: WorkState[Result] = WorkState()
        self._thread = threading.Thread(target=self._run, name="seglib-work", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self._began

    def cancel(self) -> None:
        """Ends the work at the next chance."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> WorkState[Result]:
        """The state once the work is over, or after the time given."""
        self._thread.join(timeout_s)
        return self.state

    def _run(self) -> None:
        try:
            self.state = WorkState(result=self._work(self._progress, self._cancelled.is_set))
        except WorkCancelled:
            self.state = WorkState(error="Cancelled; nothing was kept.")
        except SeglibError as error:
            self.state = WorkState(error=str(error))
        except Exception as error:  # a bug must not leave the page waiting for ever
            logger.exception("Work in the background failed")
            self.state = WorkState(error=f"An unexpected error ended it: {error!r}. Nothing of it was kept.")

    def _progress(self, done: int, total: int, text: str) -> None:
        self.state = WorkState(done, total, text)
