"""The connections: one writer a process, many readers.

SQLite before 3.51.3 can damage a write-ahead log when two connections write or checkpoint at the same moment.
So every write of every process on a workspace, checkpoints of the log included, happens under one file lock,
and readers open the file read-only.
"""

import contextlib
import functools
import queue
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from sqlite_utils import Database
from sqlite_utils.db import Table

from seglib.errors import StoreError
from seglib.store.schema import migrations
from seglib.workspace import Workspace

BUSY_TIMEOUT_S = 30.0
READERS_KEPT = 8


class Store:
    """Guards the connections to one database file; safe to share between threads.

    path: the database file; made, and brought to the newest schema, on first use.
    Raises StoreError where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._between_processes = FileLock(path.with_suffix(".lock"), timeout=BUSY_TIMEOUT_S)
        self._readers: queue.SimpleQueue[Database] = queue.SimpleQueue()
        with self._lock, self._between_processes:
            self._writer = self._connect(f"file:{path.as_posix()}")
            try:
                self._writer.enable_wal()
                migrations.apply(self._writer)
                state = next(iter(self._writer.query("PRAGMA quick_check(1)")))["quick_check"]
            except sqlite3.DatabaseError as error:
                raise StoreError(f"{path} is not a usable database ({error}). Put a backup in its place.") from error
            if state != "ok":
                raise StoreError(f"{path} is damaged ({state}). Put a backup in its place.")

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Database]:
        """One transaction on the only writer; rolled back where the block raises.

        durable: wait until the disk has it, so that it survives a power cut; metrics need not.
        """
        with self._lock, self._locked():
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.rollback()
                raise
            self._writer.commit()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._between_processes.acquire()
        except Timeout as error:
            raise StoreError(f"Another program has been writing to {self.path} for too long. Try again.") from error
        try:
            yield
        finally:
            self._between_processes.release()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Database]:
        """A read-only connection of the caller's own for the length of the block."""
        try:
            reader = self._readers.get_nowait()
        except queue.Empty:
            reader = self._connect(f"file:{self.path.as_posix()}?mode=ro")
        try:
            yield reader
        finally:
            if self._readers.qsize() < READERS_KEPT:
                self._readers.put(reader)
            else:
                reader.close()

    def close(self) -> None:
        """Closes what is open; the store is of no use afterwards."""
        with self._lock, self._between_processes:
            self._writer.close()
            while not self._readers.empty():
                self._readers.get_nowait().close()

    @staticmethod
    def _connect(uri: str) -> Database:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
        )
        return Database(connection)


@functools.cache
def open_store(workspace: Workspace) -> Store:
    """The store of a workspace, one a process, so that there is one writer."""
    return Store(workspace.database)


def inserted_id(table: Table) -> int:
    """The id the last insert into a table was given."""
    assert isinstance(table.last_pk, int)
    return table.last_pk
