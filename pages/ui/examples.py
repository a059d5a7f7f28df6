"""Eight training patches with their labels, as the network would see them."""

import streamlit as st

from pages.ui.frame import errors_shown, plain, services
from seglib.config import RunConfig
from seglib.data.volumes import open_volume
from seglib.store.datasets import DatasetRow
from seglib.training.advice import learned_volumes, with_labels

ROW = 4


@st.fragment
def show_examples(dataset: DatasetRow, config: RunConfig) -> None:
    """A toggle, and the patches once it is on. Only this part of the page is drawn anew by its buttons."""
    shown = st.toggle(
        "Show eight training patches",
        key=f"examples.{dataset.id}.shown",
        help="Drawn and varied by the settings above, with labels in colour. Dark is not learned from.",
        persist_state="session",
    )
    if not shown:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        seed_key = f"examples.{dataset.id}.seed"
        if st.button("Others", icon=":material/refresh:", key=f"examples.{dataset.id}.others"):
            st.session_state[seed_key] = st.session_state.get(seed_key, 0) + 1
        labels = st.toggle("Labels", True, key=f"examples.{dataset.id}.labels")
    with errors_shown(), st.spinner("Drawing patches …"):
        text = with_labels(config, dataset.labels).model_dump_json(exclude={"model", "name", "length", "checkpoints"})
        text += str(config.model.needs_labels)
        examples = _drawn(text, config, dataset, st.session_state.get(seed_key, 0))
        for first in range(0, len(examples), ROW):
            for column, example in zip(st.columns(ROW), examples[first : first + ROW], strict=False):
                picture = example.picture if labels else example.plain
                learned = "" if example.learned > 0.995 else f", {100 * example.learned:.0f} % learned from"
                caption = f"{plain(example.volume)}, plane {example.plane + 1}{learned}"
                column.image(picture, caption=caption, width="stretch", output_format="PNG")


@st.cache_data(max_entries=8, show_spinner=False)
def _drawn(settings: str, _config: RunConfig, _dataset: DatasetRow, seed: int) -> list:  # type: ignore[type-arg]
    # What draws patches needs torch, and the page should be there before it.
    from seglib.training.examples import draw_examples

    del settings  # the key
    workspace = services().workspace
    rows = learned_volumes(_dataset, _config)
    volumes = [open_volume(workspace.volume(row.id), group=row.group) for row in rows]
    return draw_examples(with_labels(_config, _dataset.labels), volumes, seed=seed)
