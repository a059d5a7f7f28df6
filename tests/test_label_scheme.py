"""Schemes: which classes a task learns, what they are called in predictions, and what makes no sense."""

import pytest
from pydantic import ValidationError

from seglib.config.labels import Borders, LabelClass, LabelScheme, scheme_for
from seglib.errors import ConfigError


def test_the_plainest_scheme_has_a_class_a_value_and_0_as_background():
    scheme = scheme_for("classes", [0, 7, 2])
    assert scheme.names("classes") == ("class 2", "class 7")
    assert scheme.values("classes") == (2, 7)
    assert scheme.names("foreground") == ("foreground",)
    assert scheme.values("foreground") == (1,)


def test_a_merged_class_is_written_as_its_smallest_value():
    scheme = LabelScheme(
        kind="classes", classes=(LabelClass(name="wall", values=(9, 4)), LabelClass(name="b", values=(6,)))
    )
    assert scheme.values("classes") == (4, 6)


def test_values_too_large_for_a_label_file_are_counted_from_1():
    scheme = scheme_for("classes", [3, 1 << 24])
    assert scheme.values("classes") == (1, 2)


def test_a_class_of_the_value_0_is_not_written_as_background():
    scheme = LabelScheme(
        kind="classes", classes=(LabelClass(name="sky", values=(0,)), LabelClass(name="b", values=(6,)))
    )
    assert scheme.values("classes") == (1, 2)


def test_instances_are_classes_only_with_borders():
    with pytest.raises(ConfigError, match="without borders.*Foreground"):
        LabelScheme(kind="instances").names("classes")
    assert LabelScheme(kind="instances", borders=Borders()).names("classes") == ("object", "border")
    with pytest.raises(ConfigError, match="missing"):
        LabelScheme(kind="none").names("classes")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": [{"name": "a", "values": [1, 2]}, {"name": "b", "values": [2]}]}, "value 2 is used twice"),
        ({"classes": [{"name": "a", "values": [1]}], "ignore": [1]}, "value 1 is used twice"),
        ({"classes": [{"name": "a", "values": [1]}, {"name": "a", "values": [2]}]}, "same name"),
        ({"classes": [{"name": "a", "values": []}]}, "at least 1"),
        ({"classes": [{"name": "a", "values": [1], "colour": "red"}]}, "match pattern"),
        ({"kind": "instances", "ignore": [0]}, "value 0 is used twice"),
        ({"classes": [{"name": f"c{n}", "values": [n]} for n in range(1, 257)]}, "at most 254"),
    ],
)
def test_schemes_that_make_no_sense_are_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        LabelScheme.model_validate({"kind": "classes", **changes})


def test_it_survives_json():
    scheme = LabelScheme(kind="instances", background=(1,), ignore=(255,), borders=Borders(kind="planes", width=2))
    assert LabelScheme.model_validate_json(scheme.model_dump_json()) == scheme
