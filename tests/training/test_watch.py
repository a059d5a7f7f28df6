"""A run that collapses is recognised early, told once with a likely cause, and begun anew where that is wanted."""

import numpy as np
import pytest

from seglib.metrics.overlap import Counts
from seglib.training.watch import LEAST_STEPS, PATIENCE, Watch, restarted
from tests.training.test_loop import config


def counts(hits, false_alarms, misses) -> Counts:
    return Counts(*(np.array([value]) for value in (hits, false_alarms, misses)))


def watched(steps=LEAST_STEPS, rate=1e-3) -> Watch:
    """A watch after so many steps of a calm loss."""
    watch = Watch(rate)
    for _ in range(steps):
        assert watch.after_step(0.7) is None
    return watch


def judged(watch, found, times=PATIENCE, voxels=1000) -> list[str | None]:
    return [watch.after_judgement(found, voxels, what="the validation part") for _ in range(times)]


def test_a_dice_stuck_at_zero_is_told_once_after_three_times():
    said = judged(watched(), counts(0, 0, 200), times=6)
    assert [one is not None for one in said] == [False, False, True, False, False, False]
    assert "finds nothing in the validation part, 3 times in a row" in said[2]


def test_the_likely_cause_depends_on_what_is_seen():
    assert "centre more patches" in judged(watched(), counts(0, 0, 5))[-1]
    assert "learning rate (1.0e-02)" in judged(watched(rate=1e-2), counts(0, 0, 200))[-1]
    assert "labels lie on the image" in judged(watched(), counts(0, 0, 200))[-1]
    assert "never where the labels are" in judged(watched(), counts(0, 100, 200))[-1]


def test_the_same_answer_everywhere_is_told_too():
    assert "every voxel of the validation part foreground" in judged(watched(), counts(200, 800, 0))[-1]


def test_a_run_that_finds_something_now_and_then_is_left_alone():
    watch = watched()
    for _ in range(5):
        assert judged(watch, counts(0, 0, 200), times=2) == [None, None]
        assert judged(watch, counts(1, 0, 199), times=1) == [None]


def test_a_young_run_and_one_without_foreground_are_not_judged():
    assert judged(watched(steps=LEAST_STEPS - 1), counts(0, 0, 200)) == [None] * PATIENCE
    assert judged(watched(), counts(0, 0, 0)) == [None] * PATIENCE
    assert judged(watched(), counts(0, 0, 200), voxels=0) == [None] * PATIENCE


def test_a_loss_that_grows_threefold_is_told_once_and_noise_is_not():
    noise = np.random.default_rng(0).normal(0.7, 0.3, 500)
    watch = Watch(1e-3)
    assert not any(watch.after_step(loss) for loss in noise)
    said = [watch.after_step(0.7 * 1.1**step) for step in range(60)]
    told = [one for one in said if one]
    assert len(told) == 1
    assert "explodes" in told[0]


def test_losses_below_zero_do_not_explode():
    watch = Watch(1e-3)
    assert not any(watch.after_step(loss) for loss in np.linspace(-0.5, -3, 300))


@pytest.mark.parametrize("steps", [5, 50])
def test_a_watch_goes_on_from_its_state(steps):
    whole, first = watched(steps), watched(steps)
    again = Watch.from_state(1e-3, first.state())
    for loss in np.geomspace(0.7, 9, 60):
        assert whole.after_step(loss) == again.after_step(loss)
    assert judged(whole, counts(0, 0, 5)) == judged(again, counts(0, 0, 5))


def test_each_new_attempt_has_another_seed_and_a_lower_rate():
    settings = config()
    assert restarted(settings, 0) is settings
    tried = [restarted(settings, number) for number in range(4)]
    assert len({one.length.seed for one in tried}) == 4
    rates = [one.optimiser.learning_rate for one in tried]
    assert rates == pytest.approx([1e-2 * 0.3**number for number in range(4)])
    assert tried[2] == restarted(settings, 2)
