"""Several files read as one array."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from seglib.data.readers import SourceFile
from seglib.data.readers.axes import OrientedFile, ReadPlanes


@dataclass(frozen=True)
class Stack:
    """Files read as one array (C, Z, Y, X): one after the other along z, or each a channel."""

    files: tuple[OrientedFile, ...]
    along: Literal["z", "c"] = "z"

    @property
    def shape_czyx(self) -> tuple[int, int, int, int]:
        c, z, y, x = self.files[0].shape_czyx
        if self.along == "c":
            return sum(file.shape_czyx[0] for file in self.files), z, y, x
        return c, sum(file.shape_czyx[1] for file in self.files), y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.files[0].dtype

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        return tuple(file.source for file in self.files)

    @property
    def chunk_planes(self) -> int:
        """How many planes are cheapest to read at once."""
        return max(file.chunk_planes for file in self.files)

    @contextmanager
    def opened(self) -> Iterator[ReadPlanes]:
        """Gives a function (z0, z1) -> planes (C, z1 − z0, Y, X); it raises DataError where a file is damaged."""
        with _Opener() as opener:

            def read_planes(z0: int, z1: int) -> np.ndarray[Any, Any]:
                if self.along == "c":
                    parts = [opener.reader(file, keep=len(self.files))(z0, z1) for file in self.files]
                    return np.concatenate(parts) if len(parts) > 1 else parts[0]
                parts, start = [], 0
                for file in self.files:
                    planes = file.shape_czyx[1]
                    low, high = max(z0 - start, 0), min(z1 - start, planes)
                    if low < high:
                        parts.append(opener.reader(file, keep=1)(low, high))
                    start += planes
                return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

            yield read_planes


class _Opener:
    """Keeps the files of a stack that were read last open; a stack may have more files than can be open at once."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[ExitStack, ReadPlanes]] = {}

    def __enter__(self) -> "_Opener":
        return self

    def __exit__(self, *_: object) -> None:
        for stack, _read in self._open.values():
            stack.close()
        self._open.clear()

    def reader(self, file: OrientedFile, *, keep: int) -> ReadPlanes:
        key = id(file)
        if key not in self._open:
            while len(self._open) >= keep:
                oldest = next(iter(self._open))
                self._open.pop(oldest)[0].close()
            stack = ExitStack()
            self._open[key] = (stack, stack.enter_context(file.opened()))
        return self._open[key][1]
