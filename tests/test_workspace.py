"""Paths come from ids alone, and what a killed process left in scratch goes."""

import os
import time
from pathlib import Path

import pytest

from seglib.errors import SeglibError
from seglib.workspace import ENVIRONMENT, open_workspace, step_name


def test_the_folder_is_the_argument_then_the_variable_then_in_home(tmp_path, monkeypatch):
    assert open_workspace(tmp_path / "a").root == tmp_path / "a"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "b"))
    assert open_workspace().root == tmp_path / "b"
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert open_workspace().root == tmp_path / "home" / "seglib-workspace"
    assert open_workspace("~/mine").root == tmp_path / "home" / "mine"


def test_opening_twice_gives_equal_workspaces(tmp_path):
    assert open_workspace(tmp_path / "a") == open_workspace(tmp_path / "b" / ".." / "a")


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SeglibError, match=f"{ENVIRONMENT}"):
        open_workspace(tmp_path / "file" / "workspace")


def test_paths_lie_inside_under_their_ids(tmp_path):
    workspace = open_workspace(tmp_path)
    assert workspace.volume(3) == tmp_path / "volumes" / "3.zarr"
    assert workspace.checkpoint(4, "best") == tmp_path / "runs" / "4" / "checkpoints" / "best.pt"
    assert workspace.checkpoint(4, step_name(123)) == tmp_path / "runs" / "4" / "checkpoints" / "step-0000123.pt"
    assert workspace.checkpoint(4, step_name(12_345_678)).name == "step-12345678.pt"
    assert workspace.curves(4) == tmp_path / "runs" / "4" / "curves.png"
    assert workspace.preview(4) == tmp_path / "runs" / "4" / "preview.zarr"
    assert workspace.prediction(5) == tmp_path / "predictions" / "5"
    assert workspace.database == tmp_path / "studio.db"


@pytest.mark.parametrize("bad", [0, -1, True, "1", "../../etc", "٣", 1.0, None])
def test_what_is_no_positive_int_names_no_folder(tmp_path, bad):
    workspace = open_workspace(tmp_path)
    in_a_run = (workspace.config, workspace.environment, workspace.history, workspace.steps, workspace.log)
    for path_of in (workspace.volume, workspace.run, workspace.prediction, workspace.preview, *in_a_run):
        with pytest.raises(SeglibError, match="is not an id"):
            path_of(bad)


@pytest.mark.parametrize(
    "kind",
    ["", "../last", "newest", "last.pt", "last\n", "step-123", "step-00000123", "step-٠٠٠٠١٢٣", "step-" + "9" * 99, 7],
)
def test_a_checkpoint_is_one_of_three_or_of_a_step(tmp_path, kind):
    with pytest.raises(SeglibError, match="A checkpoint is"):
        open_workspace(tmp_path).checkpoint(1, kind)


def test_scratch_goes_whatever_happened(tmp_path):
    workspace = open_workspace(tmp_path)
    seen: list[Path] = []
    with pytest.raises(RuntimeError), workspace.scratch() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        seen.append(folder)
        raise RuntimeError
    assert not seen[0].exists()
    with workspace.scratch() as one, workspace.scratch() as other:
        assert one != other


def test_only_old_scratch_is_swept(tmp_path):
    workspace = open_workspace(tmp_path)
    old, fresh = tmp_path / "scratch" / "old", tmp_path / "scratch" / "fresh"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "file").write_text("x")
    os.utime(old, (0, 0))
    workspace.sweep_scratch()
    assert not old.exists()
    assert fresh.exists()


def test_uploads_lie_under_their_ids(tmp_path):
    workspace = open_workspace(tmp_path)
    assert workspace.upload("0a" * 16) == tmp_path / "uploads" / ("0a" * 16)
    assert workspace.upload_manifest("0b" * 16) == tmp_path / "uploads" / "manifests" / ("0b" * 16 + ".jsonl")


@pytest.mark.parametrize("bad", ["", "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "/", "0" * 32 + "\n", "٣" * 32, 7, None])
def test_what_is_no_upload_id_names_no_folder(tmp_path, bad):
    workspace = open_workspace(tmp_path)
    for path_of in (workspace.upload, workspace.upload_manifest):
        with pytest.raises(SeglibError, match="is not an id"):
            path_of(bad)


def test_only_uploads_that_nobody_used_for_a_week_are_swept(tmp_path):
    workspace = open_workspace(tmp_path)
    days_ago = {"a": 8, "b": 6, "c": 8}
    paths = {}
    for letter, days in days_ago.items():
        folder, manifest = workspace.upload(letter * 32), workspace.upload_manifest(letter * 32)
        folder.mkdir()
        (folder / "data").write_text("x")
        manifest.write_text("{}")
        paths[letter] = (folder, manifest)
        for path in (folder / "data", folder, manifest):
            os.utime(path, (0, time.time() - days * 24 * 3600))
    os.utime(workspace.upload("c" * 32) / "data")  # just written to
    stranger = tmp_path / "uploads" / "mine"
    stranger.mkdir()
    os.utime(stranger, (0, 0))
    workspace.sweep_uploads()
    there = {letter: tuple(path.exists() for path in both) for letter, both in paths.items()}
    assert there == {"a": (False, False), "b": (True, True), "c": (True, False)}
    assert stranger.exists()


def test_discarded_folders_are_gone_at_once_and_soon_from_the_disk(tmp_path):
    workspace = open_workspace(tmp_path)
    (workspace.volume(1) / "0").mkdir(parents=True)
    (workspace.volume(1) / "0" / "chunk").write_bytes(b"x")
    keep = workspace.volume(2)
    keep.mkdir()
    thread = workspace.discard([workspace.volume(1), workspace.volume(3)])
    assert not workspace.volume(1).exists()
    thread.join(30)
    assert list((workspace.root / "scratch").iterdir()) == []
    assert keep.exists()
