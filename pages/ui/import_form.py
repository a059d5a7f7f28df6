"""The import form: files from the browser or a folder on the server, what they mean, and the import itself."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from pages.ui.frame import errors_shown, plain, services
from seglib.data.planning import ImportRequest, plan_import
from seglib.data.readers.archive import unpack
from seglib.data.readers.sources import SourceFile, confine, find_files, find_pairs, split_pairs
from seglib.errors import DataError
from seglib.ingest import already_imported, import_dataset

LABEL_KINDS = {
    "auto": "Find out",
    "classes": "Classes (each value is a kind of thing)",
    "instances": "Instances (each value is one object)",
}
LAYOUTS = {"auto": "Find out", "sections": "Sections of one volume", "volumes": "One volume per file"}
FILE_TYPES = ["tif", "tiff", "png", "jpg", "jpeg", "bmp", "zip"]


def import_form() -> None:
    """Draws the form; after an import it opens the new data set."""
    st.subheader("Import your data")
    upload, folder = st.tabs([":material/upload: Upload files", ":material/folder_open: Folder on the server"])
    with upload:
        left, right = st.columns(2)
        images = left.file_uploader(
            "Images",
            FILE_TYPES,
            True,
            key="import.images",
            help="One or more stacks, the sections of one stack, or a zip of them. A zip may hold both: folders "
            "`images` and `labels`.",
        )
        labels = right.file_uploader(
            "Labels (none for data to segment)",
            FILE_TYPES,
            True,
            key="import.labels",
            help="One for each image file, in the same order of names. Whole numbers: 0 is background.",
        )
    with folder:
        images_folder = st.text_input(
            "Folder, or a single file, with the images",
            key="import.folder",
            placeholder="/data/my-experiment",
            help="A folder that holds `images` and `labels` folders gives both at once.",
        )
        labels_folder = st.text_input(
            "Folder, or a single file, with the labels (leave empty where the folder above holds them)",
            key="import.labels_folder",
        )
    meaning = _meaning()
    if not st.button("Import", type="primary", icon=":material/download:", key="import.go"):
        return
    with errors_shown(), services().workspace.scratch() as scratch:
        if images:
            sources = _uploaded(images, labels or [], scratch)
        else:
            sources = _on_server(images_folder, labels_folder)
        _import(sources, meaning)


def _meaning() -> dict[str, Any]:
    """What the files mean, as the user says."""
    name = st.text_input("Name of the data set", key="import.name", max_chars=200, placeholder="Named after the files")
    st.markdown(
        "Voxel size (nm)",
        help="Distance between neighbouring voxels: z between planes, y and x within a plane. It sets the true "
        "proportions of side views and is written into results.",
    )
    z, y, x = (
        column.number_input(axis, 0.001, 1e9, 1.0, 1.0, format="%g", key=f"import.voxel.{axis}")
        for axis, column in zip("zyx", st.columns(3), strict=True)
    )
    left, right = st.columns(2)
    label_kind = left.selectbox(
        "Labels are", list(LABEL_KINDS), format_func=LABEL_KINDS.__getitem__, key="import.kind",
        help="Classes: 1 is a nucleus, 2 a vessel. Instances: 1 is the first nucleus, 2 the second.",
    )  # fmt: skip
    layout = right.selectbox(
        "Files are", list(LAYOUTS), format_func=LAYOUTS.__getitem__, key="import.layout",
        help="Flat images of one size are taken as the sections of one volume unless you say otherwise.",
    )  # fmt: skip
    return {"name": name, "voxel_size_nm": (z, y, x), "label_kind": label_kind, "layout": layout}


Sources = tuple[Sequence[SourceFile], Sequence[SourceFile], str]


def _uploaded(images: Sequence[Any], labels: Sequence[Any], scratch: Path) -> Sources:
    """Uploaded files written to disk under names of our own, zips unpacked."""
    found = {"images": _write(images, scratch / "images"), "labels": _write(labels, scratch / "labels")}
    if found["labels"]:
        return found["images"], found["labels"], images[0].name
    # A single zip may hold both.
    paired_images, paired_labels = split_pairs(found["images"])
    return paired_images, paired_labels, images[0].name


def _write(uploads: Sequence[Any], folder: Path) -> list[SourceFile]:
    folder.mkdir()
    sources: list[SourceFile] = []
    for index, upload in enumerate(uploads):
        suffix = Path(upload.name).suffix.lower()
        path = folder / f"{index:06d}{suffix if suffix.lstrip('.') in FILE_TYPES else ''}"
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, 1 << 20)
        source = SourceFile(path, upload.name)
        if suffix == ".zip":
            inside = folder / f"{index:06d}"
            inside.mkdir()
            sources += unpack(source, inside)
        else:
            sources.append(source)
    return sources


def _on_server(images: str, labels: str) -> Sources:
    path = confine(images)
    if path.is_file():
        return _one_file(path), _files(labels) if labels.strip() else [], path.stem
    if labels.strip():
        return find_files(path), _files(labels), path.name
    found_images, found_labels = find_pairs(path)
    return found_images, found_labels, path.name


def _files(text: str) -> list[SourceFile]:
    path = confine(text)
    return _one_file(path) if path.is_file() else find_files(path)


def _one_file(path: Path) -> list[SourceFile]:
    return [SourceFile(path, path.name)]


def _import(sources: Sources, meaning: dict[str, Any]) -> None:
    images, labels, named_after = sources
    layout: Literal["auto", "sections", "volumes"] = meaning["layout"]
    request = ImportRequest(
        name=meaning["name"].strip() or Path(named_after).stem or "My data",
        images=tuple(images),
        labels=tuple(labels),
        voxel_size_nm=meaning["voxel_size_nm"],
        label_kind=meaning["label_kind"],
        layout=layout,
    )
    plan = plan_import(request)
    if plan.problems:
        raise DataError("\n".join(plan.problems))
    twin = already_imported(services().store, plan)
    notes = list(plan.notes)
    if twin:
        notes.append(f"The same files were imported before, as {twin}.")
    bar = st.progress(0.0, text="Reading …")

    def progress(done: int, total: int, text: str) -> None:
        bar.progress(min(1.0, done / max(total, 1)), text=plain(text))

    dataset = import_dataset(services().workspace, services().store, request, progress=progress, note=notes.append)
    st.session_state["datasets.notes"] = notes
    st.session_state["datasets.importing"] = False
    st.query_params.clear()
    st.query_params["dataset"] = str(dataset)
    st.rerun()
