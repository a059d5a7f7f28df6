"""ONNX, torch.export and TorchScript: each answers as the run's own prediction does, also where seglib is not."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import seglib.sharing.onnx
import seglib.sharing.portable
from seglib.data.normalise import Normalisation
from seglib.errors import CheckpointError, ConfigError, DataError, SeglibError, WorkCancelled
from seglib.models.zoo.compact import CompactUNetConfig
from seglib.models.zoo.hourglass import HourglassConfig
from seglib.models.zoo.monai import BasicUNetConfig, DynUNetConfig, SegResNetConfig, UNETRConfig
from seglib.models.zoo.smp import SMUNetConfig
from seglib.models.zoo.unet import UNet2DConfig, UNet3DConfig
from seglib.models.zoo.wnet import WNetConfig
from seglib.sharing import KINDS, share_model
from seglib.sharing.portable import portable
from tests.sharing.making import HOSTILE, answer_of, make_checkpoint

SMALL = UNet3DConfig(depth=2, start_channels=2)
TWO_CHANNELS = Normalisation((100.0, 3000.0), (0.02, 0.001), (3.0, 10.0), (0, 1))
GREY_AS_COLOURS = Normalisation((100.0, 80.0, 60.0), (0.02, 0.03, 0.04), (10.0, 10.0, 10.0), (0, 0, 0))


def greys(*shape):
    """Grey values as a microscope gives them, some beyond the range that was seen in training."""
    return np.random.default_rng(1).integers(0, 400, shape).astype(np.float32)


def run_onnx(path, image):
    return onnxruntime.InferenceSession(path).run(["probabilities"], {"image": image})[0]


def shared(checkpoint, kind, folder):
    path = folder / f"network{KINDS[kind].suffix}"
    share_model(checkpoint, kind, path)
    assert [one.name for one in folder.iterdir()] == [path.name]
    return path


def test_onnx_of_two_channels_takes_grey_values_of_any_size_and_says_what_it_is(tmp_path):
    names = (HOSTILE, "b")
    checkpoint = make_checkpoint(SMALL, (4, 8, 8), names=names, normalisation=TWO_CHANNELS, softmax=True, name=HOSTILE)
    path = shared(checkpoint, "onnx", tmp_path)
    for shape in ((1, 2, 4, 8, 8), (3, 2, 6, 10, 12), (1, 2, 2, 2, 4)):
        image = greys(*shape)
        image[0, 1, 0, 0, 0] = np.nan
        expected = answer_of(checkpoint, image, softmax=True)
        assert expected.shape == (shape[0], 2, *shape[2:])
        np.testing.assert_allclose(run_onnx(path, image), expected, atol=1e-5)
    model = onnx.load(path)
    facts = {one.key: one.value for one in model.metadata_props}
    assert json.loads(facts["class_names"]) == list(names)
    assert facts["run"] == HOSTILE
    assert json.loads(facts["voxel_size_nm_zyx"]) == [40.0, 8.0, 4.0]
    assert (json.loads(facts["patch"]), json.loads(facts["stride"])) == ([4, 8, 8], [2, 2, 2])
    assert facts["opset"] == str(model.opset_import[0].version)
    assert facts["normalisation"].startswith("part of the model: (grey - [100.0, 3000.0]) * [0.02, 0.001]")
    assert facts["activation"].startswith("softmax")
    axes = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 2, "z", "y", "x"]


ALONE = """
import sys
import numpy as np, torch
image = torch.from_numpy(np.load(sys.argv[2]))
path = sys.argv[1]
extra = {"seglib.json": ""}
if path.endswith(".pt2"):
    run = torch.export.load(path, extra_files=extra).module()
else:
    run = torch.jit.load(path, _extra_files=extra)
with torch.no_grad():
    np.save(sys.argv[3], run(image).numpy())
assert "seglib" not in sys.modules
facts = extra["seglib.json"]
sys.stdout.buffer.write(facts if isinstance(facts, bytes) else facts.encode())
"""


@pytest.mark.parametrize("kind", ["program", "torchscript"])
def test_programs_run_where_seglib_is_not(tmp_path, kind):
    checkpoint = make_checkpoint(SMALL, (4, 8, 8), normalisation=GREY_AS_COLOURS, names=(HOSTILE,))
    (tmp_path / "made").mkdir()
    path = shared(checkpoint, kind, tmp_path / "made")
    image = greys(2, 1, 6, 8, 10)
    np.save(tmp_path / "in.npy", image)
    command = [sys.executable, "-P", "-c", ALONE, path, tmp_path / "in.npy", tmp_path / "out.npy"]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), answer_of(checkpoint, image), atol=1e-5)
    facts = json.loads(done.stdout)
    assert json.loads(facts["class_names"]) == [HOSTILE]
    assert facts["sides"] == "any multiple of the stride"


NETWORKS = [
    (UNet3DConfig(depth=2, start_channels=4, residual=True, norm="group", upsampling="linear"), (4, 8, 8)),
    (UNet2DConfig(depth=2, start_channels=4, norm="instance"), (1, 16, 16)),
    (HourglassConfig(depth=2, start_channels=4, stacks=2), (4, 8, 8)),
    (CompactUNetConfig(start_channels=4), (1, 32, 32)),
    (WNetConfig(start_channels=4, clusters=3), (16, 16, 32)),
    (SegResNetConfig(start_channels=8, dimensions="2D"), (1, 16, 16)),
    (DynUNetConfig(depth=3, start_channels=4), (8, 16, 16)),
    (BasicUNetConfig(start_channels=4), (16, 32, 32)),
    (SMUNetConfig(encoder="resnet18"), (32, 32, 64)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shape"), NETWORKS, ids=[model.kind for model, _ in NETWORKS])
def test_networks_of_every_family_answer_the_same_at_two_sizes(tmp_path, model, shape):
    names = ("cell",) if model.kind == "wnet" else ("axon", "myelin")
    checkpoint = make_checkpoint(model, shape, names=names)
    if model.kind == "wnet":  # which cluster is the foreground is learned too
        checkpoint.network["brightness"][:] = torch.tensor([10.0, 90.0, 50.0])
        checkpoint.network["share"][:] = 0.3
    (tmp_path / "made").mkdir()
    (tmp_path / "also").mkdir()
    path, script = shared(checkpoint, "onnx", tmp_path / "made"), shared(checkpoint, "torchscript", tmp_path / "also")
    for sides, batch in ((shape, 1), ([a + b for a, b in zip(shape, model.stride, strict=True)], 2)):
        if shape[0] == 1:
            sides = (1, *sides[1:])
        image = greys(batch, 1, *sides)
        expected = answer_of(checkpoint, image)
        np.testing.assert_allclose(run_onnx(path, image), expected, atol=1e-4)
        np.testing.assert_allclose(torch.jit.load(script)(torch.from_numpy(image)).numpy(), expected, atol=1e-4)


@pytest.mark.slow
def test_a_network_of_one_size_says_so_and_takes_any_number_of_images(tmp_path):
    model = UNETRConfig(feature_size=8, hidden_size=192, heads=3)
    checkpoint = make_checkpoint(model, (16, 32, 32))
    path = shared(checkpoint, "onnx", tmp_path)
    loaded = onnx.load(path)
    facts = {one.key: one.value for one in loaded.metadata_props}
    assert (facts["sides"], facts["batch"]) == ("the training patch only", "any number of images")
    axes = [axis.dim_param or axis.dim_value for axis in loaded.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 1, 16, 32, 32]
    image = greys(3, 1, 16, 32, 32)
    np.testing.assert_allclose(run_onnx(path, image), answer_of(checkpoint, image), atol=1e-4)


def test_what_cannot_be_made_leaves_nothing_behind_and_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    checkpoint = make_checkpoint(SMALL, (4, 8, 8))
    path = tmp_path / "network.pt"
    path.write_bytes(b"earlier")

    def kept_as_it_was():
        return path.read_bytes() == b"earlier" and [one.name for one in tmp_path.iterdir()] == ["network.pt"]

    def stopped(done, total, text):
        if done:
            raise WorkCancelled("Stopped.")

    with pytest.raises(WorkCancelled):
        share_model(checkpoint, "torchscript", path, progress=stopped)
    assert kept_as_it_was()
    monkeypatch.setattr(seglib.sharing.portable, "TOLERANCE", -1.0)
    with pytest.raises(SeglibError, match="TorchScript file differs from the network"):
        share_model(checkpoint, "torchscript", path)
    assert kept_as_it_was()
    with pytest.raises(DataError, match="could not be written"):
        share_model(checkpoint, "torchscript", tmp_path / "nowhere" / "network.pt")
    with pytest.raises(ConfigError, match="no kind of file 'pickle': choose one of onnx"):
        share_model(checkpoint, "pickle", path)
    weights = {name: tensor for name, tensor in checkpoint.network.items() if "head" not in name}
    checkpoint.network.clear()
    checkpoint.network.update(weights)
    with pytest.raises(CheckpointError, match="do not fit"):
        share_model(checkpoint, "torchscript", path)
    assert kept_as_it_was()


class Unheard(torch.nn.Module):
    """A network that no exporter can follow: what it does depends on what it sees."""

    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x


def test_a_network_that_cannot_be_followed_is_named_with_the_reason(tmp_path, monkeypatch):
    checkpoint = make_checkpoint(SMALL, (4, 8, 8), names=("a",))
    made = portable(checkpoint)
    made.module.network = Unheard()
    monkeypatch.setattr(seglib.sharing.portable, "portable", lambda checkpoint: made)
    for kind in ("program", "onnx"):
        with pytest.raises(SeglibError, match=r"torch.export cannot follow 3D U-Net: .+") as refused:
            share_model(checkpoint, kind, tmp_path / "x")
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SeglibError, match="needs the packages onnx, onnxscript and onnxruntime: install them with pip"):
        share_model(make_checkpoint(SMALL, (4, 8, 8)), "onnx", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_the_list_of_kinds_needs_no_torch():
    code = "import sys, seglib.sharing.runs, seglib.cli.models; print('torch' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
