"""Choosing a folder or file on the server by clicking through the folders that are open to imports."""

import pandas as pd
import streamlit as st

from pages.ui.frame import errors_shown, moment, plain
from seglib.data.doors import FolderEntry, list_folder, roots
from seglib.data.readers.sources import confine

KINDS = {"folder": "folder", "zarr": "Zarr", "file": "image", "archive": "zip", "list": "list"}


def browse(key: str, label: str) -> str:
    """Draws a path to type and, below it, the folder it leads to, and returns the path, empty where there is none.

    key: names the widgets; label: what the path is of.
    """
    # The widget's key changes when a click sets the path, as a widget's own value cannot be set once it is drawn.
    text, turn = st.session_state.get(key, ("", 0))
    typed = st.text_input(
        label,
        text,
        key=f"{key}.path.{turn}",
        placeholder="/data/my-experiment",
        help="A folder with `images` and `labels` in it gives both. Also a single file, a zip, a `.txt` list of 2D "
        "images or a `.json` tile list.",
        persist_state="session",
    ).strip()
    shown = st.toggle("Browse the folders of the server", key=f"{key}.browse", persist_state="session")
    if shown:
        with errors_shown():
            _listing(key, typed, turn)
    return typed


def _listing(key: str, path: str, turn: int) -> None:
    if not path:
        entries = [FolderEntry(str(root), str(root), "folder", None, root.stat().st_mtime) for root in roots()]
        _table(key, entries, "", turn)
        return
    resolved = confine(path)
    listing = list_folder(path if resolved.is_dir() else str(resolved.parent), resolve=confine)
    up, where = st.columns([1, 6], vertical_alignment="center")
    if up.button("Up", icon=":material/arrow_upward:", key=f"{key}.up", width="stretch"):
        _go(key, listing.parent or "", turn)
    where.write(plain(listing.path))
    _table(key, list(listing.entries), listing.path, turn)
    left_out = []
    if listing.others:
        left_out.append(f"{listing.others:,} files that cannot be imported are not shown")
    if listing.more:
        left_out.append("there is more than fits into this list; type the rest of the path")
    if left_out:
        st.caption("; ".join(left_out).capitalize() + ".")


def _table(key: str, entries: list[FolderEntry], folder: str, turn: int) -> None:
    if not entries:
        st.caption("Nothing here can be imported.")
        return
    rows = pd.DataFrame(
        {
            "Name": [entry.name for entry in entries],
            "Kind": [KINDS[entry.kind] for entry in entries],
            "Size": [_size(entry) for entry in entries],
            "Changed": [moment(entry.modified) for entry in entries],
        }
    )
    chosen = st.dataframe(
        rows,
        hide_index=True,
        height=min(38 + 35 * len(entries), 300),
        on_select="rerun",
        selection_mode="single-row",
        key=f"{key}.table.{folder}.{turn}",
    )
    picked = chosen["selection"]["rows"]
    if picked:
        _go(key, entries[picked[0]].path, turn)


def _go(key: str, path: str, turn: int) -> None:
    st.session_state[key] = (path, turn + 1)
    st.rerun()


def _size(entry: FolderEntry) -> str:
    if entry.size_bytes is None:
        return ""
    size, units = float(entry.size_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}"
