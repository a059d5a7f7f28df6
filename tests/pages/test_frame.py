"""What every page shares: a user's text stays text, ids come from the address, times are words."""

import re
import string

import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from pages.ui import frame
from pages.ui.frame import duration, id_from_url, moment, plain, sizes
from seglib.store import open_store
from seglib.workspace import open_workspace

MARKS = set("\\`*_{}[]()#+-.!|<>~$:&@/^=")


@given(some.text(alphabet=some.characters(codec="utf-8", exclude_characters="\n")))
def test_plain_text_reads_back_as_it_was_typed(text):
    """CommonMark: a backslash before punctuation is that punctuation, anything else stands for itself."""
    assert re.sub(r"\\([" + re.escape(string.punctuation) + r"])", r"\1", plain(text)) == text


@given(some.text(alphabet="\\`*_{}[]()#+-.!|<>~$:&@/^=ab ", max_size=40))
def test_no_mark_of_markdown_stands_without_a_backslash(text):
    escaped = plain(text)
    position = 0
    while position < len(escaped):
        if escaped[position] == "\\":
            position += 2
            continue
        assert escaped[position] not in MARKS
        position += 1


def test_plain_text_is_one_line():
    assert plain("a\n# b") == r"a \# b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"),
     (90061, "25 h 1 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_times_and_sizes():
    assert moment(None) == "–"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", moment(1.75e9))
    assert sizes((10, 1536, 2048)) == "10 × 1536 × 2048"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("7", 7), ("", None), ("0", None), ("-1", None), ("1e3", None), ("٣", None), ("1 ", None), ("07", None),
     ("99999999999", None), ("<script>", None)],
)  # fmt: skip
def test_an_id_in_the_address_is_a_plain_positive_number(text, wanted, monkeypatch):
    monkeypatch.setattr(st, "query_params", {"run": text})
    assert id_from_url("run") == wanted
    assert id_from_url("volume") is None


def test_pages_use_the_store_of_the_workspace_in_the_environment():
    services = frame.services()
    assert services.workspace == open_workspace()
    assert services.store is open_store(services.workspace)


def test_a_library_error_is_shown_where_it_happened_and_the_page_goes_on():
    def script():
        import streamlit as st

        from pages.ui.frame import errors_shown
        from seglib.errors import DataError

        with errors_shown():
            raise DataError("*leaf*.tif is cut short")
        st.write("after")

    page = AppTest.from_function(script).run()
    assert [error.value for error in page.error] == [r"\*leaf\*\.tif is cut short"]
    assert [text.value for text in page.markdown] == ["after"]
    assert not page.exception


def test_a_bug_is_not_shown_as_an_error_a_person_can_mend():
    def script():
        from pages.ui.frame import errors_shown

        with errors_shown():
            raise RuntimeError("a bug")

    page = AppTest.from_function(script).run()
    assert len(page.error) == 0
    # What a reader sees of it is Streamlit's to say; this app keeps tracebacks in the server's log.
    assert len(page.exception) == 1
