"""The colours of label values, in the viewer and in pictures."""

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def palette_entries(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """The palette entry (0–255) of every label value: v up to 255, then 1 + (v − 1) % 255."""
    if labels.dtype == np.uint8:
        return labels
    largest = int(labels.max())
    if largest < 256:
        return labels.astype(np.uint8)
    if largest < 2**16:  # a table is six times faster than dividing
        return _wrapped(np.arange(largest + 1))[labels.astype(np.uint16)]
    return _wrapped(labels)


def colour_of(value: int) -> str:
    """The colour of a label value as the viewer draws it, `#rrggbb`."""
    return "#" + PALETTE[palette_entry(value)].tobytes().hex()


def palette_entry(value: int) -> int:
    """The palette entry (0–255) of one label value."""
    return (value - 1) % 255 + 1 if value else 0


def _wrapped(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.where(values == 0, 0, (values - 1) % 255 + 1).astype(np.uint8)


def _palette() -> NDArray[np.uint8]:
    """Okabe and Ito's seven colours, safe for colour-blind eyes; then hues a golden angle apart.

    Their eighth, black, is left out: it cannot be seen on an electron micrograph.
    """
    first = "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7"
    colours = [(0, 0, 0)] + [(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in first.split()]
    for step in range(256 - len(colours)):
        hue = (0.11 + step * 0.6180339887) % 1.0
        lightness, saturation = (0.62, 0.45, 0.75)[step % 3], (0.75, 0.9)[step % 2]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return np.array(colours, np.uint8)


# uint8 (256, 3), red, green, blue of every palette entry; entry 0 is never seen.
PALETTE = _palette()
