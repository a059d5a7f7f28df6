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
    table = np.full(max(int(labels.max(initial=0)), *values, 0) + 1, MOST_CLASSES + 1, np.uint16)
    table[0] = 0
    table[list(values)] = np.arange(1, len(values) + 1)
    result = table[labels]
    if result.max(initial=0) > MOST_CLASSES:
        unknown = int(labels[result > MOST_CLASSES].flat[0])
        raise DataError(f"Label value {unknown} is not among the classes of the data set ({list(values)}).")
    return result.astype(np.uint8)
