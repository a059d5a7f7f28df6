"""Voxels that were not annotated count in no loss: it is what the others give alone, and nothing pulls at them."""

import numpy as np
import pytest
import torch

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DiceBCELossConfig, DiceLossConfig
from seglib.config.labels import IGNORE
from seglib.losses import build_loss, outputs_of

CONFIGS = [
    DiceLossConfig(),
    DiceLossConfig(smooth=0.0),
    BCELossConfig(positive_weight=3.0),
    DiceBCELossConfig(),
    CrossEntropyLossConfig(label_smoothing=0.1),
]
CLASSES = 2


def data(config, *, seed=0, share=0.4):
    """Logits (1, outputs, 2, 3, 4), targets, and which voxels count."""
    rng = np.random.default_rng(seed)
    shape = (2, 3, 4)
    logits = torch.tensor(rng.normal(size=(1, outputs_of(config, CLASSES), *shape)), dtype=torch.float32)
    target = torch.tensor(rng.integers(0, CLASSES + 1, (1, *shape)), dtype=torch.uint8)
    counted = torch.tensor(rng.random((1, *shape)) > share)
    target[~counted] = IGNORE
    return logits.requires_grad_(), target, counted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}")
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_the_annotated_voxels_alone(config, seed):
    loss = build_loss(config)
    logits, target, counted = data(config, seed=seed)
    # The same voxels as one row of an image in which everything is annotated.
    alone = logits[:, :, counted[0]][:, :, None, None, :]
    expected = loss(alone, target[counted][None, None, None, :])
    torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}")
def test_nothing_pulls_at_what_was_not_annotated(config):
    logits, target, counted = data(config)
    build_loss(config)(logits, target).backward()
    pulled = (logits.grad != 0).any(1)
    assert not pulled[~counted].any()
    assert pulled[counted].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}")
def test_where_nothing_was_annotated_the_loss_is_0_and_so_is_its_pull(config, dtype):
    logits, target, _ = data(config)
    logits = logits.detach().to(dtype).requires_grad_()
    loss = build_loss(config)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad.any()
