"""What every page sits in: navigation, page settings, and the strip of active runs in the sidebar."""

from pathlib import Path

import streamlit as st

from pages.ui.frame import duration, plain, services
from pages.ui.run_actions import shown_state
from seglib.store.runs import ACTIVE, list_runs

st.set_page_config(page_title="Seglib Studio", page_icon=Path(__file__).parent / "ui" / "icon.png", layout="wide")

page = st.navigation(
    [
        st.Page("datasets.py", title="Datasets", icon=":material/stacks:", default=True),
        st.Page("train.py", title="Train", icon=":material/model_training:"),
        st.Page("runs.py", title="Runs", icon=":material/monitoring:"),
        st.Page("compare.py", title="Compare", icon=":material/compare:"),
        st.Page("predict.py", title="Predict", icon=":material/auto_awesome:"),
    ]
)


@st.fragment(run_every=4)
def active_runs() -> None:
    """What runs and waits now, on every page."""
    runs = list_runs(services().store, statuses=("queued", *ACTIVE))
    if not runs:
        st.caption("Nothing is running.")
    for run in reversed(runs):
        share = run.done / run.total if run.total else 0.0
        left = f" · {duration(run.seconds_left)} left" if run.seconds_left else ""
        left = f" · {shown_state(run)}" if shown_state(run) == "stalled" else left
        if run.status == "queued":
            st.caption(f"{run.id} · {plain(run.name)} · waits for {run.device}")
        else:
            st.progress(min(share, 1.0), text=f"{run.id} · {plain(run.name)}{left}")


with st.sidebar:
    active_runs()

page.run()
