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
    told = checks.number_note(images, shifted)
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
    assert checks.number_note(images, labels) is None


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64, np.uint16])
def test_whole_labels_of_any_dtype_become_unsigned(dtype):
    labels = checks.whole_labels(np.array([[0, 3], [100, 1]], dtype), "a.tif")
    assert labels.dtype.kind == "u"
    assert labels.tolist() == [[0, 3], [100, 1]]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf"), (-2.0, "-2"), (1e30, "1e+30")]
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
    ("different", "seen", "compact", "kind"),
    [
        (1, 1, 0, "classes"),  # pores
        (2, 2, 2, "classes"),  # a cell and its nucleus
        (5, 5, 1, "classes"),  # organelles
        (8, 8, 8, "instances"),
        (36, 31, 30, "instances"),
        (20, 20, 0, "classes"),
        (5000, 0, 0, "instances"),
    ],
)
def test_the_kind_of_labels_is_guessed_from_how_many_and_how_compact(different, seen, compact, kind):
    guess, why = checks.guess_label_kind(different, seen=seen, compact=compact)
    assert guess == kind
    assert str(different) in why.replace(",", "")


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.int8, 2**16 - 1), (np.int16, 2**16 - 1), (np.int32, 2**32 - 1), (np.float32, 2**32 - 1)]
)
def test_minus_one_means_not_annotated(dtype, expected):
    labels = checks.whole_labels(np.array([0, -1, 7], dtype), "a.tif")
    assert labels.tolist() == [0, expected, 7]
    assert checks.not_annotated(labels.dtype) == expected


def test_ids_that_need_more_than_32_bits_are_kept_beside_minus_one():
    labels = checks.whole_labels(np.array([2**40, -1], np.int64), "a.tif")
    assert labels.tolist() == [2**40, 2**53 - 1]
    assert labels.dtype == np.uint64


def test_painted_masks_tell_colours_from_grey_values():
    samples = np.array([[0, 255, 0, 5], [0, 0, 0, 5], [0, 0, 5, 5]], np.uint8)  # black, red, a dark blue, a dark grey
    labels = checks.colour_labels(samples)
    assert labels[0] == 0
    assert labels[3] == 5
    assert [checks.colour_code(int(value)) for value in labels] == ["", "#ff0000", "#000005", ""]


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (["s1.tif", "s2.tif", "s10.tif"], True),
        (["a/img_z001.tif", "a/img_z002.tif"], True),
        (["cell_1_z1.tif", "cell_2_z2.tif"], False),  # two numbers change
        (["cat.png", "dog.png"], False),
        (["20240101.tif", "20240930.tif", "20241231.tif"], False),  # far from following each other
        (["x.tif", "x.tif"], False),
        (["a" + "9" * 40 + ".tif", "a" + "8" * 40 + ".tif"], False),
    ],
)
def test_a_series_is_names_that_count_up(names, series):
    assert checks.is_series(names) is series
