"""Borders between instances, as a class that keeps touching objects apart.

Distances are chessboard distances in voxels: within `width` of a voxel lie those at most `width` steps away along
every axis. A voxel is contested where voxels of two or more different objects lie within `width` of it.

- `touching`: contested voxels, of objects or of background (Ronneberger et al. 2015 weight the same places).
- `all`: those, and background within `width` of any object, so that every object has a rim (Ciresan et al. 2012 learn
  such membranes).
- `planes`: contested within a plane: each object is grown by `width` in every plane by itself, and what two or more
  claim is border. This is the recipe of the axon notebooks.

Without its border voxels no two different objects share a face (under `planes`: a side within a plane).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.config.labels import Borders


def border_mask(objects: NDArray[Any], borders: Borders) -> NDArray[np.bool_]:
    """Which voxels are border. objects: unsigned integers (Z, Y, X), 0 is no object."""
    if objects.dtype.itemsize == 8:
        # The filters count in float64, which does not tell such ids apart.
        values, places = np.unique(objects, return_inverse=True)
        objects = (places.reshape(objects.shape) + int(values[0] != 0)).astype(np.uint32)
    reach = (0 if borders.kind == "planes" else borders.width, borders.width, borders.width)
    highest = _extreme(objects, reach, ndimage.maximum_filter1d)
    # Background must not count as the smallest id.
    top = np.iinfo(objects.dtype).max
    lowest = _extreme(np.where(objects == 0, top, objects), reach, ndimage.minimum_filter1d)
    contested: NDArray[np.bool_] = (highest != lowest) & (highest > 0)
    if borders.kind == "all":
        contested |= (objects == 0) & (highest > 0)
    return contested


def _extreme(values: NDArray[Any], reach: tuple[int, int, int], filter1d: Any) -> NDArray[Any]:
    for axis, distance in enumerate(reach):
        if distance:
            values = filter1d(values, 2 * distance + 1, axis=axis, mode="nearest")
    return values
