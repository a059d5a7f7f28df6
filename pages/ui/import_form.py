"""The import form: a door for the files, a look at what they would become, and the import itself.

Everything that reads files runs in the background and is watched by a fragment, since a rerun of the page would cut
it off. The form keeps what was chosen until a data set was made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.folder_browser import browse
from pages.ui.frame import errors_shown, services, show_error
from pages.ui.review_form import ask_request, show_preview
from pages.ui.uploads import upload_box
from seglib.data.readers import READERS
from seglib.ingest import Desk, Door, ImportRequest, Preview, Proposal, already_imported, import_dataset
from seglib.jobs.importing import Cancelled, Progress
from seglib.serving.upload_store import forget_uploads, uploaded_files

DOORS = {"upload": ":material/upload: Upload files", "folder": ":material/folder_open: Folder on the server"}
STATE = "import.state"


@dataclass
class ImportState(Background):
    """How far the person is. generation: in the keys of widgets, so that a new import starts with an empty form.

    proposal: what the files could become; preview: what `looked_at` would make of them; tried: asked for last.
    """

    generation: int = 0
    desk: Desk | None = None
    proposal: Proposal | None = None
    preview: Preview | None = None
    looked_at: ImportRequest | None = None
    tried: ImportRequest | None = None
    manifests: tuple[str, ...] = ()


def import_form() -> None:
    """Draws the form, or the progress of what runs; at its end the new data set is opened."""
    state = _state()
    st.subheader("Import your data")
    if state.proposal is None:
        _choose(state)
    else:
        _review(state)


def _state() -> ImportState:
    state: ImportState = st.session_state.setdefault(STATE, ImportState())
    return state


def _choose(state: ImportState) -> None:
    key = f"import.{state.generation}"
    door = st.radio(
        "From", list(DOORS), format_func=DOORS.__getitem__, horizontal=True, key=f"{key}.door", persist_state="session"
    )
    busy = state.work is not None
    chosen = _uploaded(key, disabled=busy) if door == "upload" else _on_server(key)
    with st.container():
        show_work(state, key="import", unit="plane")
    ready = chosen is not None and not busy
    pressed = st.button(
        "Check the files", type="primary", icon=":material/search:", disabled=not ready, key=f"{key}.check"
    )
    if pressed and chosen is not None:
        with errors_shown():
            _find(state, chosen)


def _uploaded(key: str, *, disabled: bool) -> tuple[str, ...] | None:
    """The manifests of the uploaded images and labels, once all files are there."""
    workspace, accept = services().workspace, (*READERS, ".zip")
    left, right = st.columns(2)
    with left:
        images = upload_box(
            workspace, f"{key}.images", label="Images", accept=accept, disabled=disabled,
            help="Stacks, sections, 2D images, or a zip or folder of them; it may hold the labels too.",
        )  # fmt: skip
    with right:
        labels = upload_box(
            workspace, f"{key}.labels", label="Labels", accept=accept, disabled=disabled,
            help="Only where the images do not come with them. Whole numbers, or masks painted in colours.",
        )  # fmt: skip
    if images.manifest is None or (labels.files and labels.manifest is None):
        return None
    return (images.manifest,) if labels.manifest is None else (images.manifest, labels.manifest)


def _on_server(key: str) -> Door | None:
    path = browse(f"{key}.server_images", "Folder or file with the images (and labels)")
    with st.expander("The labels are somewhere else"):
        labels = browse(f"{key}.server_labels", "Folder or file with the labels")
    return Door(path=path, labels_path=labels) if path else None


def _find(state: ImportState, chosen: tuple[str, ...] | Door) -> None:
    """Finds the files and what they could become, in the background."""
    workspace = services().workspace
    state.error, state.manifests = "", () if isinstance(chosen, Door) else chosen
    desk = state.desk = state.desk or Desk(workspace)
    if isinstance(chosen, Door):
        door = chosen
    else:
        images, *labels = (uploaded_files(workspace, manifest) for manifest in chosen)
        door = Door(images=images, labels=labels[0] if labels else ())

    def found(proposal: Proposal) -> None:
        state.proposal, state.preview, state.looked_at, state.tried = proposal, None, None, None

    start_work(state, lambda progress, cancelled: desk.find(door, progress=progress, cancelled=cancelled), found)


def _review(state: ImportState) -> None:
    """The questions, and what the answers would make; drawn anew with every answer."""
    assert state.proposal is not None and state.desk is not None
    key = f"import.{state.generation}"
    request = ask_request(key, state.proposal, state.preview)
    fits = state.preview is not None and request == state.looked_at
    if not fits and state.work is None and request != state.tried:
        _look(state, request)
    if state.preview is not None:
        show_preview(state.preview, already_imported(services().store, state.preview))
        if fits and state.preview.problems:
            show_error("\n".join(state.preview.problems))
    with st.container():
        show_work(state, key="import", unit="plane")
    back, go = st.columns([1, 3])
    if back.button("Other files", icon=":material/arrow_back:", key=f"{key}.back", width="stretch"):
        _start_over(state)
    ready = fits and state.preview is not None and not state.preview.problems and state.work is None
    if go.button("Import", type="primary", icon=":material/download:", disabled=not ready, key=f"{key}.go"):
        _import(state, request)


def _look(state: ImportState, request: ImportRequest) -> None:
    assert state.desk is not None
    desk, state.error, state.tried = state.desk, "", request

    def looked(preview: Preview) -> None:
        state.preview, state.looked_at = preview, request

    start_work(state, lambda progress, cancelled: desk.look(request, progress=progress, cancelled=cancelled), looked)


def _import(state: ImportState, request: ImportRequest) -> None:
    workspace, store, notes = services().workspace, services().store, list[str]()
    assert state.preview is not None
    # What `auto` came to was shown, so that is what is done.
    request = replace(request, layout=state.preview.layout)

    def work(progress: Progress, cancelled: Cancelled) -> int:
        return import_dataset(workspace, store, request, progress=progress, cancelled=cancelled, note=notes.append)

    def imported(dataset: int) -> None:
        for manifest in state.manifests:
            forget_uploads(workspace, manifest)
        if state.desk:
            state.desk.close()
        st.session_state[STATE] = ImportState(generation=state.generation + 1)
        open_dataset(dataset, notes)

    start_work(state, work, imported)


def _start_over(state: ImportState) -> None:
    """Back to the door; what was uploaded stays until it is imported or removed there."""
    if state.work:
        state.work.cancel()
    if state.desk:
        state.desk.close()
    state.desk = state.work = state.proposal = state.preview = state.looked_at = state.tried = None
    state.error = ""
    st.rerun()


def open_dataset(dataset: int, notes: Sequence[str]) -> None:
    """Shows a new data set, with notes above it as long as it is shown, and closes the form."""
    _, generation = st.session_state.get("datasets.opened", (None, 0))
    st.session_state["datasets.opened"] = (dataset, generation + 1)
    st.session_state["datasets.notes"] = {dataset: list(notes)}
    st.session_state["datasets.adding"] = ""
    st.rerun()
