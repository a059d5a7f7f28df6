"""Files -> lazy arrays, safely: one module a family of formats, listed in READERS."""

from collections.abc import Callable
from pathlib import PurePosixPath

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.raster import open_raster
from seglib.data.readers.tiff import open_tiff
from seglib.errors import DataError

__all__ = ["READERS", "ImageFile", "SourceFile", "is_supported", "open_image", "supported_text"]

READERS: dict[str, Callable[[SourceFile], ImageFile]] = {
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".png": open_raster,
    ".jpg": open_raster,
    ".jpeg": open_raster,
    ".bmp": open_raster,
}


def open_image(source: SourceFile) -> ImageFile:
    """Opens a file by the reader its name asks for; only the header is read.

    Raises DataError, with the file's name, where the kind is not supported, the content is not what the name says,
    the file is cut off or damaged, or its header claims more than is sane.
    """
    reader = READERS.get(_suffix(source.name))
    if reader is None:
        raise DataError(f"{source.name} cannot be imported: its name must end in {supported_text()}.")
    return reader(source)


def is_supported(name: str) -> bool:
    """Whether a file of this name has a reader."""
    return _suffix(name) in READERS


def supported_text() -> str:
    """The supported endings for a message: “.tif, .tiff, …”."""
    return ", ".join(READERS)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
