"""A file that is whole or not there, whatever ends the work on it."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from seglib.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place at the end; after an error nothing of it is left.

    Raises DataError where the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if _is_full(error):
            raise DataError(
                f"The disk is full: {path.name} could not be finished, and nothing of it was kept. Free some space in "
                f"{path.parent}, or choose a smaller format, and make it again."
            ) from error
        if isinstance(error, FileNotFoundError | PermissionError) and not os.access(path.parent, os.W_OK):
            raise DataError(f"{path} cannot be written: its folder is missing or may not be changed.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_full(error: OSError) -> bool:
    # HDF5 says the number only in its text.
    return error.errno in _FULL or any(f"errno = {number}," in str(error) for number in _FULL)
