"""What every page needs: the workspace, text made safe to show, and errors shown where they happen."""

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from seglib.config import LabelScheme
from seglib.errors import SeglibError
from seglib.store import Store, open_store
from seglib.store.runs import RunRow
from seglib.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class Services:
    """Where everything lives."""

    workspace: Workspace
    store: Store


@functools.cache
def services() -> Services:
    """The workspace and its store, one for all sessions."""
    workspace = open_workspace()
    return Services(workspace, open_store(workspace))


def file_size(size: int) -> str:
    """“1.23 GB”, “4.5 MB” or “6.7 kB” of a number of bytes."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def plain(text: str) -> str:
    """A user's text for a place that understands Markdown: shown as typed, never as links, images or formulas."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:&@/^=])", r"\\\1", text.replace("\n", " "))


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Shows a library error where it happened instead of ending the page."""
    try:
        yield
    except SeglibError as error:
        show_error(str(error))


def show_error(text: str) -> None:
    """An error as the library says it, a line each for several."""
    st.error("  \n".join(plain(line) for line in text.splitlines()), icon=":material/error:")


def duration(seconds: float | None) -> str:
    """Seconds in words, such as `3 min 20 s`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(timestamp: float | None) -> str:
    """A time of day with its date."""
    return "–" if timestamp is None else datetime.fromtimestamp(timestamp).strftime("%Y-%m-%d %H:%M")


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as `10 × 1536 × 2048`."""
    return " × ".join(str(side) for side in shape)


def run_label(run: RunRow) -> str:
    """How a run is called in choices: its number and its name, as plain text."""
    return f"{run.id} · {run.name}"


def class_names(run: RunRow) -> tuple[str, ...]:
    """Names of the classes a training run learns."""
    data = run.config["data"]
    return LabelScheme.model_validate(data.get("labels", {})).names(data["task"])


def id_from_url(name: str) -> int | None:
    """A positive id from the address, or None where it is missing or no id."""
    text = st.query_params.get(name, "")
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,9}", text) else None
