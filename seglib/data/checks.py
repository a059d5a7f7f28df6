"""What is wrong with images and their labels, and what kind of labels they are. Pure functions."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.errors import DataError

ShapeZYX = tuple[int, int, int]
MAX_CLASSES = 256
_FEW = 10
_SURELY_CLASSES = 3


def size_text(shape_zyx: ShapeZYX) -> str:
    """“512 × 510” for one plane, “20 × 512 × 510” for more."""
    return " × ".join(map(str, shape_zyx if shape_zyx[0] != 1 else shape_zyx[1:]))


def shape_problem(image: str, image_zyx: ShapeZYX, label: str, label_zyx: ShapeZYX) -> str | None:
    """What to tell where a label file does not cover its image file; None where it does. Takes names and shapes."""
    if image_zyx == label_zyx:
        return None
    sizes = f"{label} is {size_text(label_zyx)} but {image} is {size_text(image_zyx)}"
    if image_zyx[1:] == label_zyx[1:]:
        return f"{sizes}: they need the same number of planes. Export the missing ones, or leave this pair out."
    return f"{sizes}: crop one of them, or leave this pair out."


def count_problem(images: Sequence[str], labels: Sequence[str]) -> str:
    """What to tell where images and labels (names in order) are not equally many."""
    text = f"There are {_files(len(images), 'image')} but {_files(len(labels), 'label')}"
    image_numbers, label_numbers = _last_numbers(images), _last_numbers(labels)
    alone = [name for number, name in image_numbers.items() if number not in label_numbers]
    alone += [name for number, name in label_numbers.items() if number not in image_numbers]
    # Where nothing matches, the numbers mean something else and naming files would mislead.
    if alone and len(alone) < len(image_numbers) + len(label_numbers):
        more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
        text += f"; without a partner: {', '.join(alone[:5])}{more}"
    return f"{text}. Add the missing files, or leave the others out."


def number_problem(images: Sequence[str], labels: Sequence[str]) -> str | None:
    """What to tell where paired names carry numbers that contradict each other (image 1 with label 2), else None."""
    wrong = [
        (image, label)
        for image, label in zip(images, labels, strict=True)
        if (a := set(_numbers(image))) and (b := set(_numbers(label))) and not a & b
    ]
    if not wrong or len(images) == 1:
        return None
    image, label = wrong[0]
    return (
        f"{label} would belong to {image}, but their numbers differ (so in {len(wrong)} of {len(images)} pairs). "
        "Rename the files so that an image and its labels have the same number."
    )


def whole_labels(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Labels of any dtype as unsigned integers of the same shape.

    Raises DataError, with an example, where a value is negative, a fraction or not a number.
    """
    if labels.dtype.kind == "u":
        return labels
    if labels.dtype.kind == "f":
        wrong = labels[~((labels == np.trunc(labels)) & (np.abs(labels) < 2.0**53))]
        if wrong.size:
            raise DataError(
                f"{name} has the label value {float(wrong[0]):g}, but labels are whole numbers (0 is background). "
                "If it is a probability map, threshold it; else save it as integers."
            )
    if labels.size and labels.min() < 0:
        raise DataError(
            f"{name} has the label value {int(labels.min())}, but labels are 0 (background) or more. "
            "Replace negative values by 0, or by a class of their own."
        )
    return labels.astype(np.uint64)


def count_values(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The different values of unsigned labels, ascending, and how many voxels have each."""
    if labels.dtype.itemsize <= 2:
        counts = np.bincount(labels.ravel())
        values = np.flatnonzero(counts)
        return values.astype(np.uint64), counts[values]
    values, counts = np.unique(labels, return_counts=True)
    return values.astype(np.uint64), counts


def pieces_per_value(plane_yx: NDArray[Any], at_most: int = 64) -> dict[int, int]:
    """In how many connected pieces (8-neighbours) each label value of a plane lies; background is left out.

    at_most: how many values to look at, spread evenly over those there are.
    """
    values, dense = np.unique(plane_yx, return_inverse=True)
    dense = dense.reshape(plane_yx.shape)
    boxes = ndimage.find_objects(dense + 1)
    foreground = np.flatnonzero(values != 0)
    chosen = foreground[:: max(1, -(-len(foreground) // at_most))]
    square = np.ones((3, 3), dtype=int)
    return {int(values[i]): int(ndimage.label(dense[boxes[i]] == i, square)[1]) for i in chosen}


def guess_label_kind(
    different: int, pieces: Sequence[Mapping[int, int]]
) -> tuple[Literal["classes", "instances"], str]:
    """Whether labels are classes or instances, and why, in words.

    different: how many different values there are, background not counted.
    pieces: for some planes, in how many pieces each value lies there.
    An object is one piece in nearly every plane, and there are many; a class lies in many pieces, and there are few.
    """
    seen = [count for plane in pieces for count in plane.values()]
    compact = sum(count == 1 for count in seen) / len(seen) if seen else 0.0
    facts = f"{different} different values, {compact:.0%} of them in one piece in a plane"
    if different > MAX_CLASSES:
        return "instances", f"{different:,} different values are too many for classes"
    if different <= _SURELY_CLASSES:
        return "classes", f"only {different} different value{'s' * (different != 1)}"
    needed = 0.8 if different <= _FEW else 0.5
    return ("instances", f"{facts}: separate objects") if compact >= needed else ("classes", f"{facts}: spread out")


def _files(count: int, kind: str) -> str:
    return f"{count} {kind} file{'s' * (count != 1)}"


def _numbers(name: str) -> list[str]:
    return [digits.lstrip("0") for digits in re.findall(r"[0-9]+", PurePosixPath(name).stem)]


def _last_numbers(names: Sequence[str]) -> dict[str, str]:
    return {numbers[-1]: name for name in names if (numbers := _numbers(name))}
