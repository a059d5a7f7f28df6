"""Cross-validation and export from the command line."""

import json
import re
import signal
import zipfile

import pytest

from seglib.__main__ import EXIT_BAD_INPUT, EXIT_STOPPED, main
from seglib.jobs import foreground
from seglib.store.runs import get_run, list_runs
from tests.conftest import import_two_classes, small_config


@pytest.fixture(autouse=True)
def same_interrupt():
    """The commands take Ctrl-C for themselves; the test runner wants it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def settings(workspace, store, tmp_path) -> str:
    """A file of settings of a data set of four volumes."""
    dataset = import_two_classes(workspace, store, tmp_path / "four", count=4)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(small_config(dataset).model_dump(mode="json")))
    return str(path)


def test_folds_are_trained_one_after_the_other_and_their_scores_combined(settings, store, capsys):
    assert main(["train", settings, "--folds", "2"]) == 0
    out = capsys.readouterr().out
    assert [(run.status, run.group_id) for run in list_runs(store)] == [("finished", 1)] * 2
    folds = [float(value) for value in re.findall(r"^fold \d: run \d, finished: .*?dice ([0-9.]+)", out, re.M)]
    mean, deviation = re.search(r"^dice: ([0-9.]+) ± ([0-9.]+) over 2 fold\(s\)$", out, re.M).groups()
    assert float(mean) == pytest.approx(sum(folds) / 2, abs=1e-4)
    assert float(deviation) == pytest.approx(abs(folds[0] - folds[1]) / 2**0.5, abs=2e-4)


def test_ctrl_c_ends_the_cross_validation_and_leaves_nothing_in_the_queue(settings, store, capsys, monkeypatch):
    drive = foreground.run_job

    def interrupted(*arguments, **more):
        signal.raise_signal(signal.SIGINT)
        return drive(*arguments, **more)

    monkeypatch.setattr(foreground, "run_job", interrupted)
    assert main(["train", settings, "--folds", "3"]) == EXIT_STOPPED
    assert [run.status for run in reversed(list_runs(store))] == ["interrupted", "stopped", "stopped"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "9"], "needs at least 9 volumes"),
        (["--folds", "1"], "has 2 to 50 folds, not 1"),
        (["--folds", "0"], "has 2 to 50 folds, not 0"),
    ],
)
def test_folds_that_cannot_be_are_refused_in_a_line(settings, store, capsys, arguments, said):
    assert main(["train", settings, *arguments]) == EXIT_BAD_INPUT
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert list_runs(store) == []


def test_folds_of_a_run_that_goes_on_are_refused(capsys):
    assert main(["train", "--resume", "1", "--folds", "3"]) == EXIT_BAD_INPUT
    assert "--folds starts new runs" in capsys.readouterr().err


def test_what_a_run_left_is_copied_into_a_zip(trained, tmp_path, capsys):
    whole, light = tmp_path / "whole.zip", tmp_path / "light.zip"
    assert main(["export", "1", "--output", str(whole)]) == 0
    assert main(["export", "1", "--output", str(light), "--no-checkpoints"]) == 0
    assert f"Written: {whole}" in capsys.readouterr().out
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None
        best = archive.read("run-1/checkpoints/best.pt")
        names = set(archive.namelist())
    assert best == trained.checkpoint(1, "best").read_bytes()
    with zipfile.ZipFile(light) as archive:
        assert set(archive.namelist()) == {name for name in names if "checkpoints/" not in name}


def test_an_export_that_fails_leaves_no_file_and_one_line(trained, store, tmp_path, capsys):
    assert main(["export", "9", "--output", str(tmp_path / "a.zip")]) == EXIT_BAD_INPUT
    assert main(["export", "3", "--output", str(tmp_path / "a.zip")]) == EXIT_BAD_INPUT
    assert main(["export", "1", "--output", str(tmp_path / "missing" / "a.zip")]) == EXIT_BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert [bool(re.search(said, line)) for said, line in
            zip(("no run 9", "left no files", "could not be written"), lines, strict=True)] == [True] * 3  # fmt: skip
    assert not list(tmp_path.glob("a.zip*"))
    assert get_run(store, 3).status == "failed"
