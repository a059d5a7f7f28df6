"""Segment a volume with a trained run, look at the result, take it along."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.ui.forms import FormContext, section
from pages.ui.frame import duration, errors_shown, id_from_url, moment, plain, run_label, services
from pages.ui.picking import pick_volume
from pages.ui.scores import show_scores
from pages.ui.viewer import Panel, prediction_layer, show_viewer, volume_layers
from seglib.config import PredictConfig, parse_predict_config
from seglib.jobs.submit import submit_prediction
from seglib.store.datasets import get_volume, list_datasets
from seglib.store.details import get_details
from seglib.store.metrics import last_values, log_tail
from seglib.store.runs import CheckpointRow, RunRow, checkpoints, get_run, list_runs, request_stop

TICK_S = 1.0


def main() -> None:
    st.title("Predict")
    trained = {
        run.id: run for run in list_runs(services().store, kind="train") if checkpoints(services().store, run.id)
    }
    if not trained or not list_datasets(services().store):
        st.info("Predicting needs a trained run, with its first validation behind it, and a volume.")
        st.page_link("train.py", label="Go to Train", icon=":material/model_training:")
        return
    with errors_shown():
        _form(trained)
    asked = id_from_url("prediction")
    if asked is not None:
        with errors_shown():
            run = get_run(services().store, asked)
            if run.kind == "train":
                st.switch_page("runs.py", query_params={"run": str(run.id)})
            st.fragment(_result, run_every=None if run.is_over else TICK_S)(run.id)
    _earlier()


def _form(trained: dict[int, RunRow]) -> None:
    wanted = id_from_url("run")
    first = wanted if wanted in trained else next(iter(trained))
    volume = pick_volume("predict.volume")
    if volume is None:
        return
    start = PredictConfig(run=first, volume=volume.id)
    from seglib.inference.devices import list_devices

    chosen = st.session_state.get(f"predict.{first}.run", first)
    context = FormContext(
        f"predict.{first}",
        choices={
            "run": {key: run_label(run) for key, run in trained.items()},
            "checkpoint": {kind: _checkpoint_label(row) for kind, row in _kept(chosen).items()},
            "device": {"auto": "auto (the best there is)", **{name: name for name in list_devices()}},
        },
        given={"volume": volume.id},
    )
    values: dict[str, Any] = {"volume": volume.id}
    left, right = st.columns(2)
    with left:
        values |= {name: section(name, PredictConfig, start, context) for name in ("run",)}
    with right:
        values |= {
            name: section(name, PredictConfig, start, context) for name in ("checkpoint", "threshold", "surfaces")
        }
    with st.expander("More settings", icon=":material/settings:"):
        rest = [name for name in PredictConfig.model_fields if name not in values and name != "version"]
        for column, name in zip(st.columns(len(rest)), rest, strict=True):
            with column:
                values[name] = section(name, PredictConfig, start, context)
    if st.button("Segment", type="primary", icon=":material/play_arrow:", key="predict.start"):
        run = submit_prediction(services().store, parse_predict_config(values))
        st.query_params["prediction"] = str(run)
        st.rerun()


def _kept(run_id: int) -> dict[str, CheckpointRow]:
    """A run's checkpoints, the best and the last one first, then the newest."""
    kept = checkpoints(services().store, run_id)
    order = sorted(kept, key=lambda kind: (kind != "best", kind != "last", -kept[kind].step))
    return {kind: kept[kind] for kind in order}


def _checkpoint_label(row: CheckpointRow) -> str:
    return f"{row.kind if row.kind in ('best', 'last') else 'earlier state'}: step {row.step}, epoch {row.epoch}"


def _result(run_id: int) -> None:
    run = get_run(services().store, run_id)
    st.subheader(f"{run.id} · {plain(run.name)}")
    if not run.is_over:
        share = run.done / run.total if run.total else 0.0
        left = f", {duration(run.seconds_left)} left" if run.seconds_left is not None else ""
        st.progress(min(1.0, share), text=f"{run.status}: {run.done} of {run.total or '?'} tiles{left}")
        if st.button("Stop", icon=":material/stop:", disabled=run.status == "stopping"):
            request_stop(services().store, run_id)
        return
    if st.session_state.get("predict.seen") != run_id:
        # Once over, the page is drawn again without its timer.
        st.session_state["predict.seen"] = run_id
        st.rerun()
    if run.message:
        (st.error if run.status == "failed" else st.info)(plain(run.message))
    if run.status == "finished":
        _picture(run)
    with st.expander("Log", icon=":material/article:", expanded=run.status == "failed"):
        st.code("\n".join(text for _, text in log_tail(services().store, run_id)), language=None)


def _picture(run: RunRow) -> None:
    volume = get_volume(services().store, run.config["volume"])
    scores = {name.removeprefix("volume/"): value for name, value in last_values(services().store, run.id).items()}
    if scores:
        show_scores(
            scores,
            get_details(services().store, run.id, "volume"),
            where="whole volume",
            over="all annotated voxels of the volume",
        )
        for _, text in log_tail(services().store, run.id):
            if text.startswith("Scores are over"):
                st.caption(plain(text))
    layers = volume_layers(volume.id, has_labels=volume.has_labels, version=volume.fingerprint[:12])
    panels = [Panel("Prediction", (layers[0], prediction_layer(run.id, str(run.ended_at))))]
    if volume.has_labels:
        panels.append(Panel("Label", layers))
    show_viewer(f"predict.viewer.{run.id}", panels, shape_zyx=volume.shape_zyx, voxel_size_nm=volume.voxel_size_nm)
    st.link_button("Download as TIFF", f"/api/files/prediction/{run.id}/labels.tif", icon=":material/download:")


def _earlier() -> None:
    runs = list_runs(services().store, kind="predict")
    if not runs:
        return
    st.subheader("Predictions")
    rows = [
        {"Prediction": run.id, "Name": run.name, "State": run.status, "Made": moment(run.created_at)} for run in runs
    ]
    picked = st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="predict.table", on_select="rerun", selection_mode="single-row"
    )
    if picked.selection.rows:
        chosen = str(runs[picked.selection.rows[0]].id)
        if st.query_params.get("prediction") != chosen:
            st.query_params["prediction"] = chosen
            st.rerun()


main()
