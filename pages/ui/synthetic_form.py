"""The form for synthetic data: what is made, one sample to look at, and making them in the background."""

from typing import Any

import streamlit as st

from pages.ui.background import Background, show_work, start_work
from pages.ui.forms import FormContext, section
from pages.ui.frame import errors_shown, services, sizes
from seglib.config.synthetic import OpticLobeConfig, RingImagesConfig, SyntheticConfig
from seglib.data.pictures import grey_picture, painted_objects, visible_range
from seglib.data.samples import Sample, make_sample
from seglib.errors import ConfigError
from seglib.ingest import make_dataset
from seglib.jobs.importing import Cancelled, Progress

STATE = "synthetic.state"
# Fewer than the published 2048 and 64, which take minutes: a person at a page wants to see something.
START = SyntheticConfig(training=64, validation=8)


def synthetic_form() -> None:
    """Draws the form, or the progress of what is made; at its end the new data set is opened."""
    state: Background = st.session_state.setdefault(STATE, Background())
    st.subheader("Make synthetic data")
    st.caption("Images with perfect labels, to try things out or to train before there are labels of your own.")
    form, preview = st.columns([2, 3], gap="large")
    with form, errors_shown():
        config = _ask()
        if config is None:
            return
        name = st.text_input("Name of the data set", _usual_name(config), key=f"synthetic.name.{config.sample.kind}")
    with preview, errors_shown():
        _preview(config.sample.model_dump_json(), config)
    show_work(state, key="synthetic", unit="sample")
    busy = state.work is not None
    if st.button("Make the data set", type="primary", icon=":material/science:", disabled=busy, key="synthetic.go"):
        _make(state, config, name)


def _ask() -> SyntheticConfig | None:
    context = FormContext("synthetic")
    values: dict[str, Any] = {"sample": section("sample", SyntheticConfig, START, context)}
    left, right = st.columns(2)
    for column, names in ((left, ("training", "seed")), (right, ("validation", "validation_seed"))):
        with column:
            values |= {name: section(name, SyntheticConfig, START, context) for name in names}
    try:
        return SyntheticConfig.model_validate(values)
    except ValueError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ") if hasattr(error, "errors") else str(error)
        raise ConfigError(f"This cannot be made: {wrong}.") from error


def _usual_name(config: SyntheticConfig) -> str:
    return "Fly optic lobe" if isinstance(config.sample, OpticLobeConfig) else "Rings"


@st.fragment
def _preview(settings: str, config: SyntheticConfig) -> None:
    """One sample, the first that will be made unless another is asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.number_input("Sample", 1, max(1, config.training), 1, key="synthetic.number", width=140)
        labels = st.toggle("Labels", True, key="synthetic.labels")
    with st.spinner("Making one sample …"):
        sample = _sample(settings, config.sample, config.seed, int(number) - 1)
    depth = sample.image.shape[0]
    plane = st.slider("Plane", 1, depth, depth // 2, key=f"synthetic.plane.{depth}") - 1 if depth > 1 else 0
    shown = visible_range(sample.image)
    pictures = [(grey_picture(sample.image[plane], *shown), sample.ids[plane], "One plane" if depth > 1 else "")]
    if depth > 1:
        bright = sample.image.max(0)
        pictures.append((grey_picture(bright, *visible_range(bright)), sample.ids.max(0), "Seen from above"))
    for column, (picture, ids, caption) in zip(st.columns(len(pictures)), pictures, strict=True):
        column.image(painted_objects(picture, ids) if labels else picture, caption=caption, output_format="PNG",
                     width="stretch")  # fmt: skip
    labelled = 100 * float((sample.ids > 0).mean())
    st.caption(f"{sizes(sample.image.shape)} voxels, {int(sample.ids.max())} objects, {labelled:.1f} % labelled.")


@st.cache_data(max_entries=4, show_spinner=False)
def _sample(settings: str, _config: OpticLobeConfig | RingImagesConfig, seed: int, index: int) -> Sample:
    del settings  # the key
    return make_sample(_config, seed=seed, index=index)


def _make(state: Background, config: SyntheticConfig, name: str) -> None:
    from pages.ui.import_form import open_dataset

    workspace, store = services().workspace, services().store

    def work(progress: Progress, cancelled: Cancelled) -> int:
        return make_dataset(workspace, store, config, name=name, progress=progress, cancelled=cancelled)

    def made(dataset: int) -> None:
        notes = [] if not config.validation else ["On the Train page, split by name: validation*."]
        open_dataset(dataset, notes)

    start_work(state, work, made)
