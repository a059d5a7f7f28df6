"""A new run with the settings of an earlier one: `/train?clone=<id>` fills the Train page's form with them."""

import streamlit as st

from pages.ui.frame import id_from_url, plain, services, show_error
from pages.ui.suggestions import fill_form
from seglib.config import RunConfig, parse_run_config
from seglib.errors import SeglibError, StoreError
from seglib.jobs.submit import LONGEST_NAME
from seglib.store.datasets import DatasetRow
from seglib.store.runs import RunRow, get_run

# The run a form was last filled from, so that what is then changed stays as the page is drawn again.
FILLED = "train.cloned"
ENDING = " (copy)"


def open_clone(run: RunRow) -> None:
    """Leaves this page for the Train page, with a run's settings in its form."""
    st.session_state.pop(FILLED, None)
    st.switch_page("train.py", query_params={"clone": str(run.id)})


def cloned_dataset() -> int | None:
    """Id of the data set of the run the address asks to clone, or None."""
    try:
        found = _asked()
    except SeglibError:  # `show_clone` says so
        return None
    return found[1].data.dataset if found else None


def show_clone(dataset: DatasetRow, prefix: str) -> None:
    """Fills a data set's form where the address asks for a clone, and says so; must come before the form.

    prefix: of the form's keys.
    """
    try:
        found = _asked()
    except SeglibError as error:
        show_error(str(error))
        return
    if found is None:
        return
    run, config = found
    if dataset.id not in (config.data.dataset, id_from_url("dataset")):
        st.caption(
            f"The settings of run {run.id} are for data set {config.data.dataset}; these are not filled in here."
        )
        return
    if st.session_state.get(FILLED) != run.id:
        st.session_state[FILLED] = run.id
        fill_form(dataset, prefix, config.model_copy(update={"name": _copied(run.name)}))
    st.info(
        f"With the settings of run {run.id} ({plain(run.name)}). Change what you like.", icon=":material/content_copy:"
    )
    if config.data.labels not in (None, dataset.labels):
        st.warning("The labels of this data set are read differently now than when that run was started.")


def _asked() -> tuple[RunRow, RunConfig] | None:
    """The run to clone, and its settings. Raises SeglibError where there is none, or they cannot be read."""
    run_id = id_from_url("clone")
    if run_id is None:
        return None
    run = get_run(services().store, run_id)
    if run.kind != "train":
        raise StoreError(f"Run {run_id} is a prediction: start another one on the Predict page.")
    return run, parse_run_config(run.config)


def _copied(name: str) -> str:
    return name.removesuffix(ENDING)[: LONGEST_NAME - len(ENDING)] + ENDING
