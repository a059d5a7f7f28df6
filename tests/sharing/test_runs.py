"""A run's model from the workspace: on the command line, and over HTTP once it was made."""

import io
import json

import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

import seglib.sharing.runs
from seglib.__main__ import EXIT_BAD_INPUT, main
from seglib.checkpoints import load_checkpoint
from seglib.data.volumes import open_volume
from seglib.errors import CheckpointError, ConfigError, DataError
from seglib.runfolder.archive import run_files
from seglib.serving.routes import file_routes
from seglib.sharing import KINDS, Card, shared_file, shared_path
from seglib.sharing.runs import Order, share_run
from seglib.store import open_store
from tests.sharing.making import answer_of


def script_of(content):
    extra = {"seglib.json": ""}
    run = torch.jit.load(io.BytesIO(content), _extra_files=extra)
    return run, json.loads(extra["seglib.json"])


def test_a_model_is_served_once_it_was_made_and_is_the_runs_own(trained):
    client = TestClient(Starlette(routes=file_routes(trained)))
    address = "/api/files/run/4/model/torchscript"
    missing = client.get(address)
    assert missing.status_code == 404 and "make it on the run's page" in missing.json()["error"]
    told = []
    order = Order(4, "torchscript", "last")
    path = share_run(trained, open_store(trained), order, progress=lambda done, total, text: told.append((done, total)))
    assert path == trained.run(4) / "models" / "model.pt"
    assert told == [(0, 2), (1, 2)]
    answer = client.get(address)
    assert answer.headers["content-disposition"] == 'attachment; filename="run-4-model.pt"'
    run, facts = script_of(answer.content)
    checkpoint = load_checkpoint(trained.checkpoint(4, "last"))
    assert (facts["run"], facts["step"]) == ("Second", str(checkpoint.step))
    image = open_volume(trained.volume(1)).image[:, :4].astype(np.float32)[None]
    found = run(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, answer_of(checkpoint, image), atol=1e-5)
    assert "models/model.pt" in [file.name for file in run_files(trained, 4)]


@pytest.mark.parametrize("kind", ["..", "%2e%2e%2fcheckpoints", "torchscript%00", "pt", "x" * 300])
def test_nothing_but_the_kinds_there_are_is_served(trained, kind):
    answer = TestClient(Starlette(routes=file_routes(trained))).get(f"/api/files/run/4/model/{kind}")
    assert answer.status_code == 404
    with pytest.raises(DataError, match="There is no kind of file"):
        shared_path(trained, 4, "../checkpoints/best.pt")


def test_a_file_under_way_is_not_served(trained):
    folder = trained.models(4) / ".x.tmp"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"half")
    with pytest.raises(DataError, match="has no ONNX file"):
        shared_file(trained, 4, "onnx")


def test_a_package_is_made_with_the_runs_preview_and_data_set(trained, monkeypatch):
    seen = {}

    def noted(checkpoint, kind, path, *, card, sample, progress):
        seen.update(kind=kind, card=card, sample=sample, path=path)

    monkeypatch.setattr(seglib.sharing.runs, "share_model", noted)
    share_run(trained, open_store(trained), Order(1, "bioimageio", card=Card("Axons", "Me")))
    np.testing.assert_array_equal(seen["sample"], open_volume(trained.preview(1)).image[:])
    assert seen["card"] == Card("Axons", "Me", training_data="Data set Leaves, 2 volume(s).")
    assert seen["path"].name == f"model{KINDS['bioimageio'].suffix}"


def test_the_best_is_the_last_where_the_run_kept_no_best(trained):
    store = open_store(trained)
    with store.writing() as db:
        db.execute("DELETE FROM checkpoints WHERE run_id = 4 AND kind = 'best'")
    assert share_run(trained, store, Order(4, "torchscript")).is_file()


@pytest.mark.parametrize(
    ("order", "error", "said"),
    [
        (Order(2, "onnx"), ConfigError, "Run 2 is a prediction"),
        (Order(3, "onnx"), CheckpointError, "Run 3 has no best checkpoint"),
        (Order(1, "onnx", "step-0000001"), CheckpointError, "has no step-0000001 checkpoint"),
        (Order(1, "bioimageio"), ConfigError, "a name and an author"),
    ],
)
def test_what_cannot_be_made_of_a_run_is_refused(trained, order, error, said):
    with pytest.raises(error, match=said):
        share_run(trained, open_store(trained), order)


def test_the_command_line_writes_the_file_and_says_so(trained, tmp_path, capsys):
    path = tmp_path / "leaf.pt"
    assert main(["export-model", "1", "--kind", "torchscript", "--output", str(path)]) == 0
    assert capsys.readouterr().out.strip() == f"Written: {path} ({path.stat().st_size:,} bytes)"
    assert script_of(path.read_bytes())[1]["run"] == "First"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1", "--kind", "torchscript", "--output", "nowhere/x.pt"], "There is no folder nowhere: make it first."),
        (["1", "--kind", "bioimageio", "--output", "x.zip"], "needs a name and an author"),
        (["2", "--output", "x.onnx"], "is a prediction"),
        (["99", "--output", "x.onnx"], "99"),
    ],
)
def test_the_command_line_says_what_is_wrong(trained, arguments, said, capsys):
    assert main(["export-model", *arguments]) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err
