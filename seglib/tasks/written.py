"""What a prediction writes: probabilities block by block, kept so that it can go on, and labels made of them.

predictions/<id>/unfinished/   probabilities.zarr, uncertainty.zarr, progress.json: as far as it is
predictions/<id>/              probabilities.zarr, uncertainty.zarr, labels.zarr, result.json: what was made
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from seglib.data.pyramids import levels_of
from seglib.data.splits import Shape
from seglib.data.volumes import VoxelSize, create_array, image_description, scales_of
from seglib.errors import SeglibError
from seglib.losses import Activation

UNFINISHED = "unfinished"
Kind = Literal["uint8", "float16"]
# Blocks that wait to be written.
WAITING = 2


@dataclass(frozen=True)
class Kept:
    """How far a prediction is. key: of everything that decides its probabilities.

    done: finished planes of each column; swept: whether that is all of them.
    """

    key: str
    done: tuple[int, ...] = ()
    swept: bool = False


class Unfinished:
    """The folder of a prediction that is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def progress(self) -> Kept | None:
        """How far it is; None where nothing was begun, or what was written cannot be read."""
        try:
            found = json.loads((self.folder / "progress.json").read_text())
            return Kept(str(found["key"]), tuple(int(plane) for plane in found["done"]), bool(found["swept"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, progress: Kept) -> None:
        """Keeps how far it is, all at once."""
        write_json(self.folder / "progress.json", asdict(progress))

    def begin(self, key: str) -> None:
        """Empties the folder for a new start."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.note(Kept(key))

    def array(
        self, name: str, shape_zyx: Shape, kind: Kind, voxel_size_nm: VoxelSize, channels: Sequence[str]
    ) -> zarr.Array:
        """The array (C, Z, Y, X) of a layer at full resolution, made where it is not there yet."""
        if (self.folder / f"{name}.zarr" / "0" / "zarr.json").exists():
            found = layer_group(self.folder, name)["0"]
            assert isinstance(found, zarr.Array)
            return found
        group = self.group(name, shape_zyx, kind, voxel_size_nm, channels)
        return create_array(group, "0", (len(channels), *shape_zyx), kind)

    def group(
        self, name: str, shape_zyx: Shape, kind: Kind, voxel_size_nm: VoxelSize, channels: Sequence[str]
    ) -> zarr.Group:
        """An empty group for a layer, described as one that has all levels."""
        group = zarr.create_group(store=str(self.folder / f"{name}.zarr"), zarr_format=3, overwrite=True)
        levels = levels_of(shape_zyx, voxel_size_nm)
        scales = [(1.0, *scale) for scale in scales_of(levels, voxel_size_nm)]
        windows = [(0.0, 255.0 if kind == "uint8" else 1.0)] * len(channels)
        group.attrs.update(image_description(name=name, scales=scales, windows=windows, channel_names=channels))
        return group

    def holds(self, name: str) -> bool:
        """Whether a layer is there."""
        return (self.folder / f"{name}.zarr").exists()

    def remove(self) -> None:
        """Takes the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)


class BlockWriter:
    """Writes blocks in the background, one after the other, and notes each when it is on disk; a context manager."""

    def __init__(self, unfinished: Unfinished, progress: Kept, arrays: dict[str, zarr.Array]) -> None:
        self._unfinished, self._progress, self._arrays = unfinished, progress, arrays
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self._settle(0)

    def finish(self) -> None:
        """Waits for all blocks and notes that there are no more."""
        self._settle(0)
        self._progress = replace(self._progress, swept=True)
        self._unfinished.note(self._progress)

    def write(self, column: int, start: Shape, layers: dict[str, NDArray[Any]]) -> None:
        """Hands over what was found of a block, (C, dz, dy, dx) for each layer. Raises what went wrong before."""
        self._pending.append(self._pool.submit(self._write, column, start, layers))
        self._settle(WAITING)

    def _settle(self, at_most: int) -> None:
        while len(self._pending) > at_most:
            self._pending.pop(0).result()

    def _write(self, column: int, start: Shape, layers: dict[str, NDArray[Any]]) -> None:
        end = start[0]
        for name, values in layers.items():
            box = tuple(slice(low, low + side) for low, side in zip(start, values.shape[1:], strict=True))
            self._arrays[name][(slice(None), *box)] = values
            end = start[0] + values.shape[1]
        done = [*self._progress.done, *[0] * (column + 1 - len(self._progress.done))]
        done[column] = end
        self._progress = Kept(self._progress.key, tuple(done))
        self._unfinished.note(self._progress)


def encoded(values: Tensor, kind: Kind) -> NDArray[Any]:
    """Values 0–1 as they are kept: in steps of 1/255, or as half-precision numbers."""
    if kind == "float16":
        return values.to(torch.float16).cpu().numpy()
    return (values * 255).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()


def decoded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values 0–1 of what `encoded` gave."""
    result = values.astype(np.float32)
    return result / np.float32(255) if values.dtype == np.uint8 else result


def layer_group(folder: Path, name: str) -> zarr.Group:
    """The group of an image layer of a prediction."""
    return zarr.open_group(store=str(folder / f"{name}.zarr"), mode="r+")


@dataclass(frozen=True)
class Result:
    """What a finished prediction says of itself. key: as of `Kept`.

    thresholds: the labels were decided by, one a class; values: label value of each class.
    """

    key: str
    activation: Activation
    names: tuple[str, ...]
    values: tuple[int, ...]
    thresholds: tuple[float, ...]


def write_result(folder: Path, result: Result) -> None:
    """Keeps what a prediction says of itself."""
    write_json(folder / "result.json", asdict(result))


def kept_result(folder: Path) -> Result | None:
    """What the prediction of a folder says of itself; None where it is not over, or older than such files."""
    try:
        found = json.loads((folder / "result.json").read_text())
        lists = {name: tuple(found[name]) for name in ("names", "values", "thresholds")}
        return Result(key=found["key"], activation=found["activation"], **lists)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place(made: Path, final: Path, trash: Path) -> None:
    """Puts a folder in its place; one that was there before goes to the trash first."""
    if final.exists():
        trash.mkdir(parents=True, exist_ok=True)
        os.replace(final, trash / f"old-{final.name}")
    os.replace(made, final)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a small file so that it is the old one or the new one whatever happens."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Says what to do when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SeglibError(
            "The disk is full. What was predicted so far is kept: free some space, then resume this prediction."
        ) from error
