"""The process of one run: `python -m seglib.jobs.child WORKSPACE RUN OWNER`, started by `seglib.jobs.processes`.

It takes the lease over from OWNER, so that the store names the process that does the work, and then tells the store
everything itself, as a run from the command line does. When its standard input closes, because the program that
started it ends in whatever way, or at SIGTERM, it saves and ends; the run is left as interrupted.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from seglib.jobs.foreground import run_held
from seglib.jobs.lease import new_owner
from seglib.store import open_store
from seglib.store.runs import take_over
from seglib.workspace import open_workspace

EXIT_NOT_HELD = 4
# Added to what the system counts against a process when memory runs out: this one goes before the server does.
OOM_SCORE = "500"


def main(root: str, run_id: int, owner: str) -> int:
    """Runs a run that `owner` holds and returns the exit status: 0 however it ended, 4 where it was not held so."""
    # A crash in native code says in which line of Python it happened.
    faulthandler.enable(all_threads=False)
    closing = _asked_to_close()
    _offer_to_die_first()
    workspace = open_workspace(root)
    store = open_store(workspace)
    own = new_owner()
    run = take_over(store, run_id, owner=owner, to=own)
    if run is None:
        print(f"Run {run_id} is not held by {owner} any more.", file=sys.stderr)
        return EXIT_NOT_HELD
    run_held(workspace, store, run, owner=own, closing=closing)
    return 0


def _asked_to_close() -> Callable[[], bool]:
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    # Ctrl-C in the server's terminal reaches its children too; the server tells them itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def listen() -> None:
        # Not sys.stdin, whose lock would be held when the interpreter ends.
        while os.read(0, 1):
            continue
        asked.set()

    threading.Thread(target=listen, name="seglib-parent", daemon=True).start()
    return asked.is_set


def _offer_to_die_first() -> None:
    with contextlib.suppress(OSError):  # only Linux has this file
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
