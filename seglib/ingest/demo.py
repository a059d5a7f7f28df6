"""The synthetic demo data set."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import LabelScheme
from seglib.data.synthetic import demo_volumes
from seglib.data.volumes import (
    TRUTH,
    contrast_of,
    create_labels,
    create_volume,
    fitting_uint,
    set_contrast,
)
from seglib.ingest.importing import commit
from seglib.ingest.staging import StagedVolume
from seglib.store import Store
from seglib.store.datasets import NewVolume
from seglib.training.advice import DEMO_NAME
from seglib.workspace import Workspace

_VOXEL_NM = (400.0, 200.0, 200.0)


def make_demo(workspace: Workspace, store: Store, *, seed: int = 0) -> int:
    """Makes the data set “Demo cells” (four volumes with instances) and returns its id."""
    with workspace.scratch() as scratch:
        volumes = [
            _write(scratch, index, image_zyx, labels_zyx)
            for index, (image_zyx, labels_zyx) in enumerate(demo_volumes(seed=seed))
        ]
        counts: Counter[int] = Counter()
        for volume in volumes:
            counts.update(volume.row.label_counts or {})
        labels = LabelScheme(kind="instances")
        return commit(workspace, store, scratch, name=DEMO_NAME, labels=labels, counts=dict(counts), volumes=volumes)


def _write(scratch: Path, index: int, image_zyx: NDArray[np.uint8], labels_zyx: NDArray[np.uint16]) -> StagedVolume:
    z, y, x = image_zyx.shape
    path, name, cells = scratch / f"{index}.zarr", f"{DEMO_NAME} {index + 1}", int(labels_zyx.max())
    shape = (1, z, y, x)
    image = create_volume(path, name=name, shape_czyx=shape, dtype=np.uint8, voxel_size_nm=_VOXEL_NM)
    image[:] = image_zyx[None]
    labels = create_labels(path, TRUTH, shape_zyx=(z, y, x), dtype=fitting_uint(cells), voxel_size_nm=_VOXEL_NM)
    labels[:] = labels_zyx.astype(labels.dtype)
    contrast = contrast_of(image_zyx)
    set_contrast(path, contrast)
    row = NewVolume(
        name=name,
        group=name,
        shape_czyx=shape,
        dtype="uint8",
        voxel_size_nm=_VOXEL_NM,
        has_labels=True,
        label_counts=dict(enumerate(np.bincount(labels_zyx.ravel()).tolist())),
        objects=cells,
        contrast=contrast,
        fingerprint=hashlib.sha256(image_zyx.tobytes() + labels_zyx.tobytes()).hexdigest(),
    )
    return StagedVolume(index, row, None)
