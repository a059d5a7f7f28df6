"""Optimisers and learning-rate schedules."""

import math
import pickle

import pytest
import torch
from torch import nn

from seglib.config import AdamConfig, AdamWConfig, ConstantConfig, CosineConfig, PlateauConfig, SGDConfig
from seglib.training.optim import Schedule, build_optimiser, cosine

SCHEDULES = [CosineConfig(final_share=0.1), ConstantConfig(), PlateauConfig(factor=0.5, patience=1)]


def started(schedule, total_steps=8, config=SGDConfig(learning_rate=0.4)):  # noqa: B008 – frozen
    weight = nn.Parameter(torch.ones(3))
    optimiser = build_optimiser(config, [weight])
    return weight, optimiser, Schedule(schedule, optimiser, total_steps=total_steps)


def step(weight, optimiser, schedule):
    """One step on the loss Σ w²; returns the learning rate it was made with."""
    rate = optimiser.param_groups[0]["lr"]
    optimiser.zero_grad()
    (weight**2).sum().backward()
    optimiser.step()
    schedule.after_step()
    return rate


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (AdamConfig(learning_rate=0.3, weight_decay=0.1), torch.optim.Adam),
        (AdamWConfig(learning_rate=0.3, weight_decay=0.1), torch.optim.AdamW),
        (SGDConfig(learning_rate=0.3, weight_decay=0.1, momentum=0.7), torch.optim.SGD),
    ],
)
def test_optimisers_take_their_settings(config, kind):
    optimiser = build_optimiser(config, [nn.Parameter(torch.ones(1))])
    assert type(optimiser) is kind
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.1)
    if kind is torch.optim.SGD:
        assert (group["momentum"], group["nesterov"]) == (0.7, True)


def test_sgd_takes_nesterovs_step():
    weight = nn.Parameter(torch.ones(1))
    optimiser = build_optimiser(SGDConfig(learning_rate=0.1, momentum=0.9), [weight])
    value, velocity = 1.0, 0.0
    for _ in range(3):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
        gradient = 2 * value
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity)
        assert weight.item() == pytest.approx(value, rel=1e-5)


def test_cosine_falls_from_one_to_its_end():
    assert [cosine(share, 0.2) for share in (0, 0.5, 1, 3)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert cosine(0.25, 0) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_each_schedule_sets_its_rates():
    rates = {s.kind: (lambda parts: [step(*parts) for _ in range(4)])(started(s, total_steps=4)) for s in SCHEDULES}
    assert rates["constant"] == [0.4] * 4
    assert rates["cosine"] == pytest.approx([0.4 * cosine(n / 4, 0.1) for n in range(4)])
    assert rates["plateau"] == [0.4] * 4


def test_a_plateau_waits_for_its_patience_and_a_better_score_resets_it():
    weight, optimiser, schedule = started(SCHEDULES[2])
    rates = []
    for score in (0.5, 0.5, 0.6, 0.6, 0.6, 0.1, 0.1):
        step(weight, optimiser, schedule)
        schedule.after_validation(score)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == [0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1]


@pytest.mark.parametrize("config", SCHEDULES, ids=lambda config: config.kind)
@pytest.mark.parametrize("optimiser_config", [AdamConfig(), AdamWConfig(), SGDConfig()], ids=lambda c: c.kind)
def test_restored_from_its_state_a_schedule_goes_on_as_it_would_have(config, optimiser_config):
    def run(parts, count):
        weight, optimiser, schedule = parts
        rates = []
        for _ in range(count):
            rates.append(step(weight, optimiser, schedule))
            schedule.after_validation(0.5)
        return rates

    whole = started(config, config=optimiser_config)
    expected = run(whole, 8)
    first = started(config, config=optimiser_config)
    rates = run(first, 3)
    state = pickle.dumps((first[0].data, first[1].state_dict(), first[2].state_dict()))
    again = started(config, config=optimiser_config)
    data, optimiser_state, schedule_state = pickle.loads(state)  # noqa: S301 – our own bytes
    again[0].data = data
    again[1].load_state_dict(optimiser_state)
    again[2].load_state_dict(schedule_state)
    assert rates + run(again, 5) == expected
    assert torch.equal(again[0], whole[0])
