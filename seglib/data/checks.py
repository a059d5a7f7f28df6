"""What is wrong with images and their labels, and what kind of labels they are. Pure functions."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.errors import DataError

ShapeZYX = tuple[int, int, int]
MAX_CLASSES = 254
# Added to the code of a colour, so that no colour is taken for a grey value.
COLOUR = 1 << 24
_FEW = 10
_SURELY_CLASSES = 3
# Below this, counting in a table is quicker than sorting.
_COUNTABLE = 1 << 21


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


def number_note(images: Sequence[str], labels: Sequence[str]) -> str | None:
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
        "If that is wrong, correct the pairs, or rename the files so that an image and its labels have the same number."
    )


def is_series(names: Sequence[str]) -> bool:
    """Whether names differ in one number only and the numbers (nearly) follow each other, as those of sections do."""
    split = [re.split(r"([0-9]+)", PurePosixPath(name).stem) for name in names]
    if len({len(parts) for parts in split}) != 1:
        return False
    changing = [place for place, values in enumerate(zip(*split, strict=True)) if len(set(values)) > 1]
    if len(changing) != 1 or changing[0] % 2 == 0:
        return False
    numbers = [parts[changing[0]] for parts in split]
    if max(map(len, numbers)) > 18:
        return False
    values = sorted(map(int, numbers))
    return values[-1] - values[0] < 2 * len(values) + 10


def whole_labels(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Labels of any dtype as unsigned integers of the same shape; −1 becomes `not_annotated`.

    int8 and int16 become uint16, wider integers and real numbers uint32, or uint64 where that is too small.
    Raises DataError, with an example, where a value is a fraction, not a number, or below −1.
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
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low < -1:
        raise DataError(
            f"{name} has the label value {int(low)}, but labels are 0 (background) or more, or −1 (not annotated). "
            "Replace other negative values by 0, or by a class of their own."
        )
    narrow = labels.dtype.kind == "i" and labels.dtype.itemsize <= 2
    dtype = np.dtype(np.uint16) if narrow else np.dtype(np.uint64 if high >= 2**32 - 1 else np.uint32)
    whole = labels.astype(dtype if low >= 0 else np.int64)
    return whole if low >= 0 else np.where(whole < 0, not_annotated(dtype), whole).astype(dtype)


def not_annotated(dtype: np.dtype[Any]) -> int:
    """The label value that stands for −1 in labels of this unsigned dtype: its largest, but below 2**53."""
    return min(int(np.iinfo(dtype).max), 2**53 - 1)


def colour_labels(samples: NDArray[Any]) -> NDArray[np.uint32]:
    """Labels from a mask painted in colours: black is 0, another grey its grey value, a colour COLOUR + its RGB code.

    samples: uint8 (3, …), red, green, blue. Returns the shape without its first dimension.
    """
    red, green, blue = samples.astype(np.uint32)
    code = (red << 16) | (green << 8) | blue
    return np.where((red == green) & (green == blue), red, code | COLOUR).astype(np.uint32)


def colour_code(value: int) -> str:
    """The colour (#rrggbb) that a label value of `colour_labels` stands for; empty for an ordinary value."""
    return f"#{value - COLOUR:06x}" if COLOUR <= value < 2 * COLOUR else ""


def count_values(labels: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The different values of unsigned labels, ascending, and how many voxels have each."""
    largest = int(labels.max(initial=0))
    if largest < _COUNTABLE:
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


def guess_label_kind(different: int, *, seen: int, compact: int) -> tuple[Literal["classes", "instances"], str]:
    """Whether labels are classes or instances, and why, in words.

    different: how many different values there are, background not counted.
    seen: how often a value was met in the planes looked at; compact: how often it lay there in one piece.
    An object is one piece in nearly every plane, and there are many; a class lies in many pieces, and there are few.
    """
    share = compact / seen if seen else 0.0
    facts = f"{different} different values, {share:.0%} of them in one piece in a plane"
    if different > MAX_CLASSES:
        return "instances", f"{different:,} different values are too many for classes"
    if different <= _SURELY_CLASSES:
        return "classes", f"only {different} different value{'s' * (different != 1)}"
    needed = 0.8 if different <= _FEW else 0.5
    return ("instances", f"{facts}: separate objects") if share >= needed else ("classes", f"{facts}: spread out")


def values_text(values: Sequence[int]) -> str:
    """“0, 1, 2”, or the first few and how many there are."""
    if len(values) <= 12:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[:6]))} … {values[-1]} ({len(values)} different values)"


def _files(count: int, kind: str) -> str:
    return f"{count} {kind} file{'s' * (count != 1)}"


def _numbers(name: str) -> list[str]:
    return [digits.lstrip("0") for digits in re.findall(r"[0-9]+", PurePosixPath(name).stem)]


def _last_numbers(names: Sequence[str]) -> dict[str, str]:
    return {numbers[-1]: name for name in names if (numbers := _numbers(name))}
