"""Weights from elsewhere: what fits is taken, what can be made to fit is, the rest is told; nothing is ever run."""

import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import seglib.models.networks.tensors
import seglib.models.networks.weights
from seglib.config import UNet2DConfig, UNet3DConfig
from seglib.errors import CheckpointError
from seglib.models import build_model
from seglib.models.networks.tensors import read_tensors
from seglib.models.networks.weights import imagenet_encoder, load_into
from seglib.models.zoo.smp import SMUNetConfig

SMALL = UNet3DConfig(depth=2, start_channels=2)


def network(inputs=1, outputs=1, seed=0):
    torch.manual_seed(seed)
    return build_model(SMALL, inputs=inputs, outputs=outputs)


def test_a_network_of_the_same_kind_is_taken_whole():
    mine, theirs = network(seed=0), network(seed=1)
    report = load_into(mine, theirs.state_dict())
    assert (report.adapted, report.skipped, report.missing) == ((), (), ())
    assert all(torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert report.text == f"Weights: {len(report.matched)} of {len(report.matched)} tensors taken as they are."


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod."])
def test_what_frameworks_put_before_names_does_not_matter(prefix):
    mine, theirs = network(seed=0), network(seed=1)
    wrapped = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    assert load_into(mine, wrapped).missing == ()
    assert torch.equal(mine.head.weight, theirs.head.weight)


def test_another_number_of_classes_starts_the_head_anew_and_says_so():
    mine, theirs = network(outputs=3), network(seed=1)
    before = mine.head.weight.clone()
    report = load_into(mine, theirs.state_dict())
    assert report.skipped == ("head.weight", "head.bias")
    assert torch.equal(mine.head.weight, before)
    assert "2 of another shape (head.weight, head.bias). Those not taken start anew." in report.text


@pytest.mark.parametrize(("theirs", "mine"), [(3, 1), (1, 3), (1, 2)])
def test_a_first_layer_of_other_channels_sees_a_grey_image_as_before(theirs, mine):
    source, target = network(inputs=theirs, seed=1).eval(), network(inputs=mine).eval()
    report = load_into(target, source.state_dict())
    assert report.adapted == (f"down.0.0.weight: {mine} channel(s)",)
    grey = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            target(grey.expand(-1, mine, -1, -1, -1)), source(grey.expand(-1, theirs, -1, -1, -1)), rtol=1e-4, atol=1e-5
        )


def test_a_2d_kernel_becomes_a_3d_one_that_does_the_same_to_equal_planes():
    flat, deep = nn.Conv2d(2, 3, 3, padding=1), nn.Conv3d(2, 3, 3, padding=1)
    holder, source = nn.Sequential(deep), nn.Sequential(flat)
    report = load_into(holder, source.state_dict())
    assert report.adapted == ("0.weight: 2D to 3D",)
    image = torch.randn(1, 2, 8, 8)
    wanted = flat(image)
    found = deep(image[:, :, None].expand(-1, -1, 5, -1, -1))[:, :, 2]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_something_else_fit_nowhere():
    report = load_into(network(), {"encoder.layer.0.weight": torch.zeros(3)})
    assert (report.matched, report.adapted, report.kernels) == ((), (), 0)
    assert "not there" in report.text


def tensors():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_pickled_files_are_read_for_their_tensors(tmp_path, nested):
    held = {**tensors(), "epoch": 3} if nested is None else {nested: tensors(), "epoch": 3}
    torch.save(held, tmp_path / "w.pth")
    found = read_tensors(tmp_path / "w.pth")
    assert set(found) == set(tensors())
    assert torch.equal(found["a.weight"], tensors()["a.weight"])


def test_safetensors_are_read(tmp_path):
    save_file(tensors(), tmp_path / "w.safetensors")
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["a.weight"], tensors()["a.weight"])


class Hostile:
    """Would make a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_file_is_ever_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": tensors(), "more": Hostile(tmp_path / "harm")}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors, or is damaged"):
        read_tensors(tmp_path / "w.pt")
    (tmp_path / "v.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_tensors(tmp_path / "v.pth")
    assert not (tmp_path / "harm").exists()


def test_kernels_of_one_plane_become_3d_and_give_the_same_where_an_image_is_the_same_in_all_planes():
    """As those of our own 2D networks; a transposed kernel is repeated, as each of its planes makes one plane."""
    flat = nn.Sequential(
        nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1)), nn.ConvTranspose3d(4, 2, (1, 2, 2), stride=(1, 2, 2))
    )
    deep = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ConvTranspose3d(4, 2, 2, stride=2))
    report = load_into(deep, flat.state_dict())
    assert (len(report.adapted), report.skipped, report.missing) == (2, (), ())
    plane = torch.randn(1, 1, 1, 6, 6)
    expected = flat(plane)
    found = deep(plane.expand(-1, -1, 5, -1, -1))
    assert torch.allclose(found[:, :, 4:6], expected.expand(-1, -1, 2, -1, -1), atol=1e-6)


def test_all_kernels_of_the_2d_u_net_find_their_place_in_the_3d_one():
    planes = build_model(UNet2DConfig(depth=3, start_channels=4), inputs=1, outputs=1)
    report = load_into(build_model(UNet3DConfig(depth=3, start_channels=4), inputs=1, outputs=1), planes.state_dict())
    assert report.skipped == report.missing == ()
    assert len(report.adapted) > 8


def test_an_encoder_alone_finds_its_place_in_a_network_that_has_one():
    network = build_model(SMUNetConfig(encoder="resnet18"), inputs=1, outputs=1)
    prefix = next(name for name in network.state_dict() if name.endswith("encoder.conv1.weight")).removesuffix(
        "conv1.weight"
    )
    alone = {
        name.removeprefix(prefix): tensor for name, tensor in network.state_dict().items() if name.startswith(prefix)
    }
    report = load_into(network, alone)
    assert len(report.matched) == len(alone)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.txt", b"", "is no file of weights"),
        ("w.pt", b"", "damaged"),
        ("w.pt", b"not a file of torch", "damaged"),
        ("w.safetensors", b"\x00" * 40, "cannot be read as weights"),
    ],
)
def test_files_that_are_no_weights_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}.*{words}"):
        read_tensors(tmp_path / name)


def test_a_file_without_tensors_and_one_that_is_not_there(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no named tensors"):
        read_tensors(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is not there"):
        read_tensors(tmp_path / "none.pt")


def test_a_file_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(seglib.models.networks.tensors, "SECONDS", 0.01)
    torch.save(tensors(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="took longer"):
        read_tensors(tmp_path / "w.pt")


def test_imagenet_weights_come_from_the_library_and_leave_the_runs_generator_alone(monkeypatch):
    """The download is replaced; inflating and naming are the library's."""
    import segmentation_models_pytorch_3d as smp
    from segmentation_models_pytorch_3d import encoders

    flat = {}
    for name, tensor in smp.encoders.get_encoder("resnet18", in_channels=3).state_dict().items():
        kernel = tensor.ndim == 5
        flat[name] = torch.rand(tensor.shape[:4]) if kernel else tensor
    flat |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    monkeypatch.setattr(encoders.model_zoo, "load_url", lambda *_, **__: dict(flat))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = imagenet_encoder("resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    kernel = found["encoder.conv1.weight"]
    assert kernel.shape == (64, 3, 7, 7, 7)
    torch.testing.assert_close(kernel.sum(-1), flat["conv1.weight"])


def test_without_a_connection_it_is_an_error_of_the_system(monkeypatch):
    from segmentation_models_pytorch_3d import encoders

    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(encoders.model_zoo, "load_url", offline)
    with pytest.raises(OSError, match="no route"):
        imagenet_encoder("resnet18")
