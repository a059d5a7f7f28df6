"""A worker that does what damaged or hostile files make decoders do: `python -m tests.ingest.misbehaving JOB …`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from seglib.ingest.worker import limit_memory


def main(job: str, folder: Path, memory_bytes: int) -> None:
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "eat":
        held = []
        while True:
            held.append(np.ones(8 << 20))
    if job == "ask":
        limit_memory(memory_bytes)
        np.empty(4 * memory_bytes, np.uint8)
    if job == "hang":
        print(json.dumps([1, 9, "Importing leaf.tif"]), flush=True)
        time.sleep(3600)
    if job == "raise":
        raise RuntimeError("a bug in a codec")
    if job == "full":
        sys.exit(3)
    if job == "echo":
        print(json.dumps([2, 4, "Importing leaf.tif"]), flush=True)
        (folder / "result.json").write_bytes((folder / "payload.json").read_bytes())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
