"""From a file's own dimensions to channels, planes, rows and columns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.readers.base import AXES, MAX_PLANES, ImageFile, SourceFile, size_text
from seglib.errors import DataError

ReadPlanes = Callable[[int, int], NDArray[Any]]
# A plane is decoded whole; more than this does not fit into the memory an import may use.
MAX_PLANE_BYTES = 1 << 30
AXIS_NAMES = {"T": "time points", "C": "channels", "Z": "planes", "Y": "rows", "X": "columns", "S": "samples"}


@dataclass(frozen=True)
class OrientedFile:
    """A file seen as (C, Z, Y, X). axes: a letter of AXES for each stored dimension."""

    file: ImageFile
    axes: str

    @property
    def source(self) -> SourceFile:
        return self.file.source

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.file.dtype

    @property
    def shape_czyx(self) -> tuple[int, int, int, int]:
        """Channels (with the samples of a pixel), planes, rows, columns; what the file lacks is 1."""
        return self._side("C") * self._side("S"), self._side("Z"), self._side("Y"), self._side("X")

    @property
    def chunk_planes(self) -> int:
        """How many planes are cheapest to read at once; all of them where planes lie across the file."""
        place = self.axes.find("Z")
        if place < 0:
            return 1
        crossed = any(letter in "YX" for letter in self.axes[:place])
        return self.shape_czyx[1] if crossed and self.file.chunks[place] == 1 else self.file.chunks[place]

    @contextmanager
    def opened(self) -> Iterator[ReadPlanes]:
        """Gives a function (z0, z1) -> planes z0 … z1 − 1 as (C, z1 − z0, Y, X)."""
        with self.file.opened() as read:

            def read_planes(z0: int, z1: int) -> NDArray[Any]:
                window = tuple(
                    slice(z0, z1) if letter == "Z" else slice(0, side)
                    for letter, side in zip(self.axes, self.file.shape, strict=True)
                )
                return self._to_czyx(read(window))

            yield read_planes

    def _to_czyx(self, stored: NDArray[Any]) -> NDArray[Any]:
        present = [letter for letter in "TCSZYX" if letter in self.axes]
        ordered = stored.transpose([self.axes.index(letter) for letter in present])
        sides = dict(zip(present, ordered.shape, strict=True))
        channels = sides.get("C", 1) * sides.get("S", 1)
        return ordered.reshape(channels, sides.get("Z", 1), sides["Y"], sides["X"])

    def _side(self, letter: str) -> int:
        place = self.axes.find(letter)
        return 1 if place < 0 else self.file.shape[place]


def orient(file: ImageFile, axes: str = "") -> OrientedFile:
    """The file with a meaning for each of its dimensions. axes: letters of AXES, empty for what the file says.

    Raises DataError where the letters do not fit, and where there are several time points.
    """
    letters = axes.strip().upper() or file.axes
    name, shape = file.source.name, file.shape
    if len(letters) != len(shape):
        raise DataError(
            f"{name} has {len(shape)} dimensions ({size_text(shape)}), but the axis order {letters} "
            f"names {len(letters)}. Give one letter for each: C channels, Z planes, Y rows, X columns, T time."
        )
    if set(letters) - set(AXES) or len(set(letters)) < len(letters) or not {"Y", "X"} <= set(letters):
        raise DataError(
            f"The axis order {letters} cannot be: use each of C, Z, Y, X, T at most once, and Y and X in any case."
        )
    oriented = OrientedFile(file, letters)
    times = oriented._side("T")
    if times > 1:
        raise DataError(
            f"{name} has {times} time points ({letters}: {size_text(shape)}), and a volume has none. Save each time "
            "point as a file of its own (Fiji: Image > Hyperstacks > Make Subset), or, if that axis is really depth "
            f"or channels, change the axis order to {letters.replace('T', 'Z') if 'Z' not in letters else '…Z…'}."
        )
    channels, planes, rows, columns = oriented.shape_czyx
    if planes > MAX_PLANES:
        raise DataError(f"{name} has {planes:,} planes; at most {MAX_PLANES:,} can be imported. Split it.")
    if channels * rows * columns * file.dtype.itemsize > MAX_PLANE_BYTES:
        raise DataError(
            f"A plane of {name} ({size_text((channels, rows, columns))}) is larger than 1 GiB. Cut it into parts."
        )
    return oriented
