"""Drives one run in this thread: pulls its events, keeps the store told, ends it with a state and a sentence."""

import time
import traceback
from collections.abc import Callable

from seglib.errors import SeglibError
from seglib.events import Ended, Event
from seglib.jobs.recorder import Recorder
from seglib.store import Store
from seglib.store.runs import RunRow, Status, end_run, stop_requested
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

    ended = Ended("finished")
    try:
        for event in run_task(workspace, store, run, _stopper(store, run.id, closing)):
            recorder.take(event)
            if on_event:
                on_event(event)
            if isinstance(event, Ended):
                ended = event
    except SeglibError as error:
        return _end(store, run, recorder, owner, "failed", str(error))
    except Exception as error:  # a bug: the run ends with the traceback in its log, the server lives on
        recorder.say(traceback.format_exc())
        return _end(
            store,
            run,
            recorder,
            owner,
            "failed",
            f"An unexpected error ended the run: {error!r}. The log has the details.",
        )
    if ended.reason == "stopped" and closing():
        return _end(store, run, recorder, owner, "interrupted", CLOSED)
    return _end(store, run, recorder, owner, ended.reason, ended.text)


def _end(store: Store, run: RunRow, recorder: Recorder, owner: str, status: Status, message: str) -> Status:
    recorder.say(f"{status.capitalize()}. {message}".strip())
    recorder.flush()
    end_run(store, run.id, status, owner=owner, message=message)
    return status


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
