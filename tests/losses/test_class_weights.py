"""How much each class counts, and losses of voxels that are of several classes at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.config import (
    BCELossConfig,
    CategoricalFocalLossConfig,
    CrossEntropyLossConfig,
    DiceCategoricalFocalLossConfig,
    DiceCELossConfig,
    DiceLossConfig,
    SumLossConfig,
    WeightedBCELossConfig,
    WeightedLossConfig,
)
from seglib.config.labels import IGNORE
from seglib.errors import ConfigError
from seglib.losses import activation_of, build_loss, needs_shares, one_hot
from seglib.losses.targets import foreground_weights, voxel_weights
from tests.losses.kinds import CONFIGS, batch, name, shares_for

BY_HAND = (0.5, 2.0, 4.0)
WEIGHED = [config for config in CONFIGS if "class_weights" in type(config).model_fields]
# Averages of one loss a class, weighed; the others weigh voxels.
CLASSWISE = [config for config in WEIGHED if activation_of(config) == "sigmoid"]
each_weighed = pytest.mark.parametrize("config", WEIGHED, ids=name)


def by_hand(config, weights=BY_HAND):
    return config.model_copy(update={"class_weights": weights})


def equal(config):
    return config.model_copy(update={"class_weights": "equal"})


@pytest.mark.parametrize("config", CLASSWISE, ids=name)
def test_classes_decided_by_themselves_are_averaged_by_weight(config):
    logits, target = batch(config, 3)
    each = [float(build_loss(equal(config))(logits[:, k : k + 1], (target == k + 1).to(torch.uint8))) for k in range(3)]
    expected = np.average(each, weights=BY_HAND)
    assert float(build_loss(by_hand(config))(logits, target)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_voxels_that_classes_compete_for_count_as_what_they_are(smoothing):
    config = CrossEntropyLossConfig(class_weights=BY_HAND, label_smoothing=smoothing)
    logits, target = batch(config, 3)
    weight = torch.tensor([1.0, *BY_HAND])
    expected = F.cross_entropy(logits, target.long(), weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(build_loss(config)(logits, target), expected)


def test_categorical_focal_weighs_voxels_too():
    config = CategoricalFocalLossConfig(class_weights=BY_HAND, alpha=1)
    logits, target = batch(config, 3)
    p = logits.double().softmax(1).gather(1, target.long().unsqueeze(1))[:, 0].numpy()
    weight = np.array([1.0, *BY_HAND])[target.numpy()]
    expected = np.average(-((1 - p) ** 2) * np.log(p), weights=weight) / 4
    assert float(build_loss(config)(logits, target)) == pytest.approx(expected, rel=1e-4)


@each_weighed
def test_equal_weights_by_hand_change_nothing(config):
    logits, target = batch(config, 3, ignored=0.2)
    alike = build_loss(by_hand(config, (1.0, 1.0, 1.0)))(logits, target)
    torch.testing.assert_close(alike, build_loss(equal(config))(logits, target))


@each_weighed
def test_by_frequency_is_by_hand_with_inverse_shares(config):
    shares = shares_for(3)
    # Each class is half as frequent as the one before, and background twice as the first.
    logits, target = batch(config, 3, ignored=0.2)
    loss = build_loss(config.model_copy(update={"class_weights": "by_frequency"}), shares=shares)(logits, target)
    torch.testing.assert_close(loss, build_loss(by_hand(config, (2.0, 4.0, 8.0)))(logits, target))


@each_weighed
def test_without_shares_all_classes_count_alike(config):
    frequent = config.model_copy(update={"class_weights": "by_frequency"})
    assert needs_shares(frequent)
    assert not needs_shares(equal(config))
    logits, target = batch(config, 2)
    assert build_loss(frequent)(logits, target) == build_loss(equal(config))(logits, target)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda shares: sum(shares) > 0))
def test_weights_by_frequency_have_mean_1_and_a_limit(shares):
    for found in (voxel_weights("by_frequency", shares), foreground_weights("by_frequency", shares)):
        assert np.mean(found) == pytest.approx(1)
        assert min(found) > 0
        assert max(found) / min(found) <= 100 * (1 + 1e-9)
    found = voxel_weights("by_frequency", shares)
    for a, b in zip(range(len(shares) - 1), range(1, len(shares)), strict=True):
        if shares[a] > shares[b] > 0:
            assert found[a] <= found[b]


def test_a_class_that_never_occurs_counts_as_the_most_frequent_one():
    assert foreground_weights("by_frequency", [0.9, 0.08, 0.02, 0.0]) == pytest.approx((0.5, 2.0, 0.5))


@each_weighed
@pytest.mark.parametrize("shares", [None, [0.7, 0.2, 0.1]])
def test_too_many_weights_by_hand_are_refused_with_how_many_there_should_be(config, shares):
    logits, target = batch(config, 2)
    with pytest.raises(ConfigError, match="by hand: 3 given, but 2 needed"):
        build_loss(by_hand(config), shares=shares)(logits, target)


def test_with_shares_they_are_refused_before_anything_is_learned():
    with pytest.raises(ConfigError, match="by hand: 3 given, but 1 needed"):
        build_loss(SumLossConfig(parts=(WeightedLossConfig(loss=by_hand(DiceLossConfig())),)), shares=[0.5, 0.5])


@pytest.mark.parametrize("shares", [[], [1.0], [0.5, -0.1], [0.5, float("nan")], [2.0, 0.1]])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        build_loss(WeightedBCELossConfig(), shares=shares)


def test_balanced_bce_counts_foreground_by_how_rare_it_is():
    shares = [0.6, 0.3, 0.1]
    logits, target = batch(WeightedBCELossConfig(), 2)
    weight = torch.tensor([0.7 / 0.3, 0.9 / 0.1]).view(2, 1, 1, 1)
    expected = F.binary_cross_entropy_with_logits(logits, one_hot(target, 2), pos_weight=weight)
    torch.testing.assert_close(build_loss(WeightedBCELossConfig(), shares=shares)(logits, target), expected)
    assert needs_shares(WeightedBCELossConfig())
    assert needs_shares(SumLossConfig(parts=(WeightedLossConfig(loss=WeightedBCELossConfig()),)))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (1e-9, 1000.0), (1.0, 0.001)])
def test_balanced_bce_has_limits(share, expected):
    logits = torch.zeros(1, 1, 4, 4)
    target = torch.ones(1, 4, 4, dtype=torch.uint8)
    loss = build_loss(WeightedBCELossConfig(), shares=[1 - share, share])(logits, target)
    assert float(loss) == pytest.approx(expected * np.log(2), rel=1e-4)


SIGMOID = [config for config in CONFIGS if activation_of(config) == "sigmoid"]


@pytest.mark.parametrize("config", SIGMOID, ids=name)
def test_class_ids_and_one_layer_a_class_have_the_same_loss(config):
    logits, target = batch(config, 3, ignored=0.3)
    layers = one_hot(target, 3).to(torch.uint8)
    layers[(target == IGNORE).unsqueeze(1).expand_as(layers)] = IGNORE
    loss = build_loss(config, shares=shares_for(3))
    torch.testing.assert_close(loss(logits, layers), loss(logits, target))


# What is summed over regions of each class, and not over the voxels of all.
REGIONS = [config for config in CLASSWISE if config.kind not in ("bce", "dice_bce", "focal", "dice_focal")]


@pytest.mark.parametrize("config", REGIONS, ids=name)
def test_voxels_may_be_of_several_classes_and_be_annotated_for_some(config):
    generator = torch.Generator().manual_seed(1)
    layers = torch.randint(0, 2, (2, 3, 3, 5, 4), generator=generator).to(torch.uint8)
    layers[torch.rand(layers.shape, generator=generator) < 0.3] = IGNORE
    layers[:, 2] = IGNORE  # a class that was not annotated at all counts in no mean
    logits, _ = batch(config, 3)
    loss = build_loss(equal(config))
    each = [float(loss(logits[:, k : k + 1], layers[:, k])) for k in range(2)]
    assert float(loss(logits, layers)) == pytest.approx(np.mean(each), rel=1e-5)


def test_bce_of_several_classes_averages_over_all_that_was_annotated():
    layers = torch.tensor([[[[1, 0, IGNORE]], [[1, IGNORE, IGNORE]]]], dtype=torch.uint8)
    logits = torch.tensor([[[[2.0, -1.0, 5.0]], [[0.5, 3.0, 9.0]]]])
    each = F.softplus(torch.tensor([-2.0, -1.0, -0.5]))
    torch.testing.assert_close(build_loss(BCELossConfig())(logits, layers), each.mean())


def test_weights_of_dice_and_cross_entropy_reach_both():
    config = DiceCELossConfig(class_weights=BY_HAND, dice_weight=0.3)
    logits, target = batch(config, 3)
    dice = build_loss(DiceLossConfig(class_weights=BY_HAND, classes="compete"))(logits, target)
    entropy = build_loss(CrossEntropyLossConfig(class_weights=BY_HAND))(logits, target)
    torch.testing.assert_close(build_loss(config)(logits, target), 0.3 * dice + 0.7 * entropy)


def test_background_counts_1_beside_weights_by_hand_in_the_axon_recipe():
    config = DiceCategoricalFocalLossConfig(class_weights=BY_HAND, smooth=0)
    logits, target = batch(config, 3)
    focal = build_loss(CategoricalFocalLossConfig(class_weights=BY_HAND))(logits, target)
    p, truth = logits.softmax(1), one_hot(target, 4, first=0)
    dice = [float(2 * (p[:, k] * truth[:, k]).sum() / (p[:, k].sum() + truth[:, k].sum())) for k in range(4)]
    expected = float(focal) + 1 - np.average(dice, weights=[1.0, *BY_HAND])
    assert float(build_loss(config)(logits, target)) == pytest.approx(expected, rel=1e-5)
