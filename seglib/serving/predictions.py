"""What a prediction is looked at as, beside its labels: other thresholds, and where it differs from the labels.

Everything is worked out for the planes that are looked at; nothing is kept.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.palette import PALETTE
from seglib.data.volumes import TRUTH, Array, fitting_uint, open_labels
from seglib.errors import DataError
from seglib.export.sources import PREDICTION, PROBABILITIES, open_layer
from seglib.inference.deciding import class_table, decide
from seglib.serving.classes import ClassesView

if TYPE_CHECKING:
    from seglib.tasks.written import Result

THOUSAND = 1000
# Voxels that are decided at once.
AT_ONCE = 2**20
HIT, MISS, FALSE_ALARM = 1, 2, 3
# Of Okabe and Ito's colours the three that are furthest apart for every kind of colour blindness and from grey.
DIFFERENCE = {HIT: ("hit", "#0072b2"), MISS: ("miss", "#f0e442"), FALSE_ALARM: ("false alarm", "#d55e00")}
_DECIDED = re.compile(r"decided((?:-[1-9][0-9]{0,2})+)")


def decided_layer(thresholds: Sequence[float]) -> str:
    """Name of the layer that shows the labels of these thresholds (0–1), in thousandths: `decided-450-300`."""
    steps = (min(THOUSAND - 1, max(1, round(THOUSAND * threshold))) for threshold in thresholds)
    return "-".join(["decided", *map(str, steps)])


def asked_thresholds(layer: str) -> tuple[float, ...] | None:
    """The thresholds of a layer's name, see `decided_layer`; None of a name of another kind."""
    found = _DECIDED.fullmatch(layer)
    return tuple(int(step) / THOUSAND for step in found[1].split("-")[1:]) if found else None


def difference_palette() -> NDArray[np.uint8]:
    """uint8 (256, 3): the colours of hits, misses and false alarms."""
    palette = PALETTE.copy()
    for value, (_, colour) in DIFFERENCE.items():
        palette[value] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return palette


class DecidedView:
    """The labels other thresholds would give, sliced like an array (Z, Y, X), before any clean-up.

    folder: of a finished prediction that kept probabilities; thresholds: 0–1, one of all classes or one each.
    Raises DataError where there are no probabilities, or not as many thresholds as classes.
    """

    def __init__(self, folder: Path, thresholds: Sequence[float]) -> None:
        self._result, self._probabilities = result_of(folder), open_layer(folder, PROBABILITIES).array
        values = self._result.values
        if len(thresholds) not in (1, len(values)):
            raise DataError(f"{len(thresholds)} thresholds were asked for; the prediction has {len(values)} classes.")
        self._thresholds = tuple(thresholds) * (len(values) if len(thresholds) == 1 else 1)
        self._table = np.array([0, *values], fitting_uint(max(values)))
        self.shape: tuple[int, ...] = tuple(self._probabilities.shape[1:])
        self.dtype: np.dtype[Any] = self._table.dtype
        self.chunks: tuple[int, ...] = tuple(getattr(self._probabilities, "chunks", self._probabilities.shape))[1:]
        self.bytes_per_voxel = len(values) * self._probabilities.dtype.itemsize + self.dtype.itemsize

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[Any]:
        from seglib.tasks.written import decoded

        kept = np.asarray(self._probabilities[(slice(None), *window)])
        flat = kept.reshape(len(kept), -1)
        ids = np.empty(flat.shape[1], np.uint8)
        for start in range(0, len(ids), AT_ONCE):
            part = decoded(flat[:, start : start + AT_ONCE])
            ids[start : start + AT_ONCE] = decide(part, self._result.activation, self._thresholds)
        return self._table[ids].reshape(kept.shape[1:])


class DifferenceView:
    """Where a prediction and the labels of its volume agree, sliced like an array (Z, Y, X): uint8.

    1 hit, 2 miss (a labelled class that was not found, or taken for another), 3 false alarm; 0 elsewhere and where
    nothing was annotated.
    folder: of a finished prediction; volume: folder of what it was made from; scheme: how its labels are read.
    Raises DataError where the two cannot be compared, ConfigError where the labels have no such classes.
    """

    def __init__(self, folder: Path, volume: Path, scheme: LabelScheme) -> None:
        result = result_of(folder)
        # As it was learned: a run of the foreground knows no other classes.
        task: Task = "foreground" if result.names == ("foreground",) else "classes"
        self._found, truth = open_labels(folder / "labels.zarr", PREDICTION), open_labels(volume, TRUTH)
        if truth.shape != self._found.shape:
            raise DataError("The prediction was made from a volume of another size: predict again.")
        self._truth: Array = ClassesView(truth, scheme, task)
        self._known = class_table(scheme.names(task), result.names)
        if not self._known[:IGNORE].any():
            raise DataError("The labels of this volume have other classes than the run learned.")
        self._ids = np.zeros(max(result.values) + 1, np.uint8)
        self._ids[list(result.values)] = np.arange(1, len(result.values) + 1)
        self.shape: tuple[int, ...] = tuple(self._found.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.chunks: tuple[int, ...] = tuple(self._found.chunks)
        self.bytes_per_voxel = 4 + self._found.dtype.itemsize + truth.dtype.itemsize

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[np.uint8]:
        found, real = self._ids[np.asarray(self._found[window])], self._known[self._truth[window]]
        kinds = np.where(real > 0, np.where(found == real, HIT, MISS), np.where(found > 0, FALSE_ALARM, 0))
        kinds[real == IGNORE] = 0
        return kinds.astype(np.uint8)


def result_of(folder: Path) -> "Result":
    """What a finished prediction says of itself. Raises DataError where it says nothing."""
    from seglib.tasks.written import kept_result

    found = kept_result(folder)
    if found is None:
        raise DataError("This prediction is not over, or older than what can be shown of it: predict again.")
    return found


def comparable(names: Sequence[str], scheme: LabelScheme) -> bool:
    """Whether labels read by a scheme can be compared with a prediction of classes of these names."""
    if scheme.kind == "none":
        return False
    if tuple(names) == ("foreground",):
        return True
    several = (scheme.kind == "classes" and bool(scheme.classes)) or scheme.borders is not None
    return several and bool(class_table(scheme.names("classes"), names)[:IGNORE].any())
