"""What runs have to show side by side: their preview crops, and where their settings differ."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seglib.data.volumes import VoxelSize, open_volume
from seglib.workspace import Workspace


@dataclass(frozen=True)
class PreviewFacts:
    """A preview crop. version: the same for crops of the same voxels of image and labels."""

    shape_zyx: tuple[int, int, int]
    voxel_size_nm: VoxelSize
    version: str


@functools.lru_cache(maxsize=256)
def preview_facts(workspace: Workspace, run_id: int) -> PreviewFacts:
    """The preview crop of a run, which never changes once it is there. Raises DataError where it has none yet."""
    volume = open_volume(workspace.preview(run_id))
    digest = hashlib.sha256(np.ascontiguousarray(volume.image[:]).tobytes())
    assert volume.labels is not None
    digest.update(np.ascontiguousarray(volume.labels[:]).tobytes())
    return PreviewFacts(volume.shape_zyx, volume.voxel_size_nm, digest.hexdigest()[:12])


def flatten(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A nested config as one level, `model.depth` -> value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        flat |= flatten(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def differing(configs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of the flattened settings that are not the same in all configs; a missing one differs."""
    flat = [flatten(config) for config in configs]
    names = {name for one in flat for name in one}
    return {name for name in names if len({repr(one.get(name, "—")) for one in flat}) > 1}
