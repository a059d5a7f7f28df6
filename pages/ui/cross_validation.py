"""Cross-validation from the Train page: how many folds, and a start of all of them."""

import streamlit as st

from pages.ui.frame import errors_shown, services
from seglib.config import RunConfig
from seglib.jobs.submit import submit_cross_validation

FOLDS = 5


def offer_cross_validation(config: RunConfig, *, groups: int, ready: bool) -> None:
    """Draws a button that opens the choice. groups: how many volumes, or groups of them, there are to divide.

    ready: whether the settings can run at all.
    """
    if groups < 2:
        return
    with st.popover("Cross-validate", icon=":material/view_week:", disabled=not ready):
        folds = st.number_input("Folds", 2, min(50, groups), min(FOLDS, groups), key="train.folds")
        st.caption(
            f"Queues {folds} runs with these settings. The volumes, or their groups, are divided into {folds} folds; "
            "each run is judged on another one and learns from the rest. The scores are shown together, with their "
            "mean and standard deviation."
        )
        if st.button("Start all", type="primary", icon=":material/play_arrow:", key="train.cross_validate"):
            with errors_shown():
                group, _ = submit_cross_validation(services().store, config, folds)
                st.switch_page("runs.py", query_params={"group": str(group)})
