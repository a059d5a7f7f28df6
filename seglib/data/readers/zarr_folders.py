"""Zarr and OME-Zarr folders, version 2 and 3. Metadata are checked here before zarr-python sees them."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from seglib.data.readers.base import (
    ImageFile,
    Member,
    Read,
    SourceFile,
    Window,
    check_claim,
    guess_axes,
    plain_dtype,
    unreadable,
    wrong_content,
)
from seglib.data.readers.blocks import check_blocks
from seglib.data.readers.members import pick_member
from seglib.data.readers.sources import readable, without_control
from seglib.data.readers.zarr_metadata import Node, Tree, read_tree
from seglib.data.readers.zarr_ome import OmeArray, axes_of
from seglib.errors import DataError

_MAX_FILES = 5_000_000


def open_zarr(source: SourceFile) -> ImageFile:
    """Opens one array of a Zarr folder, the one named by source.member or the first likely one; no numbers are read.

    The image of an OME-Zarr in full resolution is preferred.
    Raises DataError where it is no Zarr folder, holds no array of numbers, uses a codec that is not allowed, claims
    more than is sane, or a link in it leads out of it.
    """
    root = source.path
    with _reachable(source):
        if root.exists() and not (root.is_dir() or root.is_file()):
            raise DataError(f"{source.name} is neither a folder nor a file. Give the Zarr folder itself.")
        if not root.is_dir():
            raise wrong_content(source, "a Zarr folder")
        _refuse_links(source, root)
        tree = read_tree(source, root)
    if not tree.arrays:
        raise DataError(
            f"{source.name} holds no array of numbers with two to five dimensions.{tree.reason} Export it again as "
            "whole or real numbers with a usual compression (Blosc, zstd, gzip)."
        )
    members = tuple(Member(name, node.shape, str(node.dtype)) for name, node in tree.arrays.items())
    name = _chosen(source, tree, members)
    node, ome = tree.arrays[name], tree.ome.get(name, OmeArray())
    where = f"{name} in {source.name}" if name else source.name
    with _reachable(source):
        file_bytes = sum(entry.stat().st_size for entry in _walk(root / name) if entry.is_file())
    check_claim(where, node.shape, node.dtype, file_bytes)
    check_blocks(where, node.shape, node.block, node.dtype.itemsize, file_bytes)
    dtype = plain_dtype(source.name, node.dtype)
    axes = ome.axes if len(ome.axes) == len(node.shape) else axes_of(node.dimension_names)
    axes = axes if len(axes) == len(node.shape) else ""
    channels = node.shape[axes.index("C")] if "C" in axes else 1
    notes = [f"{source.name} {ome.note}."] if ome.note else []
    if tree.first_image in tree.left_out and name != tree.first_image:
        notes.append(f"{source.name}: its main image {tree.first_image} {tree.left_out[tree.first_image]}.")
    return ImageFile(
        source=source,
        shape=node.shape,
        axes=axes or guess_axes(node.shape),
        axes_known=bool(axes),
        dtype=dtype,
        opened=_opener(source, root / name, node, dtype),
        chunks=node.chunks,
        lossy=node.lossy,
        voxel_size_nm=ome.voxel_size_nm if axes == ome.axes else (None, None, None),
        channel_names=ome.channel_names if len(ome.channel_names) == channels else (),
        members=members if len(members) > 1 else (),
        notes=tuple(notes),
    )


def _chosen(source: SourceFile, tree: Tree, members: tuple[Member, ...]) -> str:
    wanted = source.member.strip("/")
    if wanted in tree.left_out and wanted:
        raise DataError(f"{wanted} in {source.name} {tree.left_out[wanted]}. Export it again as whole or real numbers.")
    if not wanted and tree.first_image in tree.arrays:
        return str(tree.first_image)
    return pick_member(source, members)


def _opener(
    source: SourceFile, path: Path, node: Node, dtype: np.dtype[Any]
) -> Callable[[], AbstractContextManager[Read]]:
    @contextmanager
    def opened() -> Iterator[Read]:
        with _damage(source), warnings.catch_warnings():
            # It warns that other programs may not know a codec; what matters is that this one does.
            warnings.simplefilter("ignore")
            # Both kinds of metadata may lie in one folder; only those of one version were checked.
            # A store of this folder alone: zarr-python takes a path given as text for a URL, and “\\” in it for “/”.
            array = zarr.open_array(store=LocalStore(path, read_only=True), mode="r", zarr_format=node.zarr_format)
            if array.shape != node.shape or array.dtype != node.dtype:
                raise DataError(f"{source.name} was changed while it was read. Import it again.")

        def read(window: Window) -> NDArray[Any]:
            with _damage(source):
                return np.asarray(array[window]).astype(dtype, copy=False)

        yield read

    return opened


def _refuse_links(source: SourceFile, root: Path) -> None:
    """Chunks are opened by zarr-python, so no entry of the folder may be a link to somewhere else, or a device."""
    inside = root.resolve()
    for count, entry in enumerate(_walk(root), 1):
        if count > _MAX_FILES:
            raise DataError(f"{source.name} has more than {_MAX_FILES:,} files. Import a part of it.")
        shown = without_control(readable(entry.name))[:100]
        if entry.is_symlink() and not _leads_inside(Path(entry.path), inside):
            raise DataError(f"{source.name} has a link in it that leads elsewhere: {shown}. Copy the data themselves.")
        # Reading from a pipe would wait for ever.
        if not (entry.is_dir() or entry.is_file() or entry.is_symlink()):
            raise DataError(f"{source.name} has something in it that is no file and no folder: {shown}. Remove it.")


def _leads_inside(link: Path, folder: Path) -> bool:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return target.is_relative_to(folder) and (target.is_file() or target.is_dir())


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
def _reachable(source: SourceFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(source, error) from error


@contextmanager
def _damage(source: SourceFile) -> Iterator[None]:
    """Turns what zarr and its codecs raise into a DataError with the folder's name."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{source.name} needs more memory than there is. Cut it into parts.") from error
    except Exception as error:  # codecs raise what they like
        if isinstance(error, OSError) and error.errno:
            raise unreadable(source, error) from error
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{source.name} is damaged ({detail}). Copy or export it again.") from error
