"""A run's log as a text file."""

from collections.abc import Sequence
from pathlib import Path

from seglib.runfolder.files import local_time


class RunLog:
    """Adds lines to a log file; what cannot be written waits for the next time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""
        self._told = False

    def add(self, lines: Sequence[tuple[float, str]]) -> str | None:
        """Writes (seconds since 1970, text) lines at the end of the file; a text may have several lines.

        Never raises OSError: returns a sentence about the first one, later ones are only tried again.
        """
        self._waiting += b"".join(_entry(time, text) for time, text in lines)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: on a full disk it says how much was written, so nothing is written twice.
            with self._path.open("ab", buffering=0) as file:
                while self._waiting:
                    self._waiting = self._waiting[file.write(self._waiting) :]
        except OSError as error:
            first, self._told = not self._told, True
            said = f"{self._path.name} cannot be written ({error.strerror or error}); it is tried again."
            return said if first else None
        return None


def _entry(time: float, text: str) -> bytes:
    first, *more = text.splitlines() or [""]
    return "".join(f"{line}\n" for line in (f"{local_time(time)}  {first}", *(f"    {line}" for line in more))).encode(
        errors="backslashreplace"
    )
