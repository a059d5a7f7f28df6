"""How a volume is looked at by trained runs: on which grid, in which windows, by how many networks and copies."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seglib.config import PredictConfig
from seglib.data.splits import Shape
from seglib.data.volumes import Array, Volume, VoxelSize, open_volume, voxel_text
from seglib.errors import ConfigError
from seglib.inference.ensemble import Ensemble, variations_of
from seglib.inference.layouts import fastest_layout
from seglib.inference.resample import Resampled, other_grid
from seglib.inference.tiles import Tiling, fitting_tile, plan_tiles
from seglib.inference.windows import Windows, choose_windows, mixes_window
from seglib.store import Store
from seglib.store.datasets import VolumeRow
from seglib.tasks.trained import (
    TrainedModel,
    bytes_per_voxel,
    check_alike,
    checkpoint_row,
    load_model,
    trained_checkpoint,
)
from seglib.tasks.written import Kind
from seglib.workspace import Workspace

# What volumes have that do not tell how large their voxels are.
UNKNOWN_NM = (1.0, 1.0, 1.0)
# How many windows there have to be.
WORTH_A_TRIAL = 20


@dataclass(frozen=True)
class Job:
    """A prediction about to be made.

    grid: shape (z, y, x) of what the network sees; bytes_per_voxel: of memory its windows take.
    key: of all that decides its probabilities, see `Kept`.
    notes: what there is to say of it.
    """

    config: PredictConfig
    ensemble: Ensemble
    models: tuple[TrainedModel, ...]
    volume: Volume
    grid: Shape
    windows: Windows
    bytes_per_voxel: float
    key: str
    notes: tuple[str, ...]

    @property
    def image(self) -> Array:
        """The image as the network sees it, raw."""
        resampled = self.grid != self.volume.shape_zyx
        return Resampled(self.volume.image, self.grid) if resampled else self.volume.image

    @property
    def tiling(self) -> Tiling:
        """How it is cut."""
        blending = self.config.tiles.blending
        stride, margins = _stride(self.models), self.windows.margins
        return plan_tiles(self.grid, self.windows.tile, stride, margins, blending=blending, mirrored=True)

    @property
    def grid_voxel_size_nm(self) -> VoxelSize:
        """Size (z, y, x) of a voxel of the grid."""
        sides = zip(self.volume.voxel_size_nm, self.volume.shape_zyx, self.grid, strict=True)
        z, y, x = (size * own / seen for size, own, seen in sides)
        return z, y, x

    @property
    def classes(self) -> int:
        """How many foreground classes there are."""
        return len(self.models[0].names)

    @property
    def kind(self) -> Kind:
        """What probabilities are kept as while labels are made of them."""
        return "float16" if self.config.keep == "float16" else "uint8"


def prepare_job(workspace: Workspace, store: Store, row: VolumeRow, config: PredictConfig) -> Job:
    """Loads the runs of a prediction and decides how the volume is looked at.

    Raises CheckpointError where a run has no usable checkpoint, ConfigError where runs or volume do not fit.
    """
    runs = (config.run, *config.ensemble.runs)
    wanted = (config.checkpoint, *["best"] * len(config.ensemble.runs))
    loaded = [trained_checkpoint(workspace, store, *of) for of in zip(runs, wanted, strict=True)]
    models = tuple(load_model(checkpoint, config) for checkpoint in loaded)
    check_alike(models, runs)
    volume = open_volume(workspace.volume(row.id))
    first = models[0]
    expected = first.predictor.normalisation.image_channels
    if volume.channels != expected:
        raise ConfigError(f"The volume has {volume.channels} channel(s); the network was trained on {expected}.")
    grid, notes = _grid(volume, first, config)
    device = first.predictor.device
    need = max(bytes_per_voxel(checkpoint, device, config.compute.precision) for checkpoint in loaded)
    mixing = next((model for model in models if mixes_window(model.predictor.network)), first)
    windows = choose_windows(
        config.tiles,
        grid,
        network=mixing.predictor.network,
        patch=first.tile,
        stride=_stride(models),
        bytes_per_voxel=need,
        device=device,
    )
    ensemble = _ensemble(config, models, windows)
    notes += [*windows.notes, *_looks(config, ensemble)]
    files = [checkpoint_row(store, *of).sha256 for of in zip(runs, wanted, strict=True)]
    decides = config.model_dump(mode="json", exclude={"cleaning", "surfaces", "compute"})
    decides |= {"compute": {"precision": config.compute.precision}, "files": files, "data": row.fingerprint}
    decides |= {"tile": windows.tile, "device": first.predictor.device.type}
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Job(config, ensemble, models, volume, grid, windows, need, key, tuple(notes))


def arranged(job: Job) -> Job:
    """The job with its networks in the layout that is faster, where there is enough to predict for a trial to pay."""
    windows, first = job.windows, job.models[0]
    trial = fitting_tile(windows.tile, first.tile, _stride(job.models))
    if math.prod(job.grid) < WORTH_A_TRIAL * math.prod(trial):
        return job
    models = tuple(replace(model, predictor=fastest_layout(model.predictor, trial)) for model in job.models)
    return replace(job, models=models, ensemble=_ensemble(job.config, models, windows))


def _ensemble(config: PredictConfig, models: Sequence[TrainedModel], windows: Windows) -> Ensemble:
    _, height, width = windows.tile
    stride = _stride(models)
    square = stride[1] == stride[2] and (height == width or not mixes_window(models[0].predictor.network))
    variations = variations_of(config.ensemble.variations, deep=windows.tile[0] > 1, square=square)
    spread = config.ensemble.uncertainty == "disagreement"
    if spread and len(models) * len(variations) == 1:
        raise ConfigError(
            "Disagreement takes several runs or test-time augmentation: add one of them, or choose entropy."
        )
    return Ensemble([model.predictor for model in models], variations, config.ensemble.merging, spread)


def _looks(config: PredictConfig, ensemble: Ensemble) -> list[str]:
    """What to say of runs and copies."""
    notes, runs, copies = [], len(ensemble.predictors), len(ensemble.variations)
    if runs * copies > 1:
        merged = {"mean": "mean", "min": "smallest", "max": "largest"}[config.ensemble.merging]
        notes.append(
            f"Every window is looked at {runs * copies} times ({runs} run(s), {copies} copies): the {merged} counts."
        )
    if config.ensemble.variations == "flips_turns" and not any(turned for _, turned in ensemble.variations):
        notes.append("Windows that are not square cannot be turned: only flips are looked at.")
    return notes


def _grid(volume: Volume, model: TrainedModel, config: PredictConfig) -> tuple[Shape, list[str]]:
    """The grid the network sees a volume on, and what to say of it."""
    own, known = volume.voxel_size_nm, model.voxel_size_nm
    if UNKNOWN_NM in (own, known):
        return volume.shape_zyx, []
    other = other_grid(volume.shape_zyx, own, known, flat=model.flat)
    if other is None:
        return volume.shape_zyx, []
    sizes = f"{voxel_text(own, ' × ')} nm, the run was trained at {voxel_text(known, ' × ')} nm"
    if not config.resample:
        return volume.shape_zyx, [f"Voxels are {sizes}. They are predicted as they are: objects look another size."]
    shape = " × ".join(map(str, other))
    return other, [f"Voxels are {sizes}: the volume is predicted at that size ({shape} voxels) and brought back."]


def _stride(models: Sequence[TrainedModel]) -> Shape:
    """What tile sides must be multiples of for all of them."""
    z, y, x = (math.lcm(*sides) for sides in zip(*(model.predictor.stride for model in models), strict=True))
    return z, y, x


def thresholds_of(job: Job) -> tuple[float, ...]:
    """Probability each class needs: as asked for, else what was best on the runs' validation parts, on average.

    Raises ConfigError where there are neither one nor as many as classes.
    """
    asked = job.config.cleaning.thresholds
    if len(asked) not in (0, 1, job.classes):
        raise ConfigError(
            f"{len(asked)} thresholds are given for {job.classes} classes: give one for all, or one each."
        )
    if asked:
        return asked if len(asked) == job.classes else asked * job.classes
    return tuple(float(np.mean(values)) for values in zip(*(model.thresholds for model in job.models), strict=True))
