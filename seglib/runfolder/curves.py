"""A run's curves as a picture, drawn from the tables in its folder."""

import io
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.training import LOWER_IS_BETTER
from seglib.runfolder.files import write_atomically
from seglib.runfolder.table import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; training is dashed besides.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#7F7F7F")
# Means over the classes; single classes can be hundreds, and are in the table.
SCORES = ("dice", "iou", "precision", "recall", "surface_dice", "dice_at_best_threshold", "specificity", "accuracy")
DISTANCES = ("hausdorff95", "surface_distance")
TRAINING, VALIDATION = "training patches", "whole validation part"
# Steps are drawn as so many means; of a long run each is over one piece of the file of so many bytes.
BLOCKS, BLOCK_BYTES = 400, 2048
MARKED_POINTS = 60
_FORMATS: dict[str, dict[str, Any]] = {"png": {"dpi": 96, "pil_kwargs": {"compress_level": 1}}, "svg": {}}
# matplotlib keeps fonts and texts it has laid out for all threads.
_drawing = threading.Lock()

Columns = Mapping[str, NDArray[np.float64]]


def save_curves(history: Path, steps: Path, picture: Path, *, best_by: str) -> None:
    """Draws loss, scores and learning rate as a PNG at `picture` and an SVG beside it.

    history, steps: the tables; what they do not have yet is left out. best_by: score that the best epoch is marked by.
    """
    from matplotlib import rc_context

    columns = _numbers(history)
    rates = sampled_steps(steps)
    # Words stay words in the SVG, so that a figure for a paper can be set in another font.
    with _drawing, rc_context({"svg.fonttype": "none"}):
        figure = _figure(columns, rates, best_by)
        for kind, how in _FORMATS.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, **how)
            write_atomically(picture.with_suffix(f".{kind}"), content.getvalue())


def sampled_steps(path: Path) -> NDArray[np.float64]:
    """Step, loss and learning rate of a table of steps, as at most 400 means (n, 3) over neighbouring rows.

    Of a file beyond 800 KB only pieces are read, evenly spread, so that it takes the same time however long a run is.
    """
    if not path.exists():
        return np.empty((0, 3))
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCKS * BLOCK_BYTES:
            rows = _step_rows(file.read())
            blocks = np.array_split(rows, min(BLOCKS, len(rows))) if len(rows) else []
        else:
            blocks = []
            for offset in np.linspace(0, size - BLOCK_BYTES, BLOCKS, dtype=int):
                file.seek(int(offset))
                blocks.append(_step_rows(file.read(BLOCK_BYTES)))
    return np.array([block.mean(0) for block in blocks if len(block)]).reshape(-1, 3)


def best_row(columns: Columns, best_by: str) -> int | None:
    """The row of the best validation, the first of equal ones, or None; without the score it is the lowest loss."""
    loss = columns.get("val/loss", np.empty(0))
    score = columns.get(f"val/{best_by}", np.full(len(loss), np.nan))
    value = np.where(np.isnan(score), -loss, -score if best_by in LOWER_IS_BETTER else score)
    return int(np.nanargmax(value)) if np.isfinite(value).any() else None


def _step_rows(text: bytes) -> NDArray[np.float64]:
    """What is whole of a piece of the table of steps; its first line is the header or cut."""
    rows = (line.split(b",") for line in text.split(b"\n")[1:-1])
    return np.array([(float(row[0]), float(row[2]), float(row[3])) for row in rows]).reshape(-1, 3)


def _numbers(path: Path) -> dict[str, NDArray[np.float64]]:
    return {
        name: np.array([float(text or math.nan) for text in texts])
        for name, texts in read_table(path).items()
        if name != "time"
    }


def _figure(columns: Columns, rates: NDArray[np.float64], best_by: str) -> "Figure":
    # Not pyplot, which belongs to the main thread and keeps every figure.
    from matplotlib.figure import Figure

    distances = [name for name in DISTANCES if f"val/{name}" in columns]
    # No more than can be told apart, and the one that decides is among them.
    wanted = dict.fromkeys(name for name in (best_by, *SCORES) if name not in (*DISTANCES, "loss"))
    scores = [name for name in wanted if f"train/{name}" in columns or f"val/{name}" in columns][: len(COLOURS)]
    panels = 3 + bool(distances)
    figure = Figure(figsize=(5.2 * panels, 5.8))
    loss, score, *distance, rate = figure.subplots(1, panels)
    figure.subplots_adjust(left=0.2 / panels, right=0.985, top=0.94, bottom=0.38, wspace=0.22)
    if len(rates):
        loss.plot(rates[:, 0], rates[:, 1], color="#BBBBBB", linewidth=0.8, label="single steps")
        rate.plot(rates[:, 0], rates[:, 2], color=COLOURS[0])
    _draw(loss, columns, ["loss"])
    _draw(score, columns, scores)
    _finish(loss, f"Loss on {TRAINING} and on the {VALIDATION}", "loss")
    _finish(score, f"Scores on {TRAINING} and on the {VALIDATION}", "score")
    for axes in distance:
        _draw(axes, columns, distances)
        _finish(axes, f"Distances of surfaces on the {VALIDATION}", "distance (nm)")
    _finish(rate, "Learning rate", "learning rate")
    best = best_row(columns, best_by)
    if best is not None:
        for axes in (loss, score, *distance):
            _mark(axes, columns, best, said=axes is loss)
    for axes in (loss, score, *distance):
        if axes.get_legend_handles_labels()[0]:
            # Below, where it hides nothing; looking for a free place within takes longer than all the rest.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=7.5, frameon=False)
    return figure


def _draw(axes: "Axes", columns: Columns, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        for part, where, style, marker in (("train", TRAINING, "--", "^"), ("val", VALIDATION, "-", "o")):
            values = columns.get(f"{part}/{name}", np.empty(0))
            there = np.isfinite(values)
            if there.any():
                few = there.sum() <= MARKED_POINTS
                axes.plot(
                    columns["step"][there],
                    values[there],
                    color=colour if name != "loss" or part == "train" else COLOURS[1],
                    linestyle=style,
                    marker=marker if few else "",
                    markersize=3.5,
                    linewidth=1.5,
                    label=f"{_shown(name)}, {where}",
                )


def _shown(name: str) -> str:
    return {"dice": "Dice", "iou": "IoU", "hausdorff95": "Hausdorff 95 %"}.get(name, name.replace("_", " "))


def _finish(axes: "Axes", title: str, unit: str) -> None:
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel("training step")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark(axes: "Axes", columns: Columns, best: int, *, said: bool) -> None:
    step, epoch = int(columns["step"][best]), int(columns["epoch"][best])
    label = f"best on the {VALIDATION}: epoch {epoch}, step {step}" if said else "best"
    axes.axvline(step, color="black", linestyle=":", linewidth=1.2, label=label)
