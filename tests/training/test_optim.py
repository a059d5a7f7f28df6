"""Optimisers and learning-rate schedules."""

import io
import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.optim import lr_scheduler

from seglib.config import (
    AdamConfig,
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    OptimiserConfig,
    PlateauConfig,
    PolynomialConfig,
    RMSpropConfig,
    ScheduleConfig,
    SGDConfig,
)
from seglib.training.optim import Schedule, build_optimiser, clip_gradients, cosine, one_cycle, polynomial, warm_up

SCHEDULES = [
    CosineConfig(final_share=0.1),
    ConstantConfig(),
    PlateauConfig(factor=0.5, patience=1),
    PolynomialConfig(power=2),
    OneCycleConfig(rise=0.5),
    CosineConfig(warm_up=4),
    PlateauConfig(factor=0.5, patience=0, warm_up=5),
]
OPTIMISERS = [AdamConfig(), AdamWConfig(), SGDConfig(), RMSpropConfig()]


def named(config) -> str:
    return config.kind + ("-warm" if getattr(config, "warm_up", 0) else "")


def saved(state):
    """A state as it comes back from a file that may hold no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


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
        (RMSpropConfig(learning_rate=0.3, weight_decay=0.1, smoothing=0.8), torch.optim.RMSprop),
    ],
)
def test_optimisers_take_their_settings(config, kind):
    optimiser = build_optimiser(config, [nn.Parameter(torch.ones(1))])
    assert type(optimiser) is kind
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.1)
    if kind is torch.optim.SGD:
        assert (group["momentum"], group["nesterov"]) == (0.7, True)
    if kind is torch.optim.RMSprop:
        assert group["alpha"] == 0.8


def test_settings_written_before_there_was_clipping_or_warm_up_still_parse():
    optimiser = TypeAdapter(OptimiserConfig).validate_python({"kind": "sgd", "learning_rate": 0.1, "momentum": 0.5})
    assert (optimiser.clip, optimiser.average) == (0, 0)
    for old in ({"kind": "cosine", "final_share": 0.2}, {"kind": "constant"}, {"kind": "plateau", "patience": 3}):
        assert TypeAdapter(ScheduleConfig).validate_python(old).warm_up == 0


def test_rmsprop_scales_each_step_by_the_recent_size_of_the_gradient():
    weight = nn.Parameter(torch.tensor([1.0, -3.0]))
    optimiser = build_optimiser(RMSpropConfig(learning_rate=0.1, smoothing=0.9), [weight])
    values, squares = [1.0, -3.0], [0.0, 0.0]
    for _ in range(3):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
        for place, value in enumerate(values):
            squares[place] = 0.9 * squares[place] + 0.1 * (2 * value) ** 2
            values[place] = value - 0.1 * 2 * value / (math.sqrt(squares[place]) + 1e-8)
        assert weight.tolist() == pytest.approx(values, rel=1e-5)


def test_a_long_gradient_is_shortened_and_its_length_said():
    """Gradients (3, 4) and (12): together of length 13."""
    pair, single, still = (nn.Parameter(torch.zeros(count)) for count in (2, 1, 5))
    pair.grad, single.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert clip_gradients([pair, single, still], 0) == pytest.approx(13)
    assert pair.grad.tolist() == [3, 4]
    assert clip_gradients([pair, single, still], 20) == pytest.approx(13)
    assert pair.grad.tolist() == [3, 4]
    assert clip_gradients(iter([pair, single, still]), 6.5) == pytest.approx(13)
    assert [*pair.grad.tolist(), *single.grad.tolist()] == pytest.approx([1.5, 2, 6], rel=1e-5)
    assert still.grad is None
    single.grad = torch.tensor([math.inf])
    assert clip_gradients([single], 0) == math.inf
    assert clip_gradients([still], 1) == 0


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


def test_a_polynomial_falls_from_one_to_zero():
    assert [polynomial(share, 2) for share in (0, 0.5, 0.75, 1, 3)] == pytest.approx([1, 0.25, 0.0625, 0, 0])
    assert polynomial(0.5, 0.9) == pytest.approx(0.5**0.9)


def test_warm_up_rises_evenly_from_near_zero():
    assert [warm_up(step, 4) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert warm_up(0, 0) == 1


def test_one_cycle_begins_peaks_and_ends_where_it_should():
    config = OneCycleConfig(rise=0.2, start_share=0.1, end_share=0.05)
    factors = [one_cycle(step, 100, config) for step in range(100)]
    assert (factors[0], factors[19], factors[99]) == pytest.approx((0.1, 1, 0.05))
    assert factors[:20] == sorted(factors[:20])
    assert factors[19:] == sorted(factors[19:], reverse=True)
    assert one_cycle(500, 100, config) == pytest.approx(0.05)
    assert [one_cycle(0, total, config) for total in (1, 5)] == pytest.approx([0.05, 1])


def torch_rates(make, count, config=SGDConfig(learning_rate=0.4)):  # noqa: B008 – frozen
    """Rates of so many steps under one of torch's own schedulers."""
    weight = nn.Parameter(torch.ones(3))
    optimiser = build_optimiser(config, [weight])
    scheduler = make(optimiser)
    rates = []
    for _ in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("total", [3, 10, 57])
@pytest.mark.parametrize(
    ("config", "make"),
    [
        (CosineConfig(final_share=0.1), lambda o, n: lr_scheduler.CosineAnnealingLR(o, n, eta_min=0.04)),
        (PolynomialConfig(), lambda o, n: lr_scheduler.PolynomialLR(o, n, 0.9)),
        (
            OneCycleConfig(rise=0.4, start_share=0.1, end_share=0.02),
            # Its end is a part of its start; a step more than it takes would be an error.
            lambda o, n: lr_scheduler.OneCycleLR(
                o, 0.4, n + 1, pct_start=0.4, div_factor=10, final_div_factor=5, cycle_momentum=False
            ),
        ),
    ],
    ids=["cosine", "polynomial", "one_cycle"],
)
def test_schedules_agree_with_torchs_own(config, make, total):
    length = total + 1 if config.kind == "one_cycle" else total
    parts = started(config, total_steps=length)
    assert [step(*parts) for _ in range(total)] == pytest.approx(torch_rates(lambda o: make(o, total), total))


def test_a_plateau_agrees_with_torchs_own():
    scores = [0.1, 0.4, 0.3, 0.41, 0.41, 0.2, 0.5, 0.1, 0.2, 0.3, 0.4, 0.45, 0.9]
    weight, optimiser, schedule = started(PlateauConfig(factor=0.3, patience=2))
    expected = build_optimiser(SGDConfig(learning_rate=0.4), [weight])
    plateau = lr_scheduler.ReduceLROnPlateau(expected, mode="max", factor=0.3, patience=2)
    for score in scores:
        step(weight, optimiser, schedule)
        schedule.after_validation(score)
        plateau.step(score)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"])
    assert optimiser.param_groups[0]["lr"] < 0.4


def test_a_plateau_waits_no_longer_where_scores_are_negative():
    """As losses and distances are, turned around; torch takes −0.5 after −0.5 for a better score."""
    weight, optimiser, schedule = started(PlateauConfig(factor=0.5, patience=0))
    for score in (-0.5, -0.5):
        step(weight, optimiser, schedule)
        schedule.after_validation(score)
    assert optimiser.param_groups[0]["lr"] == 0.2


def test_warm_up_multiplies_every_schedule_and_what_a_plateau_has_left():
    rates = [[step(*parts) for _ in range(8)] for parts in (started(CosineConfig()), started(CosineConfig(warm_up=3)))]
    shares = [warmed / plain for plain, warmed in zip(*rates, strict=True)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    weight, optimiser, schedule = started(PlateauConfig(factor=0.5, patience=0, warm_up=3))
    found = []
    for score in (0.5, 0.4, 0.6, 0.7, 0.8):
        found.append(step(weight, optimiser, schedule))
        schedule.after_validation(score)
    assert found == pytest.approx([0.1, 0.2, 0.15, 0.2, 0.2])


def test_groups_follow_the_schedule_each_from_its_own_rate():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.04}]
    optimiser = build_optimiser(SGDConfig(learning_rate=0.4), groups)
    schedule = Schedule(PolynomialConfig(power=1), optimiser, total_steps=4)
    for done in range(4):
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(
            [0.4 - done * 0.1, 0.04 - done * 0.01]
        )
        schedule.after_step()
    longer = build_optimiser(SGDConfig(learning_rate=0.4), [dict(group) for group in groups])
    again = Schedule(PolynomialConfig(power=1), longer, total_steps=8)
    again.load_state_dict(schedule.state_dict())  # a run made twice as long: half of it is left
    assert [group["lr"] for group in longer.param_groups] == pytest.approx([0.2, 0.02])


def test_each_schedule_sets_its_rates():
    rates = {named(s): (lambda parts: [step(*parts) for _ in range(4)])(started(s, total_steps=4)) for s in SCHEDULES}
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


@pytest.mark.parametrize("config", SCHEDULES, ids=named)
@pytest.mark.parametrize("optimiser_config", OPTIMISERS, ids=named)
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
    data, optimiser_state, schedule_state = saved([first[0].data, first[1].state_dict(), first[2].state_dict()])
    again = started(config, config=optimiser_config)
    again[0].data = data
    again[1].load_state_dict(optimiser_state)
    again[2].load_state_dict(schedule_state)
    assert rates + run(again, 5) == expected
    assert torch.equal(again[0], whole[0])


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (CosineConfig(final_share=0.1), lambda o: lr_scheduler.LambdaLR(o, lambda n: cosine(n / 8, 0.1))),
        (ConstantConfig(), lambda o: lr_scheduler.LambdaLR(o, lambda n: 1.0)),
        (PlateauConfig(factor=0.5, patience=1), lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", 0.5, 1)),
    ],
    ids=["cosine", "constant", "plateau"],
)
def test_a_state_of_an_earlier_version_goes_on(config, make):
    """It was torch's own scheduler that was saved, without its code."""
    scores = (0.5, 0.5, 0.4, 0.6, 0.3, 0.3, 0.2, 0.7)
    weight, optimiser, schedule = started(config)
    old_weight = nn.Parameter(torch.ones(3))
    old_optimiser = build_optimiser(SGDConfig(learning_rate=0.4), [old_weight])
    old = make(old_optimiser)

    def old_step(score):
        old_optimiser.step()
        old.step(score) if config.kind == "plateau" else old.step()

    for score in scores[:4]:
        old_step(score)
    state = {key: value for key, value in old.state_dict().items() if key != "lr_lambdas"}
    optimiser.load_state_dict(saved(old_optimiser.state_dict()))
    schedule.load_state_dict(saved(state))
    for score in scores[4:]:
        assert step(weight, optimiser, schedule) == pytest.approx(old_optimiser.param_groups[0]["lr"])
        schedule.after_validation(score)
        old_step(score)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(old_optimiser.param_groups[0]["lr"])
