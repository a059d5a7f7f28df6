"""New images to predict, imported without labels in the background, so that predicting takes one step."""

import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.folder_browser import browse
from pages.ui.frame import services
from seglib.ingest import Door, import_images
from seglib.jobs.importing import Cancelled, Progress

# Id of the data set that was made of new images last; it is chosen then.
OPENED = "predict.opened"


def add_images() -> None:
    """Draws the way in, folded away; what was imported is chosen on the page."""
    state: Background = st.session_state.setdefault("predict.images.state", Background())
    with st.expander("New images from a folder or file", icon=":material/create_new_folder:"):
        path = browse("predict.images", "Folder or file with the images to segment")
        st.caption(
            "They become a data set without labels. To upload files, to bring labels along to compare with, or where "
            "the files do not say how large a voxel is, import them on the Datasets page; they can be chosen here then."
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(
                "Add these images", icon=":material/download:", disabled=not path or state.work is not None,
                key="predict.images.go",
            )  # fmt: skip
            st.page_link("datasets.py", label="Go to Datasets", icon=":material/stacks:")
        show_work(state, key="predict.images", unit="plane")
    if pressed:
        _begin(state, path)


def _begin(state: Background, path: str) -> None:
    workspace, store = services().workspace, services().store

    def work(progress: Progress, cancelled: Cancelled) -> int:
        door = Door(path=path)
        return import_images(workspace, store, door, name="New images", progress=progress, cancelled=cancelled)

    def imported(dataset: int) -> None:
        st.session_state[OPENED] = dataset

    start_work(state, work, imported)
