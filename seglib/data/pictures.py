"""Planes as pictures: grey values made visible, labels painted over them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.data.palette import PALETTE, palette_entries

LABEL_SHARE = 0.45
NOT_LEARNED_SHARE = 0.65
DARK, BRIGHT = 0.5, 99.5


def grey_picture(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """A plane (Y, X) as (Y, X, 3), `low` black and `high` white."""
    grey = (plane.astype(np.float32) - low) / max(high - low, 1e-6) * 255
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def visible_range(image: NDArray[Any]) -> tuple[float, float]:
    """Grey values to show as black and as white: all but the darkest and brightest 0.5 %."""
    low, high = np.percentile(image, [DARK, BRIGHT])
    return float(low), float(high)


def painted(picture: NDArray[np.uint8], classes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (Y, X, 3) with class ids (Y, X) in the colours of a palette (256, 3); 255, not annotated, is dark."""
    return _blended(picture, classes, np.where(classes[..., None] == IGNORE, 0, palette[classes]), ignored=True)


def painted_objects(picture: NDArray[np.uint8], ids: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture (Y, X, 3) with objects (Y, X) in the colours that the viewer gives their ids."""
    entries = palette_entries(ids)
    return _blended(picture, entries, PALETTE[entries], ignored=False)


def _blended(
    picture: NDArray[np.uint8], entries: NDArray[np.uint8], colours: NDArray[Any], *, ignored: bool
) -> NDArray[np.uint8]:
    shares = np.full(256, LABEL_SHARE, np.float32)
    shares[0] = 0.0
    if ignored:
        shares[IGNORE] = NOT_LEARNED_SHARE
    share = shares[entries][..., None]
    return (picture * (1 - share) + colours * share).astype(np.uint8)
