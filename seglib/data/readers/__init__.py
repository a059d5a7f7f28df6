"""Files -> lazy arrays, safely: one module a family of formats, listed in READERS."""

import re
from collections.abc import Callable
from importlib import import_module

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.errors import DataError

__all__ = [
    "READERS",
    "ImageFile",
    "SourceFile",
    "ending_of",
    "is_image",
    "is_supported",
    "open_image",
    "stem_of",
    "supported_text",
]

TILE_LIST = ".json"
# Ending -> module and function. By name, because what reads HDF5 or NIfTI takes a second to load and is rarely needed.
READERS: dict[str, tuple[str, str]] = {
    ".tif": ("tiff", "open_tiff"),
    ".tiff": ("tiff", "open_tiff"),
    ".ome.tif": ("tiff", "open_tiff"),
    ".ome.tiff": ("tiff", "open_tiff"),
    ".png": ("raster", "open_raster"),
    ".jpg": ("raster", "open_raster"),
    ".jpeg": ("raster", "open_raster"),
    ".bmp": ("raster", "open_raster"),
    ".npy": ("numpy_files", "open_npy"),
    ".npz": ("numpy_files", "open_npz"),
    ".h5": ("hdf5", "open_hdf5"),
    ".hdf5": ("hdf5", "open_hdf5"),
    ".hdf": ("hdf5", "open_hdf5"),
    ".zarr": ("zarr_folders", "open_zarr"),
    ".ome.zarr": ("zarr_folders", "open_zarr"),
    ".nii": ("nifti", "open_nifti"),
    ".nii.gz": ("nifti", "open_nifti"),
    ".nrrd": ("nrrd_files", "open_nrrd"),
    TILE_LIST: ("tiles", "open_tiles"),
}
_ENDING = re.compile("|".join(re.escape(ending) + r"\Z" for ending in sorted(READERS, key=len, reverse=True)))


def open_image(source: SourceFile) -> ImageFile:
    """Opens a file by the reader its name asks for; only the header is read.

    Raises DataError, with the file's name, where the kind is not supported, the content is not what the name says,
    the file is cut off or damaged, or its header claims more than is sane.
    """
    ending = ending_of(source.name)
    if not ending:
        raise DataError(f"{source.name} cannot be imported: its name must end in {supported_text()}.")
    # Reading a pipe or a device may wait for ever.
    if source.path.exists() and not (source.path.is_file() or source.path.is_dir()):
        raise DataError(f"{source.name} is a pipe or a device, not a file. Copy the data into a file.")
    module, function = READERS[ending]
    reader: Callable[[SourceFile], ImageFile] = getattr(import_module(f"{__name__}.{module}"), function)
    return reader(source)


def ending_of(name: str) -> str:
    """The ending, in lower case, by which a file would be read, such as “.nii.gz”; empty where there is no reader."""
    found = _ENDING.search(name.lower())
    return found.group() if found else ""


def stem_of(name: str) -> str:
    """The name of a file without folders and without the ending by which it would be read."""
    last = name.rsplit("/", 1)[-1]
    ending = ending_of(last)
    return last[: len(last) - len(ending)] if ending and len(ending) < len(last) else last


def is_supported(name: str) -> bool:
    """Whether a file of this name has a reader."""
    return bool(ending_of(name))


def is_image(name: str) -> bool:
    """Whether a file of this name is an image by itself; a tile list only names files that are."""
    return ending_of(name) not in ("", TILE_LIST)


def supported_text() -> str:
    """The supported endings of images for a message: “.tif, .tiff, …”."""
    return ", ".join(ending for ending in READERS if ending.count(".") == 1 and ending != TILE_LIST)
