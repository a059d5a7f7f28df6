"""Curves of runs as Plotly figures that keep their zoom while they grow."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from seglib.store.metrics import Point

# Okabe and Ito's colours, told apart by colour-blind readers, dark enough for white and light enough for black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#7F7F7F")
MOST_POINTS = 1500
HEIGHT = 320

Series = dict[str, list[Point]]


def by_name(points: Sequence[Point], into: Series) -> None:
    """Sorts points into their curves."""
    for point in points:
        into.setdefault(point.name, []).append(point)


def training_figure(series: Series, *, title: str, names: Mapping[str, str], key: str) -> go.Figure:
    """One figure of a run's curves against the step. names: curve -> what it is called; missing ones are left out.

    key: while it stays the same, the reader's zoom and hidden curves stay too.
    """
    figure = go.Figure()
    for index, (name, label) in enumerate(names.items()):
        faint = name.startswith("step/")
        points = thin(series.get(name, []))
        figure.add_trace(
            go.Scatter(
                x=[point.step for point in points],
                y=[point.value for point in points],
                customdata=[point.epoch for point in points],
                name=label,
                mode="lines" if faint or len(points) > 60 else "lines+markers",
                line={"color": COLOURS[0] if faint else COLOURS[index % len(COLOURS)], "width": 1 if faint else 2},
                opacity=0.35 if faint else 1.0,
                hovertemplate="step %{x}, epoch %{customdata}: %{y:.4f}",
            )
        )
    return _laid_out(figure, title, key)


def comparison_figure(runs: Mapping[str, Sequence[Point]], *, title: str, key: str) -> go.Figure:
    """One metric of several runs against the epoch. runs: what a run is called -> its points."""
    figure = go.Figure()
    for index, (label, points) in enumerate(runs.items()):
        shown = thin(points)
        figure.add_trace(
            go.Scatter(
                x=[point.epoch for point in shown],
                y=[point.value for point in shown],
                name=escaped(label),
                mode="lines+markers" if len(shown) <= 60 else "lines",
                line={"color": COLOURS[index % len(COLOURS)], "width": 2},
                hovertemplate="epoch %{x}: %{y:.4f}",
            )
        )
    figure = _laid_out(figure, title, key)
    figure.update_xaxes(title="epoch")
    return figure


def thin(points: Sequence[Point]) -> Sequence[Point]:
    """At most about MOST_POINTS of the points. Which are kept depends on their steps, so they do not jump about
    as the curve grows; the newest is always among them."""
    if len(points) <= MOST_POINTS:
        return points
    every = 2 ** (len(points) // MOST_POINTS).bit_length()
    return [*(point for index, point in enumerate(points) if index % every == 0), points[-1]]


def escaped(text: str) -> str:
    """Text for Plotly, which reads some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _laid_out(figure: go.Figure, title: str, key: str) -> go.Figure:
    figure.update_layout(
        title=title,
        height=HEIGHT,
        margin={"l": 50, "r": 10, "t": 40, "b": 40},
        uirevision=key,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1.0},
        hovermode="x unified",
    )
    figure.update_xaxes(title="step", uirevision=key)
    return figure
