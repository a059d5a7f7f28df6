"""Labels to class ids."""

import numpy as np
import pytest

from seglib.data.targets import class_ids
from seglib.errors import DataError


def test_foreground_is_every_label():
    labels = np.array([[0, 1, 70000], [3, 0, 2]], np.uint32)
    found = class_ids(labels, "foreground", (1,))
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_classes_are_numbered_in_the_order_of_their_values(dtype):
    found = class_ids(np.array([0, 9, 4, 200, 4], dtype), "classes", (4, 9, 200))
    assert found.dtype == np.uint8
    assert found.tolist() == [0, 2, 1, 3, 1]


def test_a_class_that_a_volume_lacks_keeps_its_number():
    assert class_ids(np.array([0, 9], np.uint8), "classes", (4, 9, 200)).tolist() == [0, 2]
    assert class_ids(np.zeros((0,), np.uint8), "classes", (4,)).tolist() == []


def test_there_can_be_255_classes():
    values = tuple(range(1, 256))
    assert class_ids(np.arange(256, dtype=np.uint8), "classes", values).tolist() == list(range(256))


def test_an_unknown_value_is_named():
    with pytest.raises(DataError, match=r"value 5 is not among the classes.*\(4, 9\)|value 5 .*\[4, 9\]"):
        class_ids(np.array([0, 4, 5, 9], np.uint8), "classes", (4, 9))


def test_too_many_classes_are_probably_objects():
    with pytest.raises(DataError, match="256 label values.*mark the labels as instances"):
        class_ids(np.zeros(3, np.uint16), "classes", tuple(range(1, 257)))
