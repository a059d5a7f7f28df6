"""The U-Net family: sizes by hand, shapes, gradients, and that a 2D one sees one plane."""

import io

import pytest
import torch

from seglib.config import UNet2DConfig, UNet3DConfig
from seglib.models import build_model, is_flat, model_stride

NORMS = ["batch", "instance", "group", "none"]
BOTH = [UNet2DConfig, UNet3DConfig]


def parameters_by_hand(config, inputs, outputs):
    """Closed formula: per level two convolutions (and norms), per step up one transposed convolution and a level."""
    flat = config.kind == "unet_2d"
    kernel, pool = config.kernel_size ** (2 if flat else 3), 2 ** (2 if flat else 3)
    extra = 1 if config.norm == "none" else 2  # a bias, or a norm's scale and shift

    def level(a, b):
        return kernel * (a * b + b * b) + 2 * extra * b

    widths = [config.start_channels * 2**n for n in range(config.depth)]
    total = sum(level(a, b) for a, b in zip([inputs, *widths], widths, strict=False))
    total += sum(pool * 2 * w * w + w + level(2 * w, w) for w in widths[:-1])
    return total + widths[0] * outputs + outputs


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("depth", "start", "kernel", "inputs", "outputs"), [(2, 2, 3, 1, 1), (4, 3, 5, 2, 4)])
def test_the_number_of_parameters_is_what_paper_and_pencil_say(kind, norm, depth, start, kernel, inputs, outputs):
    config = kind(depth=depth, start_channels=start, kernel_size=kernel, norm=norm)
    network = build_model(config, inputs=inputs, outputs=outputs)
    assert sum(p.numel() for p in network.parameters()) == parameters_by_hand(config, inputs, outputs)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("depth", [2, 3])
def test_output_has_the_inputs_size_and_gradients_reach_every_weight(kind, norm, depth):
    torch.manual_seed(0)
    config = kind(depth=depth, start_channels=4, norm=norm, dropout=0.1)
    z, y, x = model_stride(config)
    network = build_model(config, inputs=2, outputs=3)
    logits = network(torch.randn(2, 2, 2 * z, 2 * y, 3 * x))
    assert logits.shape == (2, 3, 2 * z, 2 * y, 3 * x)
    (logits**2).sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_a_2d_network_sees_one_plane(norm):
    torch.manual_seed(0)
    network = build_model(UNet2DConfig(depth=3, start_channels=4, norm=norm), inputs=1, outputs=1).eval()
    images = torch.randn(5, 1, 1, 16, 16)
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in images])
        assert torch.allclose(network(images), alone, atol=1e-5)
        if norm != "group":  # statistics of a group norm would go over all planes of a stack
            stack = network(images[:, 0].transpose(0, 1)[None])
            assert torch.allclose(stack[0, 0], alone[:, 0, 0], atol=1e-5)


def test_a_3d_network_sees_its_neighbouring_planes():
    torch.manual_seed(0)
    network = build_model(UNet3DConfig(depth=2, start_channels=4, norm="none"), inputs=1, outputs=1).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    changed = image.clone()
    changed[:, :, 3] += 1
    with torch.no_grad():
        assert not torch.allclose(network(image)[:, :, 4], network(changed)[:, :, 4], atol=1e-4)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("depth", [2, 4, 7])
def test_sides_must_be_multiples_of_two_to_the_number_of_poolings(kind, depth):
    side = 2 ** (depth - 1)
    assert model_stride(kind(depth=depth)) == ((1 if is_flat(kind(depth=depth)) else side), side, side)
    assert is_flat(kind()) == (kind is UNet2DConfig)


@pytest.mark.parametrize("kind", BOTH)
def test_the_stride_is_needed_not_only_asked(kind):
    config = kind(depth=3, start_channels=2)
    z, y, x = model_stride(config)
    with pytest.raises(RuntimeError):
        build_model(config, inputs=1, outputs=1)(torch.zeros(1, 1, 2 * z, 2 * y + y // 2, 2 * x))


@pytest.mark.parametrize("norm", NORMS)
def test_weights_saved_and_loaded_compute_the_same(norm):
    config = UNet3DConfig(depth=2, start_channels=4, norm=norm)
    torch.manual_seed(0)
    network = build_model(config, inputs=1, outputs=2)
    network(torch.randn(2, 1, 4, 8, 8))  # moves the running statistics of batch norm
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = build_model(config, inputs=1, outputs=2)
    other.load_state_dict(torch.load(file, weights_only=True))
    image = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.eval()(image), other.eval()(image))


def test_dropout_acts_only_while_training():
    network = build_model(UNet3DConfig(depth=2, start_channels=8, dropout=0.5), inputs=1, outputs=1)
    image = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_the_same_seed_gives_the_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.ravel() for p in build_model(UNet2DConfig(depth=2), inputs=1, outputs=1).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(("channels", "groups"), [(2, 2), (6, 6), (9, 3), (12, 6), (22, 2), (32, 8), (7, 7)])
def test_group_norm_takes_at_most_eight_groups_that_divide_the_channels(channels, groups):
    network = build_model(UNet2DConfig(depth=2, start_channels=channels, norm="group"), inputs=1, outputs=1)
    assert next(m.num_groups for m in network.modules() if isinstance(m, torch.nn.GroupNorm)) == groups
