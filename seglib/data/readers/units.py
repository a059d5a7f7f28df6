"""Units of length as image files write them."""

import math
import re

_NANOMETRES = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
    **dict.fromkeys(("å", "ångström", "angstrom"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "micron", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("in", "inch", '"'), 25.4e6),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
# From below an atom to a kilometre: what lies outside is not a size that somebody measured.
_PLAUSIBLE_NM = 1e-3, 1e12


def nanometres(unit: str) -> float | None:
    """How many nanometres a unit of length is; None for pixels and for what is not known.

    Takes names, plurals and symbols, also with ImageJ's escapes such as \\u00B5m.
    """
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), unit).strip()
    # Two characters look like µ (one is Greek), and Å is also written as the sign of the unit.
    plain = plain.replace("\u03bc", "µ").replace("\u00c2µ", "µ").replace("\u212b", "Å").lower()
    for name in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
        if name in _NANOMETRES:
            return _NANOMETRES[name]
    return None


def length_nm(count: float | None, unit_nm: float | None) -> float | None:
    """`count` units in nanometres; None where either is not known, or the result is no size of a voxel."""
    if count is None or unit_nm is None or not math.isfinite(count):
        return None
    length = abs(count) * unit_nm
    return length if _PLAUSIBLE_NM[0] <= length <= _PLAUSIBLE_NM[1] else None
