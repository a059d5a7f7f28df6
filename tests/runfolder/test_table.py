"""Tables say what a plain list of rows would, whatever is dropped, torn off or refused on the way."""

import csv
import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.runfolder import files
from seglib.runfolder.table import Table, read_table

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ("val/dice", 'val/dice/a, "b"', "val/dice/größe", "train/loss")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The table as Python's own reader sees it, without the gaps."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]


def texts(rows) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items()} for row in rows]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.csv"


def test_a_row_grows_while_its_step_is_the_last(path):
    table = Table(path, ("step", "epoch"))
    table.put({"step": 2, "epoch": 1, "train/loss": 0.5})
    table.flush()
    table.put({"step": 2, "epoch": 1, "val/loss": 0.25})
    table.flush()
    table.put({"step": 4, "epoch": 2, "val/loss": float("nan")})
    table.flush()
    assert path.read_text() == "step,epoch,train/loss,val/loss\n2,1,0.5,0.25\n4,2,,nan\n"
    assert read_table(path)["train/loss"] == ["0.5", ""]


def test_a_table_that_does_not_go_on_replaces_the_file(path):
    path.write_text("step,epoch\n1,1\n")
    table = Table(path, ("step", "epoch"))
    table.put({"step": 7, "epoch": 3})
    table.flush()
    assert path.read_text() == "step,epoch\n7,3\n"


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sets(st.sampled_from(NAMES)), st.sampled_from(["", "flush", "reopen", "keep"])),
        max_size=14,
    ),
    back=st.integers(0, 5),
)
@FUZZ
def test_it_says_what_a_list_of_rows_would(path, steps, back):
    path.unlink(missing_ok=True)
    table, rows, step = Table(path, ("step", "epoch")), [], 0
    for forward, names, then in steps:
        step += forward
        row = {"step": step, "epoch": 1} | dict.fromkeys(sorted(names), step / 3)
        table.put(row)
        if rows and rows[-1]["step"] == step:
            rows[-1] |= row
        else:
            rows.append(row)
        if then == "flush":
            table.flush()
        elif then == "reopen":
            table.flush(durable=True)
            table = Table(path, ("step", "epoch"))
            table.keep(step)
        elif then == "keep":
            step = max(0, step - back)
            table.keep(step)
            rows = [row for row in rows if row["step"] <= step]
    table.flush()
    assert rows_of(path) == texts(rows)


@given(cut=st.integers(0, 200), step=st.integers(0, 30))
@FUZZ
def test_a_file_cut_anywhere_goes_on_with_its_whole_rows(path, cut, step):
    before = Table(path, ("step", "epoch"))
    for number in range(1, 21):
        before.put({"step": number, "epoch": 1, "train/loss": number / 7})
    before.flush()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    lines = whole[:cut].split(b"\n")[:-1]
    left = [line for line in lines[1:] if int(line.split(b",")[0]) <= step]
    table = Table(path, ("step", "epoch"))
    table.keep(step)
    table.flush()
    assert [row["step"] for row in rows_of(path)] == [line.split(b",")[0].decode() for line in left]
    # Rows that are made again land where they were.
    for number in range(len(left) + 1, 21):
        table.put({"step": number, "epoch": 1, "train/loss": number / 7})
    table.flush()
    assert path.read_bytes() == whole


def test_what_another_program_made_of_the_file_is_replaced(path):
    for content in (b"", b"\0" * 50, b"time;step\n3;4\n", b"\xff\xfe\n1,1\n", b"step"):
        path.write_bytes(content)
        table = Table(path, ("step", "epoch"))
        table.keep(5)
        table.put({"step": 6, "epoch": 1})
        table.flush()
        assert path.read_text() == "step,epoch\n6,1\n"


def test_a_deleted_file_comes_back_with_what_follows(path):
    table = Table(path, ("step", "epoch"))
    table.put({"step": 1, "epoch": 1})
    table.flush()
    path.unlink()
    table.put({"step": 2, "epoch": 1})
    table.flush()
    assert path.read_text().splitlines()[-1] == "2,1"


def test_a_full_disk_loses_no_row_and_leaves_no_half_file(path, monkeypatch):
    table = Table(path, ("step", "epoch"))
    table.put({"step": 1, "epoch": 1})
    table.flush()
    table.put({"step": 2, "epoch": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            table.flush(durable=True)
        table.put({"step": 3, "epoch": 1, "val/loss": 0.5})  # a new column: the file is written anew
        with pytest.raises(OSError, match="No space"):
            table.flush()
        assert len(rows_of(path)) >= 1
        assert list(path.parent.iterdir()) == [path]
    table.flush()
    assert path.read_text() == "step,epoch,val/loss\n1,1,\n2,1,\n3,1,0.5\n"


def test_a_write_torn_by_a_full_disk_is_written_over(path, monkeypatch):
    table = Table(path, ("step", "epoch"))
    table.put({"step": 1, "epoch": 1})
    table.flush()
    table.put({"step": 2, "epoch": 1})
    opened = Path.open

    class Torn:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, place):
            self.file.seek(place)

        def write(self, data):
            self.file.write(data[:-3])
            full()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda self, mode="r", **more: Torn(opened(self, mode, **more)))
        with pytest.raises(OSError, match="No space"):
            table.flush()
    assert path.read_text() == "step,epoch\n1,1\n2"
    table.flush()
    assert path.read_text() == "step,epoch\n1,1\n2,1\n"


def test_a_crash_while_it_is_written_anew_leaves_the_old_file(path, monkeypatch):
    table = Table(path, ("step",))
    table.put({"step": 1})
    table.flush()
    table.put({"step": 2, "val/loss": 1.0})

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        table.flush()
    assert path.read_text() == "step\n1\n"
