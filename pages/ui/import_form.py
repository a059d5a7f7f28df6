"""The import form: files from the browser or a folder on the server, what they mean, and the import itself."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from pages.ui.frame import errors_shown, plain, services, show_error
from seglib.data.doors import Found, expand, files_at
from seglib.data.planning import ImportRequest
from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import confine, split_pairs
from seglib.errors import DataError
from seglib.jobs.importing import BackgroundImport

LABEL_KINDS = {
    "auto": "Find out",
    "classes": "Classes (each value is a kind of thing)",
    "instances": "Instances (each value is one object)",
}
LAYOUTS = {"auto": "Find out", "sections": "Sections of one volume", "volumes": "One volume per file"}
JOB = "import.job"
FILE_TYPES = ["tif", "tiff", "png", "jpg", "jpeg", "bmp", "zip"]


def import_form() -> None:
    """Draws the form, or the progress of an import under way; at its end the new data set is opened."""
    st.subheader("Import your data")
    running = JOB in st.session_state
    # The form stays below while an import runs or after it failed, so that nothing has to be chosen again.
    with st.container():
        if running:
            _watch()
        elif error := st.session_state.get("import.error"):
            show_error(error)
    key = f"import.{st.session_state.get('datasets.opened', (None, 0))[1]}"
    doors = {"upload": ":material/upload: Upload files", "folder": ":material/folder_open: Folder on the server"}
    door = st.radio("From", list(doors), format_func=doors.__getitem__, horizontal=True, key=f"{key}.door")
    chosen = _uploads(key) if door == "upload" else _folders(key)
    meaning = _meaning(key)
    if st.button("Import", type="primary", icon=":material/download:", disabled=running, key=f"{key}.go"):
        st.session_state["import.error"] = ""
        with errors_shown():
            _start(chosen, meaning)


Chosen = tuple[Sequence[Any], Sequence[Any]] | tuple[str, str]


def _uploads(key: str) -> Chosen:
    left, right = st.columns(2)
    images = left.file_uploader(
        "Images",
        FILE_TYPES,
        True,
        key=f"{key}.images",
        help="One or more stacks, the sections of one stack, or a zip of them. A zip may hold both: folders "
        "`images` and `labels`.",
    )
    labels = right.file_uploader(
        "Labels (none for data to segment)",
        FILE_TYPES,
        True,
        key=f"{key}.labels",
        help="One for each image file, in the same order of names. Whole numbers: 0 is background.",
    )
    return images, labels


def _folders(key: str) -> Chosen:
    images = st.text_input(
        "Folder, or a single file, with the images",
        key=f"{key}.folder",
        placeholder="/data/my-experiment",
        help="A folder that holds `images` and `labels` folders gives both at once.",
        persist_state="session",
    )
    labels = st.text_input(
        "Folder, or a single file, with the labels (leave empty where the folder above holds them)",
        key=f"{key}.labels_folder",
        persist_state="session",
    )
    return images, labels


def _start(chosen: Chosen, meaning: dict[str, Any]) -> None:
    """Starts the import in the background. Raises DataError where nothing to import was chosen."""
    images, labels = chosen
    if not images:
        raise DataError(
            "Only labels were chosen: add the images they belong to."
            if labels
            else "Nothing was chosen yet: choose image files to upload, or type the path of a folder on the server."
        )

    def collect(scratch: Path) -> ImportRequest:
        if isinstance(images, str):
            return _request(files_at(images, str(labels), scratch, resolve=confine), meaning)
        return _request(_uploaded(images, labels, scratch), meaning)

    st.session_state[JOB] = BackgroundImport(services().workspace, services().store, collect)
    st.rerun()


@st.fragment(run_every=0.5)
def _watch() -> None:
    """Progress of the import under way; its end draws the page anew."""
    job: BackgroundImport = st.session_state[JOB]
    state = job.state
    if state.is_over:
        del st.session_state[JOB]
        st.session_state["import.error"] = state.error
        if state.dataset is not None:
            open_dataset(state.dataset, state.notes)
        st.rerun()
    share = state.done / state.total if state.total else 0.0
    st.progress(min(1.0, share), text=f"{plain(state.text)} · plane {state.done} of {state.total or '?'}")
    if st.button("Cancel", icon=":material/close:", key="import.cancel"):
        job.cancel()


def _meaning(key: str) -> dict[str, Any]:
    """What the files mean, as the user says."""
    name = st.text_input("Name of the data set", key=f"{key}.name", max_chars=200, placeholder="Named after the files")
    st.markdown(
        "Voxel size (nm)",
        help="Distance between neighbouring voxels: z between planes, y and x within a plane. It sets the true "
        "proportions of side views and is written into results.",
    )
    z, y, x = (
        column.number_input(axis, 0.001, 1e9, 1.0, 1.0, format="%g", key=f"{key}.voxel.{axis}")
        for axis, column in zip("zyx", st.columns(3), strict=True)
    )
    left, right = st.columns(2)
    label_kind = left.selectbox(
        "Labels are", list(LABEL_KINDS), format_func=LABEL_KINDS.__getitem__, key=f"{key}.kind",
        help="Classes: 1 is a nucleus, 2 a vessel. Instances: 1 is the first nucleus, 2 the second.",
    )  # fmt: skip
    layout = right.selectbox(
        "Files are", list(LAYOUTS), format_func=LAYOUTS.__getitem__, key=f"{key}.layout",
        help="Flat images of one size are taken as the sections of one volume unless you say otherwise.",
    )  # fmt: skip
    return {"name": name, "voxel_size_nm": (z, y, x), "label_kind": label_kind, "layout": layout}


def _uploaded(images: Sequence[Any], labels: Sequence[Any], scratch: Path) -> Found:
    """Uploaded files written to disk under names of our own, zips unpacked."""
    name = Path(images[0].name).stem
    found = _write(images, scratch / "images")
    if labels:
        return Found(tuple(found), tuple(_write(labels, scratch / "labels")), name)
    # A single zip may hold both.
    paired_images, paired_labels = split_pairs(found)
    return Found(tuple(paired_images), tuple(paired_labels), name)


def _write(uploads: Sequence[Any], folder: Path) -> list[SourceFile]:
    folder.mkdir()
    sources = []
    for index, upload in enumerate(uploads):
        path = folder / f"{index:06d}"
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, 1 << 20)
        sources.append(SourceFile(path, upload.name))
    return expand(sources, folder)


def _request(found: Found, meaning: dict[str, Any]) -> ImportRequest:
    layout: Literal["auto", "sections", "volumes"] = meaning["layout"]
    return ImportRequest(
        name=meaning["name"].strip() or found.name or "My data",
        images=found.images,
        labels=found.labels,
        voxel_size_nm=meaning["voxel_size_nm"],
        label_kind=meaning["label_kind"],
        layout=layout,
    )


def open_dataset(dataset: int, notes: Sequence[str]) -> None:
    """Shows a new data set, with notes above it as long as it is shown, and closes the form."""
    _, generation = st.session_state.get("datasets.opened", (None, 0))
    st.session_state["datasets.opened"] = (dataset, generation + 1)
    st.session_state["datasets.notes"] = {dataset: list(notes)}
    st.session_state["datasets.importing"] = False
    st.rerun()
