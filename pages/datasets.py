"""Data sets: import them, look at them, make the demo, delete them."""

import pandas as pd
import streamlit as st

from pages.ui.frame import errors_shown, id_from_url, plain, services, sizes
from pages.ui.labels_form import labels_form
from pages.ui.report_tab import report_tab
from pages.ui.viewer import Panel, show_viewer, volume_layers
from seglib.data.volumes import voxel_text
from seglib.jobs.submit import submit_training
from seglib.serving.classes import colours_of
from seglib.store.datasets import (
    DatasetSummary,
    VolumeRow,
    delete_dataset,
    find_volumes,
    get_summary,
    list_datasets,
    rename_dataset,
)
from seglib.training.advice import DEMO_NAME, demo_config

SHOWN = 100
IMPORT, SYNTHETIC = "import", "synthetic"
KINDS = {"classes": "classes", "instances": "instances", "none": "no labels"}


def main() -> None:
    datasets = list_datasets(services().store)
    if not datasets:
        _welcome()
        return
    st.title("Datasets")
    chosen = _choose(datasets)
    _add_form()
    for note in st.session_state.get("datasets.notes", {}).get(chosen, []):
        st.info(plain(note), icon=":material/info:")
    with errors_shown():
        _show(get_summary(services().store, chosen))


def _welcome() -> None:
    st.title("Welcome to Seglib Studio")
    st.write("Train a network to segment your microscopy volumes, watch it learn, and segment new volumes with it.")
    left, right = st.columns(2, gap="large")
    with left.container(border=True):
        st.subheader(":material/play_circle: Try the demo")
        st.write(
            "Makes a small synthetic data set: four volumes of touching cells, 32 × 128 × 128 voxels, with labels. "
            "A short run on it takes less than a minute."
        )
        with st.container(horizontal=True):
            if st.button("Try the demo", type="primary", icon=":material/science:"):
                _make_demo()
            if st.button("Other synthetic data", icon=":material/blur_on:"):
                st.session_state["datasets.adding"] = SYNTHETIC
    with right.container(border=True):
        st.subheader(":material/upload_file: Import your data")
        st.write(
            "TIFF and OME-TIFF, folders or zips of sections, 2D images, NumPy, HDF5, Zarr, NIfTI, NRRD – with labels "
            "to learn from, or without to segment."
        )
        if st.button("Import your data", icon=":material/add:"):
            st.session_state["datasets.adding"] = IMPORT
    _add_form()


def _add_form() -> None:
    """The form that is open, if any."""
    # What they need is imported where it is used, so that the first page opens sooner.
    match st.session_state.get("datasets.adding"):
        case "import":
            from pages.ui.import_form import import_form

            with st.container(border=True):
                import_form()
        case "synthetic":
            from pages.ui.synthetic_form import synthetic_form

            with st.container(border=True):
                synthetic_form()


def _make_demo() -> None:
    from pages.ui.import_form import open_dataset
    from seglib.ingest import make_demo

    with errors_shown(), st.spinner("Making four small volumes …"):
        dataset = make_demo(services().workspace, services().store)
        open_dataset(dataset, ["The demo data are ready. Look through the planes, then train on them."])


def _choose(datasets: list[DatasetSummary]) -> int:
    """The data set picked: the one just imported, else the one in the address, else the newest, until another is."""
    names = {dataset.id: dataset.name for dataset in datasets}
    picked, *buttons = st.columns([3.4, 1.7, 1.5, 1.6], vertical_alignment="bottom")
    # What was opened by an import stays in the session, and its choice is a widget of its own: a rerun that
    # overtakes this one must find the same.
    opened, generation = st.session_state.get("datasets.opened", (id_from_url("dataset"), 0))
    chosen = int(
        picked.selectbox(
            "Data set",
            list(names),
            index=list(names).index(opened) if opened in names else 0,
            format_func=lambda key: f"{key} · {names[key]}",
            key=f"datasets.choice.{generation}",
            persist_state="session",
        )
    )
    st.query_params["dataset"] = str(chosen)
    adding = st.session_state.get("datasets.adding", "")
    forms = (
        (IMPORT, "Import data", "Close import", ":material/add:"),
        (SYNTHETIC, "Synthetic", "Close", ":material/blur_on:"),
    )
    for column, (form, opens, closes, icon) in zip(buttons[:2], forms, strict=True):
        if column.button(closes if adding == form else opens, icon=icon, width="stretch"):
            st.session_state["datasets.adding"] = "" if adding == form else form
            st.rerun()
    if buttons[2].button("Add demo", icon=":material/science:", width="stretch"):
        _make_demo()
    return chosen


def _show(dataset: DatasetSummary) -> None:
    _actions(dataset)
    names = [f"Volumes ({dataset.volume_count:,})", "Labels", "Report"]
    volumes, labels, report = st.tabs(names, key=f"datasets.tabs.{dataset.id}", on_change="rerun")
    with volumes:
        volume = _pick(dataset)
    with labels:
        if dataset.label_kind == "none":
            st.info("This data set has no labels. Import the images together with labels to train on them.")
        else:
            labels_form(dataset)
    if report.open:  # it reads what was measured of every volume
        with report:
            report_tab(dataset)
    if volume is not None:
        _look(dataset, volume)


def _pick(dataset: DatasetSummary) -> VolumeRow | None:
    """The table of volumes, a page at a time, and the one picked in it."""
    text, start = "", 0
    if dataset.volume_count > SHOWN:
        left, right = st.columns([3, 1])
        text = left.text_input("Find", placeholder="Part of a name or group", key=f"datasets.find.{dataset.id}")
        pages = -(-find_volumes(services().store, dataset.id, text=text, limit=0)[1] // SHOWN)
        page = right.number_input("Page", 1, max(1, pages), 1, key=f"datasets.page.{dataset.id}.{text}")
        start = SHOWN * (int(page) - 1)
    volumes, found = find_volumes(services().store, dataset.id, text=text, start=start, limit=SHOWN)
    if not volumes:
        st.info(f"No volume is called so: {plain(text)}")
        return None
    event = st.dataframe(
        _table(dataset, volumes),
        hide_index=True,
        height=min(38 + 35 * len(volumes), 290),
        on_select="rerun" if len(volumes) > 1 else "ignore",
        selection_mode="single-row",
        key=f"datasets.table.{dataset.id}.{text}.{start}",
    )
    picked = event["selection"]["rows"] if len(volumes) > 1 else []
    if found > SHOWN:
        st.caption(f"{start + 1:,}–{start + len(volumes):,} of {found:,}. Click a row to look at the volume.")
    return volumes[picked[0] if picked and picked[0] < len(volumes) else 0]


def _look(dataset: DatasetSummary, volume: VolumeRow) -> None:
    scheme, channel = dataset.labels, 0
    channels = volume.shape_czyx[0]
    with st.container(horizontal=True):
        if channels > 1:
            names = volume.channel_names or tuple(f"channel {index + 1}" for index in range(channels))
            channel = st.selectbox(
                "Channel", range(channels), format_func=lambda index: names[index], key=f"datasets.channel.{volume.id}"
            )
        as_read = scheme.kind == "classes"
        if scheme.kind == "instances" and (scheme.borders or scheme.ignore) and volume.has_labels:
            as_read = st.toggle(
                "Show what is learned", key=f"datasets.as_read.{dataset.id}",
                help="Objects, borders and what is left out, instead of a colour for each object.",
            )  # fmt: skip
    shown = colours_of(scheme) if as_read and volume.has_labels else {}
    layers = volume_layers(
        volume.id,
        has_labels=volume.has_labels,
        version=volume.fingerprint[:12],
        channel=channel,
        scheme=scheme if as_read else None,
    )
    show_viewer(
        f"datasets.viewer.{volume.id}",
        [Panel(volume.name, layers)],
        shape_zyx=volume.shape_zyx,
        voxel_size_nm=volume.voxel_size_nm,
        classes={value: name for value, (name, _) in shown.items()} or None,
        colours={value: colour for value, (_, colour) in shown.items()},
    )


def _table(dataset: DatasetSummary, volumes: list[VolumeRow]) -> pd.DataFrame:
    names = {value: part.name for part in dataset.labels.classes for value in part.values}

    def labelled(volume: VolumeRow) -> str:
        if not volume.has_labels:
            return "none"
        if dataset.label_kind == "instances" or volume.label_counts is None:
            return f"{volume.objects} objects"
        total = sum(volume.label_counts.values())
        shares = [
            f"{names[value]}: {100 * count / total:.1f} %"
            for value, count in sorted(volume.label_counts.items())
            if value in names
        ]
        return (", ".join(shares[:6]) + (" …" if len(shares) > 6 else "")) or "background only"

    rows = [
        {
            "Volume": volume.name,
            "Group": volume.group,
            "Size z × y × x (voxels)": sizes(volume.shape_zyx),
            "Channels": volume.shape_czyx[0],
            "Type": volume.dtype,
            "Voxel z, y, x (nm)": voxel_text(volume.voxel_size_nm),
            f"Labels ({KINDS[dataset.label_kind]})": labelled(volume),
        }
        for volume in volumes
    ]
    return pd.DataFrame(rows)


def _actions(dataset: DatasetSummary) -> None:
    unlabelled = "It has no labels: the Train page offers WNet3D, which learns without."
    with st.container(horizontal=True):
        if st.button(
            "Train on this",
            type="primary",
            icon=":material/model_training:",
            help=unlabelled if dataset.label_kind == "none" else None,
        ):
            st.switch_page("train.py", query_params={"dataset": str(dataset.id)})
        if dataset.name == DEMO_NAME and st.button("Start the demo run", icon=":material/play_arrow:"):
            with errors_shown():
                run = submit_training(services().store, demo_config(dataset.id))
                st.switch_page("runs.py", query_params={"run": str(run)})
        with st.popover("Rename", icon=":material/edit:"):
            _rename(dataset)
        if st.button("Delete", icon=":material/delete:"):
            _confirm_delete(dataset)


def _rename(dataset: DatasetSummary) -> None:
    from seglib.data.planning import clean_name

    name = st.text_input("New name", dataset.name, max_chars=200, key=f"datasets.name.{dataset.id}.{dataset.name}")
    if st.button("Rename it", disabled=name.strip() == dataset.name, key=f"datasets.rename.{dataset.id}"):
        with errors_shown():
            rename_dataset(services().store, dataset.id, clean_name(name))
            st.rerun()


@st.dialog("Delete this data set?")
def _confirm_delete(dataset: DatasetSummary) -> None:
    st.write(
        f"{plain(dataset.name)} with {dataset.volume_count:,} volume(s) will be removed from the workspace. "
        "The files you imported it from stay. Runs trained on it stay too, but cannot be resumed."
    )
    if st.button("Delete it", type="primary", icon=":material/delete:"):
        workspace = services().workspace
        removed = [workspace.volume(volume) for volume in delete_dataset(services().store, dataset.id)]
        workspace.discard([*removed, workspace.report(dataset.id)])
        st.query_params.clear()
        st.rerun()


main()
