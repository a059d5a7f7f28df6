"""Work in the background of a page: started, watched by a fragment, its end drawn by the page itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.ui.frame import duration, plain, show_error
from seglib.jobs.importing import BackgroundWork, Cancelled, Progress


@dataclass
class Background:
    """What runs for a part of a page; kept in the session. work: under way; done: called with its result, in the
    script of the page; error: why the last one gave none.
    """

    work: BackgroundWork[Any] | None = None
    done: Callable[[Any], None] | None = None
    error: str = ""


def start_work(state: Background, work: Callable[[Progress, Cancelled], Any], done: Callable[[Any], None]) -> None:
    """Starts work and draws the page anew."""
    state.error = ""
    state.work, state.done = BackgroundWork(work), done
    st.rerun()


def show_work(state: Background, *, key: str, unit: str) -> None:
    """Progress of what runs, with a button that cancels it; or why it ended. unit: what is counted."""
    if state.work is not None:
        _watch(state, key, unit)
    elif state.error:
        show_error(state.error)


@st.fragment(run_every=0.4)
def _watch(state: Background, key: str, unit: str) -> None:
    """Progress of the work under way; its end draws the page anew."""
    if state.work is None or state.done is None:
        st.rerun()
    now = state.work.state
    if now.is_over:
        work, state.work = state.work, None
        state.error = now.error
        if now.result is not None:
            state.done(work.state.result)
        st.rerun()
    share = now.done / now.total if now.total else 0.0
    counted = f" · {unit} {now.done:,} of {now.total:,}" if now.total else ""
    bar, button = st.columns([5, 1], vertical_alignment="bottom")
    bar.progress(min(1.0, share), text=f"{plain(now.text)}{counted}{_left(state.work.seconds, share)}")
    if button.button("Cancel", icon=":material/close:", key=f"{key}.cancel", width="stretch"):
        state.work.cancel()


def _left(seconds: float, share: float) -> str:
    """Time left, once there is enough to judge it by."""
    return f" · about {duration(seconds / share - seconds)} left" if share > 0.05 and seconds > 2 else ""
