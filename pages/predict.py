"""Segment volumes with trained runs, look at the result, change its thresholds, take it along."""

import streamlit as st

from pages.ui.exports import show_exports
from pages.ui.frame import errors_shown, id_from_url, plain, services
from pages.ui.predict_form import predict_form
from pages.ui.predict_look import look_at
from pages.ui.predict_queue import show_predictions, show_state
from pages.ui.scores import show_scores
from seglib.store.datasets import get_volume, list_datasets
from seglib.store.details import get_details
from seglib.store.metrics import last_values, log_tail
from seglib.store.runs import RunRow, checkpoints, get_run, list_runs


def main() -> None:
    st.title("Predict")
    asked = id_from_url("prediction")
    if asked is not None:
        with errors_shown():
            _opened(asked)
    else:
        _new()
    with errors_shown():
        show_predictions()


def _new() -> None:
    store = services().store
    trained = {run.id: run for run in list_runs(store, kind="train") if checkpoints(store, run.id)}
    if not trained or not list_datasets(store):
        st.info("Predicting needs a trained run, with its first validation behind it, and a volume.")
        st.page_link("train.py", label="Go to Train", icon=":material/model_training:")
        return
    with errors_shown():
        predict_form(trained)


def _opened(run_id: int) -> None:
    if st.button("New prediction", icon=":material/arrow_back:"):
        st.query_params.clear()
        st.rerun()
    run = get_run(services().store, run_id)
    if run.kind == "train":
        st.switch_page("runs.py", query_params={"run": str(run.id)})
    st.subheader(f"{run.id} · {plain(run.name)}")
    show_state(run)
    if run.status == "finished":
        _result(run)
    if run.is_over:
        with st.expander("Log", icon=":material/article:", expanded=run.status == "failed"):
            st.code("\n".join(text for _, text in log_tail(services().store, run_id)), language=None)


def _result(run: RunRow) -> None:
    volume = get_volume(services().store, run.config["volume"])
    scores = {name.removeprefix("volume/"): value for name, value in last_values(services().store, run.id).items()}
    if scores:
        show_scores(
            scores,
            get_details(services().store, run.id, "volume"),
            where="whole volume",
            over="all annotated voxels of the volume",
        )
        # Of labels that were made anew only what was said last counts.
        said = [text for _, text in log_tail(services().store, run.id) if text.startswith("Scores are over")]
        for text in said[-1:]:
            st.caption(plain(text))
    look_at(run, volume)
    show_exports(run, volume)


main()
