"""A figure for a paper: one plane with its labels and a scale bar, as PNG or SVG."""

import math
import threading
from pathlib import Path

from seglib.export.placing import placed
from seglib.export.planes import Scene, fitting_pixels, overlay
from seglib.export.sources import Watch

DPI = 300
LONGEST_INCH, SHORTEST_INCH = 6.0, 0.5
# A scale bar is at most so long, of the width of the picture.
BAR_SHARE = 0.3
# matplotlib keeps fonts and texts it has laid out for all threads.
_drawing = threading.Lock()


def write_figure(scene: Scene, path: Path, file_format: str, watch: Watch) -> None:
    """Draws the plane of the scene's view, at most 6 inches and 1800 pixels wide or high, with a scale bar below right.

    file_format: `png` (300 dpi) or `svg`, whose bar and words stay lines. One plane is in memory.
    """
    # Not pyplot, which belongs to the main thread and keeps every figure.
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    watch.step(0, 2, path.name)
    height_nm, width_nm = scene.sides_nm
    picture = overlay(scene, scene.view.plane, fitting_pixels(scene, round(LONGEST_INCH * DPI)))
    inch = LONGEST_INCH / max(height_nm, width_nm)
    with placed(path) as temporary, _drawing:
        watch.step(1, 2, path.name)
        figure = Figure(figsize=(max(SHORTEST_INCH, width_nm * inch), max(SHORTEST_INCH, height_nm * inch)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(picture, extent=(0, width_nm, height_nm, 0), interpolation="nearest", aspect="equal")
        length = bar_length_nm(BAR_SHARE * width_nm)
        right, low = 0.95 * width_nm, 0.95 * height_nm
        # White with a dark edge, to be seen on dark and bright images.
        axes.plot([right - length, right], [low, low], linewidth=3, solid_capstyle="butt", color="white",
                  path_effects=[withStroke(linewidth=4.5, foreground="black")])  # fmt: skip
        axes.annotate(in_words(length), (right - length / 2, low), (0, 3), textcoords="offset points", ha="center",
                      color="white", fontsize=9,
                      path_effects=[withStroke(linewidth=1.5, foreground="black")])  # fmt: skip
        figure.savefig(temporary, format=file_format, dpi=DPI)
    watch.step(2, 2, path.name)


def bar_length_nm(most: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50, … (or smaller such steps) nanometres up to `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    # A whole hair more, so that 0.3 × 100 is not below 30.
    return max(step * power for step in (0.5, 1, 2, 5, 10) if step * power <= most * (1 + 1e-9))


def in_words(length_nm: float) -> str:
    """A length with the unit that keeps its number small: `500 nm`, `2 µm`, `5 mm`."""
    for unit, size in (("mm", 1e6), ("µm", 1e3)):
        if length_nm >= size * (1 - 1e-9):
            return f"{length_nm / size:g} {unit}"
    return f"{length_nm:g} nm"
