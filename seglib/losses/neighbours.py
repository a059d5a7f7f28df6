"""The highest and lowest values around each voxel, of which rings and skeletons are made."""

import torch.nn.functional as F
from torch import Tensor

_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def highest_in_box(values: Tensor, reach: int) -> Tensor:
    """The largest value up to `reach` voxels away along every axis; (N, K, *space) as it came."""
    for axis in _axes(values):
        values = _highest_along(values, axis, reach)
    return values


def lowest_in_cross(values: Tensor) -> Tensor:
    """The smallest value of each voxel and its face neighbours; (N, K, *space) as it came."""
    turned = -values
    highest = turned
    for axis in _axes(values):
        highest = highest.maximum(_highest_along(turned, axis, 1))
    return -highest


def _axes(values: Tensor) -> list[int]:
    """Axes of space along which there are neighbours."""
    return [axis for axis in range(values.ndim - 2) if values.shape[axis + 2] > 1]


def _highest_along(values: Tensor, axis: int, reach: int) -> Tensor:
    dims = values.ndim - 2
    reaches = [reach if one == axis else 0 for one in range(dims)]
    return _POOLS[dims](values, [2 * one + 1 for one in reaches], 1, reaches)
