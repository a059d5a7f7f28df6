"""The labels of a volume as its data set reads them, worked out for the planes that are looked at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.palette import PALETTE
from seglib.data.targets import learn, margin
from seglib.data.volumes import Array

CLASSES = "classes"
_GREY = (150, 150, 150)


class ClassesView:
    """Class ids of a label array, sliced like it: uint8 (Z, Y, X), 0 background, 1 … K, 255 not annotated.

    task: under which the classes are read; by default the one that shows most, see `task_of`.
    """

    def __init__(self, labels: Array, scheme: LabelScheme, task: Task | None = None) -> None:
        self._labels, self._scheme, self._task = labels, scheme, task or task_of(scheme)
        self.shape: tuple[int, ...] = tuple(labels.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.chunks: tuple[int, ...] = tuple(getattr(labels, "chunks", labels.shape))

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[np.uint8]:
        # Borders depend on what lies beside them, so a little more is read and cut off again.
        more = margin(self._scheme)
        inner = [slice(*part.indices(side)[:2]) for part, side in zip(window, self.shape, strict=True)]
        outer = tuple(
            slice(max(0, p.start - more), min(s, p.stop + more)) for p, s in zip(inner, self.shape, strict=True)
        )
        ids = learn(np.asarray(self._labels[outer]), self._scheme, self._task)
        return ids[tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(inner, outer, strict=True))]


def task_of(scheme: LabelScheme) -> Task:
    """The task under which a scheme shows most: its classes, or objects and borders, else the foreground."""
    several = scheme.kind == "classes" or (scheme.kind == "instances" and scheme.borders is not None)
    return "classes" if several else "foreground"


def palette_of(scheme: LabelScheme) -> NDArray[np.uint8]:
    """uint8 (256, 3): the colours of class ids; grey for what was not annotated."""
    palette = PALETTE.copy()
    for index, colour in enumerate(scheme.colours(task_of(scheme)), start=1):
        if colour:
            palette[index] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    palette[IGNORE] = _GREY
    return palette


def colours_of(scheme: LabelScheme) -> dict[int, tuple[str, str]]:
    """Class id -> name and colour (#rrggbb), 255 included where a value means not annotated."""
    palette, names = palette_of(scheme), scheme.names(task_of(scheme))
    shown = {index: (name, "#" + palette[index].tobytes().hex()) for index, name in enumerate(names, start=1)}
    if scheme.ignore:
        shown[IGNORE] = ("not annotated", "#" + palette[IGNORE].tobytes().hex())
    return shown
