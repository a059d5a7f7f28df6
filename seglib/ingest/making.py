"""Synthetic data sets: into the workspace, or as files for any other program."""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import LabelScheme
from seglib.config.synthetic import OpticLobeConfig, SyntheticConfig
from seglib.data.planning import clean_name
from seglib.data.prefetch import Prefetcher
from seglib.data.samples import Sample, make_sample, shape_of
from seglib.data.volumes import (
    TRUTH,
    VoxelSize,
    contrast_of,
    create_labels,
    create_volume,
    fitting_uint,
    set_contrast,
)
from seglib.errors import DataError, WorkCancelled
from seglib.ingest.importing import Cancelled, Progress, commit
from seglib.ingest.staging import StagedVolume
from seglib.store import Store
from seglib.store.datasets import NewVolume
from seglib.workspace import Workspace

# The real columns stand about 6 µm apart; samples hold about ten in a row.
OPTIC_LOBE_NM: VoxelSize = (500.0, 500.0, 500.0)
RINGS_NM: VoxelSize = (1.0, 1.0, 1.0)
BYTES_A_VOXEL = 2.3
MOST_THREADS = 8
Result = TypeVar("Result")
FileFormat = Literal["ome-zarr", "hdf5"]


@dataclass(frozen=True)
class Place:
    """A sample's place. index: among all; number: within its part."""

    index: int
    part: str
    number: int


def no_progress(done: int, total: int, text: str) -> None:
    """Says nothing."""


def never() -> bool:
    """Nobody cancels."""
    return False


def make_dataset(
    workspace: Workspace,
    store: Store,
    config: SyntheticConfig,
    *,
    name: str,
    progress: Progress = no_progress,
    cancelled: Cancelled = never,
) -> int:
    """Makes the samples as a data set of instances and returns its id.

    Volumes are called `training 0001` and `validation 0001`, so that a split by name can keep them as they are meant.
    Raises DataError where they cannot be made, WorkCancelled where that is asked for; nothing is left then.
    """
    name = clean_name(name)
    _check(config, workspace.root)
    with workspace.scratch() as scratch, _disk_errors(workspace.root):

        def write(place: Place, sample: Sample) -> StagedVolume:
            return write_volume(
                scratch,
                place.index,
                name=f"{place.part} {place.number + 1:04d}",
                image_zyx=sample.image.astype(np.float16),
                ids_zyx=sample.ids,
                voxel_size_nm=_voxel_size(config),
            )

        volumes = _made(config, write, progress, cancelled)
        labels = LabelScheme(kind="instances")
        return commit(workspace, store, scratch, name=name, labels=labels, counts=None, volumes=volumes)


def make_files(
    folder: Path,
    config: SyntheticConfig,
    *,
    file_format: FileFormat = "ome-zarr",
    progress: Progress = no_progress,
    cancelled: Cancelled = never,
) -> None:
    """Makes the samples as `folder`/training/0000 … and `folder`/validation/0000 …

    hdf5: as the 3dsegmentation toolkit names things, a file a sample: float16 `vol_data` and `vol_labels` (0 or 1), and
    beside them uint16 `vol_ids` and the geometry `points`, `e_r`, `e_theta`, `e_phi`.
    ome-zarr: a volume with its ids as the label layer.
    Raises DataError where the folder holds something already; after any other end nothing is left of it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: name a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check(config, folder.parent)
    unfinished = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"

    def write(place: Place, sample: Sample) -> None:
        if file_format == "hdf5":
            _write_hdf5(unfinished / place.part / f"{place.number:04d}.h5", sample)
        else:
            _write_zarr(unfinished / place.part, place.number, sample, _voxel_size(config))

    try:
        with _disk_errors(folder.parent):
            for part, _, _ in _parts(config):
                (unfinished / part).mkdir(parents=True)
            _made(config, write, progress, cancelled)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_volume(
    scratch: Path,
    index: int,
    *,
    name: str,
    image_zyx: NDArray[Any],
    ids_zyx: NDArray[np.uint16],
    voxel_size_nm: VoxelSize,
) -> StagedVolume:
    """Writes an image and its instances as `scratch`/`index`.zarr, ready to be committed."""
    z, y, x = image_zyx.shape
    path, counts = scratch / f"{index}.zarr", np.bincount(ids_zyx.ravel())
    shape = (1, z, y, x)
    image = create_volume(path, name=name, shape_czyx=shape, dtype=image_zyx.dtype, voxel_size_nm=voxel_size_nm)
    image[:] = image_zyx[None]
    largest = fitting_uint(len(counts) - 1)
    labels = create_labels(path, TRUTH, shape_zyx=(z, y, x), dtype=largest, voxel_size_nm=voxel_size_nm)
    labels[:] = ids_zyx.astype(labels.dtype)
    contrast = contrast_of(image_zyx.astype(np.float32) if image_zyx.dtype == np.float16 else image_zyx)
    set_contrast(path, contrast)
    row = NewVolume(
        name=name,
        group=name,
        shape_czyx=shape,
        dtype=str(image_zyx.dtype),
        voxel_size_nm=voxel_size_nm,
        has_labels=True,
        label_counts=dict(enumerate(counts.tolist())) if len(counts) <= 256 else None,
        objects=int(np.count_nonzero(counts[1:])),
        contrast=contrast,
        fingerprint=hashlib.sha256(image_zyx.tobytes() + ids_zyx.tobytes()).hexdigest(),
    )
    return StagedVolume(index, row, None)


def _parts(config: SyntheticConfig) -> tuple[tuple[str, int, int], ...]:
    """(name, count, seed) of each part that has samples."""
    both = (("training", config.training, config.seed), ("validation", config.validation, config.validation_seed))
    return tuple(part for part in both if part[1])


def _made(
    config: SyntheticConfig, write: Callable[[Place, Sample], Result], progress: Progress, cancelled: Cancelled
) -> list[Result]:
    """What `write` gives for each sample, in order. Samples are made and written in threads, a few at a time."""
    places = [
        (Place(index, part, number), seed)
        for index, (part, number, seed) in enumerate(
            (part, number, seed) for part, count, seed in _parts(config) for number in range(count)
        )
    ]

    def make(index: int) -> Result:
        place, seed = places[index]
        return write(place, make_sample(config.sample, seed=seed, index=place.number))

    results: list[Result] = []
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    with Prefetcher(make, first=0, last=len(places), threads=threads, ahead=2 * threads) as made:
        for place, _ in places:
            if cancelled():
                raise WorkCancelled
            results.append(made.take())
            progress(len(results), len(places), f"Making {place.part} samples")
    return results


def _check(config: SyntheticConfig, folder: Path) -> None:
    count = config.training + config.validation
    needed = count * int(np.prod(shape_of(config.sample))) * BYTES_A_VOXEL
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{count:,} samples take about {needed / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free in "
            f"{folder}: make fewer or smaller ones, or choose another disk."
        )


def _voxel_size(config: SyntheticConfig) -> VoxelSize:
    return OPTIC_LOBE_NM if isinstance(config.sample, OpticLobeConfig) else RINGS_NM


def _write_zarr(folder: Path, number: int, sample: Sample, voxel_size_nm: VoxelSize) -> None:
    image = sample.image.astype(np.float16)
    write_volume(folder, number, name=f"{number:04d}", image_zyx=image, ids_zyx=sample.ids, voxel_size_nm=voxel_size_nm)
    os.rename(folder / f"{number}.zarr", folder / f"{number:04d}.ome.zarr")


def _write_hdf5(path: Path, sample: Sample) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["vol_data"] = sample.image.astype(np.float16)
        # Labels are nearly all zeros, and shrink to nothing.
        for name, array in (("vol_labels", (sample.ids > 0).astype(np.float16)), ("vol_ids", sample.ids)):
            file.create_dataset(name, data=array, chunks=True, compression="gzip", compression_opts=1)
        for name, values in sample.geometry.items():
            file[name] = values


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """A full disk, said in words."""
    try:
        yield
    except OSError as error:
        raise DataError(f"Writing to {folder} failed: {error.strerror or error}. Nothing of it was kept.") from error
