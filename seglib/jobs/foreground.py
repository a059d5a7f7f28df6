"""Runs one run in the calling thread with a heartbeat of its own: for the command line, and for a run's own process."""

import threading
from collections.abc import Callable

from seglib.errors import StoreError
from seglib.events import Event
from seglib.jobs.lease import new_owner
from seglib.jobs.manager import HEARTBEAT_S
from seglib.jobs.recorder import recorder_of
from seglib.jobs.threads import run_job
from seglib.store import Store
from seglib.store.runs import RunRow, claim, get_run, heartbeat
from seglib.workspace import Workspace


def run_in_foreground(
    workspace: Workspace, store: Store, run_id: int, *, stop: Callable[[], bool], on_event: Callable[[Event], None]
) -> RunRow:
    """Runs a queued run to its end and returns its row. It is in a process of its own already, wherever it should be.

    stop: when it answers true, the run is saved and left as interrupted.
    Raises StoreError where a dashboard on the same workspace has taken the run already.
    """
    owner = new_owner()
    run = claim(store, run_id, owner=owner)
    if run is None:
        raise StoreError(f"Run {run_id} was taken by the dashboard that runs on this workspace; watch it there.")
    return run_held(workspace, store, run, owner=owner, closing=stop, on_event=on_event)


def run_held(
    workspace: Workspace,
    store: Store,
    run: RunRow,
    *,
    owner: str,
    closing: Callable[[], bool],
    on_event: Callable[[Event], None] | None = None,
) -> RunRow:
    """Runs a run that `owner` holds to its end, with a heartbeat beside it, and returns its row.

    closing, on_event: as `run_job` takes them.
    """
    recorder = recorder_of(workspace, store, run, owner)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            heartbeat(store, owner)
            recorder.flush()

    pulse = threading.Thread(target=beat, name="seglib-heartbeat", daemon=True)
    pulse.start()
    try:
        run_job(workspace, store, run, recorder, owner=owner, closing=closing, on_event=on_event)
    finally:
        over.set()
        pulse.join()
    return get_run(store, run.id)
