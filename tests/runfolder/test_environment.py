"""The environment names what a result depends on, and nobody."""

import getpass
import json
import os
import platform
from importlib.metadata import version

import numpy as np
import psutil
import torch

import seglib.runfolder.environment as module
from seglib.runfolder.environment import write_environment

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 3}
DATA = [{"id": 1, "name": "leaf", "shape_czyx": (1, 2, 3, 4), "sha256": "ab"}]


def written(path):
    write_environment(path, compute=COMPUTE, data=DATA)
    return json.loads(path.read_text(encoding="utf-8"))


def test_it_says_what_the_libraries_and_the_machine_say_of_themselves(tmp_path):
    found = written(tmp_path / "environment.json")
    versions = found["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == version("torch")
    assert versions["numpy"] == np.__version__
    assert versions["cuda"] == torch.version.cuda
    assert versions["monai"]
    assert versions["segmentation-models-pytorch-3d"]
    assert versions["seglib"] == "0.1.0"
    assert len(versions["seglib_source_sha256"]) == 64
    system = found["system"]
    assert system["cpu"]["logical_cores"] == os.cpu_count()
    assert abs(system["memory_gb"] * 2**30 / psutil.virtual_memory().total - 1) < 0.05
    assert len(system["gpus"]) == torch.cuda.device_count()
    assert found["compute"] == COMPUTE
    assert found["data"] == [DATA[0] | {"shape_czyx": [1, 2, 3, 4]}]
    assert found["earlier"] == []


def test_neither_host_nor_user_nor_folder_is_in_it(tmp_path):
    text = json.dumps(written(tmp_path / "environment.json"))
    assert json.dumps(platform.node()) not in text
    assert f"/{getpass.getuser()}" not in text
    assert str(tmp_path) not in text


def test_the_same_machine_again_changes_nothing_and_another_one_is_added(tmp_path, monkeypatch):
    path = tmp_path / "environment.json"
    first = written(path)
    assert written(path) == first
    monkeypatch.setattr(module.platform, "machine", lambda: "abacus")
    second = written(path)
    assert second["system"]["machine"] == "abacus"
    assert second["earlier"] == [{name: value for name, value in first.items() if name != "earlier"}]
    monkeypatch.undo()
    assert [one["system"]["machine"] for one in written(path)["earlier"]] == [first["system"]["machine"], "abacus"]


def test_a_file_that_cannot_be_read_is_replaced(tmp_path):
    path = tmp_path / "environment.json"
    for content in (b"", b'{"versions": ', b"[1]", b"\xff\xfe"):
        path.write_bytes(content)
        assert written(path)["earlier"] == []
