"""PNG, JPEG and BMP through Pillow, whose guard against oversized images stays on."""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile as PillowFile

from seglib.data.readers.base import (
    ImageFile,
    Read,
    SourceFile,
    check_claim,
    describe_content,
    unreadable,
    wrong_content,
)
from seglib.errors import DataError

_FORMATS = ("PNG", "JPEG", "BMP")
_KINDS = tuple(f"a {kind} image" for kind in _FORMATS)
# Pillow raises SyntaxError on a broken PNG chunk.
_FOREIGN = (ValueError, SyntaxError, LookupError, EOFError, TypeError, AttributeError, MemoryError, struct.error)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DTYPES = {"1": "u1", "L": "u1", "P": "u1", "LA": "u1", "RGB": "u1", "RGBA": "u1", "I;16": "u2", "I": "i4", "F": "f4"}
_CHANNELS = {"RGB": 3, "RGBA": 3}
# What Pillow would cut to 8 bits, and how many samples it has without alpha.
_DEEP = {"RGB;16B": 3, "RGBA;16B": 3, "LA;16B": 1}


def open_raster(source: SourceFile) -> ImageFile:
    """Opens a PNG, JPEG or BMP; only the header is read. Stored as (Y, X), colours as (Y, X, S).

    Colour tables are not applied: the numbers of a palette PNG are what label maps mean.
    Raises DataError where it is not such an image, is too large, or holds a kind of pixel that is not supported.
    """
    with _opened(source) as image:
        (columns, rows), mode, kind = image.size, image.mode, image.format
        raw_mode = str(image.tile[0].args) if isinstance(image, PillowFile) and image.tile else ""
        palette = image.getpalette() if mode == "P" else None
    if mode not in _DTYPES:
        raise DataError(f"{source.name} has {mode} pixels, which is not supported. Save it as grey or RGB.")
    deep = kind == "PNG" and raw_mode in _DEEP
    samples = _DEEP[raw_mode] if deep else _CHANNELS.get(mode, 1)
    shape: tuple[int, ...] = (rows, columns, samples) if samples > 1 else (rows, columns)
    dtype = np.dtype(np.uint16 if deep else _DTYPES[mode])
    check_claim(source.name, shape, dtype, source.path.stat().st_size)
    notes = (f"{source.name} has a colour table; its index numbers are used as values.",) if mode == "P" else ()

    @contextlib.contextmanager
    def opened() -> Iterator[Read]:
        decode = _deep_pixels if deep else _pixels
        yield lambda window: decode(source, shape, dtype)[window]

    return ImageFile(
        source=source,
        shape=shape,
        axes="YXS"[: len(shape)],
        axes_known=True,
        dtype=dtype,
        opened=opened,
        chunks=shape,
        lossy=kind == "JPEG",
        colours=_colours(palette),
        notes=notes,
    )


def _pixels(source: SourceFile, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    with _opened(source) as image:
        pixels = np.asarray(image)
    return _without_alpha(pixels, shape).astype(dtype, copy=False)


def _deep_pixels(source: SourceFile, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    import imagecodecs

    try:
        pixels = imagecodecs.png_decode(source.path.read_bytes())
        return _without_alpha(pixels, shape).astype(dtype, copy=False)
    except OSError as error:
        raise unreadable(source, error) from error
    except (RuntimeError, ValueError) as error:
        raise _damaged(source, error) from error


def _without_alpha(pixels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    yxs = pixels.reshape(*pixels.shape[:2], -1)
    return yxs[..., : shape[2] if len(shape) == 3 else 1].reshape(shape)


def _colours(palette: list[int] | None) -> dict[int, str]:
    triples = zip(palette[0::3], palette[1::3], palette[2::3], strict=False) if palette else ()
    return {index: f"#{red:02x}{green:02x}{blue:02x}" for index, (red, green, blue) in enumerate(triples)}


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
        raise _not_understood(source) from error
    except OSError as error:
        # Pillow reports a cut-off file as an OSError of its own, without a number.
        raise (unreadable(source, error) if error.errno else _damaged(source, error)) from error
    except _FOREIGN as error:
        raise _damaged(source, error) from error


def _not_understood(source: SourceFile) -> DataError:
    try:
        found = describe_content(source.path)
    except OSError as error:
        return unreadable(source, error)
    if found in _KINDS:
        return DataError(f"{source.name} is {found} with a damaged header. Copy or export it again.")
    return wrong_content(source, "a PNG, JPEG or BMP image")


def _too_large(source: SourceFile) -> DataError:
    limit = Image.MAX_IMAGE_PIXELS or 0
    return DataError(f"{source.name} has more than {limit:,} pixels. Save it as TIFF, or cut it into parts.")


def _damaged(source: SourceFile, error: Exception) -> DataError:
    detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return DataError(f"{source.name} is cut off or damaged ({detail}). Copy or export it again.")
