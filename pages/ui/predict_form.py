"""The form of a prediction: which runs, which volumes, how; what it would do; and the button that queues it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.ui.forms import FormContext, field_within, section
from pages.ui.frame import class_names, errors_shown, id_from_url, run_label, services
from pages.ui.predict_check import show_check
from pages.ui.predict_images import OPENED, add_images
from pages.ui.predict_look import MOST_SLIDERS, threshold_slider
from seglib.config import PredictConfig, parse_predict_config
from seglib.jobs.submit import submit_predictions
from seglib.store.datasets import VolumeRow, find_volumes, get_dataset, get_volume, list_datasets
from seglib.store.runs import CheckpointRow, RunRow, checkpoints, list_runs

# Volumes that are offered at once; further ones are found by their names.
SHOWN = 200
IN_SIGHT = ("ensemble.variations", "ensemble.uncertainty")
OWN, BY_HAND = "The run's own", "By hand"


def predict_form(trained: Mapping[int, RunRow]) -> None:
    """Draws the form. trained: runs with a checkpoint, at least one."""
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("What to segment")
        volumes = _ask_volumes()
        add_images()
    with right:
        st.subheader("With which run")
        run = _ask_run(trained)
        prefix = f"predict.{run.id}"
        context = _context(prefix, run, trained)
        start = PredictConfig(run=run.id, volume=volumes[0].id if volumes else 1)
        checkpoint = section("checkpoint", PredictConfig, start, context)
        runs = _ask_further(run, trained, start, context)
    st.subheader("How")
    asked: dict[str, Any] = {"ensemble.runs": runs}
    columns = st.columns(3, gap="large")
    with columns[0]:
        asked["cleaning.thresholds"] = _ask_thresholds(prefix, run, start, context)
    for column, path in zip(columns[1:], IN_SIGHT, strict=True):
        with column:
            asked[path] = field_within(path, PredictConfig, start, context)
    values = {"run": run.id, "volume": start.volume, "checkpoint": checkpoint}
    values |= _more(start, replace(context, given=asked))
    with errors_shown():
        config = parse_predict_config(values)
        ready = bool(volumes) and show_check(config, volumes)
        if st.button("Segment", type="primary", icon=":material/play_arrow:", key="predict.start", disabled=not ready):
            made = submit_predictions(services().store, config, [volume.id for volume in volumes])
            st.query_params["prediction"] = str(made[0])
            st.rerun()


def _ask_run(trained: Mapping[int, RunRow]) -> RunRow:
    wanted = id_from_url("run")
    ids = list(trained)
    chosen = st.selectbox(
        "Run",
        ids,
        index=ids.index(wanted) if wanted in ids else 0,
        format_func=lambda one: run_label(trained[one]),
        key=f"predict.run.{wanted}",
        help="The trained network that segments. Runs appear here after their first validation.",
        persist_state="session",
    )
    return trained[chosen]


def _context(prefix: str, run: RunRow, trained: Mapping[int, RunRow]) -> FormContext:
    from seglib.inference.devices import list_devices

    others = {key: run_label(other) for key, other in trained.items() if key != run.id}
    return FormContext(
        prefix,
        choices={
            "runs": others,
            "checkpoint": {kind: _checkpoint_label(row) for kind, row in _kept(run.id).items()},
            "device": {"auto": "auto (the best there is)", **{name: name for name in list_devices()}},
        },
    )


def _ask_further(
    run: RunRow, trained: Mapping[int, RunRow], start: PredictConfig, context: FormContext
) -> tuple[int, ...]:
    """Runs that predict together with the main one, with a button for the folds of its cross-validation."""
    path = "ensemble.runs"
    if not context.choices["runs"]:
        return ()
    chosen: tuple[int, ...] = field_within(path, PredictConfig, start, context)
    if run.group_id is not None:
        members = list_runs(services().store, kind="train", group_id=run.group_id)
        folds = sorted(one.id for one in members if one.id in trained and one.id != run.id)

        def take() -> None:
            st.session_state[f"{context.prefix}.{path}"] = folds

        st.button(
            f"All {len(folds) + 1} folds of its cross-validation",
            icon=":material/view_week:",
            on_click=take,
            disabled=not folds or set(chosen) == set(folds),
            key=f"{context.prefix}.folds",
            help="Networks that learned from different parts of the data segment together, usually better than one.",
        )
    return chosen


def _ask_thresholds(prefix: str, run: RunRow, start: PredictConfig, context: FormContext) -> tuple[float, ...]:
    how = st.segmented_control(
        "Thresholds",
        (OWN, BY_HAND),
        default=OWN,
        required=True,
        key=f"{prefix}.thresholds",
        help="How sure the network has to be. Its own are those that did best on its validation part. They can be "
        "changed after predicting, too, where probabilities are kept.",
    )
    if how == OWN:
        return ()
    names = class_names(run)
    if len(names) > MOST_SLIDERS:
        typed: tuple[float, ...] = field_within("cleaning.thresholds", PredictConfig, start, context)
        return typed
    return tuple(threshold_slider(name, 0.5, key=f"{prefix}.threshold.{index}") for index, name in enumerate(names))


def _more(start: PredictConfig, context: FormContext) -> dict[str, Any]:
    """All settings that are not in sight."""
    values: dict[str, Any] = {}
    layout = (("tiles",), ("cleaning", "ensemble"), ("keep", "resample", "surfaces", "compute"))
    with st.expander("More settings: clean-up, windows, what is kept, device", icon=":material/settings:"):
        for column, names in zip(st.columns(3), layout, strict=True):
            with column:
                values |= {name: section(name, PredictConfig, start, context) for name in names}
    return values


def _ask_volumes() -> Sequence[VolumeRow]:
    """The volumes to segment, of one data set."""
    datasets = {row.id: row for row in list_datasets(services().store)}
    opened = st.session_state.get(OPENED)
    ids = list(datasets)
    dataset = st.selectbox(
        "Data set",
        ids,
        index=ids.index(opened) if opened in ids else 0,
        format_func=lambda one: f"{one} · {datasets[one].name}",
        key=f"predict.dataset.{opened}",
        persist_state="session",
    )
    count = datasets[dataset].volume_count
    if count > 1 and st.toggle(f"All {count:,} volumes of it", key=f"predict.all.{dataset}", persist_state="session"):
        return get_dataset(services().store, dataset).volumes
    text = ""
    if count > SHOWN:
        text = st.text_input("Find volumes", key=f"predict.find.{dataset}", placeholder="Part of their names")
    found, matching = find_volumes(services().store, dataset, text=text, limit=SHOWN)
    key = f"predict.volumes.{dataset}"
    by_id = {volume.id: volume for volume in found}
    # What was chosen stays when others are looked for.
    for chosen in st.session_state.get(key, []):
        by_id.setdefault(chosen, get_volume(services().store, chosen))
    picked = st.multiselect(
        "Volumes" if matching <= SHOWN else f"Volumes (the first {SHOWN} of {matching:,})",
        list(by_id),
        default=list(by_id)[:1],
        format_func=lambda one: f"{one} · {by_id[one].name}",
        key=key,
        persist_state="session",
    )
    return [by_id[one] for one in picked]


def _kept(run_id: int) -> dict[str, CheckpointRow]:
    """A run's checkpoints, the best and the last one first, then the newest."""
    kept = checkpoints(services().store, run_id)
    order = sorted(kept, key=lambda kind: (kind != "best", kind != "last", -kept[kind].step))
    return {kind: kept[kind] for kind in order}


def _checkpoint_label(row: CheckpointRow) -> str:
    return f"{row.kind if row.kind in ('best', 'last') else 'earlier state'}: step {row.step}, epoch {row.epoch}"
