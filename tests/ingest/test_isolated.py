"""Whatever happens in the process that decodes, this one gets a sentence and goes on."""

import errno
import threading

import psutil
import pytest

from seglib.errors import DataError
from seglib.ingest.isolated import Limits, run_isolated
from seglib.ingest.staging import ImportCancelled


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

    with pytest.raises(ImportCancelled):
        run(tmp_path, "hang", progress=progress, cancelled=heard.is_set)
    assert psutil.Process().children() == before
