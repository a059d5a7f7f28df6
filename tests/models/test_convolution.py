"""bfloat16 convolutions on the CPU against float32, where torch's own are wrong."""

import pytest
import torch
from torch import nn

from seglib.config import UNet3DConfig
from seglib.models import build_model
from seglib.models.networks.convolution import SafeConv3d, guard_convolutions


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6, 8])
def test_weight_gradients_in_bfloat16_agree_with_float32_on_thin_inputs(kernel: int, depth: int):
    generator = torch.Generator().manual_seed(0)
    layer = guard_convolutions(nn.Conv3d(4, 8, kernel, padding=kernel // 2, bias=False))
    images = torch.randn(2, 4, depth, 10, 10, generator=generator)
    wanted = torch.randn(2, 8, depth, 10, 10, generator=generator)
    layer(images).backward(wanted)
    exact = layer.weight.grad.clone()

    for _ in range(5):
        layer.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(images)
        result.backward(wanted.to(result.dtype))
        torch.testing.assert_close(layer.weight.grad, exact, rtol=0.05, atol=0.02 * float(exact.abs().max()))


def test_every_3d_convolution_of_a_built_network_is_guarded():
    network = build_model(UNet3DConfig(depth=3, start_channels=2), inputs=1, outputs=1)
    plain = [module for module in network.modules() if type(module) is nn.Conv3d]
    guarded = [module for module in network.modules() if isinstance(module, SafeConv3d)]
    assert plain == []
    assert len(guarded) == 2 * 3 + 2 * 2 + 1


def test_training_steps_in_bfloat16_repeat_exactly():
    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = build_model(UNet3DConfig(depth=4, start_channels=4), inputs=1, outputs=1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(torch.randn(2, 1, 16, 32, 32))
        logits.float().sigmoid().mean().backward()
        return [parameter.grad for parameter in network.parameters()]

    first = gradients()
    for again in (gradients(), gradients()):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert all(torch.isfinite(gradient).all() for gradient in again)
