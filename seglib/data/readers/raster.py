"""PNG, JPEG and BMP through Pillow, whose guard against oversized images stays on."""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from seglib.data.readers.base import SourceFile, check_claim, unreadable, wrong_content
from seglib.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP")
# Pillow raises SyntaxError on a broken PNG chunk.
_FOREIGN = (ValueError, SyntaxError, LookupError, EOFError, TypeError, AttributeError, MemoryError, struct.error)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DTYPES = {"1": "u1", "L": "u1", "P": "u1", "LA": "u1", "RGB": "u1", "RGBA": "u1", "I;16": "u2", "I": "i4", "F": "f4"}
_CHANNELS = {"RGB": 3, "RGBA": 3}


@dataclass(frozen=True)
class RasterImage:
    """An opened PNG, JPEG or BMP: one plane; see ImageFile."""

    source: SourceFile
    shape_czyx: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    lossy: bool
    notes: tuple[str, ...]

    def read_planes(self, z0: int, z1: int) -> NDArray[Any]:
        """The plane as (C, z1 − z0, Y, X). Raises DataError where the data are damaged."""
        with _opened(self.source) as image:
            pixels = np.asarray(image)
        channels = self.shape_czyx[0]
        yxc = pixels.reshape(*pixels.shape[:2], -1)[..., :channels]
        return np.ascontiguousarray(yxc.transpose(2, 0, 1)[:, None].astype(self.dtype)[:, z0:z1])


def open_raster(source: SourceFile) -> RasterImage:
    """Opens a PNG, JPEG or BMP; only the header is read.

    Colour tables are not applied: the numbers of a palette PNG are what label maps mean.
    Raises DataError where it is not such an image, is too large, or holds a kind of pixel that is not supported.
    """
    with _opened(source) as image:
        (columns, rows), mode, kind = image.size, image.mode, image.format
        raw_mode = str([tile.args for tile in image.tile]) if isinstance(image, ImageFile.ImageFile) else ""
    if mode not in _DTYPES:
        raise DataError(f"{source.name} has {mode} pixels, which is not supported. Save it as grey or RGB.")
    if mode in _CHANNELS and "16" in raw_mode:
        raise DataError(f"{source.name} has 16-bit colours, which would lose their depth. Save it as TIFF.")
    shape = (_CHANNELS.get(mode, 1), 1, rows, columns)
    dtype = np.dtype(_DTYPES[mode])
    check_claim(source.name, shape, dtype, source.path.stat().st_size)
    notes = (f"{source.name} has a colour table; its index numbers are used as values.",) if mode == "P" else ()
    return RasterImage(source, shape, dtype, kind == "JPEG", notes)


@contextlib.contextmanager
def _opened(source: SourceFile) -> Iterator[Image.Image]:
    try:
        with Image.open(source.path, formats=_FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise _too_large(source)
            yield image
    except DataError:
        raise
    except _TOO_LARGE as error:
        raise _too_large(source) from error
    except UnidentifiedImageError as error:
        raise wrong_content(source, "a PNG, JPEG or BMP image") from error
    except OSError as error:
        # Pillow reports a cut-off file as an OSError of its own, without a number.
        raise (unreadable(source, error) if error.errno else _damaged(source, error)) from error
    except _FOREIGN as error:
        raise _damaged(source, error) from error


def _too_large(source: SourceFile) -> DataError:
    limit = Image.MAX_IMAGE_PIXELS or 0
    return DataError(f"{source.name} has more than {limit:,} pixels. Save it as TIFF, or cut it into parts.")


def _damaged(source: SourceFile, error: Exception) -> DataError:
    detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return DataError(f"{source.name} is cut off or damaged ({detail}). Copy or export it again.")
