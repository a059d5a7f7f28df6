"""A block of numbers in a stream of bytes, read window by window."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.readers.base import Read, SourceFile, Window, unreadable
from seglib.errors import DataError

# What decompressors raise on damaged streams.
_FOREIGN = (zlib.error, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, LookupError, ArithmeticError)
# Read at once; also what a window costs in memory on top of its own size.
_PIECE_BYTES = 8 << 20
# What lies between two runs of wanted numbers is read too where that is cheaper than to look for the next one.
_GAP_BYTES = 64 << 10


@dataclass(frozen=True)
class RawBlock:
    """Numbers one after the other, the last dimension fastest.

    open: opens the stream; it may be one that can only be read forward quickly, such as an unpacked one.
    offset: bytes before the first number. stored: dtype in the stream, byte order included; dtype: of what is read.
    """

    source: SourceFile
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    offset: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """Gives a function that reads a window; of the slowest dimension only the rows in it are read."""
        with ExitStack() as stack:
            # Errors of whoever reads inside the `with` are not damage to the file, so they pass.
            with _damage(self.source):
                stream = stack.enter_context(self.open())
            yield lambda window: _window(self, stream, window)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is cheapest to read at once: a slice of the slowest dimension."""
        return (1, *self.shape[1:]) if len(self.shape) > 2 else self.shape


def _window(block: RawBlock, stream: IO[bytes], window: Window) -> NDArray[Any]:
    ranges = [range(*part.indices(side)[:2]) for part, side in zip(window, block.shape, strict=True)]
    result = np.empty([len(wanted) for wanted in ranges], block.dtype)
    if result.size:
        with _damage(block.source):
            _fill(block, stream, result, ranges, 0)
    return result


def _fill(block: RawBlock, stream: IO[bytes], target: NDArray[Any], ranges: Sequence[range], first: int) -> None:
    """Fills `target` with what `ranges` select of the last len(ranges) dimensions, which begin at number `first`."""
    rows, *inner = ranges
    shape = block.shape[len(block.shape) - len(inner) :]
    row, size = math.prod(shape), block.stored.itemsize
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    span = 1 + sum((len(wanted) - 1) * stride for wanted, stride in zip(inner, strides, strict=True))
    if inner and (row * size > _PIECE_BYTES or (row - span) * size > _GAP_BYTES):
        for index, place in enumerate(rows):
            _fill(block, stream, target[index], inner, first + place * row)
        return
    step = max(1, _PIECE_BYTES // (row * size))
    inside = (slice(None), *(slice(wanted.start, wanted.stop) for wanted in inner))
    for done in range(0, len(rows), step):
        count = min(step, len(rows) - done)
        numbers = _numbers(block, stream, first + (rows.start + done) * row, count * row)
        target[done : done + count] = numbers.reshape(count, *shape)[inside]


def _numbers(block: RawBlock, stream: IO[bytes], first: int, count: int) -> NDArray[Any]:
    stream.seek(block.offset + first * block.stored.itemsize)
    buffer = bytearray(count * block.stored.itemsize)
    view, done = memoryview(buffer), 0
    while done < len(buffer):
        piece = stream.read(len(buffer) - done)
        if not piece:
            raise DataError(f"{block.source.name} is cut off: it ends inside the data. Copy or export it again.")
        view[done : done + len(piece)] = piece
        done += len(piece)
    if first + count == math.prod(block.shape):
        # Packed streams compare their checksum only when asked for what follows the last byte.
        stream.read(1)
    if block.stored.kind == "b":
        # A forged truth value may be any byte.
        return np.frombuffer(buffer, np.uint8) != 0
    return np.frombuffer(buffer, block.stored)


@contextmanager
def _damage(source: SourceFile) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        # gzip and bz2 report damage as an OSError of their own, without a number.
        if error.errno:
            raise unreadable(source, error) from error
        raise _damaged(source, error) from error
    except _FOREIGN as error:
        raise _damaged(source, error) from error


def _damaged(source: SourceFile, error: Exception) -> DataError:
    detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return DataError(f"{source.name} is damaged ({detail}). Copy or export it again.")
