"""Work of imports in the background: it ends with a result, or with a sentence."""

import threading

import pytest

from seglib.errors import DataError, WorkCancelled
from seglib.jobs.importing import BackgroundWork

WAIT_S = 30.0


def test_it_ends_with_its_result_and_tells_how_far_it_is():
    reached, go_on = threading.Event(), threading.Event()

    def work(progress, cancelled):
        progress(3, 9, "Importing leaf")
        reached.set()
        assert go_on.wait(WAIT_S)
        return 42

    background = BackgroundWork(work)
    assert reached.wait(WAIT_S)
    now = background.state
    assert (now.done, now.total, now.text, now.is_over) == (3, 9, "Importing leaf", False)
    go_on.set()
    state = background.wait(WAIT_S)
    assert (state.result, state.error, state.is_over) == (42, "", True)


def test_a_library_error_ends_it_with_its_sentence():
    def work(progress, cancelled):
        raise DataError("notes.tif is not an image.")

    state = BackgroundWork(work).wait(WAIT_S)
    assert (state.result, state.error) == (None, "notes.tif is not an image.")


def test_cancelling_reaches_the_work():
    reached = threading.Event()

    def work(progress, cancelled):
        reached.set()
        while not cancelled():
            pass
        raise WorkCancelled("stopped")

    background = BackgroundWork(work)
    assert reached.wait(WAIT_S)
    background.cancel()
    assert "Cancelled" in background.wait(WAIT_S).error


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), KeyError("unforeseen")])
def test_a_bug_does_not_leave_the_page_waiting(error):
    def work(progress, cancelled):
        raise error

    assert "unforeseen" in BackgroundWork(work).wait(WAIT_S).error
