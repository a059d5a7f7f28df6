"""Choosing one volume among all of the workspace, which may be tens of thousands."""

import streamlit as st

from pages.ui.frame import services
from seglib.store.datasets import VolumeRow, find_volumes, list_datasets

SHOWN = 200


def pick_volume(key: str, *, preferred: int | None = None) -> VolumeRow | None:
    """Draws a choice of data set, then of volume, and returns the volume; None where there is none.

    key: names the widgets. preferred: id of the data set chosen at first.
    """
    datasets = {row.id: row for row in list_datasets(services().store)}
    if not datasets:
        return None
    left, right = st.columns(2)
    dataset = left.selectbox(
        "Data set",
        list(datasets),
        index=list(datasets).index(preferred) if preferred in datasets else 0,
        format_func=lambda row: f"{row} · {datasets[row].name}",
        key=f"{key}.dataset",
    )
    text = ""
    if datasets[dataset].volume_count > SHOWN:
        text = right.text_input("Find a volume", key=f"{key}.find.{dataset}", placeholder="Part of its name")
    volumes, found = find_volumes(services().store, dataset, text=text, limit=SHOWN)
    by_id = {volume.id: volume for volume in volumes}
    if not by_id:
        right.caption("No volume is called so.")
        return None
    chosen = right.selectbox(
        "Volume" if found <= SHOWN else f"Volume (the first {SHOWN} of {found:,})",
        list(by_id),
        format_func=lambda volume: f"{volume} · {by_id[volume].name}",
        key=f"{key}.volume.{dataset}.{text}",
    )
    return by_id[chosen]
