"""Voxels that were not annotated count in no loss: it is what the others give alone, and nothing pulls at them."""

import pytest
import torch

from seglib.config import BoundaryDiceLossConfig, ClDiceLossConfig
from seglib.config.labels import IGNORE
from seglib.losses import build_loss
from tests.losses.kinds import CONFIGS, batch, name, shares_for

CLASSES = 2
SHARES = shares_for(CLASSES)
# What lies beside a voxel does not matter to them.
PLACELESS = [config for config in CONFIGS if not isinstance(config, BoundaryDiceLossConfig | ClDiceLossConfig)]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=name)


@pytest.mark.parametrize("config", PLACELESS, ids=name)
@pytest.mark.parametrize("seed", range(2))
def test_the_loss_is_that_of_the_annotated_voxels_alone(config, seed):
    loss = build_loss(config, shares=SHARES)
    logits, target = batch(config, CLASSES, seed=seed, ignored=0.4)
    counted = target != IGNORE
    # The same voxels as one row of an image in which everything is annotated.
    alone = logits.transpose(0, 1)[:, counted][None, :, None, None, :]
    torch.testing.assert_close(loss(logits, target), loss(alone, target[counted][None, None, None, :]))


@each_config
@pytest.mark.parametrize("margins", [(1, 1, 2, 0, 3, 2), (0, 0, 0, 1, 0, 0), (4, 4, 4, 4, 4, 4)])
def test_a_padded_patch_has_the_loss_of_the_patch(config, margins):
    loss = build_loss(config, shares=SHARES)
    logits, target = batch(config, CLASSES)
    padded = torch.nn.functional.pad(target, margins, value=IGNORE)
    around = 5 * torch.randn(*logits.shape[:2], *padded.shape[1:])
    inside = tuple(slice(margins[2 * i], margins[2 * i] + logits.shape[-1 - i]) for i in (2, 1, 0))
    around[(..., *inside)] = logits
    torch.testing.assert_close(loss(around, padded), loss(logits, target))


@each_config
@pytest.mark.parametrize("wrong", [1e4, -1e4])
def test_what_is_said_where_nothing_was_annotated_changes_nothing(config, wrong):
    loss = build_loss(config, shares=SHARES)
    logits, target = batch(config, CLASSES, ignored=0.4)
    hidden = (target == IGNORE).unsqueeze(1)
    other = torch.where(hidden, wrong * logits.sign(), logits)
    assert loss(other, target) == loss(logits, target)


@each_config
def test_nothing_pulls_at_what_was_not_annotated(config):
    logits, target = batch(config, CLASSES, ignored=0.4)
    logits.requires_grad_()
    build_loss(config, shares=SHARES)(logits, target).backward()
    pulled = (logits.grad != 0).any(1)
    assert not pulled[target == IGNORE].any()
    assert pulled[target != IGNORE].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_config
def test_where_nothing_was_annotated_the_loss_is_0_and_so_is_its_pull(config, dtype):
    logits, target = batch(config, CLASSES)
    logits = logits.to(dtype).requires_grad_()
    loss = build_loss(config, shares=SHARES)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad.any()
