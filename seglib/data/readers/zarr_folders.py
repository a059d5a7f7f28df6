"""Zarr and OME-Zarr folders, version 2 and 3. Metadata are checked here before zarr-python sees them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from seglib.data.readers.base import (
    ImageFile,
    Member,
    Read,
    SourceFile,
    Window,
    check_claim,
    guess_axes,
    plain_dtype,
    wrong_content,
)
from seglib.data.readers.members import pick_member
from seglib.data.readers.zarr_metadata import Node, Scale, read_tree
from seglib.errors import DataError

_MAX_FILES = 5_000_000


def open_zarr(source: SourceFile) -> ImageFile:
    """Opens one array of a Zarr folder, the one named by source.member or the first likely one; no numbers are read.

    The image of an OME-Zarr in full resolution is preferred.
    Raises DataError where it is no Zarr folder, holds no array of numbers, uses a codec that is not allowed, or a link
    in it leads out of it.
    """
    root = source.path
    if not root.is_dir():
        raise wrong_content(source, "a Zarr folder")
    _refuse_links(source, root)
    tree = read_tree(source, root)
    if not tree.arrays:
        raise DataError(f"{source.name} holds no array of numbers with 2 to 5 dimensions.{tree.reason}")
    members = [Member(name, node.shape, str(node.dtype)) for name, node in tree.arrays.items()]
    name = tree.first_image if not source.member and tree.first_image in tree.arrays else pick_member(source, members)
    node = tree.arrays[name]
    dtype = plain_dtype(source.name, node.dtype)
    check_claim(f"{name or 'the array'} in {source.name}", node.shape, node.dtype, _bytes_below(root / name))
    scale = tree.scales.get(name, Scale())
    axes = scale.axes if len(scale.axes) == len(node.shape) else _named(node)
    return ImageFile(
        source=source,
        shape=node.shape,
        axes=axes or guess_axes(node.shape),
        axes_known=bool(axes),
        dtype=dtype,
        opened=_opener(source, root / name, dtype),
        chunks=node.chunks,
        voxel_size_nm=scale.voxel_size_nm,
        channel_names=scale.channel_names,
        members=tuple(members) if len(members) > 1 else (),
    )


def _opener(source: SourceFile, path: Path, dtype: np.dtype[Any]) -> Any:
    @contextmanager
    def opened() -> Iterator[Read]:
        with _damage(source):
            array = zarr.open_array(store=str(path), mode="r")

        def read(window: Window) -> NDArray[Any]:
            with _damage(source):
                return np.asarray(array[window]).astype(dtype, copy=False)

        yield read

    return opened


def _named(node: Node) -> str:
    """Axes by the names of dimensions, where those are the usual letters."""
    letters = "".join(name.upper() for name in node.dimension_names)
    fits = len(letters) == len(node.shape) == len(set(letters)) and set(letters) <= set("TCZYX")
    return letters if fits and {"Y", "X"} <= set(letters) else ""


def _refuse_links(source: SourceFile, root: Path) -> None:
    """Chunks are opened by zarr-python, so no entry of the folder may be a link to somewhere else."""
    inside = root.resolve()
    for count, entry in enumerate(_walk(root)):
        if count > _MAX_FILES:
            raise DataError(f"{source.name} has more than {_MAX_FILES:,} files. Import a part of it.")
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(inside):
            raise DataError(f"{source.name} has a link in it that leads elsewhere: {entry.name}. Copy the data.")


def _bytes_below(path: Path) -> int:
    """Size of all files of an array."""
    return sum(entry.stat().st_size for entry in _walk(path) if entry.is_file())


def _walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder; links are not followed."""
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))


@contextmanager
def _damage(source: SourceFile) -> Iterator[None]:
    """Turns what zarr and its codecs raise into a DataError with the folder's name."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # codecs raise what they like
        if isinstance(error, OSError) and error.errno == 28:
            raise
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{source.name} is damaged ({detail}). Copy or export it again.") from error
