"""Imports in the background: they end with a data set, or with a sentence and nothing left."""

import threading

import numpy as np
import pytest
import tifffile

from seglib.data.readers.base import SourceFile
from seglib.ingest import ImportRequest
from seglib.jobs.importing import BackgroundImport
from seglib.store import Store
from seglib.store.datasets import list_datasets
from seglib.workspace import open_workspace

WAIT_S = 30.0


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace):
    store = Store(workspace.database)
    yield store
    store.close()


def request_for(folder, *, planes=3):
    path = folder / "stack.tif"
    tifffile.imwrite(path, np.zeros((planes, 8, 9), np.uint8), photometric="minisblack")
    return ImportRequest(name="mine", images=(SourceFile(path, "stack.tif"),), voxel_size_nm=(1, 1, 1))


def test_it_ends_with_the_id_of_the_data_set(workspace, store):
    state = BackgroundImport(workspace, store, request_for).wait(WAIT_S)
    assert state.is_over
    assert state.error == ""
    assert [row.id for row in list_datasets(store)] == [state.dataset]


def test_the_same_files_again_are_noticed(workspace, store):
    BackgroundImport(workspace, store, request_for).wait(WAIT_S)
    again = BackgroundImport(workspace, store, request_for).wait(WAIT_S)
    assert "imported before, as mine" in " ".join(again.notes)


def test_bad_files_end_it_with_their_sentence_and_leave_nothing(workspace, store):
    def collect(scratch):
        path = scratch / "notes.tif"
        path.write_text("my notes")
        return ImportRequest(name="bad", images=(SourceFile(path, "notes.tif"),), voxel_size_nm=(1, 1, 1))

    state = BackgroundImport(workspace, store, collect).wait(WAIT_S)
    assert "notes.tif" in state.error
    assert list_datasets(store) == []
    assert list((workspace.root / "scratch").iterdir()) == []
    assert list((workspace.root / "volumes").iterdir()) == []


def test_cancelling_leaves_nothing(workspace, store):
    reached, go_on = threading.Event(), threading.Event()

    def collect(scratch):
        reached.set()
        assert go_on.wait(WAIT_S)
        return request_for(scratch)

    job = BackgroundImport(workspace, store, collect)
    assert reached.wait(WAIT_S)
    job.cancel()
    go_on.set()
    assert "cancelled" in job.wait(WAIT_S).error
    assert list_datasets(store) == []
    assert list((workspace.root / "scratch").iterdir()) == []


def test_a_bug_does_not_leave_the_page_waiting(workspace, store):
    def collect(scratch):
        raise RuntimeError("unforeseen")

    assert "unforeseen" in BackgroundImport(workspace, store, collect).wait(WAIT_S).error
