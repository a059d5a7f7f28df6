"""Trials before a start: which learning rate and which batch size suit, tried on the data in the background."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.curves import COLOURS
from pages.ui.frame import plain, services
from seglib.config import RunConfig
from seglib.errors import WorkCancelled
from seglib.jobs.importing import Cancelled, Progress
from seglib.preflight import Preflight
from seglib.store.datasets import DatasetRow
from seglib.store.runs import ACTIVE, list_runs
from seglib.training.advice import with_labels

if TYPE_CHECKING:
    from seglib.training.batch_size import BatchSizes
    from seglib.training.rate_test import RateTest

Kind = Literal["rate", "batch"]
UNITS: dict[Kind, str] = {"rate": "step", "batch": "batch size"}
# Settings that change nothing about what a trial finds.
OWN: dict[Kind, Mapping[str, Any]] = {
    "rate": {"name": True, "optimiser": {"learning_rate"}},
    "batch": {"name": True, "optimiser": {"learning_rate"}, "patches": {"batch_size"}},
}


@dataclass
class _Found:
    """What a trial gave, and the settings it was of."""

    config: RunConfig
    result: Any


@dataclass
class _Trials:
    """All trials of a session, one at a time. what: the one under way, or the last, and the data set it is of."""

    work: Background = field(default_factory=Background)
    what: tuple[int, Kind] | None = None
    found: dict[tuple[int, Kind], _Found] = field(default_factory=dict)


def show_trials(dataset: DatasetRow, config: RunConfig, preflight: Preflight) -> bool:
    """Two trials and what they found; whether one is under way, so that no run should start beside it."""
    state: _Trials = st.session_state.setdefault("trials", _Trials())
    busy = state.work.work is not None
    why = _why_not(dataset, state, busy)
    own = state.what is not None and state.what[0] == dataset.id
    config = with_labels(config, dataset.labels)
    off = bool(why) or not preflight.ready
    with st.expander("Try before you start", icon=":material/experiment:", expanded=own):
        st.caption("Short trials on this data, with the settings above. Nothing changes until you use what they found.")
        rate, batch = st.columns(2, gap="large")
        if rate.button(
            "Find learning rate", icon=":material/trending_down:", disabled=off, help=why, key="trials.rate"
        ):
            _begin(state, "rate", dataset, config)
        if batch.button("Find batch size", icon=":material/grid_view:", disabled=off, help=why, key="trials.batch"):
            _begin(state, "batch", dataset, config)
        if state.what is not None and own:
            show_work(state.work, key="trials", unit=UNITS[state.what[1]])
        rate, batch = st.columns(2, gap="large")
        with rate:
            _draw(state, "rate", dataset, config)
        with batch:
            _draw(state, "batch", dataset, config)
    return busy


def _why_not(dataset: DatasetRow, state: _Trials, busy: bool) -> str | None:
    """Why no trial can start now."""
    if busy and state.what is not None:
        return "One trial at a time." if state.what[0] == dataset.id else "A trial on another data set is under way."
    if list_runs(services().store, statuses=ACTIVE):
        return "A run is under way: wait for it to end, as both would be slower."
    return None


def _draw(state: _Trials, kind: Kind, dataset: DatasetRow, config: RunConfig) -> None:
    """What a trial found, where there was one."""
    found = state.found.get((dataset.id, kind))
    if found is None:
        return
    if found.config.model_dump(exclude=OWN[kind]) != config.model_dump(exclude=OWN[kind]):
        st.caption(":material/info: Settings were changed since; try again to be sure.")
    (_rate if kind == "rate" else _batch)(dataset, found)


def _begin(state: _Trials, kind: Kind, dataset: DatasetRow, config: RunConfig) -> None:
    """Starts a trial in the background."""
    workspace, store, what = services().workspace, services().store, (dataset.id, kind)

    def work(progress: Progress, cancelled: Cancelled) -> Any:
        # Torch is imported in the background too, so that the page need not wait for it.
        from seglib.tasks.training import open_dataset
        from seglib.tasks.weights import starting_weights
        from seglib.training.batch_size import find_batch_size
        from seglib.training.rate_test import sweep_rates

        volumes, weights = open_dataset(workspace, dataset, config), starting_weights(workspace, store, config)
        make: Callable[..., Iterator[Any]] = sweep_rates if kind == "rate" else find_batch_size
        return _last(make(config, volumes, weights=weights), progress, cancelled)

    def done(result: Any) -> None:
        state.found[what] = _Found(config, result)

    state.what = what
    state.found.pop(what, None)
    start_work(state.work, work, done)


def _last(trial: Iterator[Any], progress: Progress, cancelled: Cancelled) -> Any:
    """The result of a trial, which comes last; what comes before is its progress."""
    from seglib.training.trials import TrialProgress

    for said in trial:
        if not isinstance(said, TrialProgress):
            return said
        if cancelled():
            raise WorkCancelled
        progress(said.done, said.total, said.text)
    raise AssertionError("a trial ends with its result")


def _rate(dataset: DatasetRow, found: _Found) -> None:
    """The losses over learning rates, and a button that takes the rate suggested."""
    test: RateTest = found.result
    _say(test.sentence, test.suggestion)
    low, high = min(test.smoothed), max(test.smoothed)
    margin = 0.15 * (high - low) or 0.1
    figure = go.Figure()
    for name, losses, colour, width in (
        ("each step", test.losses, COLOURS[7], 1),
        ("smoothed", test.smoothed, COLOURS[0], 3),
    ):
        figure.add_scatter(x=test.rates, y=losses, name=name, mode="lines", line={"color": colour, "width": width})
    if test.suggestion is not None:
        marked = {"color": COLOURS[1], "dash": "dash"}
        figure.add_scatter(
            x=[test.suggestion] * 2, y=[low - margin, high + margin], name="suggested", mode="lines", line=marked
        )
    figure.update_layout(
        height=300, margin={"l": 10, "r": 10, "t": 20, "b": 10}, legend={"orientation": "h", "y": 1.15},
        xaxis={"type": "log", "title": "learning rate", "exponentformat": "power", "dtick": 1},
        yaxis={"title": "loss", "range": [low - margin, high + margin]},
    )  # fmt: skip
    st.plotly_chart(figure, key="trials.rate.curve", config={"displayModeBar": False})
    optimiser = found.config.optimiser.kind
    _offer(f"train.{dataset.id}.optimiser.{optimiser}.learning_rate", test.suggestion, "trials.rate.use")


def _batch(dataset: DatasetRow, found: _Found) -> None:
    """The sizes that were tried, and a button that takes the one suggested."""
    sizes: BatchSizes = found.result
    _say(sizes.sentence, sizes.suggestion)
    rows = [
        {
            "Batch size": tried.batch,
            "Patches a second": tried.patches_per_s,
            "Memory (MB)": round(tried.memory_mb),
            "Fits": tried.fits,
        }
        for tried in sizes.tries
    ]
    formats = {"Patches a second": st.column_config.NumberColumn(format="%.3g")}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=formats, key="trials.batch.table")
    _offer(f"train.{dataset.id}.patches.batch_size", sizes.suggestion, "trials.batch.use")


def _say(sentence: str, suggestion: float | None) -> None:
    show = st.success if suggestion is not None else st.warning
    show(plain(sentence))


def _offer(field_key: str, value: float | None, key: str) -> None:
    """A button that puts a value into the form above."""
    if value is None:
        return

    def put() -> None:
        st.session_state[field_key] = value

    st.button("Use it", icon=":material/check:", on_click=put, key=key)
