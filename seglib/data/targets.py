"""Labels to what the network learns: class ids 0 (background), 1 … K."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError

MOST_CLASSES = 255


def class_ids(labels: NDArray[Any], task: Literal["foreground", "classes"], values: Sequence[int]) -> NDArray[np.uint8]:
    """Class ids of the same shape as `labels`.

    labels: unsigned integers, 0 is background.
    task: `foreground` makes every label 1; `classes` makes `values[k]` k + 1.
    Raises DataError where a label value is not among `values`, or where there are more than 255.
    """
    if task == "foreground":
        return (labels > 0).astype(np.uint8)
    if len(values) > MOST_CLASSES:
        raise DataError(
            f"There are {len(values)} label values, and at most {MOST_CLASSES} classes: "
            "if the values are ids of single objects, mark the labels as instances."
        )
    known = np.array(sorted({0, *values}))
    ids = np.array([0 if value == 0 else list(values).index(value) + 1 for value in known])
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    result = np.where(known[place] == labels, ids[place], MOST_CLASSES + 1)
    if result.max(initial=0) > MOST_CLASSES:
        unknown = int(labels[result > MOST_CLASSES].flat[0])
        raise DataError(f"Label value {unknown} is not among the classes of the data set ({list(values)}).")
    return result.astype(np.uint8)
