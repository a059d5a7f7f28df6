"""All runs in a table; one run live: state, curves, the validation preview, its log; and groups of runs."""

import json

import pandas as pd
import streamlit as st

from pages.ui.curves import COLOURS, Chart, Trace, show_curves
from pages.ui.frame import class_names, duration, errors_shown, id_from_url, moment, plain, services
from pages.ui.model_export import show_model_export
from pages.ui.run_actions import show_actions, shown_state, stalled_hint
from pages.ui.run_group import show_group, show_group_link, show_groups
from pages.ui.scores import show_scores
from pages.ui.viewer import Layer, Panel, preview_layers, show_viewer
from seglib.config import parse_run_config
from seglib.jobs.recorder import WARNING
from seglib.previews import preview_facts
from seglib.store.details import get_details
from seglib.store.metrics import last_value, list_previews, log_tail, validation_scores
from seglib.store.runs import RunRow, checkpoints, get_run, list_runs, milestone

STATE_TICK_S = 2
DETAILS_TICK_S = 4
LOSS = (
    ("train/loss", "training, by epoch"),
    ("val/loss", "validation"),
    ("step/loss", "training, by step"),
)
SCORES = (
    ("train/dice", "Dice, training"),
    ("val/dice", "Dice, validation"),
    ("train/iou", "IoU, training"),
    ("val/iou", "IoU, validation"),
)


def main() -> None:
    asked, group = id_from_url("run"), id_from_url("group")
    if asked is None and group is None:
        _table()
        return
    with errors_shown():
        if asked is None:
            assert group is not None
            show_group(group)
            return
        run = get_run(services().store, asked)
        if run.kind == "predict":
            st.switch_page("predict.py", query_params={"prediction": str(run.id)})
        _one(run)


def _table() -> None:
    st.title("Runs")
    runs = list_runs(services().store, kind="train")
    if not runs:
        st.info("No run yet. Choose a data set and start one on the Train page.")
        st.page_link("train.py", label="Go to Train", icon=":material/model_training:")
        return
    best = {run.id: checkpoints(services().store, run.id).get("best") for run in runs}
    rows = [
        {
            "Run": run.id,
            "Name": run.name,
            "State": shown_state(run),
            "Progress": run.done / run.total if run.total else 0.0,
            "Best validation score": row.score if (row := best[run.id]) else None,
            "Device": run.device,
            "Started": moment(run.started_at),
            "Duration": duration((run.ended_at or run.heartbeat_at or run.created_at) - run.started_at)
            if run.started_at
            else "–",
        }
        for run in runs
    ]
    picked = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key="runs.table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"Progress": st.column_config.ProgressColumn(format="percent")},
    )
    st.caption("Pick a row to open the run.")
    show_groups()
    if picked.selection.rows:
        st.query_params["run"] = str(runs[picked.selection.rows[0]].id)
        st.rerun()


def _one(run: RunRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("All runs", icon=":material/arrow_back:"):
            st.query_params.clear()
            st.rerun()
        st.header(f"{run.id} · {plain(run.name)}")
    if run.group_id is not None:
        show_group_link(run.group_id)
    show_actions(run)
    # A finished run does not change: no timer, so that an open page costs nothing.
    st.fragment(_state, run_every=None if run.is_over else STATE_TICK_S)(run.id)
    _curves(run)
    st.fragment(_details, run_every=None if run.is_over else DETAILS_TICK_S)(run.id)
    with st.expander("Take the model along", icon=":material/deployed_code:"):
        show_model_export(run)
    with st.expander("Settings", icon=":material/settings:"):
        st.json(json.dumps(run.config))


def _state(run_id: int) -> None:
    """State and progress; drawn again every tick."""
    run = get_run(services().store, run_id)
    best = checkpoints(services().store, run.id).get("best")
    config = parse_run_config(run.config)
    notice = st.container()  # always there, so that nothing below it jumps
    if run.message:
        show = notice.error if run.status == "failed" else notice.info
        show(plain(run.message))
    if run.status == "queued":
        notice.info(f"Waits for its turn on {run.device}. Runs on one device go one after the other.")
    if run.status == "pausing":
        notice.info("Pauses after the current batch, and gives up its device.")
    if hint := stalled_hint(run):
        notice.warning(hint)
    for _, text in log_tail(services().store, run.id, limit=500):
        if text.startswith(WARNING):
            notice.warning(plain(text.removeprefix(WARNING)))
    st.progress(min(1.0, run.done / run.total) if run.total else 0.0)
    cells = st.columns([1.2, 1, 1.2, 1, 1.2, 1.6])
    cells[0].metric("State", shown_state(run))
    cells[1].metric("Epoch", f"{run.epoch}" if config.length.iterations else f"{run.epoch} / {config.length.epochs}")
    cells[2].metric("Step", f"{run.done} / {run.total}" if run.total else f"{run.done}")
    cells[3].metric(
        "Patches / s",
        f"{run.patches_per_s:.1f}" if run.patches_per_s else "–",
        help="Training patches a second, over the last steps.",
    )
    cells[4].metric("Time left", duration(run.seconds_left) if not run.is_over else "–")
    score, loss = (last_value(services().store, run.id, f"val/{name}") for name in ("dice", "loss"))
    unlabelled = score is None and loss is not None
    shown = loss if unlabelled else score
    reached = best.score if best else None
    cells[5].metric(
        "Validation loss" if unlabelled else "Validation Dice",
        "–" if shown is None else f"{shown:.4f}",
        f"best {'loss' if unlabelled else config.validation.best_by} {abs(reached):.4f}, epoch {best.epoch}"
        if best and reached is not None
        else None,
        delta_color="off",
        delta_arrow="off",
        help="Of the whole validation part, in which nothing is labelled: there is no Dice to show."
        if unlabelled
        else "Mean over classes, counted over every voxel of the validation part, at threshold 0.5.",
    )


def _curves(run: RunRow) -> None:
    """Loss, and Dice and IoU; the browser keeps them up to date by itself."""
    names = class_names(run)
    needs_labels = parse_run_config(run.config).model.needs_labels
    scored = needs_labels or last_value(services().store, run.id, "val/dice") is not None
    classes = [(f"val/dice/{name}", f"Dice of {name}, validation") for name in names if len(names) > 1]
    charts = [
        Chart(title, tuple(Trace(run.id, metric, label, _colour(index, metric), metric.startswith("step/"))
        for index, (metric, label) in enumerate(curves)))
        for title, curves in (("Loss", LOSS), ("Dice and IoU", (*SCORES, *classes)))[: 2 if scored else 1]
    ]  # fmt: skip
    # Buttons and timers outside the ticking parts depend on milestones, so those run the page again.
    shown = {run.id: milestone(services().store, run)}
    show_curves(f"runs.curves.{run.id}", charts, live=not run.is_over, milestones=shown)
    st.caption(
        "Training: over the patches of an epoch. Validation: over the whole validation part, segmented tile by tile."
    )


def _colour(index: int, metric: str) -> str:
    """Training and validation have the same colours in all charts; each class has one of its own."""
    if metric.count("/") > 1:
        return COLOURS[index % len(COLOURS)]
    first = {"step": 0, "train": 0, "val": 1}[metric.split("/")[0]]
    return COLOURS[(first + 2 * (index // 2)) % len(COLOURS)]


def _details(run_id: int) -> None:
    """Preview and log; drawn again every tick."""
    run = get_run(services().store, run_id)
    _preview(run)
    _scores(run)
    with st.expander("Log", icon=":material/article:", expanded=run.status == "failed"):
        lines = [f"{moment(when)}  {text}" for when, text in log_tail(services().store, run_id)]
        st.code("\n".join(lines) or "Nothing yet.", language=None, height=240)


def _scores(run: RunRow) -> None:
    """Scores of the validation that gave the best checkpoint, or of the last one where none is kept."""
    store, kept = services().store, checkpoints(services().store, run.id)
    chosen = kept.get("best") or kept.get("last")
    scores = validation_scores(store, run.id, chosen.step) if chosen else {}
    if chosen and len(scores) > 1:  # more than a loss
        st.markdown(f"**Scores of the {chosen.kind} checkpoint**, after epoch {chosen.epoch}")
        details = get_details(store, run.id, "val", chosen.step)
        over = "every annotated voxel of the whole validation part, at threshold 0.5"
        show_scores(scores, details, where="validation part", over=over)


def _preview(run: RunRow) -> None:
    previews = list_previews(services().store, run.id)
    if not previews:
        st.caption("A plane of the validation part, with label and prediction, appears after the first validation.")
        return
    last = previews[-1]
    facts = preview_facts(services().workspace, run.id)
    version = f"{run.attempt}.{last.time:.3f}"
    image, prediction = preview_layers(run.id, last.layer, version)
    truth = Layer("labels", f"/api/planes/preview/{run.id}/labels", "labels", f"{facts.version}")
    image = Layer(image.name, image.url, image.kind, facts.version)
    st.markdown(f"**Validation part, after epoch {last.epoch}** (step {last.step})")
    show_viewer(
        f"runs.preview.{run.id}",
        [Panel("Label", (image, truth)), Panel("Prediction", (image, prediction))],
        shape_zyx=facts.shape_zyx,
        voxel_size_nm=facts.voxel_size_nm,
        classes=dict(enumerate(class_names(run), start=1)),
        height=420,
    )


main()
