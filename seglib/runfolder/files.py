"""Files that are whole at every moment, whatever ends the program."""

import os
import shutil
from datetime import datetime
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Puts a file in its place: after a crash there is the old one or the new one. Raises OSError, leaving the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def duplicate(path: Path, copy: Path) -> None:
    """Gives a file that is never changed in place a second name, or copies it where the disk knows no such names.

    What was at `copy` is replaced at once. Raises OSError, leaving what was there.
    """
    temporary = copy.with_name(f"{copy.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:  # exFAT and some network disks
            shutil.copyfile(path, temporary)
        os.replace(temporary, copy)
    finally:
        # Renaming one name of a file to another of the same file does nothing.
        temporary.unlink(missing_ok=True)


def local_time(seconds: float) -> str:
    """Seconds since 1970 as local date and time, with the offset from UTC."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
