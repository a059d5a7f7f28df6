"""Labels to what the network learns: class ids 0 (background), 1 … K, and 255 where nothing was annotated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.borders import border_mask

_TABLE = 1 << 16


def learn(labels: NDArray[Any], scheme: LabelScheme, task: Task) -> NDArray[np.uint8]:
    """Class ids of the same shape as `labels`, (Z, Y, X) unsigned integers as they are stored.

    Under the task `foreground` every class or object is 1; under `classes` class k of the scheme is k, and for
    instances with borders objects are 1 and borders 2. IGNORE marks what was not annotated.
    Raises ConfigError where the scheme has nothing that the task could learn.
    """
    scheme.names(task)
    if scheme.kind == "classes":
        ids = {value: index for index, part in enumerate(scheme.classes, 1) for value in part.values}
        if task == "foreground":
            ids = dict.fromkeys(ids, 1)
        return _mapped(labels, ids | dict.fromkeys(scheme.ignore, IGNORE), others=0)
    background = dict.fromkeys(scheme.background, 0)
    result = _mapped(labels, background | dict.fromkeys(scheme.ignore, IGNORE), others=1)
    if task == "classes" and scheme.borders:
        objects = np.where(result == 1, labels, 0) if set(scheme.background) | set(scheme.ignore) != {0} else labels
        # Id 0 is an object where the scheme has another background.
        if 0 not in scheme.background and 0 not in scheme.ignore:
            objects = np.where(result == 1, labels.astype(np.uint64) + 1, 0)
        result[border_mask(objects, scheme.borders) & (result != IGNORE)] = 2
    return result


def margin(scheme: LabelScheme) -> int:
    """How many voxels beside a window are needed so that `learn` gives in it what it gives in the whole."""
    return scheme.borders.width if scheme.kind == "instances" and scheme.borders else 0


def _mapped(labels: NDArray[Any], ids: dict[int, int], *, others: int) -> NDArray[np.uint8]:
    """Each value's id; values not listed get `others`."""
    largest = int(labels.max(initial=0))
    if largest < _TABLE:
        table = np.full(largest + 1, others, np.uint8)
        for value, index in ids.items():
            if value <= largest:
                table[value] = index
        return table[labels]
    if not ids:
        return np.full(labels.shape, others, np.uint8)
    known = np.array(sorted(ids), np.uint64)
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    found = known[place] == labels
    return np.where(found, np.array([ids[int(value)] for value in known], np.uint8)[place], np.uint8(others))
