"""Runs that belong together, such as the folds of a cross-validation: each by itself, and what they found together."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from pages.ui.frame import errors_shown, moment, plain, services
from pages.ui.run_actions import shown_state
from seglib.jobs.submit import resume_run
from seglib.store.groups import Member, Spread, combined, get_group, list_groups, list_members
from seglib.store.runs import RESUMABLE, request_stop

TICK_S = 4
SHOWN = 10


def show_groups() -> None:
    """Links to all groups, folded away; nothing where there is none."""
    groups = list_groups(services().store)
    if not groups:
        return
    with st.expander(f"Cross-validations ({len(groups)})", icon=":material/view_week:"):
        for group in groups:
            label = f"{group.id} · {plain(group.name)} · {group.runs} runs, {moment(group.created_at)}"
            st.page_link("runs.py", label=label, query_params={"group": str(group.id)})


def show_group_link(group_id: int) -> None:
    """A link from a run to the group it is of."""
    group = get_group(services().store, group_id)
    st.page_link(
        "runs.py",
        label=f"Part of the cross-validation {plain(group.name)}",
        icon=":material/view_week:",
        query_params={"group": str(group.id)},
    )


def show_group(group_id: int) -> None:
    """A group as a page of its own. Raises StoreError where there is none of that id."""
    group = get_group(services().store, group_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("All runs", icon=":material/arrow_back:"):
            st.query_params.clear()
            st.rerun()
        st.header(f"Cross-validation · {plain(group.name)}")
    live = _is_live(list_members(services().store, group_id))
    st.fragment(_body, run_every=TICK_S if live else None)(group_id, live)


def _is_live(members: Sequence[Member]) -> bool:
    return not all(member.run.is_over for member in members)


def _body(group_id: int, live: bool) -> None:
    """Buttons, scores and folds; drawn again every tick. live: whether the page took the group to be under way."""
    members = list_members(services().store, group_id)
    if live != _is_live(members):
        st.rerun()  # with or without a timer
    _actions(members)
    _scores(members)
    _folds(group_id, members)


def _actions(members: Sequence[Member]) -> None:
    store = services().store
    stoppable = [m.run for m in members if not m.run.is_over or m.run.status == "paused"]
    resumable = [m.run for m in members if m.run.status in RESUMABLE]
    with st.container(horizontal=True):
        if st.button("Stop all", icon=":material/stop:", disabled=not stoppable):
            for run in stoppable:
                request_stop(store, run.id)
            st.rerun()
        if st.button("Resume all", icon=":material/resume:", disabled=not resumable):
            with errors_shown():
                for run in resumable:
                    resume_run(store, run.id)
                st.rerun()
        if st.button("Compare", icon=":material/compare:"):
            st.switch_page("compare.py", query_params={"runs": ",".join(str(m.run.id) for m in members)})


def _scores(members: Sequence[Member]) -> None:
    """Mean and standard deviation over the folds; the score that chose the checkpoints in large."""
    found = combined(members)
    if not found:
        st.caption("Scores appear after the first validation.")
        return
    best_by = members[0].run.config.get("validation", {}).get("best_by", "dice")
    first = next((name for name in (best_by, "dice", "loss") if name in found), next(iter(found)))
    spread = found[first]
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.4f}"
    st.metric(
        f"{plain(first)}, mean over the folds",
        f"{spread.mean:.4f}{deviation}",
        f"{spread.count} of {len(members)} folds judged, {sum(m.run.status == 'finished' for m in members)} finished",
        delta_color="off",
        delta_arrow="off",
        help="Validation scores of each fold's best checkpoint: mean ± standard deviation of the sample (n − 1).",
    )
    with st.expander(f"All {len(found)} scores", expanded=len(found) <= SHOWN):
        st.dataframe(_spreads(found), hide_index=True, width="content")


def _spreads(found: Mapping[str, Spread]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"Score": name, "Mean": s.mean, "Standard deviation": s.deviation, "Folds": s.count}
            for name, s in found.items()
        ]
    )


def _folds(group_id: int, members: Sequence[Member]) -> None:
    names = list(combined(members))[:SHOWN]
    rows = [
        {
            "Fold": number,
            "Run": member.run.id,
            "Name": member.run.name,
            "State": shown_state(member.run),
            "Progress": member.run.done / member.run.total if member.run.total else 0.0,
            "Best epoch": member.best.epoch if member.best else None,
            **{name: member.scores.get(name) for name in names},
        }
        for number, member in enumerate(members, 1)
    ]
    picked = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key=f"runs.group.{group_id}",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"Progress": st.column_config.ProgressColumn(format="percent")},
    )
    st.caption("Scores of each run's best checkpoint, on the fold that judges it. Pick a row to open the run.")
    if picked.selection.rows:
        st.query_params.clear()
        st.query_params["run"] = str(members[picked.selection.rows[0]].run.id)
        st.rerun()
