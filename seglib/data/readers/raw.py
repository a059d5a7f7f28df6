"""A block of numbers in a stream of bytes, read window by window."""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.readers.base import Read, SourceFile, Window, unreadable
from seglib.errors import DataError

# What decompressors raise on damaged streams.
_FOREIGN = (zlib.error, EOFError, ValueError, RuntimeError, LookupError, NotImplementedError, ArithmeticError)
_PIECE = 16 << 20


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
        """Gives a function that reads a window; only what lies between its first and last row is read."""
        with _damage(self.source), self.open() as stream:

            def read(window: Window) -> NDArray[Any]:
                with _damage(self.source):
                    return _window(self, stream, window)

            yield read

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is cheapest to read at once: a slice of the slowest dimension."""
        return (1, *self.shape[1:]) if len(self.shape) > 2 else self.shape


def _window(block: RawBlock, stream: IO[bytes], window: Window) -> NDArray[Any]:
    """Reads slice by slice of the slowest dimension that is cut."""
    ranges = [range(*part.indices(side)) for part, side in zip(window, block.shape, strict=True)]
    result = np.empty([len(r) for r in ranges], block.dtype)
    # Dimensions before `cut` are walked one by one, what follows is read as one run of bytes.
    whole = [len(r) == side for r, side in zip(ranges, block.shape, strict=True)]
    cut = len(whole)
    while cut > 0 and whole[cut - 1]:
        cut -= 1
    cut = max(0, cut - 1)
    strides = [math.prod(block.shape[axis + 1 :]) for axis in range(len(block.shape))]
    run = ranges[cut]
    inside = (slice(None), *(slice(r.start, r.stop) for r in ranges[cut + 1 :]))
    for place in np.ndindex(*[len(r) for r in ranges[:cut]]):
        before = sum(ranges[axis][index] * strides[axis] for axis, index in enumerate(place))
        start = before + run.start * strides[cut]
        numbers = _numbers(block, stream, start, len(run) * strides[cut])
        result[place] = numbers.reshape(len(run), *block.shape[cut + 1 :])[inside]
    return result


def _numbers(block: RawBlock, stream: IO[bytes], first: int, count: int) -> NDArray[Any]:
    stream.seek(block.offset + first * block.stored.itemsize)
    buffer = bytearray(count * block.stored.itemsize)
    view, done = memoryview(buffer), 0
    while done < len(buffer):
        piece = stream.read(min(_PIECE, len(buffer) - done))
        if not piece:
            raise DataError(f"{block.source.name} is cut off: it ends inside the data. Copy or export it again.")
        view[done : done + len(piece)] = piece
        done += len(piece)
    return np.frombuffer(buffer, block.stored).astype(block.dtype, copy=False)


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
