"""A prediction with labels, probabilities and uncertainty over a small volume."""

from collections.abc import Callable

import numpy as np
import pytest
import zarr

from seglib.data.pyramids import layer_writer, levels_of
from seglib.data.volumes import create_labels, create_volume, image_description, scales_of

VOXEL_NM = (40.0, 8.0, 4.0)
RUN, VOLUME = 7, 3


def write_image(path, values, names=()):
    """An OME-Zarr image (C, Z, Y, X) with pyramid levels and names of channels, as predictions have them."""
    levels = levels_of(values.shape[1:], VOXEL_NM)
    group = zarr.create_group(store=str(path), zarr_format=3)
    windows = [(0.0, 255.0)] * len(values)
    scales = [(1.0, *scale) for scale in scales_of(levels, VOXEL_NM)]
    group.attrs.update(image_description(name="one", scales=scales, windows=windows, channel_names=names))
    with layer_writer(group, levels, channels=len(values), dtype=values.dtype, average=True) as writer:
        writer.write(values)


@pytest.fixture
def predicted(workspace) -> Callable[..., dict[str, np.ndarray]]:
    """Writes prediction 7 of volume 3 and returns its layers as arrays."""

    def make(shape=(5, 24, 31), labels="uint8", probabilities="uint8", classes=2) -> dict[str, np.ndarray]:
        random = np.random.default_rng(1)
        most = min(np.iinfo(labels).max, 100_000)
        values = {
            "labels": random.integers(0, most, shape, labels, endpoint=True),
            "probabilities": random.random((classes, *shape)).astype(np.float16)
            if probabilities == "float16"
            else random.integers(0, 256, (classes, *shape)).astype(probabilities),
            "uncertainty": random.integers(0, 256, (1, *shape)).astype(np.uint8),
            "image": random.integers(0, 256, (1, *shape)).astype(np.uint8),
        }
        folder = workspace.prediction(RUN)
        folder.mkdir()
        made = create_labels(
            folder / "labels.zarr", "prediction", shape_zyx=shape, dtype=labels, voxel_size_nm=VOXEL_NM
        )
        made[:] = values["labels"]
        names = [f"class {number}" for number in range(1, classes + 1)]
        write_image(folder / "probabilities.zarr", values["probabilities"], names)
        write_image(folder / "uncertainty.zarr", values["uncertainty"])
        image = create_volume(
            workspace.volume(VOLUME), name="one", shape_czyx=(1, *shape), dtype="uint8", voxel_size_nm=VOXEL_NM
        )
        image[:] = values["image"]
        return values

    return make
