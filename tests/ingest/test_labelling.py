"""How labels are read at first: classes or objects, what is background, what was never annotated."""

import pytest

from seglib.data.checks import COLOUR
from seglib.data.planning import ImportRequest
from seglib.errors import DataError
from seglib.ingest.labelling import read_labels
from seglib.ingest.staging import LabelFacts


def facts(counts, **changes) -> LabelFacts:
    values = {"objects": len(set(counts or {}) - {0}), "seen": 10, "compact": 0, "dtype": "uint8", **changes}
    return LabelFacts(counts=counts, **values)


def read(*found, **asked):
    return read_labels(ImportRequest(name="x", items=(), **asked), list(found))


def classes(scheme) -> dict[str, tuple[int, ...]]:
    return {part.name: part.values for part in scheme.classes}


def test_without_labels_there_is_nothing_to_read():
    scheme, counts, notes = read()
    assert (scheme.kind, counts, notes) == ("none", None, ())


def test_every_value_of_all_volumes_is_a_class():
    scheme, counts, _ = read(facts({0: 5, 1: 2}), facts({0: 1, 4: 3}))
    assert classes(scheme) == {"class 1": (1,), "class 4": (4,)}
    assert counts == {0: 6, 1: 2, 4: 3}


def test_a_mask_of_0_and_255_has_one_class():
    scheme, _, notes = read(facts({0: 5, 255: 2}))
    assert classes(scheme) == {"foreground": (255,)}
    assert scheme.ignore == ()
    assert len(notes) == 1


def test_255_beside_values_counted_from_0_means_not_annotated():
    scheme, _, notes = read(facts({0: 5, 1: 2, 2: 2, 255: 2}))
    assert classes(scheme) == {"class 1": (1,), "class 2": (2,)}
    assert scheme.ignore == (255,)
    assert "255 was taken as not annotated" in notes[-1]


def test_values_that_start_at_1_have_their_background_there():
    scheme, _, notes = read(facts({1: 50, 2: 20, 3: 9}), label_kind="classes")
    assert classes(scheme) == {"class 2": (2,), "class 3": (3,)}
    assert "the lowest, 1, was taken as background" in notes[-1]


def test_named_values_are_classes_and_the_others_too():
    scheme, _, _ = read(facts({0: 5, 1: 2, 2: 1}), class_names={0: "background", 1: "axon", 3: "vessel"})
    assert classes(scheme) == {"axon": (1,), "class 2": (2,), "vessel": (3,)}


def test_values_said_to_be_ignored_are_no_class():
    scheme, _, _ = read(facts({0: 5, 1: 2, 9: 1}), ignore=(9,), label_kind="classes")
    assert (classes(scheme), scheme.ignore) == ({"foreground": (1,)}, (9,))


def test_minus_one_is_ignored_for_instances_too():
    scheme, _, _ = read(facts({0: 5, 1: 2, 65535: 1}, not_annotated=65535, dtype="int16"), label_kind="instances")
    assert (scheme.kind, scheme.ignore) == ("instances", (65535,))


def test_colours_of_painted_masks_and_of_colour_tables_are_kept():
    red = COLOUR + 0xFF0000
    scheme, _, _ = read(facts({0: 5, red: 2, 3: 1}, colours={3: "#00ff00"}), label_kind="classes")
    assert [(part.name, part.colour) for part in scheme.classes] == [
        ("class 3", "#00ff00"),
        ("colour #ff0000", "#ff0000"),
    ]


def test_too_many_values_are_instances_or_refused_as_classes():
    many = facts(None, objects=5000)
    assert read(many)[0].kind == "instances"
    with pytest.raises(DataError, match=r"5,000 different values.*instances"):
        read(many, label_kind="classes")


@pytest.mark.parametrize("value", [0, 7])
def test_labels_of_one_value_are_refused(value):
    with pytest.raises(DataError, match=f"value {value}, so there is nothing to learn"):
        read(facts({value: 10}))
