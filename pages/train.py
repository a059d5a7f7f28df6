"""Configure a run, see what it will cost and learn from, and put it in the queue."""

from typing import Any

import streamlit as st

from pages.ui.cloning import cloned_dataset, show_clone
from pages.ui.cross_validation import offer_cross_validation
from pages.ui.examples import show_examples
from pages.ui.forms import FormContext, section, sections
from pages.ui.frame import errors_shown, id_from_url, plain, run_label, services, sizes
from pages.ui.network import show_network
from pages.ui.report_tab import show_findings
from pages.ui.suggestions import remember, show_suggestions, start_of
from pages.ui.trials import show_trials
from seglib.config import ModelConfig, RunConfig, parse_run_config
from seglib.jobs.submit import submit_training
from seglib.models import config_class
from seglib.preflight import Preflight, check_run
from seglib.report import DatasetReport, class_name, findings_of, part_shares, split_of, stored_report
from seglib.store.datasets import DatasetRow, DatasetSummary, get_dataset, list_datasets
from seglib.store.runs import checkpoints, list_runs
from seglib.training.advice import learned_volumes

COLUMNS = (
    ("data", "split", "normalisation"),
    ("patches", "sampling", "augmentation", "length"),
    ("model", "weights", "loss", "optimiser", "schedule"),
)


def main() -> None:
    st.title("Train")
    datasets = {row.id: row for row in list_datasets(services().store) if row.volume_count}
    if not datasets:
        st.info("There is no data set yet. Import one, or make the demo data, on the Datasets page.")
        st.page_link("datasets.py", label="Go to Datasets", icon=":material/stacks:")
        return
    dataset = _pick(datasets)
    with errors_shown():
        show_clone(dataset, f"train.{dataset.id}")
        show_suggestions(dataset, f"train.{dataset.id}")
        config = _form(dataset)
        remember(dataset, config)
        preflight = check_run(services().workspace, dataset, config)
        _summary(dataset, config, preflight)
        if preflight.ready:
            show_examples(dataset, config)
        trying = show_trials(dataset, config, preflight)
        _start(dataset, config, preflight, trying=trying)


def _pick(datasets: dict[int, DatasetSummary]) -> DatasetRow:
    asked = id_from_url("dataset") or cloned_dataset()
    labelled = [key for key, row in datasets.items() if row.labelled_count]
    first = asked if asked in datasets else (labelled or list(datasets))[0]
    chosen = st.selectbox(
        "Data set",
        list(datasets),
        index=list(datasets).index(first),
        format_func=lambda key: f"{key} · {datasets[key].name}{'' if datasets[key].labelled_count else ' (no labels)'}",
        help="The images and labels to learn from. Without labels only WNet3D learns.",
        key=f"train.dataset.{asked}",
    )
    return get_dataset(services().store, chosen)


def _form(dataset: DatasetRow) -> RunConfig:
    """The form, filled with settings that fit the data set; returns what it holds now."""
    start = start_of(dataset)
    # Each data set has a form of its own, as what fits one need not fit the next.
    prefix = f"train.{dataset.id}"
    chosen = _chosen_model(prefix, start)
    labelled = any(volume.has_labels for volume in dataset.volumes)
    context = FormContext(
        prefix,
        choices={
            "device": _devices(),
            "runs": _trained_runs(),
            "volumes": {volume.name: volume.name for volume in dataset.volumes if volume.has_labels or not labelled},
        },
        fixed={"patches.shape.z": 1} if _is_flat(prefix, chosen) else {},
        given={"data.dataset": dataset.id, "data.labels": dataset.labels.model_dump()},
    )
    values: dict[str, Any] = {}
    layout = sections(RunConfig, COLUMNS)
    rest = [name for name in layout[-1] if name not in COLUMNS[-1]]
    # What learns without labels has a loss of its own.
    hidden = () if chosen.needs_labels else ("loss",)
    for column, names in zip(st.columns(3), COLUMNS, strict=True):
        with column:
            values |= {name: section(name, RunConfig, start, context) for name in names if name not in hidden}
    with st.expander("More settings: name, validation, checkpoints, device", icon=":material/settings:"):
        for first in range(0, len(rest), 2):
            for column, name in zip(st.columns(2), rest[first : first + 2], strict=False):
                with column:
                    values[name] = section(name, RunConfig, start, context)
    return parse_run_config(values)


def _chosen_model(prefix: str, start: RunConfig) -> ModelConfig:
    """The network chosen, as it comes, by what the form further down holds."""
    kind = st.session_state.get(f"{prefix}.model.kind", start.model.kind)
    return start.model if kind == start.model.kind else config_class(kind)()


def _is_flat(prefix: str, chosen: ModelConfig) -> bool:
    """Whether the network works plane by plane."""
    dimensions = st.session_state.get(f"{prefix}.model.{chosen.kind}.dimensions")
    return chosen.is_flat if dimensions is None else dimensions == "2D"


def _trained_runs() -> dict[int, str]:
    """Runs whose weights another can start with."""
    runs = list_runs(services().store, kind="train")
    trained = {run.id: run_label(run) for run in runs if checkpoints(services().store, run.id)}
    return {0: "– choose –" if trained else "– no run has a checkpoint yet –", **trained}


def _devices() -> dict[str, str]:
    from seglib.inference.devices import list_devices

    return {"auto": "auto (the best there is)", **{name: name for name in list_devices()}}


def _summary(dataset: DatasetRow, config: RunConfig, preflight: Preflight) -> None:
    """What will be learned from, what will judge, and what it costs."""
    st.subheader("Before you start")
    _costs(dataset, config, preflight)
    report = stored_report(services().workspace, dataset)
    _parts(dataset, config, preflight, report)
    _offer_patch(dataset, config, preflight)
    for problem in preflight.problems:
        show = st.error if problem.kind == "error" else st.warning
        show(plain(problem.text), icon=":material/error:" if problem.kind == "error" else ":material/warning:")


def _offer_patch(dataset: DatasetRow, config: RunConfig, preflight: Preflight) -> None:
    """A button that takes the nearest patch the network works with, where the one set does not."""
    if preflight.works == config.patches.shape:
        return

    def take() -> None:
        for axis, side in zip("zyx", preflight.works, strict=True):
            st.session_state[f"train.{dataset.id}.patches.shape.{axis}"] = side

    st.button(f"Use patches of {sizes(preflight.works)}", icon=":material/grid_view:", on_click=take, key="train.fit")


def _costs(dataset: DatasetRow, config: RunConfig, preflight: Preflight) -> None:
    """Numbers of the network and of a step."""
    cost, numbers = preflight.cost, st.columns(4)
    numbers[0].metric(
        "Parameters",
        f"{cost.parameters:,}" if cost else "–",
        f"{cost.multiply_adds / 1e9:.3g} G multiply-adds a patch" if cost else None,
        delta_color="off",
        delta_arrow="off",
        help="Weights of the network, and what it computes for one patch.",
    )
    numbers[1].metric(
        "Memory for a step",
        f"{cost.memory_bytes / 2**30:.2f} GB" if cost else "–",
        f"{cost.prediction_bytes / 2**30:.2f} GB to predict, {preflight.memory_available / 2**30:.1f} GB free"
        if cost
        else None,
        delta_color="off",
        delta_arrow="off",
        help="Estimated: weights, gradients, optimiser state and activations of one batch. To predict: while as many "
        f"tiles are segmented at once. Free: on {preflight.device or 'the device'}.",
    )
    steps = preflight.steps_per_epoch
    numbers[2].metric(
        "Steps",
        f"{steps * config.length.epochs:,}" if steps else "–",
        f"{steps:,} an epoch" if steps else None,
        delta_color="off",
        delta_arrow="off",
        help="Times the network is improved; one for each batch of patches.",
    )
    physical = [side * nm for side, nm in zip(preflight.patch, dataset.volumes[0].voxel_size_nm, strict=True)]
    numbers[3].metric(
        "Patch", sizes(preflight.patch), f"{' × '.join(f'{side / 1000:g}' for side in physical)} µm",
        delta_color="off", delta_arrow="off", help="z × y × x in voxels, and in micrometres by the voxel size.",
    )  # fmt: skip
    if cost:
        show_network(dataset, config, preflight)


def _parts(dataset: DatasetRow, config: RunConfig, preflight: Preflight, report: DatasetReport | None) -> None:
    """What learns, what judges and what is kept for the end, and what the report of the data set says about it."""
    parts = [
        (":material/school: Learns from", "training"),
        (":material/gavel: Is judged on", "validation"),
        (":material/lock: Is kept for the end", "test"),
    ][: 3 if preflight.test else 2]
    shares = _shares(dataset, config, report)
    for column, (title, part) in zip(st.columns(len(parts)), parts, strict=True):
        volumes, voxels = getattr(preflight, part), getattr(preflight, f"{part}_voxels")
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}** · {voxels / 1e6:.2f} million voxels")
            shown = [f"{plain(name)}: {plain(where)}" for name, where in volumes]
            st.markdown("\n".join(f"- {line}" for line in shown[:12]) or "nothing")
            if len(shown) > 12:
                st.caption(f"and {len(shown) - 12} more")
            if part in shares:
                st.caption(shares[part])
    st.caption(
        f"Classes: {', '.join(plain(name) for name in preflight.classes) or 'none'}. "
        "No voxel is in two parts. The best checkpoint is chosen on the part that judges."
    )
    if report is not None:
        show_findings([one for one in findings_of(report, dataset, config) if one.kind == "warning"], nothing="")
        return
    query = {"dataset": str(dataset.id)}
    text = "The data were not checked yet: Datasets, Report"
    st.page_link("datasets.py", label=text, icon=":material/troubleshoot:", query_params=query)


def _shares(dataset: DatasetRow, config: RunConfig, report: DatasetReport | None) -> dict[str, str]:
    """What each part holds of each class, where the data set was measured."""
    split = split_of(dataset, config) if report else None
    if report is None or split is None:
        return {}

    def listed(shares: dict[int, float]) -> str:
        named = ((plain(class_name(dataset.labels, value)), share) for value, share in sorted(shares.items()))
        return ", ".join(f"{name} {100 * share:.3g} %" for name, share in named)

    return {part: listed(shares) for part, shares in part_shares(report, split).items()}


def _start(dataset: DatasetRow, config: RunConfig, preflight: Preflight, *, trying: bool) -> None:
    start, download, folds = st.columns([1, 1.4, 4])
    if start.button(
        "Start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=not preflight.ready or trying,
        help="Wait for the trial above to end, or cancel it." if trying else None,
        key="train.start",
    ):
        run = submit_training(services().store, config)
        st.switch_page("runs.py", query_params={"run": str(run)})
    download.download_button(
        "Settings as JSON",
        config.model_dump_json(indent=2),
        "config.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
        help="The same run without the dashboard: python -m seglib train config.json",
    )
    with folds:
        groups = {row.group or row.name for row in learned_volumes(dataset, config)}
        offer_cross_validation(config, groups=len(groups), ready=preflight.ready and not trying)


main()
