"""What is said about images and labels that do not fit, and what kind labels are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from seglib.data import checks
from seglib.errors import DataError


def test_different_sizes_are_told_with_both_names_and_both_ways_out():
    told = checks.shape_problem("images/004.tif", (1, 512, 510), "labels/004.tif", (1, 512, 512))
    assert told == (
        "labels/004.tif is 512 × 512 but images/004.tif is 512 × 510: crop one of them, or leave this pair out."
    )
    assert "10 × 8 × 8" in checks.shape_problem("i.tif", (10, 8, 8), "l.tif", (9, 8, 8))
    assert checks.shape_problem("i.tif", (9, 8, 8), "l.tif", (9, 8, 8)) is None


def test_a_missing_label_file_is_found_by_its_number():
    told = checks.count_problem(
        [f"images/{i:03}.tif" for i in range(1, 11)], [f"l{i}.tif" for i in range(1, 11) if i != 4]
    )
    assert told.startswith("There are 10 image files but 9 label files; without a partner: images/004.tif.")


def test_files_without_shared_numbers_are_only_counted():
    told = checks.count_problem(["a.tif", "b.tif"], ["mask.tif"])
    assert told == "There are 2 image files but 1 label file. Add the missing files, or leave the others out."


def test_numbers_that_contradict_each_other_are_told():
    images, shifted = [f"{i:03}.tif" for i in range(1, 11)], [f"{i:03}.tif" for i in range(2, 12)]
    told = checks.number_problem(images, shifted)
    assert told is not None
    assert "002.tif would belong to 001.tif" in told
    assert "10 of 10" in told


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["img_1.tif", "img_2.tif"], ["mask_001.tif", "mask_002.tif"]),
        (["cell_1_c1.tif", "cell_2_c1.tif"], ["cell_1_mask.tif", "cell_2_mask.tif"]),
        (["a.tif", "b.tif"], ["1.tif", "2.tif"]),
        (["scan2024.tif"], ["labels_v2.tif"]),
    ],
)
def test_numbers_that_can_be_meant_otherwise_are_let_through(images, labels):
    assert checks.number_problem(images, labels) is None


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64, np.uint16])
def test_whole_labels_of_any_dtype_become_unsigned(dtype):
    labels = checks.whole_labels(np.array([[0, 3], [100, 1]], dtype), "a.tif")
    assert labels.dtype.kind == "u"
    assert labels.tolist() == [[0, 3], [100, 1]]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf"), (-1.0, "-1"), (1e30, "1e+30")]
)
def test_labels_that_are_not_whole_are_refused_with_an_example(value, shown):
    with pytest.raises(DataError, match="labels/3.tif") as caught:
        checks.whole_labels(np.array([0.0, value]), "labels/3.tif")
    assert f"label value {shown}," in str(caught.value)


def test_negative_labels_are_refused_with_an_example():
    with pytest.raises(DataError, match="-7"):
        checks.whole_labels(np.array([0, -7], np.int16), "a.tif")


@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]), (3, 4, 5)))
def test_values_are_counted_as_numpy_counts_them(labels):
    values, counts = checks.count_values(labels)
    expected_values, expected_counts = np.unique(labels, return_counts=True)
    assert values.tolist() == expected_values.tolist()
    assert counts.tolist() == expected_counts.tolist()


@given(hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 3)), st.sampled_from([1, 1000, 2**60]))
def test_pieces_are_what_labelling_each_value_alone_gives(plane, factor):
    plane = plane.astype(np.uint64) * factor
    expected = {int(v): ndimage.label(plane == v, np.ones((3, 3)))[1] for v in np.unique(plane) if v != 0}
    assert checks.pieces_per_value(plane) == expected


def test_the_number_of_values_looked_at_is_bounded():
    assert 0 < len(checks.pieces_per_value(np.arange(10_000).reshape(100, 100), at_most=64)) <= 64


@pytest.mark.parametrize(
    ("different", "pieces", "kind"),
    [
        (1, [{1: 90}], "classes"),  # pores
        (2, [{1: 1, 2: 1}], "classes"),  # a cell and its nucleus
        (5, [{1: 9, 2: 4, 3: 1, 4: 7, 5: 3}], "classes"),  # organelles
        (8, [dict.fromkeys(range(1, 9), 1)], "instances"),
        (36, [dict.fromkeys(range(1, 30), 1), {30: 2, 31: 1}], "instances"),
        (20, [dict.fromkeys(range(1, 21), 6)], "classes"),
        (5000, [], "instances"),
    ],
)
def test_the_kind_of_labels_is_guessed_from_how_many_and_how_compact(different, pieces, kind):
    guess, why = checks.guess_label_kind(different, pieces)
    assert guess == kind
    assert str(different) in why.replace(",", "")
