"""Runs a run in a process of its own and watches it, so that a crash there ends this run only.

The child takes the lease over and tells the store everything itself; nothing comes back but how its process ended.
So the store names whoever does the work at all times: a run whose server was killed is no orphan while its child
still saves. The child's standard input is a pipe that carries nothing and closes when the server ends.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from seglib.jobs.recorder import Recorder
from seglib.jobs.threads import conclude
from seglib.store import Store
from seglib.store.runs import RunRow, get_run
from seglib.workspace import Workspace

CHILD = "seglib.jobs.child"
POLL_S = 0.1
KEPT_LINES = 60
LONGEST_LINE = 400
GOES_ON = "The server is not harmed. Resume goes on from the last checkpoint."


def wants_process(run: RunRow) -> bool:
    """Whether a run has a process of its own: where its settings say so, and where several GPUs share its batches.

    Those form one group of processes, and a process can be in one group only.
    """
    compute = run.config.get("compute", {})
    return bool(compute.get("where") == "process" or compute.get("gpus", 1) > 1)


def run_in_process(
    workspace: Workspace,
    store: Store,
    run: RunRow,
    recorder: Recorder,
    *,
    owner: str,
    closing: Callable[[], bool],
    module: str = CHILD,
) -> None:
    """Runs a claimed run in a child process and returns when that is over; a child that died has failed its run.

    closing: answers true when the program is about to end; the child then saves and ends.
    module: what runs as the child.
    """
    with workspace.scratch() as folder:
        said = folder / "said.txt"
        try:
            process = _start([module, str(workspace.root), str(run.id), owner], said)
        except OSError as error:
            message = f"Its process could not be started: {error}."
            conclude(store, run.id, recorder, "failed", owner=owner, message=message)
            return
        peak = _watch(process, closing)
        now = get_run(store, run.id)
        if now.owner is None or now.attempt != run.attempt:  # the child has ended it, as it should
            return
        lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            recorder.say("\n".join(line[:LONGEST_LINE] for line in lines[-KEPT_LINES:]))
        message = _cause(process.returncode, peak, lines)
        conclude(store, run.id, recorder, "failed", owner=now.owner, message=message)


def _start(command: list[str], said: Path) -> subprocess.Popen[bytes]:
    with said.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=Path(__file__).parents[2],
        )


def _watch(process: subprocess.Popen[bytes], closing: Callable[[], bool]) -> int:
    """Waits for the end of a process and returns the most memory it was seen to hold, in bytes."""
    peak = 0
    assert process.stdin is not None
    with process.stdin as pipe:
        while True:
            peak = max(peak, _memory_of(process.pid))
            if closing():
                pipe.close()
            try:
                process.wait(POLL_S)
                return peak
            except subprocess.TimeoutExpired:
                continue


def _memory_of(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _cause(code: int, peak: int, lines: list[str]) -> str:
    """Why a process ended, for a person. code: negative for a signal, as subprocess has it."""
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    if name == "SIGKILL":
        return (
            "Its process was killed (SIGKILL). Where nobody did so, the machine probably ran out of memory: it held "
            f"{peak / 2**30:.2f} GB at the most that was seen, and a smaller batch or smaller patches help. {GOES_ON}"
        )
    if code < 0:
        return f"Its process crashed ({name}); the log has what it said last. {GOES_ON}"
    said = f": {lines[-1]:.200}" if lines else "."
    return f"Its process ended unexpectedly with exit status {code}{said} {GOES_ON}"
