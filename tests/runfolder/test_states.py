"""Which earlier states stay follows from their step alone, and the oldest go first."""

import os

import pytest

from seglib.config import CheckpointConfig
from seglib.runfolder.files import duplicate
from seglib.runfolder.states import is_kept, keep_last, kept_steps, state_path, surplus


def kept(config, last, per_epoch=5):
    """Steps whose states stay, if every single step were saved."""
    return [
        step
        for step in range(1, last + 1)
        if is_kept(config, step=step, epoch=-(-step // per_epoch), epoch_ended=step % per_epoch == 0)
    ]


def test_every_so_manieth_save_stays():
    assert kept(CheckpointConfig(keep="all"), 20) == [5, 10, 15, 20]
    assert kept(CheckpointConfig(keep="all", interval=2, every=2), 45) == [20, 40]
    assert kept(CheckpointConfig(keep="all", interval=3, unit="iterations", every=2), 20) == [6, 12, 18]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_none_stays_unless_all_are_wanted(keep):
    assert kept(CheckpointConfig(keep=keep), 20) == []


def test_the_oldest_beyond_the_most_are_too_many():
    assert surplus(CheckpointConfig(keep="all", most=2), [1, 5, 9]) == [1]
    assert surplus(CheckpointConfig(keep="all", most=3), [1, 5, 9]) == []
    assert surplus(CheckpointConfig(keep="all"), [1, 5, 9]) == []


def test_a_kept_state_outlives_the_last_one(workspace):
    last = workspace.checkpoint(1, "last")
    last.parent.mkdir(parents=True)
    for step in (5, 10_000_000):
        last.with_suffix(".tmp").write_bytes(str(step).encode())
        os.replace(last.with_suffix(".tmp"), last)
        keep_last(workspace, 1, step)
        keep_last(workspace, 1, step)  # a stop right after a save
    for name in ("best.pt", "step-12.pt", "step-000000005.pt", "step-0000007.tmp", "step-x.pt"):
        (last.parent / name).write_bytes(b"")
    assert kept_steps(workspace, 1) == [5, 10_000_000]
    assert state_path(workspace, 1, 5).read_bytes() == b"5"
    assert not list(last.parent.glob("*.pt.tmp"))


def test_a_run_without_files_has_no_states(workspace):
    assert kept_steps(workspace, 1) == []


def test_where_a_file_can_have_one_name_only_it_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not on this disk")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    duplicate(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new"
    assert not (tmp_path / "a").samefile(tmp_path / "b")
    assert len(list(tmp_path.iterdir())) == 2
