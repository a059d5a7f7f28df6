"""The command line, in this process: a whole small job, and every mistake in one line."""

import json
import re
import signal

import h5py
import numpy as np
import pytest
import tifffile

from seglib.__main__ import EXIT_BAD_INPUT, EXIT_STOPPED, main
from seglib.jobs import foreground
from seglib.store import open_store
from seglib.store.runs import get_run
from seglib.workspace import open_workspace
from tests.conftest import small_config, write_two_classes


@pytest.fixture(autouse=True)
def same_interrupt():
    """The commands take Ctrl-C for themselves; the test runner wants it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(capsys):
    """Runs a command line; gives exit status, stdout and stderr."""

    def go(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return go


def written(path, config) -> str:
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return str(path)


def test_import_list_config_train_predict(run, tmp_path):
    leaves = write_two_classes(tmp_path / "leaves")
    status, out, _ = run("import", leaves, "--voxel-size", 40, 10, 5, "--labels-are", "classes")
    assert (status, out.splitlines()[-1].strip()) == (0, "Data set 1: leaves")

    status, out, _ = run("list")
    assert status == 0
    assert "data set 1  leaves  (classes, 2 volumes)" in out
    assert re.search(r"volume 1  leaf1.*8 × 32 × 32 uint8", out)

    status, out, _ = run("config", 1)
    assert status == 0
    config = json.loads(out)
    assert config["data"]["dataset"] == 1
    small = {
        **config,
        "patches": {"shape": [4, 16, 16], "batch_size": 1},
        "sampling": {"kind": "random", "per_epoch": 2},
        "model": {"kind": "unet_3d", "depth": 2, "start_channels": 2},
        "length": {"epochs": 1},
        "compute": {"device": "cpu", "threads": 1},
    }
    status, out, err = run("train", written(tmp_path / "config.json", small))
    assert (status, err) == (0, "")
    assert "epoch 1: validation part: " in out
    assert out.splitlines()[-1].strip().startswith("Run 1: finished.")

    status, out, err = run("predict", 1, "--volume", 2, "--output", tmp_path / "labels.tif")
    assert (status, err) == (0, "")
    assert "whole volume against its labels: dice " in out
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == (8, 32, 32)
    assert set(np.unique(labels)) <= {0, 1, 2}

    image = tmp_path / "leaves" / "images" / "leaf1.tif"
    status, out, err = run("predict", 1, "--image", image, "--output", tmp_path / "new.tif", "--checkpoint", "last")
    assert (status, err) == (0, "")
    assert tifffile.imread(tmp_path / "new.tif").shape == (8, 32, 32)
    _, out, _ = run("list")
    assert "run 1  train  finished  2/2" in out
    assert out.count("predict  finished") == 2


def test_the_demo_is_made_where_it_is_asked_for(run, tmp_path):
    status, out, _ = run("--workspace", tmp_path / "elsewhere", "demo")
    assert (status, out) == (0, "Data set 1\n")
    assert (tmp_path / "elsewhere" / "volumes" / "1.zarr").is_dir()
    assert run("list")[1] == ""


@pytest.fixture
def pictures(tmp_path):
    """Three images with labels, one of them odd."""
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        side = 24 if number == 3 else 32
        for kind, high in (("images", 255), ("labels", 3)):
            (tmp_path / "plants" / kind).mkdir(parents=True, exist_ok=True)
            array = rng.integers(0, high, (side, side)).astype(np.uint8)
            tifffile.imwrite(tmp_path / "plants" / kind / f"leaf{number}.tif", array)
    return tmp_path / "plants"


def test_an_import_names_what_is_odd_and_can_leave_it_out(run, pictures):
    status, out, _ = run("import", pictures, "--dry-run")
    assert status == 0
    assert "leaf3.tif is 24 × 24; the others are 32 × 32 (y × x)" in out
    assert "Label values in leaf1: 0, 1, 2" in out
    status, out, _ = run("import", pictures, "--exclude", "leaf3*", "--files-are", "volumes")
    assert (status, "leaf3" in run("list")[1]) == (0, False)
    refused(run("import", pictures, "--exclude", "*"), "Nothing is left")


def test_files_are_imported_twice_only_where_that_is_said(run, pictures):
    assert run("import", pictures)[0] == 0
    refused(run("import", pictures), "imported before, as plants. Say --again")
    refused(run("import", pictures, "--dry-run"), "imported before")
    assert run("import", pictures, "--again")[0] == 0


def test_values_that_are_named_but_do_not_occur_are_told(run, pictures):
    _, out, _ = run("import", pictures, "--class", "1=stem", "--class", "7=axon", "--ignore", 9)
    assert "No voxel has the value 7, 9; those there are: 0, 1, 2." in out
    refused(run("import", pictures, "--again", "--class", "1=a", "--class", "1=b"), "the value 1 more than once")


def test_labels_in_the_same_file_are_found_by_name_as_on_the_page(run, tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["volumes/raw"] = rng.integers(0, 255, (4, 16, 16)).astype(np.uint8)
        file["volumes/labels"] = rng.integers(0, 3, (4, 16, 16)).astype(np.uint8)
    _, out, _ = run("import", tmp_path / "two.h5")
    assert "Labels are taken from the array volumes/labels" in out
    assert "(classes, 1 volumes)" in run("list")[1]
    run("import", tmp_path / "two.h5", "--unpaired", "--again")
    assert "(none, 1 volumes)" in run("list")[1]


def test_a_data_set_is_deleted_only_where_that_is_said(run, dataset, workspace):
    refused(run("delete", dataset), "Nothing was deleted")
    assert "Leaves" in run("list")[1]
    assert run("delete", dataset, "--yes")[0] == 0
    assert "Leaves" not in run("list")[1]
    assert not workspace.volume(1).exists()


def test_labels_in_a_form_that_cannot_be_read_are_told_by_their_place(run, dataset, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"kind": "instances", "borders": {"mode": "touching"}}')
    status, _, err = run("label", dataset, "--set", path)
    assert status == 2
    assert "borders.mode" in err
    assert "pydantic" not in err
    path.write_text('{"kind": "instances", "borders": {"kind": "all", "width": 2}}')
    assert run("label", dataset, "--set", path)[0] == 0


def test_synthetic_samples_become_files_or_a_data_set(run, tmp_path):
    small = ("--training", 2, "--validation", 1, "--size", 32, 32, 32)
    status, out, _ = run("synth", tmp_path / "lobes", *small, "--format", "hdf5")
    assert (status, out.strip()) == (0, f"Written: {tmp_path / 'lobes'}")
    assert len(list((tmp_path / "lobes").rglob("*.h5"))) == 3
    status, out, _ = run("synth", "--dataset", "Rings", "--kind", "rings", "--training", 1, "--validation", 1)
    assert (status, out.strip()) == (0, "Data set 1: Rings")
    assert "validation 0001  1 × 128 × 128 float16" in run("list")[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "a folder for files, or --dataset"),
        (("--dataset", "x", "--size", 8, 8, 8), "--size: Input should be greater"),
        (("--dataset", "x", "--seed", 9999), "same seed"),
        (("--dataset", "x", "--kind", "rings", "--size", 64, 64, 64), "--size is for the optic lobe"),
    ],
)
def test_synthetic_samples_that_cannot_be_made_are_one_line(run, arguments, text):
    refused(run("synth", *arguments), text)


def test_a_run_that_is_stopped_says_so_by_its_exit_status_and_goes_on(run, tmp_path, dataset, monkeypatch):
    config = {**small_config(dataset).model_dump(mode="json"), "length": {"epochs": 3}}
    asked = []
    monkeypatch.setattr("seglib.__main__._stop_on_interrupt", lambda: lambda: bool(asked))
    run_job = foreground.run_job

    def stop_early(*arguments, on_event, **more):
        def shown(event):
            on_event(event)
            asked.append(event)

        return run_job(*arguments, on_event=shown, **more)

    monkeypatch.setattr(foreground, "run_job", stop_early)
    status, out, _ = run("train", written(tmp_path / "config.json", config))
    assert status == EXIT_STOPPED
    assert "Run 1: interrupted." in out
    monkeypatch.setattr(foreground, "run_job", run_job)
    asked.clear()
    status, out, _ = run("train", "--resume", 1)
    assert (status, "Run 1: finished." in out) == (0, True)
    assert get_run(open_store(open_workspace()), 1).attempt == 2


def test_the_first_ctrl_c_asks_and_the_second_ends(capsys):
    from seglib.__main__ import _stop_on_interrupt

    stop = _stop_on_interrupt()
    assert not stop()
    signal.raise_signal(signal.SIGINT)
    assert stop()
    assert "Stopping after this batch" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def refused(outcome, text: str) -> None:
    status, _, err = outcome
    assert status == EXIT_BAD_INPUT
    assert text in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{not json", "is not a readable JSON file"),
        ("[1, 2]", "holds list, not settings"),
        ('{"data": {"dataset": 1}, "colour": "blue"}', "colour: "),
        ('{"data": {"dataset": 1}, "length": {"epochs": 0}}', "length.epochs: "),
        ('{"data": {"dataset": 99}}', "no data set 99"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(run, tmp_path, content, text):
    refused(run("train", written(tmp_path / "config.json", content)), text)


def test_settings_in_another_encoding_are_one_line(run, tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{")
    refused(run("train", tmp_path / "config.json"), "not a readable JSON file")


def test_what_is_missing_is_one_line(run, tmp_path):
    refused(run("train", tmp_path / "nothing.json"), "nothing.json")
    refused(run("import", tmp_path / "nothing.tif"), "does not exist")
    refused(run("import", tmp_path), "no image")
    refused(run("config", 7), "no data set 7")
    refused(run("train", "--resume", 7), "no run 7")
    refused(run("predict", 7, "--volume", 1, "--output", tmp_path / "a.tif"), "no run 7")


def test_without_labels_a_network_is_set_up_that_needs_none_and_others_are_refused(run, tmp_path):
    write_two_classes(tmp_path / "leaves")
    assert run("import", tmp_path / "leaves" / "images", "--files-are", "volumes")[0] == 0
    assert json.loads(run("config", 1)[1])["model"]["kind"] == "wnet"
    config = small_config(1).model_copy(update={"data": small_config(1).data.model_copy(update={"task": "foreground"})})
    outcome = run("train", written(tmp_path / "config.json", config.model_dump(mode="json")))
    assert outcome[0] == EXIT_BAD_INPUT
    assert "has no labels" in outcome[2]
    assert "Traceback" not in outcome[2]


def test_numbers_out_of_range_are_refused(run, tmp_path, trained):
    arguments = ("predict", 1, "--volume", 1, "--output", tmp_path / "a.tif")
    status, _, err = run(*arguments, "--overlap", 2)
    assert status == EXIT_BAD_INPUT
    assert "overlap" in err
    refused(run("predict", 3, "--volume", 1, "--output", tmp_path / "a.tif"), "no best checkpoint")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train"], ["config", "one"], ["predict", "1", "--output", "a"]])
def test_a_wrong_command_is_explained_with_exit_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EXIT_BAD_INPUT
    assert "usage: python -m seglib" in capsys.readouterr().err
