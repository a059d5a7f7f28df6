"""Curves of runs: which to draw; the browser fetches their points and draws them with Plotly.

Streamlit's own chart is made anew at every change of its data, which blinks and loses the zoom, so growing curves
are a component of ours over `/api/metrics/…` (seglib.serving.metrics).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

_HERE = Path(__file__).parent
# Plotly writes its styles into the page, so the component must not be isolated from it.
_component = st.components.v2.component(
    "seglib_curves",
    css=(_HERE / "curves.css").read_text(encoding="utf-8"),
    js=(_HERE / "curves.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)

# Okabe and Ito's colours, told apart by colour-blind readers, dark enough for white and light enough for black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#7F7F7F")
LIVE_MS = 2500


@dataclass(frozen=True)
class Trace:
    """One curve. metric: its name in the store; faint: drawn thin behind the others."""

    run: int
    metric: str
    label: str
    colour: str
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one another. x: what they are drawn against."""

    title: str
    traces: tuple[Trace, ...]
    x: Literal["step", "epoch"] = "step"


def show_curves(
    key: str, charts: Sequence[Chart], *, live: bool, milestones: Mapping[int, str] | None = None, height: int = 340
) -> None:
    """Draws charts side by side. Zoom and hidden curves stay while `key` does.

    live: ask for new points as long as one of the runs is not over.
    milestones: run -> milestone the page shows; the page is run again when a run reaches another one.
    height: of each chart, in CSS pixels.
    """
    data = {
        "key": key,
        "height": height,
        "live": LIVE_MS if live else 0,
        "milestones": {str(run): shown for run, shown in (milestones or {}).items()},
        "charts": [_as_data(chart) for chart in charts],
    }
    _component(key=key, data=data, on_milestone_change=lambda: None)


def _as_data(chart: Chart) -> dict[str, object]:
    traces = [{**asdict(trace), "label": escaped(trace.label)} for trace in chart.traces]
    return {"title": escaped(chart.title), "x": chart.x, "traces": traces}


def escaped(text: str) -> str:
    """Text for Plotly, which reads some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
