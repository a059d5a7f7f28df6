"""Runs side by side: their curves in one plot, where their settings differ, the same plane segmented by each."""

import re

import pandas as pd
import streamlit as st

from pages.ui.curves import COLOURS, Chart, Trace, show_curves
from pages.ui.frame import errors_shown, moment, plain, run_label, services
from pages.ui.picking import pick_volume
from pages.ui.viewer import Layer, Panel, prediction_layer, show_viewer, volume_layers
from seglib.config import PredictConfig
from seglib.config.versions import upgraded
from seglib.jobs.submit import submit_prediction
from seglib.previews import PreviewFacts, differing, flatten, preview_facts
from seglib.store.datasets import VolumeRow
from seglib.store.metrics import list_previews
from seglib.store.runs import RunRow, checkpoints, list_runs

METRICS = {
    "val/dice": "Dice, whole validation part",
    "val/iou": "IoU, whole validation part",
    "val/dice_at_best_threshold": "Dice at the best thresholds, whole validation part",
    "val/precision": "Precision, whole validation part",
    "val/recall": "Recall, whole validation part",
    "val/specificity": "Specificity, whole validation part",
    "val/accuracy": "Accuracy, whole validation part",
    "val/total_error": "Total error, whole validation part",
    "val/hausdorff95": "Hausdorff distance 95 % in nm, whole validation part",
    "val/surface_distance": "Surface distance in nm, whole validation part",
    "val/surface_dice": "Surface Dice, whole validation part",
    "val/loss": "Loss, whole validation part, mean over tiles",
    "train/dice": "Dice, training patches",
    "train/iou": "IoU, training patches",
    "train/loss": "Loss, training patches",
}


def main() -> None:
    st.title("Compare")
    runs = list_runs(services().store, kind="train")
    if len(runs) < 2:
        st.info("Comparing needs at least two runs.")
        st.page_link("train.py", label="Start another one", icon=":material/model_training:")
        return
    chosen = _choose(runs)
    if len(chosen) < 2:
        st.info("Tick two or more runs in the table.")
        return
    with errors_shown():
        _curves(chosen)
        _settings(chosen)
        _pictures(chosen)


def _choose(runs: list[RunRow]) -> list[RunRow]:
    """The runs ticked, which are kept in the address."""
    asked = [int(text) for text in re.findall(r"\d{1,9}", st.query_params.get("runs", ""))]
    table = pd.DataFrame(
        [
            {
                "Run": run.id,
                "Name": run.name,
                "State": run.status,
                "Best validation score": row.score
                # Without labels it is a loss, which cannot be compared with Dice.
                if (row := checkpoints(services().store, run.id).get("best")) and (row.score or 0) >= 0
                else None,
                "Created": moment(run.created_at),
            }
            for run in runs
        ]
    )
    rows = [index for index, run in enumerate(runs) if run.id in asked]
    picked = st.dataframe(
        table,
        hide_index=True,
        key=f"compare.table.{len(runs)}",
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": rows}},
    )
    chosen = [runs[index] for index in sorted(picked.selection.rows)]
    if [run.id for run in chosen] != asked:
        st.query_params["runs"] = ",".join(str(run.id) for run in chosen)
    return chosen


def _curves(chosen: list[RunRow]) -> None:
    metric = st.selectbox("Curve", list(METRICS), format_func=METRICS.__getitem__, key="compare.metric")
    traces = [Trace(run.id, metric, run_label(run), COLOURS[index % len(COLOURS)]) for index, run in enumerate(chosen)]
    shown = f"compare.{metric}.{'.'.join(str(run.id) for run in chosen)}"
    show_curves(shown, [Chart(METRICS[metric], tuple(traces), x="epoch")], live=not all(run.is_over for run in chosen))


def _settings(chosen: list[RunRow]) -> None:
    # Settings of earlier versions of the product are compared by what they mean today.
    configs = {run_label(run): upgraded(run.config) for run in chosen}
    different = differing(list(configs.values()))
    only = st.toggle("Only what differs", True, key="compare.only")
    flat = {name: flatten(config) for name, config in configs.items()}
    names = sorted(
        {name for config in flat.values() for name in config}, key=lambda name: (name not in different, name)
    )
    shown = [name for name in names if name in different or not only]
    table = pd.DataFrame(
        {label: [str(config.get(name, "—")) for name in shown] for label, config in flat.items()},
        index=pd.Index([("≠ " if name in different else "") + name for name in shown], name="Setting"),
    )
    if not shown:
        st.caption("All settings are the same.")
        return
    marked = table.style.apply(
        lambda row: ["background-color: rgba(230, 159, 0, 0.25)" if row.name.startswith("≠") else ""] * len(row), axis=1
    )
    st.dataframe(marked)


def _pictures(chosen: list[RunRow]) -> None:
    st.subheader("The same plane, segmented by each")
    previews = _shared_preview(chosen)
    own = "Validation preview of these runs"
    where = st.radio("On", [own, "A volume"], horizontal=True, key="compare.where") if previews else "A volume"
    if where == own and previews:
        _show_previews(chosen, previews)
    elif (volume := pick_volume("compare.volume", preferred=chosen[0].config["data"]["dataset"])) is not None:
        _show_predictions(chosen, volume)


def _shared_preview(chosen: list[RunRow]) -> PreviewFacts | None:
    """The preview crop, where all runs have the same one."""
    if not all(list_previews(services().store, run.id) for run in chosen):
        return None
    facts = {preview_facts(services().workspace, run.id) for run in chosen}
    return facts.pop() if len(facts) == 1 else None


def _show_previews(chosen: list[RunRow], facts: PreviewFacts) -> None:
    first = f"/api/planes/preview/{chosen[0].id}"
    image = Layer("image", f"{first}/image", "image", facts.version)
    panels = [Panel("Label", (image, Layer("labels", f"{first}/labels", "labels", facts.version)))]
    for run in chosen:
        last = list_previews(services().store, run.id)[-1]
        layer = Layer("prediction", f"/api/planes/preview/{run.id}/{last.layer}", "labels", f"{last.time:.3f}")
        panels.append(Panel(f"{run_label(run)} (epoch {last.epoch})", (image, layer)))
    show_viewer("compare.previews", panels, shape_zyx=facts.shape_zyx, voxel_size_nm=facts.voxel_size_nm, height=420)


def _show_predictions(chosen: list[RunRow], volume: VolumeRow) -> None:
    made: dict[int, RunRow] = {}
    waiting: set[int] = set()
    for prediction in reversed(list_runs(services().store, kind="predict")):
        if prediction.config["volume"] != volume.id:
            continue
        if prediction.status == "finished":
            made[prediction.config["run"]] = prediction
        elif not prediction.is_over:
            waiting.add(prediction.config["run"])
    missing = [run for run in chosen if run.id not in made and run.id not in waiting]
    able = [run for run in missing if "best" in checkpoints(services().store, run.id)]
    if able and st.button(
        f"Segment {plain(volume.name)} with the {len(able)} run(s) that have not", icon=":material/auto_awesome:"
    ):
        for run in able:
            submit_prediction(services().store, PredictConfig(run=run.id, volume=volume.id))
        st.rerun()
    if any(run.id in waiting for run in chosen):
        st.caption("Predictions are under way; they show here when they are done.")
        st.button("Look again", icon=":material/refresh:")
    layers = volume_layers(volume.id, has_labels=volume.has_labels, version=volume.fingerprint[:12])
    panels = [Panel("Label" if volume.has_labels else "Image", layers)]
    for run in chosen:
        if run.id in made:
            panels.append(
                Panel(run_label(run), (layers[0], prediction_layer(made[run.id].id, str(made[run.id].ended_at))))
            )
    show_viewer(
        f"compare.volume.{volume.id}",
        panels,
        shape_zyx=volume.shape_zyx,
        voxel_size_nm=volume.voxel_size_nm,
        height=420,
    )


main()
