"""Cost estimates against a hand count and against what a step really takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from seglib.config import (
    AdamConfig,
    BCELossConfig,
    DataConfig,
    DiceBCELossConfig,
    PatchConfig,
    RunConfig,
    SGDConfig,
    UNet2DConfig,
    UNet3DConfig,
)
from seglib.models.zoo.monai import DynUNetConfig, SegResNetConfig, SwinUNETRConfig, VNetConfig
from seglib.training.cost import estimate_cost

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


def test_memory_grows_with_the_batch_and_the_optimisers_state_and_shrinks_in_bf16():
    roomy = {"patches": PatchConfig(shape=(16, 64, 64), batch_size=4)}
    one, two = cost(**roomy), cost(patches=PatchConfig(shape=(16, 64, 64), batch_size=8))
    assert two.memory_bytes - two.fixed_bytes == pytest.approx(2 * (one.memory_bytes - one.fixed_bytes), rel=0.02)
    assert one.memory_bytes - cost(**roomy, optimiser=SGDConfig()).memory_bytes == 4 * PARAMETERS
    half = cost(half=True, **roomy)
    assert half.memory_bytes - half.fixed_bytes < 0.9 * (one.memory_bytes - one.fixed_bytes)


def test_memory_holds_at_least_what_has_to_live_at_once():
    """Without norm, at the end of the way down: the image and every ReLU's result so far, in float32."""
    full, small = 3 * 16 * 64 * 64, 3 * 8 * 32 * 32
    kept = 4 * (full * 1 + full * 2 * 2 + small * 2 + small * 4 * 2)
    assert cost(patches=PatchConfig(shape=(16, 64, 64), batch_size=3)).memory_bytes > kept


def test_multiply_adds_are_counted_by_hand():
    """27 a kernel and place; the transposed convolution 8 places from 1, of which each result has one."""
    full, small = 4 * 8 * 8, 2 * 4 * 4
    down = full * 27 * (1 * 2 + 2 * 2) + small * 27 * (2 * 4 + 4 * 4)
    up = small * 8 * 4 * 2 + full * 27 * (4 * 2 + 2 * 2) + full * 2 * 1
    assert cost().multiply_adds == down + up


def test_channels_and_classes_count():
    assert cost(inputs=3).parameters == PARAMETERS + 2 * 27 * 2
    assert cost(classes=4).parameters == PARAMETERS + 3 * (2 + 1)


def test_a_network_of_terabytes_is_estimated_without_allocating_them():
    huge = cost(model=UNet3DConfig(depth=7, start_channels=256), patches=PatchConfig(shape=(1024, 1024, 1024)))
    assert huge.memory_bytes > 2**42


STEP = """
import json, sys, torch
from seglib.config import parse_run_config
from seglib.losses import build_loss, total_loss
from seglib.models import build_model
from seglib.training.optim import build_optimiser
torch.set_num_threads(2)
config, half, training = parse_run_config(json.loads(sys.argv[1])), sys.argv[2] == "True", sys.argv[3] == "train"
def peak(field="VmHWM"):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
shape = config.patches.shape
with torch.device("meta"):
    build_model(config.model, inputs=1, outputs=1, shape=shape)  # so that imports do not count
build_optimiser(config.optimiser, [torch.zeros(1, requires_grad=True)])
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # the peak starts anew
before = peak("VmRSS")
network = build_model(config.model, inputs=1, outputs=1, shape=shape)
optimiser = build_optimiser(config.optimiser, network.parameters())
images = torch.rand(config.patches.batch_size, 1, *shape)
target = (images[:, 0] > 0.5).to(torch.uint8)
network.train(training)
for _ in range(2):
    with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.set_grad_enabled(training):
        found = network(images)
    if training:
        optimiser.zero_grad(set_to_none=True)
        total_loss(build_loss(config.loss), found, target, network)[1].backward()
        optimiser.step()
    del found
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (UNet3DConfig(), (32, 96, 96)),
        (UNet2DConfig(start_channels=32), (1, 512, 512)),
        (SegResNetConfig(), (32, 96, 96)),
        (VNetConfig(), (32, 96, 96)),
        (SwinUNETRConfig(feature_size=12), (32, 96, 96)),
        (DynUNetConfig(), (32, 96, 96)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_estimate_is_within_a_quarter_of_what_a_step_takes(model, shape, half):
    chosen = config(model=model, patches=PatchConfig(shape=shape, batch_size=2), loss=DiceBCELossConfig())
    estimated = estimate_cost(chosen, inputs=1, classes=1, half=half)

    def measured(mode):
        command = [sys.executable, "-c", STEP, chosen.model_dump_json(), str(half), mode]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert estimated.memory_bytes == pytest.approx(measured("train"), rel=0.25)
    assert estimated.prediction_bytes == pytest.approx(measured("predict"), rel=0.25)
