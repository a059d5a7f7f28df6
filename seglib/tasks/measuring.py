"""What a prediction is worth: it is compared with the labels of its volume, where there are some."""

import math
from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from seglib.config import RunConfig
from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.splits import Member, Region, split_data
from seglib.data.targets import learn, margin
from seglib.data.volumes import Array, Volume, VoxelSize
from seglib.errors import ConfigError
from seglib.events import Event, Measured, Note
from seglib.inference.deciding import class_table
from seglib.metrics.contingency import count_pairs
from seglib.metrics.instances import count_instances, instance_scores
from seglib.metrics.overlap import absent, count_confusion, no_confusion, overlap_scores
from seglib.metrics.surfaces import measure_surfaces, surface_scores
from seglib.store import Store
from seglib.store.datasets import VolumeRow, get_dataset, get_summary
from seglib.tasks.trained import TrainedModel
from seglib.training.advice import learned_volumes

# Objects and surfaces are looked at with the whole volume in memory, so of larger ones they are not.
MOST_VOXELS = 400_000_000


class Comparison:
    """Counts a prediction against a volume's labels while it is written.

    truth: (Z, Y, X) raw labels; scheme: how they are read; task: of the run; size: of a voxel (z, y, x), nm.
    Classes are compared by their names, or as they come where there is one on both sides; voxels that were not
    annotated are left out.
    """

    def __init__(self, truth: Array, scheme: LabelScheme, task: Task, model: TrainedModel, size: VoxelSize) -> None:
        self._truth, self._scheme, self._task, self._model = truth, scheme, task, model
        self._voxel_size_nm = size
        # Class id of the labels -> class id of the model.
        self._ids = class_table(scheme.names(task), model.names)
        self.comparable = bool(self._ids[:IGNORE].any())
        self._confusion = no_confusion(len(model.values))

    def add(self, z: int, planes: NDArray[Any]) -> None:
        """Adds planes z … of predicted label values (dz, Y, X)."""
        classes = len(self._model.values)
        real = self._real(z, z + len(planes))
        self._confusion += count_confusion(self._table()[planes], real, classes)

    @property
    def extent(self) -> str:
        """What the scores are over, in words."""
        return "all annotated voxels of the volume" if self._scheme.ignore else "the whole volume"

    def measured(self, made: Array, *, surfaces: bool) -> Iterator[Event]:
        """What was found, once all planes were added.

        made: (Z, Y, X) the predicted label values; surfaces: measure distances between surfaces as well.
        """
        names = self._model.names
        scores = overlap_scores(self._confusion, names)
        details = {
            "names": list(names),
            "confusion": self._confusion.table.tolist(),
            "absent": list(absent(self._confusion.counts, names)),
        }
        objects = self._scheme.kind == "instances"
        if (surfaces or objects) and math.prod(made.shape) > MOST_VOXELS:
            yield Note("Objects and surfaces were not measured: the volume is too large to be looked at at once.")
        else:
            found, truth = self._table()[made[:]], self._real(0, made.shape[0])
            if surfaces:
                scores |= self._surface_scores(found, truth)
            if objects:
                scores |= self._object_scores(found, truth)
                yield Note(
                    "Objects are pieces of foreground that hang together; they are matched with the labelled ones."
                )
        yield Measured(scores, details)

    def _table(self) -> NDArray[np.uint8]:
        """Class id by predicted label value."""
        table = np.zeros(max(self._model.values) + 1, np.uint8)
        table[list(self._model.values)] = np.arange(1, len(self._model.values) + 1)
        return table

    def _real(self, first: int, last: int) -> NDArray[np.uint8]:
        """The class ids of the labels in planes first … last − 1, as the model counts them."""
        more, depth = margin(self._scheme), self._truth.shape[0]
        low, high = max(0, first - more), min(depth, last + more)
        ids = learn(np.asarray(self._truth[low:high]), self._scheme, self._task)
        return self._ids[ids[first - low : last - low]]

    def _surface_scores(self, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
        names, size = self._model.names, self._voxel_size_nm
        surfaces = measure_surfaces(found, truth, len(names), voxel_size_nm=size)
        return surface_scores(surfaces, names, tolerance_nm=max(size))

    def _object_scores(self, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
        """Scores of whole objects, each under `objects/…`; class 1 is what objects are made of."""
        pieces = cc3d.connected_components(found == 1, connectivity=6)
        labels = np.asarray(self._truth[:])
        nothing = np.isin(labels, self._scheme.background)
        # Id 0 is an object where the scheme has another background.
        ids = np.where(nothing, 0, labels.astype(np.uint64) + 1)
        table = count_pairs(ids, pieces, ignore=truth == IGNORE)
        return {f"objects/{name}": value for name, value in instance_scores(count_instances(table)).items()}


def find_comparison(
    store: Store, row: VolumeRow, volume: Volume, config: RunConfig, model: TrainedModel
) -> Comparison | None:
    """What a prediction is measured against: the labels as the run read them, or as their own data set does."""
    if volume.labels is None:
        return None
    own = row.dataset_id == config.data.dataset
    scheme = config.data.scheme if own else get_summary(store, row.dataset_id).labels
    try:
        comparison = Comparison(volume.labels, scheme, config.data.task, model, volume.voxel_size_nm)
    except ConfigError:  # labels of another kind than the run learned
        return None
    return comparison if comparison.comparable else None


def seen_in_training(store: Store, volume: VolumeRow, config: RunConfig) -> str:
    """A sentence that says whether the run learned from the volume, so that scores are not taken for more."""
    if volume.dataset_id != config.data.dataset:
        return "The run has never seen this volume."
    learned = learned_volumes(get_dataset(store, config.data.dataset), config)
    members = [Member(row.name, row.shape_zyx, row.group) for row in learned]
    split = split_data(members, config.split, config.length.seed)

    def holds(regions: tuple[Region, ...]) -> bool:
        return any(learned[region.volume].id == volume.id for region in regions)

    if holds(split.training) and holds(split.validation):
        return "The run learned from one part of this volume and chose its best checkpoint on the other."
    if holds(split.training):
        return "The run learned from this volume, so they say little about new data."
    if holds(split.validation):
        return "The run chose its best checkpoint on this volume, but did not learn from it."
    return "The run has never seen this volume: it was kept for the end."
