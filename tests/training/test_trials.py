"""Trials before a start: what they find in curves and speeds that are known, and that they leave nothing behind."""

import numpy as np
import pytest
import torch

import seglib.training.batch_size
import seglib.training.rate_test
from seglib.config import (
    AdamConfig,
    ComputeConfig,
    CosineConfig,
    DataConfig,
    RandomSamplingConfig,
    ScratchConfig,
    SGDConfig,
    UNet3DConfig,
)
from seglib.errors import ConfigError, OutOfMemory
from seglib.training.batch_size import BatchSizes, BatchTry, find_batch_size, judge_sizes, no_faster
from seglib.training.loop import train
from seglib.training.rate_test import RateTest, exploded, judge_rates, sweep_rates
from seglib.training.trials import TrialProgress, prepare_trial, set_rate, undisturbed
from tests.training.test_loop import config, volume

RATES = np.geomspace(1e-6, 1, 80)


@pytest.fixture(autouse=True)
def no_longer_than_needed(monkeypatch):
    monkeypatch.setattr(seglib.training.batch_size, "TIMED_S", 0.0)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def curve(fall_at: float, *, rise_at: float = 10.0, noise: float = 0.0, low: float = 0.2, seed: int = 0) -> list[float]:
    """Losses that fall from 1 to `low` around one rate, steepest just there, and rise without end from another."""
    place = np.log10(RATES)
    fallen = 1 - (1 - low) / (1 + np.exp(-(place - np.log10(fall_at)) / 0.25))
    risen = np.expm1(np.clip(3 * (place - np.log10(rise_at)), 0, None))
    return (fallen + risen + np.random.default_rng(seed).normal(0, noise, place.size)).tolist()


@pytest.mark.parametrize("fall_at", [1e-4, 1e-3, 3e-2])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_rate_is_where_the_loss_falls_fastest(fall_at, noise):
    found = judge_rates(RATES.tolist(), curve(fall_at, noise=noise))
    # Steps lie a fifth apart; with noise two of them may be mistaken.
    assert abs(np.log(found.suggestion / fall_at)) < np.log(1.2) * (2.5 if noise else 1)
    assert f"{found.suggestion:.1e}" in found.sentence
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 80


def test_a_loss_that_explodes_in_the_end_does_not_move_the_rate():
    losses = curve(1e-3, rise_at=1e-1)[:72]
    losses[-1] = 1e6
    found = judge_rates(RATES[:72].tolist(), losses, broke_off=True)
    assert found.suggestion == pytest.approx(1e-3, rel=0.5)
    assert "explodes" in found.sentence
    assert max(found.smoothed) < 1.1


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_loss_that_never_fell_suggests_nothing(noise):
    for seed in range(20):
        flat = judge_rates(RATES.tolist(), curve(1e-3, low=1.0, noise=noise, seed=seed))
        rising = judge_rates(RATES.tolist(), curve(1e9, rise_at=1e-3, noise=noise, seed=seed))
        assert flat.suggestion is rising.suggestion is None
        assert "did not fall" in flat.sentence
    assert judge_rates([1e-6], [9.0], broke_off=True).suggestion is None


def test_a_loss_has_exploded_at_four_times_its_best():
    assert not exploded([1.0] * 5)
    assert not exploded([2.0] * 5 + [1.0] * 5 + [3.9] * 5)
    assert exploded([2.0] * 5 + [1.0] * 5 + [4.1] * 5)
    assert exploded([1.0] * 20 + [1e9])
    # A loss that may be negative: three times its size above the best.
    assert not exploded([-1.0] * 5 + [1.9] * 5)
    assert exploded([-1.0] * 5 + [2.1] * 5)


def ended(trial):
    """The progress a trial said and its result, which comes last."""
    *said, result = list(trial)
    assert all(isinstance(one, TrialProgress) for one in said)
    return said, result


def test_rates_are_tried_on_real_patches_with_the_optimiser_and_schedule_left_out():
    settings = config(optimiser=SGDConfig(learning_rate=0.5), schedule=CosineConfig(warm_up=9))
    said, result = ended(sweep_rates(settings, [volume()], low=1e-4, high=1.0, steps=12))
    assert isinstance(result, RateTest)
    assert result.rates == pytest.approx([10 ** (-4 + 4 * step / 11) for step in range(12)])
    assert [one.done for one in said] == [0, *range(1, 13)]
    # At so small a first rate, the first loss is the one a run would begin with.
    first = next(event.loss for event in train(settings, [volume()]) if type(event).__name__ == "StepDone")
    assert result.losses[0] == pytest.approx(first, rel=1e-6)


def test_a_network_that_can_learn_is_given_a_rate():
    settings = config(
        model=UNet3DConfig(depth=2, start_channels=4, dropout=0), sampling=RandomSamplingConfig(per_epoch=8)
    )
    *_, result = sweep_rates(settings, [volume()])
    assert result.suggestion is not None
    assert 1e-5 < result.suggestion < 1
    assert min(result.smoothed) < 0.9 * result.smoothed[0]


def test_a_loss_that_is_no_number_ends_the_test():
    """Weights beyond what float32 holds, from the first step on."""
    *_, result = sweep_rates(config(optimiser=SGDConfig()), [volume()], low=1e35, high=1e38, steps=30)
    assert len(result.losses) < 30
    assert result.suggestion is None
    assert all(np.isfinite(result.losses))


def test_an_encoder_keeps_its_share_of_the_rate():
    parts = config(optimiser=AdamConfig(learning_rate=1e-2))
    setup = prepare_trial(parts, [volume()], None)
    first, second = list(setup.network.parameters())[:2]
    setup.optimiser.param_groups[0]["params"] = [first]
    setup.optimiser.add_param_group({"params": [second], "lr": 1e-3})
    for rate in (1e-5, 0.3, 0.0):
        set_rate(setup, rate)
        assert [group["lr"] for group in setup.optimiser.param_groups] == pytest.approx([rate, rate / 10])


def state_of_torch():
    cudnn = torch.backends.cudnn
    return (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )


@pytest.mark.parametrize("make", [lambda *a: sweep_rates(*a, steps=4), lambda *a: find_batch_size(*a, most=2)])
@pytest.mark.parametrize("cancelled", [False, True])
def test_trials_leave_torch_as_it_was_also_when_they_are_cancelled(make, cancelled):
    torch.set_num_threads(2)
    torch.manual_seed(7)
    before = state_of_torch()
    trial = make(config(compute=ComputeConfig(device="cpu", threads=1, deterministic=True)), [volume()])
    for place, _ in enumerate(trial):
        if place == 2:
            assert torch.get_num_threads() == 1
            assert torch.are_deterministic_algorithms_enabled()
            if cancelled:
                trial.close()
                break
    assert state_of_torch() == before


def test_torch_is_as_it_was_after_an_error_too():
    before = state_of_torch()
    with pytest.raises(ValueError, match="wrong"), undisturbed(config()):
        torch.manual_seed(1)
        raise ValueError("wrong")
    assert state_of_torch() == before


def test_sizes_double_to_the_patches_of_an_epoch():
    settings = config(sampling=RandomSamplingConfig(per_epoch=3))
    said, result = ended(find_batch_size(settings, [volume()]))
    assert isinstance(result, BatchSizes)
    assert [tried.batch for tried in result.tries] == [1, 2]
    assert all(tried.fits and tried.patches_per_s > 0 and tried.memory_mb > 1 for tried in result.tries)
    assert result.suggestion in (1, 2)
    assert "Batch size 2; 1: " in said[-1].text


def test_weights_stay_and_no_loss_explodes_while_sizes_are_tried(monkeypatch):
    made = []

    def kept(*arguments):
        made.append(prepare_trial(*arguments))
        made.append({name: weight.clone() for name, weight in made[0].network.named_parameters()})
        return made[0]

    monkeypatch.setattr(seglib.training.batch_size, "prepare_trial", kept)
    ended(find_batch_size(config(optimiser=SGDConfig(learning_rate=10, weight_decay=1)), [volume()], most=2))
    for name, weight in made[0].network.named_parameters():
        assert torch.equal(weight, made[1][name])


def test_what_would_not_fit_by_estimate_is_not_tried(monkeypatch):
    monkeypatch.setattr(seglib.training.batch_size, "_estimate", lambda _, batch: len(batch.targets) * 2**60)
    _, result = ended(find_batch_size(config(), [volume()]))
    assert [(tried.batch, tried.fits, tried.patches_per_s) for tried in result.tries] == [(1, False, None)]
    assert result.suggestion is None
    assert "Not even one patch" in result.sentence


def test_where_memory_runs_out_the_size_before_is_the_last(monkeypatch):
    make_step = seglib.training.batch_size.make_step

    def cramped(setup, batch, *, step, micro):
        return None if micro > 2 else make_step(setup, batch, step=step, micro=micro)

    monkeypatch.setattr(seglib.training.batch_size, "make_step", cramped)
    _, result = ended(find_batch_size(config(), [volume()]))
    assert [(tried.batch, tried.fits) for tried in result.tries] == [(1, True), (2, True), (4, False)]
    assert "4 patches do not fit" in result.sentence


def test_a_batch_that_does_not_fit_ends_the_rate_test_with_advice(monkeypatch):
    monkeypatch.setattr(seglib.training.rate_test, "make_step", lambda *_, **__: None)
    with pytest.raises(OutOfMemory, match="find a batch size first"):
        list(sweep_rates(config(), [volume()]))


def tries(*speeds, fits=True):
    made = [BatchTry(2**power, True, 100.0 * 2**power, speed) for power, speed in enumerate(speeds)]
    return made if fits else [*made, BatchTry(2 ** len(speeds), False, 1e6, None)]


@pytest.mark.parametrize(
    ("speeds", "suggestion"),
    [((10,), 1), ((10, 20, 30), 4), ((10, 29, 30), 2), ((10, 28, 30), 4), ((30, 29, 28), 1), ((10, 40, 30, 41), 2)],
)
def test_the_smallest_size_within_a_twentieth_of_the_fastest_is_taken(speeds, suggestion):
    found = judge_sizes(tries(*speeds))
    assert found.suggestion == suggestion
    assert found.sentence.startswith(f"A batch of {suggestion} ")
    assert judge_sizes(tries(*speeds, fits=False)).suggestion == suggestion


def test_it_goes_on_as_long_as_one_of_the_last_two_sizes_was_faster():
    assert not no_faster(tries(10, 10))
    assert no_faster(tries(10, 10.4, 10.4))
    assert not no_faster(tries(10, 10, 10.6))
    assert not no_faster(tries(10, 20, 20))
    assert no_faster(tries(10, 20, 20, 19))
    assert "no faster" in judge_sizes(tries(10, 20, 20, 19)).sentence


def test_settings_that_do_not_fit_are_said():
    unlabelled = volume(labels=None)
    for trial in (sweep_rates, find_batch_size):
        with pytest.raises(ConfigError, match="no labels"):
            list(trial(config(data=DataConfig(dataset=1), weights=ScratchConfig()), [unlabelled]))
