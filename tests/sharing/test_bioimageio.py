"""BioImage.IO packages: as the specification has them, with tensors that its way of running a model reproduces."""

import contextlib
import gc
import io
import socket
import warnings
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image

from seglib.data.normalise import Normalisation
from seglib.errors import ConfigError
from seglib.models.zoo.unet import UNet2DConfig, UNet3DConfig
from seglib.sharing import Card, share_model
from seglib.sharing.bioimageio import clean_name
from tests.sharing.making import HOSTILE, answer_of, make_checkpoint

CARD = Card(HOSTILE, f"A. Author / {HOSTILE}", "MIT", f"# <script> {HOSTILE}", "Data set *Leaves*, 2 volume(s).")
FLAT = UNet2DConfig(depth=2, start_channels=2)
DEEP = UNet3DConfig(depth=2, start_channels=2)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing may be fetched."""

    def refused(*_):
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A 2D package of one channel, its checkpoint, and the image it was made with."""
    path = tmp_path_factory.mktemp("flat") / "flat.bioimageio.zip"
    checkpoint = make_checkpoint(FLAT, (1, 16, 32), names=(HOSTILE, "b"), name=HOSTILE)
    sample = np.random.default_rng(0).integers(0, 300, (1, 3, 40, 20)).astype(np.uint16)
    share_model(checkpoint, "bioimageio", path, card=CARD, sample=sample)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return path, checkpoint, sample


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A 3D package of two channels, and its checkpoint; without a sample."""
    path = tmp_path_factory.mktemp("deep") / "deep.bioimageio.zip"
    normalisation = Normalisation((100.0, 3000.0), (0.02, 0.001), (2.0, 2.0), (0, 1))
    checkpoint = make_checkpoint(DEEP, (4, 16, 8), normalisation=normalisation, softmax=True)
    share_model(checkpoint, "bioimageio", path, card=CARD)
    return path, checkpoint


@contextlib.contextmanager
def files_left_open():
    """The libraries of the zoo close files when they are collected, which is done on the way out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", "Found mapping with 'source' and", UserWarning)
        yield
        gc.collect()


def described(path):
    with zipfile.ZipFile(path) as package:
        return yaml.safe_load(package.read("rdf.yaml"))


def array(path, name):
    with zipfile.ZipFile(path) as package:
        return np.load(io.BytesIO(package.read(name)))


def normalised(image, steps):
    """What the description says is to be done to an image (1, C, …), written out for the steps used here."""
    for step in steps:
        given = step["kwargs"]
        if step["id"] == "scale_linear":
            shape = (1, -1, *[1] * (image.ndim - 2))
            gain, offset = (np.reshape(np.float32(given[name]), shape) for name in ("gain", "offset"))
            image = image * gain + offset
        elif step["id"] == "clip":
            image = image.clip(given["min"], given["max"])
        else:
            assert (step["id"], given) == ("ensure_dtype", {"dtype": "float32"})
            image = image.astype(np.float32)
    return image


def answers(path, image):
    """Of both networks in a package, for an image as imported."""
    taken = normalised(image, described(path)["inputs"][0]["preprocessing"])
    with zipfile.ZipFile(path) as package:
        script = torch.jit.load(io.BytesIO(package.read("network.pt")))
        session = onnxruntime.InferenceSession(package.read("network.onnx"))
    return script(torch.from_numpy(taken)).numpy(), session.run(None, {"image": taken})[0]


def axes_of(tensor):
    return {axis.get("id", axis["type"]): axis for axis in tensor["axes"]}


def test_a_2d_package_has_2d_axes_with_voxel_size_and_its_test_tensors_are_reproduced(flat):
    path, checkpoint, sample = flat
    rdf = described(path)
    image = array(path, "test_input.npy")
    assert image.shape == (1, 1, 16, 32)
    # The middle of the sample; what it lacks is mirrored.
    np.testing.assert_array_equal(image[0, 0, :, :20], sample[0, 1, 12:28])
    np.testing.assert_array_equal(image[0, 0, :, 20:], sample[0, 1, 12:28, :7:-1])
    expected = answer_of(checkpoint, image[:, :, None])[:, :, 0]
    np.testing.assert_allclose(array(path, "test_output.npy"), expected, atol=1e-5)
    for found in answers(path, image):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    taken, given = axes_of(rdf["inputs"][0]), axes_of(rdf["outputs"][0])
    assert list(taken) == list(given) == ["batch", "channel", "y", "x"]
    assert (taken["y"]["scale"], taken["x"]["scale"], taken["x"]["unit"]) == (0.008, 0.004, "micrometer")
    assert (taken["y"]["size"], taken["x"]["size"]) == ({"min": 16, "step": 2}, {"min": 32, "step": 2})
    assert given["channel"]["channel_names"] == [HOSTILE, "b"]


def test_a_3d_package_normalises_each_channel_as_the_run_did_at_any_size(deep):
    path, checkpoint = deep
    rdf = described(path)
    assert list(axes_of(rdf["inputs"][0])) == ["batch", "channel", "z", "y", "x"]
    assert axes_of(rdf["inputs"][0])["z"]["scale"] == 0.04
    image = np.random.default_rng(2).normal(0, 200, (1, 2, 6, 10, 12)).astype(np.float32)
    image += np.float32([80, 3500]).reshape(1, 2, 1, 1, 1)
    expected = answer_of(checkpoint, image, softmax=True)
    for found in answers(path, image):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert rdf["weights"]["onnx"]["parent"] == "torchscript"
    assert rdf["config"]["seglib"]["normalisation"].startswith("to be done first")


@pytest.mark.slow
def test_repeated_channels_are_normalised_in_the_network(tmp_path):
    normalisation = Normalisation((100.0, 80.0, 60.0), (0.02, 0.03, 0.04), (10.0, 10.0, 10.0), (0, 0, 0))
    checkpoint = make_checkpoint(FLAT, (1, 8, 8), normalisation=normalisation, names=("a",))
    path = tmp_path / "x.zip"
    share_model(checkpoint, "bioimageio", path, card=CARD)
    image = np.random.default_rng(3).integers(0, 255, (2, 1, 8, 10)).astype(np.float32)
    expected = answer_of(checkpoint, image[:, :, None])[:, :, 0]
    for found in answers(path, image):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "part of the model" in described(path)["config"]["seglib"]["normalisation"]


def test_the_library_of_the_specification_finds_nothing_wrong(flat, deep):
    from bioimageio.spec import ValidationContext, load_description

    for path, *_ in (flat, deep):
        with files_left_open(), ValidationContext(perform_io_checks=True, log_warnings=False):
            summary = load_description(path).validation_summary
        assert summary.status in ("valid-format", "passed"), summary.format()
        assert not [error for detail in summary.details for error in detail.errors]


def test_the_validator_of_the_zoo_passes_all_networks(flat, deep):
    core = pytest.importorskip("bioimageio.core", reason="it demands a bioimageio.spec that breaks with pydantic 2.14")
    for path, *_ in (flat, deep):
        with files_left_open():
            summary = core.test_model(path)
        assert summary.status == "passed", summary.format()
        assert {"onnx", "torchscript"} <= {place for detail in summary.details for place in detail.loc}


def test_names_and_texts_of_people_do_no_harm(flat):
    path, _, _ = flat
    rdf = described(path)
    assert rdf["name"] == clean_name(HOSTILE)
    assert "/" not in rdf["authors"][0]["name"] and "細胞" in rdf["authors"][0]["name"]
    assert rdf["license"] == "MIT"
    assert rdf["description"] == CARD.description
    assert rdf["config"]["seglib"]["run"] == HOSTILE
    with zipfile.ZipFile(path) as package:
        assert not [name for name in package.namelist() if "/" in name]
        page = package.read("README.md").decode()
        cover = Image.open(io.BytesIO(package.read("cover.png")))
        assert len(package.read("cover.png")) < 500_000
    assert r"\<b\>" in page and "<" not in page.replace(r"\<", "")
    assert r"Data set \*Leaves\*, 2 volume(s)".replace("(s)", r"\(s\)") in page
    assert "Validation" in page and "0.7500" in page
    assert cover.size[0] == 2 * cover.size[1]


@pytest.mark.parametrize(
    ("text", "name"),
    [("Axons", "Axons"), ("細胞", "Segmentation model"), ("a/b:c", "a b c"), ("ab", "Model ab"), ("x" * 200, "x" * 64)],
)
def test_a_name_becomes_one_that_the_zoo_allows(text, name):
    assert clean_name(text) == name


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "a name and an author"),
        (Card("Axons", "  "), "a name and an author"),
        (Card("", "Me"), "a name and an author"),
        (Card("Axons", "Me", "mine"), "not one of the licences"),
    ],
)
def test_a_card_that_says_too_little_is_refused(tmp_path, card, said):
    with pytest.raises(ConfigError, match=said):
        share_model(make_checkpoint(DEEP, (4, 8, 8)), "bioimageio", tmp_path / "x.zip", card=card)
    assert not list(tmp_path.iterdir())
