"""What a prediction would do, said before it is queued: how it looks at a volume, and what it takes."""

import math
from dataclasses import dataclass

from seglib.config import PredictConfig
from seglib.errors import SeglibError
from seglib.store import Store
from seglib.store.datasets import VolumeRow
from seglib.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """One volume's prediction to be.

    tiles: windows in all; window: their size (z, y, x) in voxels; looks: how often each is looked at.
    memory_bytes: about what the network takes for the windows computed at once; disk_bytes: at most, on disk.
    notes: what there is to say of it. problem: why it would fail; then the numbers are 0.
    """

    tiles: int = 0
    window: tuple[int, int, int] = (0, 0, 0)
    looks: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    device: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""


def forecast_prediction(workspace: Workspace, store: Store, volume: VolumeRow, config: PredictConfig) -> Forecast:
    """Loads the runs of a prediction and plans it as the job will, without reading a voxel. Takes up to seconds."""
    from seglib.inference.sweep import tiles_of
    from seglib.tasks.looking import prepare_job, thresholds_of

    try:
        job = prepare_job(workspace, store, volume, config)
        thresholds_of(job)
    except SeglibError as error:
        return Forecast(problem=str(error))
    device = job.ensemble.device
    voxels, window = math.prod(volume.shape_zyx), job.windows.tile
    kept = {"classes": 0, "uint8": job.classes, "float16": 2 * job.classes}[config.keep]
    tiles = tiles_of(job.tiling, job.volume.channels, device)
    return Forecast(
        tiles=tiles,
        window=window,
        looks=len(job.ensemble.predictors) * len(job.ensemble.variations),
        memory_bytes=int(job.bytes_per_voxel * math.prod(window) * min(tiles, job.windows.batch_size)),
        disk_bytes=voxels * (1 + kept + (config.ensemble.uncertainty != "none")),
        device=str(device),
        notes=job.notes,
    )
