"""Every loss on every batch: finite, differentiable, cheap to plan, and lower for better answers."""

import itertools

import pytest
import torch

from seglib.config import BCELossConfig, CategoricalFocalLossConfig, DiceCELossConfig, DiceFocalLossConfig
from seglib.config.labels import IGNORE
from seglib.losses import activation_of, build_loss, one_hot, outputs_of
from tests.losses.kinds import CONFIGS, all_kinds, batch, name, shares_for

each_config = pytest.mark.parametrize("config", CONFIGS, ids=name)


def test_every_kind_is_tested():
    assert {type(config) for config in CONFIGS} == set(all_kinds())


def targets(classes, shape):
    """Empty, full, one voxel, one voxel annotated, one class of several, nothing annotated."""
    empty = torch.zeros((2, *shape), dtype=torch.uint8)
    one, seen = empty.clone(), torch.full_like(empty, IGNORE)
    one.view(-1)[0] = 1
    seen.view(-1)[-1] = classes
    random = torch.randint(0, classes + 1, empty.shape).to(torch.uint8)
    return [empty, empty + classes, one, seen, random, torch.full_like(empty, IGNORE)]


@each_config
@pytest.mark.parametrize(
    ("classes", "shape", "dtype"),
    [
        (1, (3, 4, 5), torch.float32),
        (3, (3, 4, 5), torch.bfloat16),
        (1, (1, 4, 5), torch.bfloat16),
        (3, (4, 5), torch.float32),
    ],
)
def test_losses_are_finite_float32_and_differentiable_on_any_batch(config, classes, shape, dtype):
    loss = build_loss(config, shares=shares_for(classes))
    for target, scale in itertools.product(targets(classes, shape), (0.0, 1e4)):
        logits = (scale * torch.randn(2, outputs_of(config, classes), *shape)).to(dtype).requires_grad_()
        value = loss(logits, target)
        assert value.dtype == torch.float32
        assert value.shape == ()
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


@each_config
def test_a_plane_is_judged_alike_in_2d_and_at_depth_1(config):
    loss = build_loss(config, shares=shares_for(2))
    logits, target = batch(config, 2, (6, 7), ignored=0.2)
    torch.testing.assert_close(loss(logits, target), loss(logits[:, :, None], target[:, None]))


@each_config
def test_memory_is_estimated_without_data(config):
    with torch.device("meta"):
        logits = torch.empty(2, outputs_of(config, 2), 4, 6, 6, requires_grad=True)
        target = torch.empty(2, 4, 6, 6, dtype=torch.uint8)
    loss = build_loss(config)(logits, target)
    loss.backward()
    assert loss.is_meta
    assert logits.grad.shape == logits.shape


def answers(config, target, classes, sureness):
    """Logits that say what is right, as sure as that."""
    if activation_of(config) == "softmax":
        return sureness * one_hot(target, classes + 1, first=0)
    return sureness * (one_hot(target, classes) - 0.5)


@each_config
@pytest.mark.parametrize("classes", [1, 2])
def test_a_better_answer_costs_less(config, classes):
    loss = build_loss(config, shares=shares_for(classes))
    _, target = batch(config, classes, (4, 6, 6))
    costs = [float(loss(answers(config, target, classes, sure), target)) for sure in (-8, -4, -1, 0, 2)]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 5


@each_config
def test_a_perfect_answer_costs_next_to_nothing(config):
    loss = build_loss(config, shares=shares_for(2))
    _, target = batch(config, 2, (4, 6, 6))
    smoothed = getattr(config, "label_smoothing", 0.0)
    sure = answers(config, target, 2, 40.0)
    assert float(loss(sure, target)) == pytest.approx(0, abs=1e-4) or smoothed


@each_config
def test_gradients_are_those_of_finite_differences(config):
    loss = build_loss(config, shares=shares_for(2))
    for seed in range(2):
        logits, target = batch(config, 2, (3, 4, 4), seed=seed, ignored=0.2)
        logits = logits.div(3).requires_grad_()
        # Along the steepest way the change is largest beside the rounding of float32.
        (grad,) = torch.autograd.grad(loss(logits, target), logits)
        way, step = grad / grad.norm(), 3e-3
        with torch.no_grad():
            change = (loss(logits + step * way, target) - loss(logits - step * way, target)) / (2 * step)
        assert float(change) == pytest.approx(float(grad.norm()), rel=0.05), seed


@pytest.mark.parametrize("config", [kind() for kind in all_kinds()], ids=name)
def test_learning_from_it_finds_the_labels(config):
    loss = build_loss(config, shares=shares_for(2))
    logits, target = batch(config, 2, (3, 4, 4), ignored=0.2)
    logits = logits.div(10).requires_grad_()
    optimiser = torch.optim.Adam([logits], 0.7)
    for _ in range(30):
        optimiser.zero_grad()
        loss(logits, target).backward()
        optimiser.step()
    if activation_of(config) == "softmax":
        found = logits.argmax(1)
    else:
        highest, best = logits.max(1)
        found = torch.where(highest > 0, best + 1, 0)
    counted = target != IGNORE
    assert (found == target)[counted].float().mean() > 0.95


@pytest.mark.parametrize("config", [BCELossConfig(), DiceFocalLossConfig()], ids=name)
def test_logits_of_other_classes_than_the_labels_are_refused(config):
    with pytest.raises(ValueError, match="3 classes, but the network 2 outputs"):
        build_loss(config)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("config", [DiceCELossConfig(), CategoricalFocalLossConfig()], ids=name)
def test_classes_that_compete_cannot_share_a_voxel(config):
    with pytest.raises(ValueError, match="decides each class by itself"):
        build_loss(config)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.uint8))
