"""A child of `run_in_process` with a made-up task in place of a training, so that it starts without torch.

What it does is in the run's name: `waits` goes on until it is asked to stop, `dies` raises outside of the task's
reach, `leaves` ends with an exit status of its own.
"""

import os
import sys
import types

from seglib.events import Ended, Note, Started, StepDone
from seglib.jobs import child


def task(workspace, store, run, stop):
    yield Started(1000)
    if run.name == "leaves":
        print("the licence server is gone", file=sys.stderr, flush=True)
        os._exit(7)
    if run.name == "ends":
        yield Ended("finished", "All done.")
        return
    yield StepDone(1, 1, 0.5, 1e-3, 2, 0.1)
    yield Note(f"parent {os.getppid()}")
    while not stop():
        pass
    yield Ended("stopped", "Saved.")


tasks = types.ModuleType("seglib.tasks")
tasks.run_task = task
sys.modules["seglib.tasks"] = tasks

if __name__ == "__main__":
    sys.exit(child.main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
