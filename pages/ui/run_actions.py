"""What can be done with a training run, as a row of buttons on its page."""

import time

import streamlit as st

from pages.ui.cloning import open_clone
from pages.ui.frame import errors_shown, file_size, plain, services
from seglib.config import parse_run_config
from seglib.errors import ConfigError, SeglibError
from seglib.jobs.submit import LONGEST_NAME, extend_run, resume_run
from seglib.runfolder.archive import RunFile, run_files
from seglib.store.runs import (
    RESUMABLE,
    RunRow,
    checkpoints,
    delete_run,
    list_runs,
    rename_run,
    request_pause,
    request_stop,
)

STALLED = (
    "It has got no further for {minutes:.0f} minutes, though its program lives. It may wait for a slow disk, swap "
    "because memory ran out, or hang; the log may say more. Stop and Pause save after the current batch, if it still "
    "gets there. A run set to run in a process of its own can be ended without the server when it hangs."
)


def shown_state(run: RunRow) -> str:
    """The state of a run in a word; `stalled` for one that runs but gets no further."""
    return "stalled" if run.is_stalled(time.time()) else run.status


def stalled_hint(run: RunRow) -> str:
    """Why a run may get no further, and what to do; empty where it does."""
    now = time.time()
    return STALLED.format(minutes=(now - (run.progressed_at or now)) / 60) if run.is_stalled(now) else ""


def show_actions(run: RunRow) -> None:
    """All buttons; those that make no sense in the run's state cannot be pressed."""
    saved = checkpoints(services().store, run.id)
    with st.container(horizontal=True):
        _flow(run)
        if st.button("Predict with it", icon=":material/auto_awesome:", disabled="best" not in saved):
            st.switch_page("predict.py", query_params={"run": str(run.id)})
        if st.button("Compare", icon=":material/compare:"):
            st.switch_page("compare.py", query_params={"runs": str(run.id)})
        if st.button("Clone", icon=":material/content_copy:", help="Opens the Train page with these settings."):
            open_clone(run)
        with st.popover("Make longer", icon=":material/more_time:", disabled=not run.is_over or "last" not in saved):
            _extend(run)
        with st.popover("Results", icon=":material/folder_zip:"):
            _results(run)
        with st.popover("Rename", icon=":material/edit:"):
            _rename(run)
        if st.button("Delete", icon=":material/delete:", disabled=not run.is_over):
            _confirm_delete(run)


def _flow(run: RunRow) -> None:
    """Stop, pause, go on."""
    store, paused = services().store, run.status == "paused"
    if st.button("Stop", icon=":material/stop:", disabled=run.status == "stopping" or (run.is_over and not paused)):
        request_stop(store, run.id)
        st.rerun()
    if paused:
        if st.button("Go on", icon=":material/resume:", help="Before all runs that wait for the same device."):
            resume_run(store, run.id)
            st.rerun()
        return
    if st.button(
        "Pause",
        icon=":material/pause:",
        help="Saves after the current batch and lets other runs have the device, until you press Go on.",
        disabled=run.is_over or run.status in ("stopping", "pausing"),
    ):
        request_pause(store, run.id)
        st.rerun()
    if st.button("Resume", icon=":material/resume:", disabled=run.status not in RESUMABLE):
        with errors_shown():
            resume_run(store, run.id)
            st.rerun()


def _extend(run: RunRow) -> None:
    with errors_shown():
        length = parse_run_config(run.config).length
        unit = "iterations" if length.iterations else "epochs"
        now = length.iterations or length.epochs
        more = st.number_input(f"More {unit}", 1, None, max(1, now // 2), key=f"runs.more.{run.id}.{now}")
        st.caption(f"{now:,} so far. It goes on from its last checkpoint, {now + more:,} {unit} in all.")
        if st.button("Go on for longer", icon=":material/more_time:", type="primary", key=f"runs.extend.{run.id}"):
            extend_run(services().store, run.id, **{unit: more})
            st.rerun()


def _results(run: RunRow) -> None:
    try:
        files = run_files(services().workspace, run.id)
    except SeglibError as error:
        st.caption(plain(str(error)))
        return
    saved = [file for file in files if file.is_checkpoint]
    st.caption("Settings, history, log, curves, and what it was computed with, as one zip.")
    whole = st.toggle(f"With checkpoints ({_amount(saved)})", bool(saved), disabled=not saved)
    chosen = files if whole else [file for file in files if not file.is_checkpoint]
    address = f"/api/files/run/{run.id}/results.zip?checkpoints={int(whole)}"
    st.link_button(f"Download {_amount(chosen)}", address, icon=":material/download:", type="primary")


def _rename(run: RunRow) -> None:
    name = st.text_input("New name", run.name, max_chars=LONGEST_NAME, key=f"runs.name.{run.id}.{run.name}")
    if st.button("Rename it", disabled=name.strip() == run.name, key=f"runs.rename.{run.id}"):
        with errors_shown():
            if not name.strip():
                raise ConfigError("The name has 0 characters; give the run one.")
            rename_run(services().store, run.id, name.strip())
            st.rerun()


@st.dialog("Delete this run?")
def _confirm_delete(run: RunRow) -> None:
    saved = checkpoints(services().store, run.id)
    st.write(
        f"Run {run.id} ({plain(run.name)}) will be gone for good, with its settings, curves, previews and log"
        + (f", and its checkpoints: {', '.join(sorted(saved))}" if saved else "")
        + f". {_on_disk(run)} Predictions made with it stay."
    )
    if needing := _needing(run):
        st.warning(f"Run {', '.join(map(str, needing))} waits to use its checkpoint, and will fail without it.")
    if st.button("Delete it", type="primary", icon=":material/delete:"):
        delete_run(services().store, run.id)
        services().workspace.discard([services().workspace.run(run.id)])
        st.query_params.clear()
        st.rerun()


def _on_disk(run: RunRow) -> str:
    try:
        files = run_files(services().workspace, run.id)
    except SeglibError:
        return "It has left no files."
    return f"On disk these are {len(files):,} files, {_amount(files)}."


def _needing(run: RunRow) -> list[int]:
    """Ids of runs in the queue that start from this one's checkpoints."""
    waiting = list_runs(services().store, statuses=("queued",))
    return [other.id for other in waiting if run.id in (other.config.get("run"), _weights(other))]


def _weights(run: RunRow) -> int | None:
    weights = run.config.get("weights", {})
    return weights["run"] if weights.get("kind") == "run" else None


def _amount(files: list[RunFile]) -> str:
    return file_size(sum(file.size for file in files))
