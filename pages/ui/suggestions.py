"""Above the Train page's form: settings suggested for the data, published recipes, why they are so, and a way back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

import streamlit as st
from pydantic import BaseModel

from pages.ui.background import Background, show_work, start_work
from pages.ui.forms import BY_HAND
from pages.ui.frame import errors_shown, plain, services
from seglib.config import RunConfig
from seglib.jobs.importing import Cancelled, Progress
from seglib.report import DatasetReport, make_report, stored_report
from seglib.store.datasets import DatasetRow
from seglib.training.advice import config_for, recipe_for, suggestion_for
from seglib.training.recipes import RECIPES
from seglib.training.suggestion import Suggestion


@dataclass
class _Start:
    """What a form starts from; kept in the session, one for each data set.

    given: what filled the form last, and title, how that is called; now: what the form held when it was last drawn.
    before: what it held before it was filled.
    measured: whether the report that a suggestion waited for is there.
    """

    given: Suggestion | None = None
    title: str = ""
    now: RunConfig | None = None
    before: RunConfig | None = None
    first: RunConfig | None = None
    measured: bool = False
    measuring: Background = field(default_factory=Background)


def start_of(dataset: DatasetRow) -> RunConfig:
    """What the form of a data set starts from."""
    return _state(dataset).first or config_for(dataset)


def remember(dataset: DatasetRow, config: RunConfig) -> None:
    """Keeps what the form holds, so that filling it can be undone."""
    _state(dataset).now = config


def show_suggestions(dataset: DatasetRow, prefix: str) -> None:
    """Draws the controls; must come before the form. prefix: of the form's keys."""
    state, key = _state(dataset), f"suggest.{dataset.id}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = st.button(
            "Suggest settings",
            icon=":material/lightbulb:",
            help="Fits patches, network, loss, augmentation and length to the report of the data and to this machine.",
            disabled=state.measuring.work is not None,
            key=f"{key}.go",
        )
        recipe = st.selectbox(
            "Start from",
            list(RECIPES),
            index=None,
            format_func=lambda name: RECIPES[name].title,
            placeholder="a published recipe",
            help="The settings of other systems, changed where these data force it.",
            key=f"{key}.recipe",
            width=330,
        )
        taken = st.button("Use recipe", disabled=recipe is None, key=f"{key}.take")
    show_work(state.measuring, key=f"{key}.work", unit="plane")
    with errors_shown():
        if asked or state.measured:
            _suggest(dataset, state, prefix)
        if taken and recipe is not None:
            _fill(state, prefix, recipe_for(dataset, recipe), RECIPES[recipe].title)
    _reasons(state, prefix, key)


def fill_form(dataset: DatasetRow, prefix: str, config: RunConfig) -> None:
    """Fills the form of a data set with settings from elsewhere; must come before the form. prefix: of its keys."""
    state = _state(dataset)
    state.given = None
    _put(state, prefix, config)


def _suggest(dataset: DatasetRow, state: _Start, prefix: str) -> None:
    """Fills the form, after the data were measured where that was not done."""
    state.measured = False
    workspace = services().workspace
    report = stored_report(workspace, dataset)
    if report is None:

        def work(progress: Progress, cancelled: Cancelled) -> DatasetReport:
            return make_report(workspace, dataset, progress=progress, cancelled=cancelled)

        def done(_: DatasetReport) -> None:
            state.measured = True

        start_work(state.measuring, work, done)
        return
    with st.spinner("Sizing patches and network for this machine"):
        suggestion = suggestion_for(dataset, report.volumes)
    _fill(state, prefix, suggestion, "Suggested settings")


def _fill(state: _Start, prefix: str, suggestion: Suggestion, title: str) -> None:
    state.before, state.given, state.title = state.now, suggestion, title
    _put(state, prefix, suggestion.config)


def _put(state: _Start, prefix: str, config: RunConfig) -> None:
    """Makes a config what the form holds."""
    state.first = config
    for path, value in form_values(config):
        st.session_state[f"{prefix}.{path}"] = value


def _reasons(state: _Start, prefix: str, key: str) -> None:
    """Why the form is filled as it is, and a button that brings back what was there."""
    if state.given is None:
        return

    def undo() -> None:
        if state.before is not None:
            _put(state, prefix, state.before)
        state.given = None

    why, back = st.columns([6, 1])
    back.button("Undo", icon=":material/undo:", on_click=undo, key=f"{key}.undo", width="stretch")
    with why.expander(f"{state.title}: why they are so", icon=":material/lightbulb:", expanded=True):
        lines = [
            f"- **{plain(reason.field.replace('.', ' · ').replace('_', ' ').capitalize())}**: {plain(reason.text)}"
            for reason in state.given.reasons
        ]
        st.markdown("\n".join(lines))


def form_values(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """(key below the form's prefix, value) of every widget that shows a config, as `forms` names them."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _of_part(name, value)
        elif name != "version":
            yield name, value


def _of_part(path: str, part: BaseModel) -> Iterator[tuple[str, Any]]:
    kind = getattr(part, "kind", "")
    if kind:
        yield f"{path}.kind", kind
    for name, info in type(part).model_fields.items():
        key, value = ".".join(filter(None, (path, kind, name))), getattr(part, name)
        if name == "kind" or key in ("data.dataset", "data.labels"):  # asked for elsewhere on the page
            continue
        if isinstance(value, BaseModel):
            yield from _of_part(key, value)
        elif isinstance(value, tuple):
            yield from _of_tuple(key, value, info.annotation)
        else:
            yield key, value


def _of_tuple(key: str, value: tuple[Any, ...], annotation: Any) -> Iterator[tuple[str, Any]]:
    """Sides, parts in rows, names, or numbers typed in."""
    if value and isinstance(value[0], BaseModel):
        yield f"{key}.rows", (list(range(len(value))), len(value))
        for row, part in enumerate(value):
            yield from _of_part(f"{key}.{row}", part)
    elif get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        yield from ((f"{key}.{axis}", side) for axis, side in zip("zyx", value, strict=True))
    elif get_origin(annotation) is tuple:
        yield key, list(value)
    else:
        yield key, BY_HAND
        yield f"{key}.{BY_HAND}", ", ".join(f"{one:.10g}" for one in value)


def _state(dataset: DatasetRow) -> _Start:
    state: _Start = st.session_state.setdefault(f"suggest.{dataset.id}.state", _Start())
    return state
