"""The section “Take the model along” of a run: the network as a file for other programs, made in the background."""

import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.frame import errors_shown, moment, services
from seglib.errors import WorkCancelled
from seglib.jobs.importing import Cancelled, Progress
from seglib.sharing import KINDS, LICENCES, Card, shared_path
from seglib.sharing.runs import Order, share_run
from seglib.store.runs import RunRow, checkpoints

CHECKPOINTS = {"best": "Best validation score", "last": "End of the training"}


def show_model_export(run: RunRow) -> None:
    """Draws the section. run: a training run, with or without checkpoints."""
    with errors_shown():
        kept = checkpoints(services().store, run.id)
        there = [name for name in CHECKPOINTS if name in kept]
        if not there:
            st.caption("There is a model to take along once the run has saved a checkpoint.")
            return
        order = _ask(run, there)
        state: Background = st.session_state.setdefault(f"model.{run.id}.state", Background())
        show_work(state, key=f"model.{run.id}", unit="step")
        if st.button(
            "Make the file",
            icon=":material/file_save:",
            disabled=state.work is not None,
            key=f"model.{run.id}.go",
            help="Checked against the network before it is kept; you may go on working meanwhile.",
        ):
            _make(state, order)
        _offer(run, order.kind, max(row.time for row in kept.values()))


def _ask(run: RunRow, there: list[str]) -> Order:
    left, right = st.columns(2)
    kind = left.selectbox(
        "Kind of file", tuple(KINDS), format_func=lambda name: KINDS[name].label, key=f"model.{run.id}.kind"
    )
    chosen = right.selectbox("Weights", there, format_func=CHECKPOINTS.__getitem__, key=f"model.{run.id}.checkpoint")
    st.caption(KINDS[kind].about)
    return Order(run.id, kind, chosen, _card(run) if KINDS[kind].needs_card else None)


def _card(run: RunRow) -> Card:
    """What a package says of its origin."""
    key = f"model.{run.id}.card"
    left, middle, right = st.columns([2, 2, 1])
    name = left.text_input("Name", run.name, max_chars=64, key=f"{key}.name")
    author = middle.text_input("Author", max_chars=200, key=f"{key}.author", placeholder="Who made the model")
    licence = right.selectbox("Licence", LICENCES, key=f"{key}.licence", help="What others may do with the model.")
    description = st.text_area(
        "Description", max_chars=512, key=f"{key}.description", height=80,
        placeholder="What it segments, in which images; left empty, it names the classes.",
    )  # fmt: skip
    return Card(name, author, licence, description)


def _make(state: Background, order: Order) -> None:
    workspace, store = services().workspace, services().store

    def work(progress: Progress, cancelled: Cancelled) -> str:
        def told(done: int, total: int, text: str) -> None:
            if cancelled():
                raise WorkCancelled("Stopped between two steps.")
            progress(done, total, text)

        return str(share_run(workspace, store, order, progress=told))

    start_work(state, work, lambda path: None)


def _offer(run: RunRow, kind: str, saved_at: float) -> None:
    """A link to the finished file, if there is one. saved_at: when the run last saved a checkpoint."""
    path = shared_path(services().workspace, run.id, kind)
    if not path.is_file():
        return
    made = path.stat()
    label = f"Download {KINDS[kind].label} ({made.st_size / 1e6:.1f} MB)"
    st.link_button(label, f"/api/files/run/{run.id}/model/{kind}", icon=":material/download:", type="primary")
    older = " The run has saved another state since: make it again to take that." if made.st_mtime < saved_at else ""
    st.caption(f"Made {moment(made.st_mtime)}.{older}")
