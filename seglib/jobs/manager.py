"""The queue of one process: a thread a device, a heartbeat, and a look for runs whose program is gone."""

import logging
import threading
import time

from seglib.errors import SeglibError
from seglib.jobs.lease import is_dead, new_owner
from seglib.jobs.processes import run_in_process, wants_process
from seglib.jobs.recorder import Recorder, recorder_of
from seglib.jobs.threads import give_back_memory, run_job
from seglib.store import Store
from seglib.store.runs import claim_next, heartbeat, interrupt_orphans, list_runs
from seglib.workspace import Workspace

POLL_S = 0.25
HEARTBEAT_S = 1.0
ORPHANS_S = 10.0
logger = logging.getLogger(__name__)


def import_heavy_parts() -> None:
    """Imports what the first run needs (torch and the networks), so that it need not wait for it."""
    import seglib.tasks  # noqa: F401


class JobManager:
    """Runs queued runs of a workspace in background threads, one at a time on each device.

    A run whose settings say so has a process of its own, which its thread waits for.

    Everything it knows is in the store, so a second one (or none) loses nothing.
    """

    def __init__(self, workspace: Workspace, store: Store) -> None:
        self._workspace = workspace
        self._store = store
        self._owner = new_owner()
        self._closing = threading.Event()
        self._workers: dict[str, threading.Thread] = {}
        self._recorders: dict[int, Recorder] = {}
        self._lock = threading.Lock()
        self._watch = threading.Thread(target=self._watch_queue, name="seglib-queue", daemon=True)
        self._pulse = threading.Thread(target=self._keep_alive, name="seglib-heartbeat", daemon=True)

    def start(self) -> None:
        """Marks what a killed program left behind as interrupted, then begins to work off the queue."""
        interrupt_orphans(self._store, is_dead)
        self._watch.start()
        self._pulse.start()

    def close(self, timeout_s: float = 30.0) -> None:
        """Asks active runs to save and end, and waits for them, `timeout_s` at most."""
        self._closing.set()
        deadline = time.monotonic() + timeout_s
        for thread in [self._watch, self._pulse, *self._workers.values()]:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _watch_queue(self) -> None:
        while not self._closing.wait(POLL_S):
            try:
                devices = {run.device for run in list_runs(self._store, statuses=("queued",))}
            except Exception:  # the disk may be full for a moment; the queue must survive it
                logger.exception("The queue could not be read")
                continue
            for device in devices:
                worker = self._workers.get(device)
                if worker is None or not worker.is_alive():
                    thread = threading.Thread(target=self._work, args=(device,), name=f"seglib-{device}", daemon=True)
                    self._workers[device] = thread
                    thread.start()

    def _work(self, device: str) -> None:
        """Works off the queue of one device until it is empty."""
        while not self._closing.is_set():
            run = claim_next(self._store, device=device, owner=self._owner)
            if run is None:
                return
            recorder = recorder_of(self._workspace, self._store, run, self._owner)
            with self._lock:
                self._recorders[run.id] = recorder
            drive = run_in_process if wants_process(run) else run_job
            try:
                drive(self._workspace, self._store, run, recorder, owner=self._owner, closing=self._closing.is_set)
            except SeglibError:
                logger.exception("Run %s could not be ended", run.id)
            finally:
                with self._lock:
                    del self._recorders[run.id]
                give_back_memory()

    def _keep_alive(self) -> None:
        looked_at = time.monotonic()
        while not self._closing.wait(HEARTBEAT_S):
            with self._lock:
                recorders = list(self._recorders.values())
            try:
                if recorders:
                    heartbeat(self._store, self._owner)
                for recorder in recorders:
                    recorder.flush()
                if time.monotonic() - looked_at > ORPHANS_S:
                    looked_at = time.monotonic()
                    interrupt_orphans(self._store, is_dead)
            except Exception:  # a missed heartbeat is no reason to stop beating
                logger.exception("The heartbeat failed")
