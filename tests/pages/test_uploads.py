"""What the upload box tells the page, and what it believes of what the browser says."""

import json

import pytest
import streamlit as st

from pages.ui import uploads
from pages.ui.uploads import UploadState, upload_box
from seglib.serving.upload_store import Claim, create_manifest, forget_uploads, store_small


class Browser:
    """A component whose browser says what the test wants."""

    def __init__(self):
        self.says: object = {}
        self.calls: list[dict] = []

    def __call__(self, **call):
        self.calls.append(call)
        return {"upload": self.says}


@pytest.fixture
def browser(monkeypatch):
    browser = Browser()
    monkeypatch.setattr(uploads, "_component", browser)
    monkeypatch.setattr(st, "session_state", {})
    return browser


@pytest.fixture
def manifest(workspace):
    claims = [Claim("a.tif", 3, 1, 0x352441C2), Claim("b.tif", 0, 1, 0)]  # CRC-32 of “abc” is known
    for claim, content in zip(claims, (b"abc", b""), strict=True):
        store_small(workspace, claim, content)
    return create_manifest(workspace, [claim.upload_id for claim in claims]).id


def test_a_new_box_is_empty_and_its_data_are_json(browser, workspace):
    assert upload_box(workspace, "k", label="Images", help="Stacks", accept=[".TIF"]) == UploadState()
    (call,) = browser.calls
    data = json.loads(json.dumps(call["data"]))
    assert (call["key"], data["key"], data["label"], data["help"]) == ("k", "k", "Images", "Stacks")
    assert (data["accept"], data["disabled"], data["gone"], data["told"]) == ([".tif"], False, None, {})


def test_a_list_that_is_not_complete_has_no_manifest(browser, workspace):
    browser.says = {"manifest": None, "files": 7, "bytes": 70}
    assert upload_box(workspace, "k", label="Images") == UploadState(None, 7, 70)


def test_a_complete_list_is_counted_on_the_server(browser, workspace, manifest):
    browser.says = {"manifest": manifest, "files": 700, "bytes": 700}
    assert upload_box(workspace, "k", label="Images") == UploadState(manifest, 2, 3)


def test_files_that_were_imported_are_taken_from_the_list(browser, workspace, manifest):
    browser.says = {"manifest": manifest, "files": 2, "bytes": 3}
    st.session_state["k"] = {"upload": browser.says}
    upload_box(workspace, "k", label="Images")
    forget_uploads(workspace, manifest)
    assert upload_box(workspace, "k", label="Images") == UploadState()
    assert [call["data"]["gone"] for call in browser.calls] == [None, manifest]


@pytest.mark.parametrize(
    "lie",
    [None, 3, [], "x", {"manifest": "../../studio", "files": 1, "bytes": 1}, {"manifest": 7}, {"manifest": "0" * 32},
     {"files": -1, "bytes": "many"}, {"files": True, "bytes": 1.5}, {"manifest": ["0" * 32]}],
)  # fmt: skip
def test_what_makes_no_sense_is_an_empty_box(browser, workspace, lie):
    browser.says = lie
    st.session_state["k"] = {"upload": lie}
    assert upload_box(workspace, "k", label="Images") == UploadState()
