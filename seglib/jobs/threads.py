"""Drives one run in this thread: pulls its events, keeps the store told, ends it with a state and a sentence."""

import gc
import sys
import time
import traceback
from collections.abc import Callable

from seglib.errors import SeglibError
from seglib.events import Ended, Event
from seglib.jobs.recorder import Recorder
from seglib.store import Store
from seglib.store.runs import RunRow, Status, end_run, get_run, stop_requested
from seglib.workspace import Workspace

STOP_CHECK_S = 0.2
CLOSED = "The program was closed while it ran. Everything is saved; Resume goes on from there."


def run_job(
    workspace: Workspace,
    store: Store,
    run: RunRow,
    recorder: Recorder,
    *,
    owner: str,
    closing: Callable[[], bool],
    on_event: Callable[[Event], None] | None = None,
) -> Status:
    """Runs a claimed run to its end and returns the state it ended in.

    closing: answers true when the program is about to end; the run is then saved and left as interrupted.
    on_event: shown every event after it was recorded.
    """
    # Heavy imports wait until there is something to run.
    from seglib.tasks import run_task

    status: Status
    ended = Ended("finished")
    try:
        for event in run_task(workspace, store, run, _stopper(store, run.id, closing)):
            recorder.take(event)
            if on_event:
                on_event(event)
            if isinstance(event, Ended):
                ended = event
        status, message = _outcome(store, run, ended, closing())
    except SeglibError as error:
        status, message = "failed", str(error)
    except Exception as error:  # a bug: the run ends with the traceback in its log, the server lives on
        recorder.say(traceback.format_exc())
        status, message = "failed", f"An unexpected error ended the run: {error!r}. The log has the details."
    conclude(store, run.id, recorder, status, owner=owner, message=message)
    return status


def conclude(store: Store, run_id: int, recorder: Recorder, status: Status, *, owner: str, message: str) -> None:
    """Ends a run that `owner` holds, with all that was said of it, and a last line in its log.

    Raises StoreError where the owner does not hold it any more.
    """
    word = status.capitalize()
    recorder.say(message if message.startswith(word) else f"{word}. {message}".strip())
    recorder.flush()
    end_run(store, run_id, status, owner=owner, message=message)


def give_back_memory() -> None:
    """Frees what is kept of a device's memory after a run, so that other processes can have it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _outcome(store: Store, run: RunRow, ended: Ended, closing: bool) -> tuple[Status, str]:
    """The state a run is left in, and why: what a person asked for counts more than that the program ends."""
    if ended.reason == "finished":
        return "finished", ended.text
    asked = get_run(store, run.id).status
    if asked == "pausing":
        return "paused", f"{ended.text} Go on continues from there, before all runs that wait.".strip()
    if closing and asked != "stopping":
        return "interrupted", CLOSED
    return "stopped", ended.text


def _stopper(store: Store, run_id: int, closing: Callable[[], bool]) -> Callable[[], bool]:
    """Asks the store at most five times a second."""
    checked_at, asked = 0.0, False

    def stop() -> bool:
        nonlocal checked_at, asked
        now = time.monotonic()
        if not asked and now - checked_at > STOP_CHECK_S:
            checked_at, asked = now, stop_requested(store, run_id)
        return asked or closing()

    return stop
