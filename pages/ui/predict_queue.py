"""Predictions that wait, run and are over, and what can be done with them."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.ui.frame import duration, errors_shown, moment, plain, services
from seglib.jobs.submit import resume_run
from seglib.store.runs import RESUMABLE, RunRow, delete_run, get_run, list_runs, request_stop

TICK_S = 1.0
# Predictions under way that are shown with a bar each.
SHOWN = 10


def show_predictions() -> None:
    """All predictions, those under way first; nothing where there is none."""
    runs = list_runs(services().store, kind="predict")
    if not runs:
        return
    st.subheader("Predictions")
    waiting = [run for run in reversed(runs) if not run.is_over]
    if waiting:
        st.fragment(_under_way, run_every=TICK_S)(tuple(run.id for run in waiting))
    rows = [
        {"Prediction": run.id, "Name": run.name, "State": run.status, "Made": moment(run.created_at)} for run in runs
    ]
    picked = st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="predict.table", on_select="rerun", selection_mode="single-row"
    )
    st.caption("Pick a row to open the prediction.")
    if picked.selection.rows:
        chosen = str(runs[picked.selection.rows[0]].id)
        if st.query_params.get("prediction") != chosen:
            st.query_params["prediction"] = chosen
            st.rerun()


def show_state(run: RunRow) -> None:
    """Progress of a prediction and its buttons, drawn anew by itself until it is over."""
    if not run.is_over:
        st.fragment(_watch, run_every=TICK_S)(run.id)
        return
    if run.message:
        (st.error if run.status == "failed" else st.info)(plain(run.message))
    if run.status in RESUMABLE:
        st.caption("What was predicted is kept: Resume goes on after it.")
    with st.container(horizontal=True):
        if run.status in RESUMABLE and st.button("Resume", icon=":material/resume:", key=f"predict.resume.{run.id}"):
            with errors_shown():
                resume_run(services().store, run.id)
                st.rerun()
        if st.button("Delete", icon=":material/delete:", key=f"predict.delete.{run.id}"):
            _confirm_delete(run)


def _watch(run_id: int) -> None:
    run = get_run(services().store, run_id)
    if run.is_over:
        st.rerun()  # without a timer
    _bar(run)


def _under_way(ids: Sequence[int]) -> None:
    runs = list_runs(services().store, kind="predict")
    by_id = {run.id: run for run in runs}
    if any(one not in by_id or by_id[one].is_over for one in ids):
        st.rerun()
    for one in ids[:SHOWN]:
        # The one that is open has its bar above.
        if st.query_params.get("prediction") != str(one):
            _bar(by_id[one], named=True)
    stoppable = [one for one in ids if by_id[one].status != "stopping"]
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(ids) > 1 and st.button("Stop all", icon=":material/stop:", key="predict.stop", disabled=not stoppable):
            for one in stoppable:
                request_stop(services().store, one)
            st.rerun()
        if len(ids) > SHOWN:
            st.caption(f"{len(ids) - SHOWN:,} more wait.")


def _bar(run: RunRow, *, named: bool = False) -> None:
    """How far a prediction is, and the button that stops it."""
    share = run.done / run.total if run.total else 0.0
    left = f", {duration(run.seconds_left)} left" if run.seconds_left is not None else ""
    steps = f": {run.done:,} of {run.total:,} steps{left}" if run.total and run.status != "queued" else ""
    name = f"{run.id} · {plain(run.name)} · " if named else ""
    bar, button = st.columns([6, 1], vertical_alignment="bottom")
    bar.progress(min(1.0, share), text=f"{name}{run.status}{steps}")
    if button.button(
        "Stop", icon=":material/stop:", disabled=run.status == "stopping", key=f"predict.stop.{run.id}",
        width="stretch", help="What was predicted is kept, so that it can be resumed.",
    ):  # fmt: skip
        request_stop(services().store, run.id)
        st.rerun()


@st.dialog("Delete this prediction?")
def _confirm_delete(run: RunRow) -> None:
    st.write(
        f"Prediction {run.id} ({plain(run.name)}) will be gone for good, with its labels, probabilities, scores and "
        "the files made of it. The run and the volume stay."
    )
    if st.button("Delete it", type="primary", icon=":material/delete:", key=f"predict.deleted.{run.id}"):
        delete_run(services().store, run.id)
        workspace = services().workspace
        workspace.discard([workspace.prediction(run.id), workspace.run(run.id)])
        st.query_params.clear()
        st.rerun()
