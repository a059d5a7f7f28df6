"""The section “Export” of a prediction: choose what and how, make the file in the background, take it along."""

from pathlib import Path

import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.frame import errors_shown, file_size, services
from seglib.errors import WorkCancelled
from seglib.export import FORMATS, Export, View, Watch, export_file, layers_there
from seglib.jobs.importing import Cancelled, Progress
from seglib.store.datasets import VolumeRow
from seglib.store.runs import RunRow

LAYERS = {
    "labels": "Labels: which object or class each voxel belongs to",
    "probabilities": "Probabilities: how likely each class is",
    "uncertainty": "Uncertainty: where to look twice",
}
AXES = {"z": "z (as imaged)", "y": "y (from the side)", "x": "x (from the other side)"}
MOVIES = ("gif", "mp4")


def show_exports(run: RunRow, volume: VolumeRow) -> None:
    """Draws the section. run: a finished prediction; volume: what it was made from."""
    st.subheader("Export")
    with errors_shown():
        there = layers_there(services().workspace.prediction(run.id))
        if not there:
            st.caption("The files of this prediction are not in the workspace any more.")
            return
        export = _ask(run, volume, there)
        # What was made before another choice is not offered as that choice.
        key = f"export.{run.id}.made"
        state: Background = st.session_state.setdefault(f"export.{run.id}.state", Background())
        show_work(state, key=f"export.{run.id}", unit="part")
        if st.button(
            "Make the file",
            icon=":material/file_save:",
            disabled=state.work is not None,
            key=f"export.{run.id}.go",
            help="Made once and kept beside the prediction; you may go on working meanwhile.",
        ):
            st.session_state.pop(key, None)
            _make(state, export, key)
        made: tuple[Export, Path] | None = st.session_state.get(key)
        if made is not None and made[0] == export and made[1].exists():
            _offer(export, made[1])


def _ask(run: RunRow, volume: VolumeRow, there: tuple[str, ...]) -> Export:
    left, right = st.columns(2)
    layer = left.selectbox("What", there, format_func=LAYERS.__getitem__, key=f"export.{run.id}.layer")
    possible = [name for name, kind in FORMATS.items() if layer in kind.layers and _fits(name, volume)]
    chosen = right.selectbox(
        "Format", possible, format_func=lambda name: FORMATS[name].label, key=f"export.{run.id}.format.{layer}"
    )
    st.caption(FORMATS[chosen].about)
    view = _view(run, volume, chosen) if FORMATS[chosen].is_picture else View()
    return Export(run.id, layer, chosen, volume.id, view)


def _fits(name: str, volume: VolumeRow) -> bool:
    return name not in MOVIES or volume.shape_zyx[0] > 1


def _view(run: RunRow, volume: VolumeRow, chosen: str) -> View:
    key = f"export.{run.id}"
    columns = st.columns(4)
    filled = columns[0].segmented_control(
        "Objects", ("Outline", "Filled"), default="Outline", required=True, key=f"{key}.filled",
        help="Outline leaves the image visible inside objects; filled shows classes from afar.",
    ) == "Filled"  # fmt: skip
    channels = volume.shape_czyx[0]
    channel = 0
    if channels > 1:
        channel = columns[3].selectbox(
            "Channel", range(channels), format_func=lambda c: (volume.channel_names or range(1, channels + 1))[c],
            key=f"{key}.channel",
        )  # fmt: skip
    if chosen in MOVIES:
        rate = columns[1].number_input(
            "Frames per second", 1, 50, 10, key=f"{key}.rate", help=f"The movie has {volume.shape_zyx[0]} planes."
        )
        return View(channel=channel, filled=filled, frames_per_second=int(rate))
    axis = columns[1].selectbox(
        "Cut across", tuple(AXES), format_func=AXES.__getitem__, key=f"{key}.axis", help="The plane is seen along it."
    )
    depth = volume.shape_zyx["zyx".index(axis)]
    plane = columns[2].number_input(
        "Plane", 1, depth, depth // 2 + 1, key=f"{key}.plane.{axis}", help="Counted from 1, as in the viewer."
    )
    return View(axis, int(plane) - 1, channel, filled)


def _make(state: Background, export: Export, key: str) -> None:
    workspace = services().workspace

    def work(progress: Progress, cancelled: Cancelled) -> Path:
        if cancelled():
            raise WorkCancelled("Stopped before it began.")
        return export_file(workspace, export, watch=Watch(progress, cancelled))

    def made(path: Path) -> None:
        st.session_state[key] = (export, path)

    start_work(state, work, made)


def _offer(export: Export, path: Path) -> None:
    amount = file_size(path.stat().st_size)
    address = f"/api/files/prediction/{export.run_id}/{path.name}"
    st.link_button(f"Download {export.kind.label} ({amount})", address, icon=":material/download:", type="primary")
