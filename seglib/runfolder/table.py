"""A CSV file that grows by rows, and by columns; one row a step."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seglib.runfolder.files import write_atomically

Value = str | int | float


class Table:
    """Rows by rising step, buffered until `flush`; a file that is there already is replaced unless `keep` is called.

    The file is whole after every flush. A last row that a crash tore goes when the table goes on.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """columns: those it has from the start, the first of which is `step`; others follow as rows bring them."""
        self.path = path
        self._columns = list(columns)
        self._written: list[str] = []  # columns of the file
        # The last row of the file and those to come: it may still get more columns. _start: its place in the file.
        self._rows: list[dict[str, Value]] = []
        self._start = 0
        self._keep: int | None = None
        self._changed = self._unsynced = True

    @property
    def waiting(self) -> int:
        """How many rows gathered in memory."""
        return len(self._rows)

    def keep(self, step: int) -> None:
        """Goes on from the rows up to `step`; those later in the file go with the next flush."""
        self._rows = [row for row in self._rows if int(row["step"]) <= step]
        self._keep = step if self._keep is None else min(step, self._keep)
        self._changed = True

    def put(self, row: Mapping[str, Value]) -> None:
        """Adds a row, or values to the last row where that is of the same step."""
        for name in row:
            if name not in self._columns:
                self._columns.append(name)
        if self._rows and int(self._rows[-1]["step"]) == row["step"]:
            self._rows[-1].update(row)
        else:
            self._rows.append(dict(row))
        self._changed = True

    def flush(self, *, durable: bool = False) -> None:
        """Brings the file up to date. durable: and waits until it would survive a power cut.

        Raises OSError; nothing is lost then, and the next flush tries again.
        """
        if self._keep is not None:
            self._reopen(self._keep)
            self._keep = None
        if self._columns != self._written or not self.path.exists():
            self._rewrite()
        elif self._changed or (durable and self._unsynced):
            self._append(durable)

    def _reopen(self, step: int) -> None:
        """Finds where the rows up to `step` end; anything else behind them is overwritten."""
        self._written, self._start = [], 0
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            header = file.readline()
            columns = _fields(header)
            if not header.endswith(b"\n") or columns[0] != "step":
                return
            end, last = len(header), b""
            self._start = end
            for line in file:
                number = line.split(b",", 1)[0]
                if not line.endswith(b"\n") or not number.isdigit() or int(number) > step:
                    break
                self._start, last = end, line
                end += len(line)
        self._written = columns
        self._columns = [*columns, *(name for name in self._columns if name not in columns)]
        if not last:
            return
        row: dict[str, Value] = dict(zip(columns, _fields(last), strict=False))
        if self._rows and int(self._rows[0]["step"]) == int(row["step"]):
            self._rows[0] = row | self._rows[0]
        elif not self._rows or int(self._rows[0]["step"]) > int(row["step"]):
            self._rows.insert(0, row)

    def _rewrite(self) -> None:
        before: list[dict[str, Value]] = []
        if self._written and self.path.exists():
            with self.path.open("rb") as file:
                text = file.read(self._start).decode(errors="replace")
            before = list(csv.DictReader(io.StringIO(text, newline="")))
        lines = _lines([self._columns, *self._values(before)])
        own = _lines(self._values(self._rows))
        write_atomically(self.path, b"".join([*lines, *own]))
        self._written, self._start = list(self._columns), sum(map(len, lines))
        self._settle(own)
        self._unsynced = False

    def _append(self, durable: bool) -> None:
        own = _lines(self._values(self._rows))
        with self.path.open("r+b") as file:
            file.seek(self._start)
            file.write(b"".join(own))
            file.truncate()
            file.flush()
            if durable:
                os.fsync(file.fileno())
        self._settle(own)
        self._unsynced = not durable

    def _settle(self, own: Sequence[bytes]) -> None:
        """Only the last row stays in memory."""
        self._start += sum(map(len, own[:-1]))
        self._rows = self._rows[-1:]
        self._changed = False

    def _values(self, rows: Iterable[Mapping[str, Value]]) -> list[list[Value]]:
        return [[row.get(name, "") for name in self._columns] for row in rows]


def read_table(path: Path) -> dict[str, list[str]]:
    """The whole rows of a table by column, as texts; empty where there is no file."""
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    columns = _fields(lines[0]) if lines else []
    rows = [_fields(line) for line in lines[1:] if line.endswith(b"\n")]
    return {name: [row[index] for row in rows if len(row) == len(columns)] for index, name in enumerate(columns)}


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode(errors="replace")]), [""])


def _lines(rows: Iterable[Sequence[Value]]) -> list[bytes]:
    result = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(row)
        result.append(text.getvalue().encode())
    return result
