"""The log holds every line once, in order, and a full disk only delays it."""

import errno
import re

import pytest

from seglib.runfolder.log import RunLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "7" / "log.txt"


def test_lines_carry_their_time_and_tracebacks_stay_together(path):
    log = RunLog(path)
    assert log.add([(0.0, "Größe 3 × 4"), (86400.5, "Traceback:\n  line 1\nValueError")]) is None
    assert log.add([]) is None
    assert log.add([(90000.0, "")]) is None
    first, second, *rest = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"19(69|70)-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  Größe 3 × 4", first)
    assert second.endswith("  Traceback:")
    assert rest[:2] == ["      line 1", "    ValueError"]
    assert len(rest) == 3


def test_another_log_of_the_same_run_goes_on(path):
    RunLog(path).add([(0.0, "one")])
    RunLog(path).add([(1.0, "two")])
    assert [line[-3:] for line in path.read_text().splitlines()] == ["one", "two"]


def test_a_text_that_is_no_unicode_is_written_all_the_same(path):
    RunLog(path).add([(0.0, "file \udcff.tif")])
    assert path.read_text(encoding="utf-8").endswith("file \\udcff.tif\n")


def test_a_full_disk_is_said_once_and_nothing_is_lost_or_doubled(path, monkeypatch):
    """The file takes five bytes and then none, as a disk that fills up does."""
    log, opened, room = RunLog(path), type(path).open, [5]

    class Filling:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken, room[0] = data[: room[0]], 0
            return self.file.write(taken)

    with monkeypatch.context() as patched:
        patched.setattr(type(path), "open", lambda self, *how, **more: Filling(opened(self, *how, **more)))
        assert log.add([(0.0, "one")]) == "log.txt cannot be written (No space left on device); it is tried again."
        assert log.add([(0.0, "two")]) is None
    assert len(path.read_bytes()) == 5
    log.add([(0.0, "three")])
    assert [line.split("  ")[1] for line in path.read_text().splitlines()] == ["one", "two", "three"]
