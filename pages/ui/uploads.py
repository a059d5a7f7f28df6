"""The upload box: files and folders go from the browser to the server's disk while the page stays usable.

Streamlit's own uploader keeps whole files in memory, so this is a component of ours over `/api/uploads/…`
(seglib.serving.uploads). The page hears of it only when the list of files changes and when all of them are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from seglib.serving.upload_store import MAX_FILE_BYTES, MAX_FILES, SAMPLE_BYTES, SLICE_BYTES, SMALL_BYTES, find_manifest
from seglib.workspace import Workspace

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "seglib_uploads",
    css=(_HERE / "uploads.css").read_text(encoding="utf-8"),
    js=(_HERE / "uploads.js").read_text(encoding="utf-8"),
)
_LIMITS = {
    "files": MAX_FILES,
    "fileBytes": MAX_FILE_BYTES,
    "smallBytes": SMALL_BYTES,
    "sampleBytes": SAMPLE_BYTES,
    "sliceBytes": SLICE_BYTES,
}


@dataclass(frozen=True)
class UploadState:
    """What a box holds.

    manifest: id to read the files by (seglib.serving.upload_store.uploaded_files); None until all are on the server.
    files, bytes: of all that were chosen.
    """

    manifest: str | None = None
    files: int = 0
    bytes: int = 0


def upload_box(
    workspace: Workspace,
    key: str,
    *,
    label: str,
    help: str = "",
    accept: Sequence[str] = (),
    disabled: bool = False,
) -> UploadState:
    """Draws a box to choose files or a folder with, and says what is in it.

    key: while it stays the same the files stay, even where the box is off the page for a while.
    help: a sentence below the label. accept: endings such as ".tif"; other files are left out; none for all files.
    disabled: the list cannot be changed, as while its files are imported.
    """
    known = _told(st.session_state.get(key))
    # Imported or swept since: the browser still lists files that are no longer there.
    gone = known.get("manifest") if find_manifest(workspace, known.get("manifest")) is None else None
    data = {
        "key": key,
        "label": label,
        "help": help,
        "accept": [ending.lower() for ending in accept],
        "disabled": disabled,
        "gone": gone,
        "told": known,
        "limits": _LIMITS,
    }
    result = _component(key=key, data=data, default={"upload": {}}, on_upload_change=lambda: None)
    told = _told(result)
    manifest = find_manifest(workspace, told.get("manifest"))
    if manifest is not None:
        return UploadState(manifest.id, manifest.files, manifest.bytes)
    if told.get("manifest") is not None:
        return UploadState()
    return UploadState(None, _count(told.get("files")), _count(told.get("bytes")))


def _told(state: Any) -> dict[str, Any]:
    """What the browser says of a box; anything may come from there."""
    upload = state.get("upload") if isinstance(state, dict) else None
    return dict(upload) if isinstance(upload, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
