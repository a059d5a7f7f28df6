"""Work on files that may be hostile, in a process of its own with limits on memory and time.

A codec that crashes, a header that asks for all memory, a file that decodes for ever: none of it can touch the
server. `seglib.ingest.worker` is the other side; what goes between them is JSON.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from seglib.errors import DataError, WorkCancelled

MEMORY_ENVIRONMENT = "SEGLIB_IMPORT_MEMORY_GB"
MEMORY_GB = 3.0
WORKER = "seglib.ingest.worker"
SILENCE_S = 300.0
# How a worker ends that ran out of disk.
EXIT_DISK_FULL = 3
_POLL_S = 0.05


@dataclass(frozen=True)
class Limits:
    """memory_bytes: of a worker. silence_s: how long it may go without a sign of progress."""

    memory_bytes: int
    silence_s: float = SILENCE_S


def limits() -> Limits:
    """The usual limits; $SEGLIB_IMPORT_MEMORY_GB changes the memory."""
    return Limits(int(float(os.environ.get(MEMORY_ENVIRONMENT) or MEMORY_GB) * 2**30))


def run_isolated(
    job: str,
    payloads: Sequence[bytes],
    folder: Path,
    *,
    progress: Callable[[int, int, str], None],
    cancelled: Callable[[], bool],
    limit: Limits | None = None,
    module: str = WORKER,
) -> list[bytes]:
    """Runs a job of `seglib.ingest.worker.JOBS` on each payload, side by side, and returns the results.

    folder: an existing folder of its own, for what passes between the processes.
    progress: called with (done, total, what is being done), summed over the workers.
    cancelled: asked all the time; true ends the workers at once.
    module: what runs as the worker.
    Raises DataError with what a worker says or died of, WorkCancelled where the person stopped it, OSError where
    the disk is full.
    """
    limit = limit or limits()
    workers = [
        _Worker([module, job], payload, folder / f"{job}-{index}", limit) for index, payload in enumerate(payloads)
    ]
    try:
        while not all(worker.is_over for worker in workers):
            if cancelled():
                raise WorkCancelled("The import was stopped; nothing was kept.")
            for worker in workers:
                worker.check()
            done, total = (sum(worker.progress[part] for worker in workers) for part in (0, 1))
            progress(done, total, next((w.text for w in workers if not w.is_over), workers[-1].text))
            time.sleep(_POLL_S)
        return [worker.result() for worker in workers]
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """One process, and what it has said so far."""

    def __init__(self, command: list[str], payload: bytes, folder: Path, limit: Limits) -> None:
        folder.mkdir()
        (folder / "payload.json").write_bytes(payload)
        self._folder, self._limit = folder, limit
        self.progress, self.text = (0, 0), "Looking at the files"
        self._heard_at = time.monotonic()
        self._failure = ""
        with (folder / "stderr.txt").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, str(folder), str(limit.memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                cwd=Path(__file__).parents[2],
            )
        self._listener = threading.Thread(target=self._listen, name="seglib-import-worker", daemon=True)
        self._listener.start()

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def check(self) -> None:
        """Ends the process where it takes too much memory or is silent for too long."""
        if self.is_over:
            return
        if _memory_of(self._process.pid) > self._limit.memory_bytes:
            self._failure = _too_much_memory(self._limit)
        elif time.monotonic() - self._heard_at > self._limit.silence_s:
            self._failure = (
                f"The import made no progress for {self._limit.silence_s:.0f} seconds ({self.text}) and was ended. "
                "A file may be damaged; leave it out, or save it again."
            )
        if self._failure:
            self._process.kill()

    def result(self) -> bytes:
        """What the job gave. Raises DataError with what went wrong."""
        self._listener.join()
        answer = self._folder / "result.json"
        if self._failure:
            raise DataError(self._failure)
        if self._process.returncode == 0 and answer.exists():
            return answer.read_bytes()
        if self._process.returncode == EXIT_DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        problem = self._folder / "problem.txt"
        if problem.exists():
            raise DataError(problem.read_text(encoding="utf-8"))
        raise DataError(self._cause_of_death())

    def end(self) -> None:
        """Ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                done, total, self.text = json.loads(line)
                self.progress = (done, total)
                self._heard_at = time.monotonic()

    def _cause_of_death(self) -> str:
        code, said = self._process.returncode, (self._folder / "stderr.txt").read_text(errors="replace").strip()
        if code == -signal.SIGKILL or "MemoryError" in said:
            return _too_much_memory(self._limit)
        cause = f"signal {-code}" if code < 0 else (said.splitlines() or [f"exit status {code}"])[-1][:200]
        return (
            f"Reading the files ended unexpectedly ({cause}) while: {self.text}. The server is not harmed and nothing "
            "was kept. A file is probably damaged: leave it out, or save it again with another program."
        )


def _memory_of(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _too_much_memory(limit: Limits) -> str:
    return (
        f"Reading the files takes more than {limit.memory_bytes / 2**30:.3g} GB of memory, so it was ended and nothing "
        f"was kept. Save the planes smaller or uncompressed, or raise {MEMORY_ENVIRONMENT} and restart the server."
    )


def _environment() -> dict[str, Any]:
    # One thread a worker for what numerical libraries start by themselves; HDF5 loads no plugins from anywhere.
    own = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HDF5_PLUGIN_PATH": "::",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**os.environ, **own}
