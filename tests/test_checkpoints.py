"""Checkpoints: exact round trips, no damage unnoticed, and a crash at any moment leaves a whole one."""

import errno
import hashlib
import json
import os
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seglib.checkpoints
from seglib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from seglib.config import DataConfig, RunConfig
from seglib.data.normalise import Normalisation
from seglib.errors import CheckpointError
from seglib.tasks.training import latest_checkpoint

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def checkpoint(step=7, **changes) -> Checkpoint:
    torch.manual_seed(step)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimiser = torch.optim.Adam([weight])
    weight.grad = torch.randn(3, 2)
    optimiser.step()
    made = Checkpoint(
        config=RunConfig(data=DataConfig(dataset=3), name="Blätter"),
        values=(2, 9),
        names=("Zelle", "wall"),
        channels=2,
        normalisation=Normalisation((0.1, -3.0), (1 / 3, 4.5), (3.0, 3.0), (0, 1)),
        voxel_size_nm=(40.0, 0.1, 10.0),
        step=step,
        epoch=2,
        score=1 / 3,
        best_score=None,
        network={"w": weight.detach(), "half": torch.randn(4).bfloat16(), "count": torch.tensor(5)},
        optimiser=optimiser.state_dict(),
        schedule={"last_epoch": 4, "best": float("inf")},
        random={"cpu": torch.get_rng_state()},
        partial={"losses": [0.1, 0.2], "validation_due": False, "hits": [1, 2]},
    )
    return replace(made, **changes)


def same(a, b) -> bool:
    """Equality that looks into tensors, bit by bit, and at types."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    return same(vars(a), vars(b))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "last.pt"


def test_what_is_saved_is_loaded_bit_by_bit(path):
    digest = save_checkpoint(checkpoint(), path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert equal(load_checkpoint(path, sha256=digest), checkpoint())
    assert not equal(load_checkpoint(path), checkpoint(step=8))
    assert list(path.parent.iterdir()) == [path]


def test_the_one_before_is_kept_where_asked(path):
    previous = path.with_name("previous.pt")
    for step in (1, 2, 3):
        save_checkpoint(checkpoint(step), path, keep=previous)
    assert (load_checkpoint(path).step, load_checkpoint(previous).step) == (3, 2)
    save_checkpoint(checkpoint(4), path)
    assert (load_checkpoint(path).step, load_checkpoint(previous).step) == (4, 2)


def test_a_missing_one_is_said_to_be_missing(path):
    with pytest.raises(CheckpointError, match="no checkpoint last.pt"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "last.pt"
    save_checkpoint(checkpoint(), path)
    return path.read_bytes()


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(saved, tmp_path, share):
    cut = tmp_path / "cut.pt"
    cut.write_bytes(saved[: int(share * len(saved))])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_checkpoint(cut)


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(saved, tmp_path, share, bit):
    data = bytearray(saved)
    data[int(share * len(data))] ^= 1 << bit
    flipped = tmp_path / "flipped.pt"
    flipped.write_bytes(data)
    try:
        assert equal(load_checkpoint(flipped), checkpoint())  # padding of the archive
    except CheckpointError as error:
        assert "flipped.pt" in str(error)
    with pytest.raises(CheckpointError):
        load_checkpoint(flipped, sha256=hashlib.sha256(saved).hexdigest())


def test_a_flipped_bit_in_weights_names_the_part_that_is_damaged(saved, tmp_path):
    data = bytearray(saved)
    data[saved.index(checkpoint().network["w"].numpy().tobytes()) + 5] ^= 1
    (tmp_path / "flipped.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged: .*/data/\d+ does not add up"):
        load_checkpoint(tmp_path / "flipped.pt")


@pytest.mark.parametrize("position", ["table", "names"])
def test_damage_in_the_archives_own_table_is_refused(saved, tmp_path, position):
    data, start = bytearray(saved), saved.rindex(b"PK\x01\x02")
    data[start + {"table": 10, "names": 46}[position]] ^= 0x80  # compression method, first letter of the name
    (tmp_path / "flipped.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"flipped.pt is damaged"):
        load_checkpoint(tmp_path / "flipped.pt")


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path):
    target = tmp_path / "ran"
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb(target)))
    torch.save({"format": 1, "meta": Bomb(target)}, tmp_path / "zipped.pt")
    for name in ("raw.pt", "zipped.pt"):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
    assert not target.exists()


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    for content in ({"weights": 1}, [1, 2], {"format": 1, "meta": "{}"}, {"format": 1, "meta": "no json"}):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
            load_checkpoint(path)
    torch.save({"format": 2, "meta": json.dumps({})}, path)
    with pytest.raises(CheckpointError, match="format 2; this program reads 1"):
        load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)


def test_another_runs_checkpoint_is_noticed_by_its_checksum(path):
    digest = save_checkpoint(checkpoint(1), path)
    save_checkpoint(checkpoint(2), path)
    with pytest.raises(CheckpointError, match="checksum differs"):
        load_checkpoint(path, sha256=digest)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def torch_full_disk(*_, **__):
    raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


def half_written(content, file):
    file.write(b"PK\x03\x04 only the beginning")


def fail_at(monkeypatch, point):
    """Makes one step of saving fail."""
    match point:
        case "torch.save":
            monkeypatch.setattr(seglib.checkpoints.torch, "save", torch_full_disk)
        case "read back":
            monkeypatch.setattr(seglib.checkpoints.torch, "save", half_written)
        case name:
            monkeypatch.setattr(os, name.removeprefix("os."), full_disk)


def test_the_previous_checkpoint_is_kept_on_a_disk_without_hard_links(path, monkeypatch):
    previous = path.with_name("previous.pt")
    save_checkpoint(checkpoint(step=1), path, keep=previous)
    monkeypatch.setattr(os, "link", full_disk)
    save_checkpoint(checkpoint(step=2), path, keep=previous)
    assert (load_checkpoint(previous).step, load_checkpoint(path).step) == (1, 2)


@pytest.mark.parametrize("point", ["torch.save", "read back", "os.fsync", "os.replace"])
def test_a_failure_at_any_point_leaves_the_old_checkpoint_and_no_litter(path, monkeypatch, point):
    previous = path.with_name("previous.pt")
    for step in (1, 2):
        save_checkpoint(checkpoint(step), path, keep=previous)
    with monkeypatch.context() as patched:
        fail_at(patched, point)
        with pytest.raises(CheckpointError, match="could not be written|damaged or cut short"):
            save_checkpoint(checkpoint(3), path, keep=previous)
    assert load_checkpoint(path).step == 2
    assert list(path.parent.glob("*.tmp")) == []
    save_checkpoint(checkpoint(4), path, keep=previous)
    assert (load_checkpoint(path).step, load_checkpoint(previous).step) == (4, 2)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("point", ["save", "fsync", "link", "replace"])
def test_a_process_that_ends_at_any_point_leaves_a_whole_checkpoint(path, monkeypatch, point):
    previous = path.with_name("previous.pt")
    save_checkpoint(checkpoint(1), path, keep=previous)

    def end(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(seglib.checkpoints.torch if point == "save" else os, point, end)
        with pytest.raises(Killed):
            save_checkpoint(checkpoint(2), path, keep=previous)
    assert load_checkpoint(path).step == 1
    save_checkpoint(checkpoint(3), path, keep=previous)
    assert load_checkpoint(path).step == 3


def test_the_newest_whole_checkpoint_is_found_and_damage_is_told(workspace):
    assert latest_checkpoint(workspace, 5) == (None, [])
    last, previous = (workspace.checkpoint(5, kind) for kind in ("last", "previous"))
    for step in (1, 2):
        save_checkpoint(checkpoint(step), last, keep=previous)
    found, problems = latest_checkpoint(workspace, 5)
    assert (found.step, problems) == (2, [])
    last.write_bytes(last.read_bytes()[:-40])
    found, problems = latest_checkpoint(workspace, 5)
    assert found.step == 1
    assert len(problems) == 1
    assert "last.pt is damaged or cut short. An older one is tried." in problems[0]
    previous.write_bytes(b"")
    assert latest_checkpoint(workspace, 5)[0] is None
