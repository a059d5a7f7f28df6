"""Whatever happens in the process that decodes, this one gets a sentence and goes on."""

import errno
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from seglib.data.pairing import Item
from seglib.data.planning import ImportRequest
from seglib.data.readers import SourceFile
from seglib.errors import DataError, WorkCancelled
from seglib.ingest.isolated import Limits, run_isolated
from seglib.ingest.worker import STAGE, StageJob

ROOT = Path(__file__).parents[2]


def run(tmp_path, job, *payloads, progress=lambda *step: None, cancelled=lambda: False, **limits):
    limit = Limits(**{"memory_bytes": 1 << 30, "silence_s": 60.0, **limits})
    folder = tmp_path / "work"
    folder.mkdir()
    return run_isolated(
        job,
        payloads or [b"{}"],
        folder,
        progress=progress,
        cancelled=cancelled,
        limit=limit,
        module="tests.ingest.misbehaving",
    )


def test_results_come_back_in_order(tmp_path):
    assert run(tmp_path, "echo", b'"one"', b'"two"', b'"three"') == [b'"one"', b'"two"', b'"three"']


@pytest.mark.parametrize(
    ("job", "limits", "told"),
    [
        ("crash", {}, "signal 11"),
        ("raise", {}, "a bug in a codec"),
        ("eat", {"memory_bytes": 300 << 20}, "more than 0.293 GB of memory"),
        ("ask", {}, "more than 1 GB of memory"),  # untouched memory is not seen from outside
        ("hang", {"silence_s": 0.0}, "made no progress"),
    ],
)
def test_a_process_that_dies_or_must_be_ended_is_a_sentence(tmp_path, job, limits, told):
    before = psutil.Process().children()
    with pytest.raises(DataError, match=told):
        run(tmp_path, job, **limits)
    assert psutil.Process().children() == before


def test_a_full_disk_is_told_as_such(tmp_path):
    with pytest.raises(OSError, match="No space") as caught:
        run(tmp_path, "full")
    assert caught.value.errno == errno.ENOSPC


def test_cancelling_ends_the_process_at_once(tmp_path):
    heard, before = threading.Event(), psutil.Process().children()

    def progress(done, total, text):
        if (done, total, text) == (1, 9, "Importing leaf.tif"):
            heard.set()

    with pytest.raises(WorkCancelled):
        run(tmp_path, "hang", progress=progress, cancelled=heard.is_set)
    assert psutil.Process().children() == before


def test_a_worker_whose_server_was_killed_ends_by_itself(tmp_path):
    stack = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (3000, 512, 512))
    del stack
    item = Item("a", (SourceFile(tmp_path / "a.npy", "a.npy"),))
    job = StageJob(ImportRequest(name="x", items=(item,)), 0, 1, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "payload.json").write_bytes(STAGE.dump_json(job))
    worker = [sys.executable, "-m", "seglib.ingest.worker", "stage", str(tmp_path), str(2 << 30)]
    code = f"import subprocess, time; print(subprocess.Popen({worker!r}).pid, flush=True); time.sleep(3600)"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    with server.stdout as said:
        process = psutil.Process(int(said.readline()))
        assert said.readline()  # it has told its first progress
        server.kill()
        server.wait()
        gone, _ = psutil.wait_procs([process], timeout=60)
    assert gone == [process]
    assert not (tmp_path / "result.json").exists()
