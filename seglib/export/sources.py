"""The layers of a prediction as they lie in its folder, read a block of planes at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from seglib.data.volumes import CHUNK_ZYX, Array, VoxelSize
from seglib.errors import DataError, WorkCancelled

PREDICTION = "prediction"
LABELS, PROBABILITIES, UNCERTAINTY = "labels", "probabilities", "uncertainty"
# Where the OME-Zarr group of each layer lies in the folder of a prediction.
PLACES = {
    LABELS: f"labels.zarr/labels/{PREDICTION}",
    PROBABILITIES: "probabilities.zarr",
    UNCERTAINTY: "uncertainty.zarr",
}
BLOCK_BYTES = 64 * 2**20
MOST_PLANES = 16

Progress = Callable[[int, int, str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Watch:
    """Who is told how far a file is (planes done, planes in all, what is done now), and who may end it."""

    progress: Progress = lambda done, total, text: None
    stop: Stop = lambda: False

    def step(self, done: int, total: int, text: str) -> None:
        """Tells how far it is. Raises WorkCancelled where it is to end."""
        if self.stop():
            raise WorkCancelled("Stopped; nothing of the file was kept.")
        self.progress(done, total, text)


@dataclass(frozen=True)
class Layer:
    """One layer of a prediction, nothing read yet.

    name: `labels`, `probabilities` or `uncertainty`; path: its OME-Zarr group.
    array: labels (Z, Y, X) of unsigned integers; else (C, Z, Y, X), where 0–255 of uint8 stands for 0–1.
    channel_names: the classes of probabilities; else empty.
    """

    name: str
    path: Path
    array: Array
    voxel_size_nm: VoxelSize
    channel_names: tuple[str, ...] = ()

    @property
    def axes(self) -> str:
        return "CZYX"[-len(self.array.shape) :]

    @property
    def meaning(self) -> str:
        """What its values are, in a sentence."""
        if self.name == LABELS:
            return "Whole numbers; 0 is background."
        return "0 to 255 stands for 0 to 1." if self.array.dtype == np.uint8 else "Values from 0 to 1."

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.array.shape)) * self.array.dtype.itemsize

    @property
    def changed_at(self) -> float:
        """When it was written, in seconds since 1970."""
        return max(path.stat().st_mtime for path in (self.path / "zarr.json", self.path / "0" / "zarr.json"))


def layers_there(folder: Path) -> tuple[str, ...]:
    """Names of the layers that a prediction's folder holds."""
    return tuple(name for name, place in PLACES.items() if (folder / place / "0" / "zarr.json").is_file())


def open_layer(folder: Path, name: str) -> Layer:
    """A layer of a prediction's folder. Raises DataError where there is none of that name."""
    if name not in layers_there(folder):
        raise DataError(f"Prediction {folder.name} has no {name}: it is not there any more, or was not asked for.")
    path = folder / PLACES[name]
    group = zarr.open_group(store=str(path), mode="r")
    array, ome = group["0"], dict(group.attrs)["ome"]
    if not isinstance(array, zarr.Array) or not isinstance(ome, dict):
        raise DataError(f"The {name} of prediction {folder.name} are damaged: predict again.")
    described: Any = ome
    scale = described["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    channels = described.get("omero", {}).get("channels", [])
    names = tuple(str(one["label"]) for one in channels if "label" in one)
    return Layer(
        name=name,
        path=path,
        array=array,
        voxel_size_nm=(float(scale[-3]), float(scale[-2]), float(scale[-1])),
        channel_names=names if len(names) == array.shape[0] and array.ndim == 4 else (),
    )


def block_planes(array: Array) -> int:
    """How many planes of one channel are read at once: at most 64 MB or one plane, and whole chunks where they fit."""
    plane = max(1, int(np.prod(array.shape[-2:])) * array.dtype.itemsize)
    planes = int(max(1, min(MOST_PLANES, BLOCK_BYTES // plane)))
    return planes // CHUNK_ZYX[0] * CHUNK_ZYX[0] or planes


def blocks(array: Array, watch: Watch, text: str) -> Iterator[tuple[tuple[slice | int, ...], NDArray[Any]]]:
    """Blocks (dz, Y, X) of an array (Z, Y, X) or (C, Z, Y, X), and where they lie in it, channel by channel.

    text: what is being done, for the watch. Raises WorkCancelled where it is to end.
    """
    depth, step = array.shape[-3], block_planes(array)
    leads: list[tuple[int, ...]] = [()] if len(array.shape) == 3 else [(channel,) for channel in range(array.shape[0])]
    total = depth * len(leads)
    for index, lead in enumerate(leads):
        for start in range(0, depth, step):
            watch.step(index * depth + start, total, text)
            where: tuple[slice | int, ...] = (*lead, slice(start, min(start + step, depth)))
            yield where, np.asarray(array[where])
    watch.step(total, total, text)
