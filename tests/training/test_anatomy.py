"""A network's layers and how far it sees, against gradients of the real network."""

import pytest
import torch

from seglib.models import ARCHITECTURES, build_model
from seglib.models.zoo.hourglass import HourglassConfig
from seglib.models.zoo.monai import BasicUNetConfig, DynUNetConfig, SegResNetConfig, UNETRConfig
from seglib.models.zoo.unet import UNet2DConfig, UNet3DConfig
from seglib.training.anatomy import examine


def seen_by_gradient(config, shape):
    """Extent of the input voxels that any of a few results near the middle depends on, the largest of them."""
    torch.manual_seed(0)
    network = build_model(config, inputs=1, outputs=1, shape=shape).double().eval()
    # Norms would spread the gradient over everything: in eval mode batch norm is a number, and others are not here.
    widest = [0, 0, 0]
    for shift in range(-2, 2):
        image = torch.randn(1, 1, *shape, dtype=torch.double, requires_grad=True)
        place = tuple(min(side - 1, max(0, side // 2 + shift)) for side in shape)
        network(image)[(0, 0, *place)].backward()
        hit = image.grad[0, 0].abs() > 0
        for axis in range(3):
            along = torch.nonzero(hit.amax(tuple(a for a in range(3) if a != axis))).ravel()
            widest[axis] = max(widest[axis], int(along.max() - along.min() + 1))
    return tuple(widest)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (UNet3DConfig(depth=2, start_channels=8), (40, 40, 40)),
        (UNet3DConfig(depth=3, start_channels=8, flat_levels=1, upsampling="linear"), (48, 80, 80)),
        (UNet2DConfig(depth=3, start_channels=8, kernel_size=5), (1, 128, 128)),
        (HourglassConfig(depth=2, start_channels=8, stacks=2), (64, 64, 64)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_how_far_a_network_sees_is_what_its_gradients_reach(config, shape):
    """The count is of the widest a result may see; where it lies on the grid decides how much of that it does."""
    found, reached = examine(config, inputs=1, outputs=1, shape=shape).sees, seen_by_gradient(config, shape)
    stride = config.stride
    for told, real, step in zip(found, reached, stride, strict=True):
        assert abs(told - real) <= 2 * step


def test_transformers_see_the_whole_patch():
    small = UNETRConfig(feature_size=8, hidden_size=192, heads=3)
    assert examine(small, inputs=1, outputs=1, shape=(32, 48, 64)).sees == (32, 48, 64)


@pytest.mark.parametrize("one", ARCHITECTURES, ids=lambda one: one.kind)
def test_layers_are_told_in_order_with_their_shapes_and_weights(one):
    config = one.config()
    shape = (1, 64, 64) if config.is_flat else (32, 64, 64)
    outputs = 3 if config.needs_labels else 1
    anatomy = examine(config, inputs=1, outputs=outputs, shape=shape)
    with torch.device("meta"):
        network = build_model(config, inputs=1, outputs=outputs, shape=shape)
    whole = sum(weight.numel() for weight in network.parameters())
    # A few weights of transformers belong to no layer of their own, such as position embeddings.
    assert 0.98 * whole <= sum(layer.parameters for layer in anatomy.layers) <= whole
    assert outputs in (anatomy.layers[-1].shape[0], anatomy.layers[-2].shape[0])
    assert all(0 < seen <= side for seen, side in zip(anatomy.sees, shape, strict=True))


@pytest.mark.parametrize("config", [DynUNetConfig(depth=3, start_channels=4), BasicUNetConfig(start_channels=4),
                                    SegResNetConfig(start_channels=8)], ids=lambda config: config.kind)  # fmt: skip
def test_deeper_networks_see_further(config):
    near = examine(UNet3DConfig(depth=2, start_channels=2), inputs=1, outputs=1, shape=(128, 128, 128)).sees
    far = examine(config, inputs=1, outputs=1, shape=(128, 128, 128)).sees
    assert far > near
