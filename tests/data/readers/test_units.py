"""Units of length, as written by hand and by programs."""

import math

import pytest

from seglib.data.readers.units import length_nm, nanometres


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1), (" Nanometers ", 1), ("µm", 1e3), ("\u03bcm", 1e3), ("um", 1e3), ("\\u00B5m", 1e3), ("micron", 1e3),
        ("microns", 1e3), ("MICROMETRES", 1e3), ("mm", 1e6), ("cm", 1e7), ("m", 1e9), ("meters", 1e9), ("inch", 25.4e6),
        ("inches", 25.4e6), ("Å", 0.1), ("\u212b", 0.1), ("pm", 1e-3), ("pixel", None), ("", None), ("s", None),
        ("es", None), ("\\u00", None),
    ],
)  # fmt: skip
def test_a_unit_is_known_by_name_and_symbol(unit, nm):
    assert nanometres(unit) == nm


def test_a_length_is_positive_and_plausible():
    assert length_nm(0.25, 1e3) == 250
    assert length_nm(-2, 1) == 2
    for count, unit in [
        (None, 1.0),
        (1.0, None),
        (0, 1.0),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (1e300, 1e9),
        (1e-9, 1.0),
    ]:
        assert length_nm(count, unit) is None
