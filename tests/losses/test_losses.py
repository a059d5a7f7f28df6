"""Losses against MONAI, segmentation_models_pytorch_3d, closed forms and slow loops."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from seglib.config import (
    BCELossConfig,
    BoundaryDiceLossConfig,
    CategoricalFocalLossConfig,
    ClDiceLossConfig,
    CrossEntropyLossConfig,
    DiceBCELossConfig,
    DiceCategoricalFocalLossConfig,
    DiceCELossConfig,
    DiceFocalLossConfig,
    DiceLossConfig,
    FocalLossConfig,
    FocalTverskyLossConfig,
    GeneralisedDiceLossConfig,
    JaccardLossConfig,
    LovaszLossConfig,
    SumLossConfig,
    TverskyLossConfig,
    WeightedLossConfig,
)
from seglib.losses import activation_of, bce_loss, build_loss, cross_entropy, dice_loss, one_hot, outputs_of
from seglib.losses.shapes import skeleton
from tests.losses.kinds import CONFIGS, batch, name

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what their imports say is not ours to mend
    import monai.losses as monai
    from monai.losses.cldice import soft_skel
    from segmentation_models_pytorch_3d.losses.lovasz import _lovasz_softmax_flat

COMPETE = {"classes": "compete"}
classes_and_seeds = given(st.integers(1, 3), st.integers(0, 10**6))
few = settings(max_examples=6, deadline=None)


def value(config, logits, target):
    return float(build_loss(config)(logits, target))


def close(expected):
    return pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def seen_by_both(config, classes, seed):
    """Logits and labels, and the labels one-hot with as many channels as there are outputs."""
    logits, target = batch(config, classes, seed=seed)
    first = 0 if activation_of(config) == "softmax" else 1
    return logits, target, one_hot(target, logits.shape[1], first=first)


def of_monai(kind, config, **options):
    """A loss of MONAI with this config's way to decide classes, and foreground alone where they compete."""
    softmax = activation_of(config) == "softmax"
    return getattr(monai, kind)(sigmoid=not softmax, softmax=softmax, include_background=not softmax, **options)


@few
@given(st.integers(1, 3), st.integers(0, 10**6), st.sampled_from([1.0, 1e-3, 20.0]), st.booleans())
def test_dice_is_monais(classes, seed, smooth, compete):
    config = DiceLossConfig(smooth=smooth, **COMPETE if compete else {})
    logits, target, truth = seen_by_both(config, classes, seed)
    expected = of_monai("DiceLoss", config, batch=True, smooth_nr=smooth, smooth_dr=smooth)(logits, truth)
    assert value(config, logits, target) == close(expected)


@few
@given(st.integers(1, 3), st.integers(0, 10**6), st.booleans())
def test_jaccard_is_monais(classes, seed, compete):
    config = JaccardLossConfig(smooth=0.5, **COMPETE if compete else {})
    logits, target, truth = seen_by_both(config, classes, seed)
    # MONAI writes it with twice the intersection, and adds its smoothing to that.
    expected = of_monai("DiceLoss", config, jaccard=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, truth)
    assert value(config, logits, target) == close(expected)


@few
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 2), st.booleans())
def test_tversky_is_monais(seed, alpha, beta, compete):
    config = TverskyLossConfig(alpha=alpha, beta=beta, smooth=0.1, **COMPETE if compete else {})
    logits, target, truth = seen_by_both(config, 2, seed)
    options = {"alpha": alpha, "beta": beta, "batch": True, "smooth_nr": 0.1, "smooth_dr": 0.1}
    assert value(config, logits, target) == close(of_monai("TverskyLoss", config, **options)(logits, truth))


def test_focal_tversky_is_a_root_of_each_classs_tversky():
    logits, target = batch(FocalTverskyLossConfig(), 3)
    each = [
        value(TverskyLossConfig(alpha=0.4, beta=0.9), logits[:, k : k + 1], (target == k + 1).to(torch.uint8))
        for k in range(3)
    ]
    found = value(FocalTverskyLossConfig(alpha=0.4, beta=0.9, gamma=1.5), logits, target)
    assert found == close(np.mean([one ** (1 / 1.5) for one in each]))


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("weighting", ["square", "simple"])
@few
@given(st.integers(0, 10**6), st.booleans())
def test_generalised_dice_is_monais(absent, weighting, seed, compete):
    config = GeneralisedDiceLossConfig(weighting=weighting, smooth=0, **COMPETE if compete else {})
    logits, target, truth = seen_by_both(config, 3, seed)
    if absent:
        target[target == 2] = 0
        truth = one_hot(target, logits.shape[1], first=0 if compete else 1)
    options = {"w_type": weighting, "batch": True, "smooth_nr": 0.0, "smooth_dr": 0.0}
    assert value(config, logits, target) == close(of_monai("GeneralizedDiceLoss", config, **options)(logits, truth))


@few
@given(st.integers(1, 3), st.integers(0, 10**6), st.floats(0.5, 4), st.booleans())
def test_focal_is_monais(classes, seed, gamma, compete):
    config = FocalLossConfig(gamma=gamma, **COMPETE if compete else {})
    logits, target, truth = seen_by_both(config, classes, seed)
    expected = monai.FocalLoss(gamma=gamma, use_softmax=compete)(logits, truth)
    assert value(config, logits, target) == close(expected)
    dice = of_monai("DiceLoss", config, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, truth)
    both = DiceFocalLossConfig(gamma=gamma, dice_weight=0.3, **COMPETE if compete else {})
    assert value(both, logits, target) == close(0.3 * dice + 0.7 * expected)


@few
@classes_and_seeds
def test_foreground_weight_of_focal_is_monais_alpha(classes, seed):
    config = FocalLossConfig(positive_weight=3)
    logits, target, truth = seen_by_both(config, classes, seed)
    # Alpha 0.75 for foreground and 0.25 for background: three times as much.
    assert value(config, logits, target) == close(4 * monai.FocalLoss(alpha=0.75)(logits, truth))


@few
@given(st.integers(1, 3), st.integers(0, 10**6), st.floats(0, 1))
def test_dice_and_cross_entropy_are_monais(classes, seed, share):
    config = DiceCELossConfig(dice_weight=share)
    logits, target, truth = seen_by_both(config, classes, seed)
    options = {"lambda_dice": share, "lambda_ce": 1 - share, "batch": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    assert value(config, logits, target) == close(of_monai("DiceCELoss", config, **options)(logits, truth))


def keras_losses(logits, target, *, gamma=2.0, alpha=0.25, smooth=1e-5):
    """Dice, categorical focal and Jaccard losses by the formulas of segmentation_models_3D, background as a class."""
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    truth = np.stack([target.numpy() == k for k in range(p.shape[1])], 1).astype(float)
    axes = (0, 2, 3, 4)
    right, everything = (truth * p).sum(axes), (truth + p).sum(axes)
    dice = 1 - np.mean((2 * right + smooth) / (everything + smooth))
    jaccard = 1 - np.mean((right + smooth) / (everything - right + smooth))
    return dice, np.mean(-truth * alpha * (1 - p) ** gamma * np.log(p)), jaccard


@few
@classes_and_seeds
def test_the_axon_recipe_is_that_of_segmentation_models(classes, seed):
    logits, target = batch(CategoricalFocalLossConfig(), classes, seed=seed)
    dice, focal, jaccard = keras_losses(logits, target)
    assert value(CategoricalFocalLossConfig(), logits, target) == close(focal)
    assert value(DiceCategoricalFocalLossConfig(), logits, target) == close(dice + focal)
    assert value(DiceCategoricalFocalLossConfig(jaccard=True), logits, target) == close(dice + focal + jaccard)


def slow_lovasz(p, truth):
    """The Lovász extension of 1 − IoU: worst voxels first, each counts by what getting it wrong too adds."""
    errors = np.abs(truth - p)
    wrong, before, total = np.zeros(len(p), bool), 0.0, 0.0
    for index in np.argsort(-errors):
        wrong[index] = True
        found = np.where(wrong, 1 - truth, truth).astype(bool)
        union = (found | (truth == 1)).sum()
        after = 1 - (found & (truth == 1)).sum() / union if union else 0.0
        total += errors[index] * (after - before)
        before = after
    return total


@few
@given(st.integers(1, 3), st.integers(0, 10**6), st.sampled_from([0, 1, 20]))
def test_lovasz_is_its_slow_definition(classes, seed, absent):
    logits, target = batch(LovaszLossConfig(), classes, seed=seed)
    target[target == absent] = 0
    p = logits.double().sigmoid().transpose(0, 1).flatten(1).numpy()
    expected = [slow_lovasz(p[k], (target.flatten() == k + 1).numpy().astype(float)) for k in range(classes)]
    assert value(LovaszLossConfig(), logits, target) == close(np.mean(expected))


@few
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 20]))
def test_lovasz_softmax_is_that_of_its_authors_over_the_classes_that_are_there(seed, absent):
    config = LovaszLossConfig(**COMPETE)
    logits, target = batch(config, 3, seed=seed)
    target[target == absent] = 0
    p = logits.softmax(1).transpose(0, 1).flatten(1).T
    there = [k for k in (1, 2, 3) if k != absent]
    expected = _lovasz_softmax_flat(p, target.flatten().long(), classes=there)
    assert value(config, logits, target) == close(expected)


@few
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(1, 10))
def test_boundary_dice_counts_the_ring_that_dilation_adds(seed, thickness, weight):
    config = BoundaryDiceLossConfig(thickness=thickness, weight=weight)
    rng = np.random.default_rng(seed)
    target = (rng.random((2, 5, 6, 7)) < 0.04).astype(np.uint8)
    logits = torch.tensor(rng.normal(size=(2, 1, 5, 6, 7)), dtype=torch.float32)
    box = np.ones((1, *[2 * thickness + 1] * 3), bool)
    ring = binary_dilation(target, box) & (target == 0)
    importance = 1 + (weight - 1) * ring
    p = logits.sigmoid().numpy()[:, 0]
    dice = (2 * (importance * p * target).sum() + 1) / ((importance * (p + target)).sum() + 1)
    assert value(config, logits, torch.tensor(target)) == close(1 - dice)


@pytest.mark.parametrize("shape", [(5, 9, 8), (1, 9, 8), (9, 8)])
@few
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_centre_lines_are_monais_soft_skeletons(shape, seed, thinning):
    values = torch.rand((2, 3, *shape), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(skeleton(values, thinning), soft_skel(values, thinning))


@few
@given(st.integers(0, 10**6), st.booleans())
def test_cldice_is_monais(seed, compete):
    config = ClDiceLossConfig(dice_weight=0, **COMPETE if compete else {})
    # MONAI takes each image by itself, so there is one.
    logits, target, truth = (one[:1] for one in seen_by_both(config, 1, seed))
    options = {"iter_": 3, "smooth_nr": 1.0, "smooth_dr": 1.0, "smooth": 1e-9}
    expected = of_monai("SoftclDiceLoss", config, **options)(logits, truth)
    assert value(config, logits, target) == close(expected)
    dice = value(DiceLossConfig(**COMPETE if compete else {}), logits, target)
    both = ClDiceLossConfig(dice_weight=0.4, **COMPETE if compete else {})
    assert value(both, logits, target) == close(0.4 * dice + 0.6 * expected)


def test_cldice_sees_a_cut_that_dice_hardly_does():
    target = torch.zeros((1, 9, 40), dtype=torch.uint8)
    target[:, 3:6] = 1
    whole = 20 * one_hot(target, 1) - 10
    cut, thinner = whole.clone(), whole.clone()
    cut[..., 18:21] = -10  # a gap of nine pixels
    thinner[:, :, 3, 10:19] = -10  # nine pixels of the rim
    only_lines = ClDiceLossConfig(dice_weight=0, smooth=0)
    assert value(DiceLossConfig(), cut, target) == close(value(DiceLossConfig(), thinner, target))
    assert value(only_lines, cut, target) > 2 * value(only_lines, thinner, target)


@pytest.mark.parametrize("classes", [1, 3])
def test_bce_is_its_closed_form(classes):
    logits, target = batch(BCELossConfig(), classes)
    total, weight = 0.0, 7.0
    for (n, k, z, y, x), logit in zip(
        torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist(), logits.ravel().tolist(), strict=True
    ):
        p = 1 / (1 + math.exp(-logit))
        total += -weight * math.log(p) if target[n, z, y, x] == k + 1 else -math.log(1 - p)
    expected = total / logits.numel()
    assert value(BCELossConfig(positive_weight=weight), logits, target) == close(expected)
    assert float(bce_loss(logits, target, positive_weight=weight)) == close(expected)


def test_dice_bce_weighs_its_two_parts():
    logits, target = batch(DiceBCELossConfig(), 2)
    dice, bce = value(DiceLossConfig(smooth=1), logits, target), value(BCELossConfig(), logits, target)
    assert value(DiceBCELossConfig(dice_weight=0.3), logits, target) == close(0.3 * dice + 0.7 * bce)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_its_closed_form(smoothing):
    logits, target = batch(CrossEntropyLossConfig(), 2)
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    truth = F.one_hot(target.long(), 3).movedim(-1, 1) * (1 - smoothing) + smoothing / 3
    expected = -(truth * log_p).sum(1).mean()
    assert value(CrossEntropyLossConfig(label_smoothing=smoothing), logits, target) == close(expected)
    assert float(cross_entropy(logits, target, label_smoothing=smoothing)) == close(expected)


def test_one_hot_has_no_channel_for_background():
    assert one_hot(torch.tensor([[0, 2, 1, 3]], dtype=torch.uint8), 3).tolist() == [
        [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    ]
    assert one_hot(torch.tensor([[255]], dtype=torch.uint8), 255)[0, :, 0].nonzero().tolist() == [[254]]


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
    softmax = [config for config in CONFIGS if activation_of(config) == "softmax"]
    assert {config.kind for config in softmax} >= {"cross_entropy", "dice_ce", "categorical_focal", "dice"}
    assert all(outputs_of(config, 3) == (4 if config in softmax else 3) for config in CONFIGS)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.kind != "sum" and activation_of(c) == "sigmoid"], ids=name)
def test_a_sum_weighs_and_adds_its_parts(config):
    logits, target = batch(config, 2, ignored=0.2)
    parts = WeightedLossConfig(weight=0.5, loss=config), WeightedLossConfig(weight=3, loss=JaccardLossConfig())
    expected = 0.5 * value(config, logits, target) + 3 * value(JaccardLossConfig(), logits, target)
    assert value(SumLossConfig(parts=parts), logits, target) == close(expected)
