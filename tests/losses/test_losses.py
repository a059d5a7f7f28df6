"""Losses against MONAI, closed forms and slow loops."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DiceBCELossConfig, DiceLossConfig
from seglib.losses import activation_of, build_loss, dice_loss, one_hot, outputs_of

CONFIGS = [
    DiceLossConfig(),
    DiceLossConfig(smooth=0),
    BCELossConfig(positive_weight=7),
    DiceBCELossConfig(),
    CrossEntropyLossConfig(label_smoothing=0.1),
]


def example(classes, outputs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((2, outputs, 3, 5, 4), generator=generator)
    return logits, torch.randint(0, classes + 1, (2, 3, 5, 4), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("smooth", [1.0, 1e-3, 20.0])
def test_dice_is_monais(classes, smooth):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MONAI's imports say is not ours to mend
        from monai.losses import DiceLoss
    logits, target = example(classes, classes)
    truth = torch.stack([target == k for k in range(1, classes + 1)], 1).float()
    expected = DiceLoss(sigmoid=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)(logits, truth)
    assert build_loss(DiceLossConfig(smooth=smooth))(logits, target) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_bce_is_its_closed_form(classes):
    logits, target = example(classes, classes)
    total, weight = 0.0, 7.0
    for (n, k, z, y, x), logit in zip(
        torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist(), logits.ravel().tolist(), strict=True
    ):
        p = 1 / (1 + math.exp(-logit))
        total += -weight * math.log(p) if target[n, z, y, x] == k + 1 else -math.log(1 - p)
    expected = total / logits.numel()
    assert build_loss(BCELossConfig(positive_weight=weight))(logits, target) == pytest.approx(expected, rel=1e-4)


def test_dice_bce_weighs_its_two_parts():
    logits, target = example(2, 2)
    dice, bce = (float(build_loss(c)(logits, target)) for c in (DiceLossConfig(smooth=1), BCELossConfig()))
    assert build_loss(DiceBCELossConfig(dice_weight=0.3))(logits, target) == pytest.approx(0.3 * dice + 0.7 * bce)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_its_closed_form(smoothing):
    logits, target = example(2, 3)
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    truth = F.one_hot(target.long(), 3).movedim(-1, 1) * (1 - smoothing) + smoothing / 3
    expected = float(-(truth * log_p).sum(1).mean())
    loss = build_loss(CrossEntropyLossConfig(label_smoothing=smoothing))
    assert loss(logits, target) == pytest.approx(expected, rel=1e-5)


def test_one_hot_has_no_channel_for_background():
    assert one_hot(torch.tensor([[0, 2, 1, 3]], dtype=torch.uint8), 3).tolist() == [
        [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    ]
    assert one_hot(torch.tensor([[255]], dtype=torch.uint8), 255)[0, :, 0].nonzero().tolist() == [[254]]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{getattr(config, 'smooth', '')}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("marked", [0, 1, 60])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_losses_are_finite_float32_and_differentiable_on_any_target(config, dtype, marked, scale):
    outputs = outputs_of(config, 2)
    logits = (scale * example(2, outputs)[0]).to(dtype).requires_grad_()
    target = torch.zeros(2 * 60, dtype=torch.uint8)
    target[:marked] = 1
    loss = build_loss(config)(logits, target.view(2, 3, 5, 4))
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_everything():
    target = torch.tensor([[0, 1, 0, 2]], dtype=torch.uint8)
    right = 40 * one_hot(target, 2) - 20
    assert dice_loss(right, target, smooth=0.0) == pytest.approx(0, abs=1e-6)
    assert dice_loss(-right, target, smooth=0.0) == pytest.approx(1, abs=1e-6)


def test_dice_counts_over_the_whole_batch():
    # One empty and one full patch: taken together the empty one cannot blow up the score.
    logits = torch.full((2, 1, 10), 20.0)
    logits[0] = -20.0
    target = torch.zeros((2, 10), dtype=torch.uint8)
    target[1] = 1
    assert dice_loss(logits, target, smooth=0.0) == pytest.approx(0, abs=1e-6)


def test_softmax_losses_need_an_output_for_the_background():
    assert [(activation_of(c), outputs_of(c, 3)) for c in CONFIGS] == [("sigmoid", 3)] * 4 + [("softmax", 4)]
