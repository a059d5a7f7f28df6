"""Cost estimates against a hand count and against what a step really takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from seglib.config import (
    AdamConfig,
    BCELossConfig,
    DataConfig,
    PatchConfig,
    RunConfig,
    SGDConfig,
    UNet2DConfig,
    UNet3DConfig,
)
from seglib.training.cost import FLOWING_COPIES, LIBRARIES_BYTES, estimate_cost

ROOT = Path(__file__).parents[2]


def config(**changes) -> RunConfig:
    parts = {
        "data": DataConfig(dataset=1),
        "model": UNet3DConfig(depth=2, start_channels=2, norm="none"),
        "patches": PatchConfig(shape=(4, 8, 8), batch_size=3),
        "loss": BCELossConfig(),
        "optimiser": AdamConfig(),
    }
    return RunConfig(**{**parts, **changes})


def cost(*, inputs=1, classes=1, half=False, **changes):
    return estimate_cost(config(**changes), inputs=inputs, classes=classes, half=half)


# Depth 2, 1 → 2 → 4 → 2 → 1 channels; 27 weights a kernel, a bias each.
DOWN = (27 * 1 * 2 + 2) + (27 * 2 * 2 + 2) + (27 * 2 * 4 + 4) + (27 * 4 * 4 + 4)
UP = (8 * 4 * 2 + 2) + (27 * 4 * 2 + 2) + (27 * 2 * 2 + 2)
PARAMETERS = DOWN + UP + (2 * 1 + 1)


def test_parameters_are_counted_exactly():
    assert cost().parameters == PARAMETERS


def test_memory_is_weights_activations_and_gradients_under_way():
    """Counted by hand for depth 2 without norm: what each layer keeps for its backward pass, once a tensor."""
    full, small = 3 * 4 * 8 * 8, 3 * 2 * 4 * 4  # voxels of a batch at the two levels
    # First level: the image, each ReLU's result (which is also the next layer's input); pooling keeps its indices
    # (int64) besides its result; the deeper level likewise; up: the joined tensor, two ReLUs.
    floats = full * 1 + full * 2 * 2 + small * 2 + small * 4 * 2 + full * 4 + full * 2 * 2
    indices = small * 2
    loss = 3 * full  # BCE keeps logits and truth, and what it computes of them
    activations = 4 * floats + 8 * indices
    low = 4 * PARAMETERS * 4 + activations + FLOWING_COPIES * 4 * full * 4 + LIBRARIES_BYTES
    assert low <= cost().memory_bytes <= low + 4 * loss


def test_memory_grows_with_the_batch_the_optimisers_state_and_halves_in_bf16():
    fixed = 16 * PARAMETERS + LIBRARIES_BYTES
    one, two = (cost(patches=PatchConfig(shape=(4, 8, 8), batch_size=n)).memory_bytes - fixed for n in (3, 6))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert cost().memory_bytes - cost(optimiser=SGDConfig()).memory_bytes == 4 * PARAMETERS
    half = cost(half=True).memory_bytes - (18 * PARAMETERS + LIBRARIES_BYTES)
    assert 0.5 * one <= half < 0.7 * one


def test_channels_and_classes_count():
    assert cost(inputs=3).parameters == PARAMETERS + 2 * 27 * 2
    assert cost(classes=4).parameters == PARAMETERS + 3 * (2 + 1)


def test_a_network_of_terabytes_is_estimated_without_allocating_them():
    huge = cost(model=UNet3DConfig(depth=7, start_channels=256), patches=PatchConfig(shape=(1024, 1024, 1024)))
    assert huge.memory_bytes > 2**42


STEP = """
import sys, torch
from seglib.config import parse_run_config
from seglib.losses import build_loss
from seglib.models import build_model
from seglib.training.optim import build_optimiser
import json
torch.set_num_threads(2)
config = parse_run_config(json.loads(sys.argv[1]))
def peak(field="VmHWM"):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
before = peak("VmRSS")
network = build_model(config.model, inputs=1, outputs=1)
optimiser = build_optimiser(config.optimiser, network.parameters())
images = torch.rand(config.patches.batch_size, 1, *config.patches.shape)
target = (images[:, 0] > 0.5).to(torch.uint8)
for _ in range(2):
    optimiser.zero_grad(set_to_none=True)
    build_loss(config.loss)(network(images), target).backward()
    optimiser.step()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (UNet3DConfig(depth=3, start_channels=16), (16, 96, 96)),
        (UNet3DConfig(depth=4, start_channels=16, norm="none"), (16, 96, 96)),
        (UNet2DConfig(depth=4, start_channels=32, norm="batch"), (1, 512, 512)),
    ],
)
def test_the_estimate_is_within_a_factor_of_two_of_a_real_step(model, shape):
    chosen = config(model=model, patches=PatchConfig(shape=shape, batch_size=2))
    estimated = estimate_cost(chosen, inputs=1, classes=1, half=False).memory_bytes
    told = subprocess.run(
        [sys.executable, "-c", STEP, chosen.model_dump_json()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0.5 < estimated / int(told.stdout) < 2
