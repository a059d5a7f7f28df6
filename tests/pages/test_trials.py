"""Trials on the Train page: what they found is shown, goes into the form when it is asked to, and can be cancelled."""

import threading
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import seglib.training.batch_size
import seglib.training.rate_test
from seglib.errors import OutOfMemory
from seglib.jobs.submit import submit_training
from seglib.store.runs import claim
from seglib.training.batch_size import BatchSizes, BatchTry
from seglib.training.rate_test import RateTest
from seglib.training.trials import TrialProgress
from tests.conftest import import_two_classes, small_config

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")
RATE = "train.1.optimiser.adam.learning_rate"


@pytest.fixture
def page(dataset) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=60).run()
    page.switch_page("train.py")
    page.run()
    # The same on every machine.
    one(page.selectbox, "train.1.compute.device").set_value("cpu")
    one(page.number_input, "train.1.compute.threads").set_value(1)
    return page.run()


def one(elements, key):
    return next(element for element in elements if element.key == key)


def keys(page):
    return {button.key for button in page.button}


def press(page, key):
    one(page.button, key).click()
    page.run()
    assert not page.exception


def wait(page):
    work = page.session_state["trials"].work.work
    if work is not None:  # else it was over before the page was drawn
        work.wait(60)
    page.run()
    assert not page.exception


def small(page):
    """Settings that learn in a moment."""
    for key, value in {"z": 4, "y": 16, "x": 16}.items():
        one(page.number_input, f"train.1.patches.shape.{key}").set_value(value)
    for key, value in {"depth": 2, "start_channels": 2, "flat_levels": 0}.items():
        one(page.number_input, f"train.1.model.unet_3d.{key}").set_value(value)
    one(page.number_input, "train.1.sampling.random.per_epoch").set_value(2)
    page.run()
    assert [error.value for error in page.error] == []


def test_a_learning_rate_is_found_on_the_data(page, monkeypatch):
    usual = seglib.training.rate_test.sweep_rates
    # Few steps are enough to see that they are made on the data of the page.
    monkeypatch.setattr(
        seglib.training.rate_test, "sweep_rates", lambda *a, weights: usual(*a, weights=weights, steps=8)
    )
    small(page)
    press(page, "trials.rate")
    wait(page)
    assert not page.error
    assert len(page.get("plotly_chart")) == 1
    assert len(page.session_state["trials"].found[1, "rate"].result.losses) == 8
    assert not one(page.button, "train.start").disabled


def test_a_batch_size_is_found_on_the_data_and_used(page, monkeypatch):
    monkeypatch.setattr(seglib.training.batch_size, "TIMED_S", 0.0)
    small(page)
    press(page, "trials.batch")
    wait(page)
    table = page.dataframe[0].value
    assert list(table["Batch size"]) == [1, 2]
    assert table["Fits"].all()
    assert (table["Patches a second"] > 0).all()
    found = page.session_state["trials"].found[1, "batch"].result.suggestion
    press(page, "trials.batch.use")
    assert one(page.number_input, "train.1.patches.batch_size").value == found


def replaced(monkeypatch, name, *said):
    """Lets a trial say this and nothing else; an exception is raised."""

    def trial(config, volumes, *, weights):
        assert [volume.name for volume in volumes] == ["leaf1", "leaf2"]
        assert weights is None
        for one in said:
            if isinstance(one, Exception):
                raise one
            yield one

    module = {"sweep_rates": seglib.training.rate_test, "find_batch_size": seglib.training.batch_size}[name]
    monkeypatch.setattr(module, name, trial)


def rates(suggestion):
    return RateTest((1e-4, 1e-3, 1e-2), (1.0, 0.8, 0.7), (1.0, 0.8, 0.7), suggestion, "A *sentence* about rates.")


def test_a_rate_goes_into_the_form_only_when_it_is_used(page, monkeypatch):
    replaced(monkeypatch, "sweep_rates", TrialProgress(0, 3, "Starting"), rates(2.5e-3))
    before = one(page.number_input, RATE).value
    press(page, "trials.rate")
    wait(page)
    assert one(page.number_input, RATE).value == before != 2.5e-3
    assert page.success[0].value == r"A \*sentence\* about rates\."
    press(page, "trials.rate.use")
    assert one(page.number_input, RATE).value == 2.5e-3
    assert not any("changed since" in caption.value for caption in page.caption)
    one(page.number_input, "train.1.patches.batch_size").set_value(3)
    page.run()
    assert any("changed since" in caption.value for caption in page.caption)


def test_without_a_suggestion_there_is_nothing_to_use(page, monkeypatch):
    replaced(monkeypatch, "sweep_rates", rates(None))
    nothing = BatchSizes((BatchTry(1, False, 9e6, None),), None, "Not even one patch fits.")
    replaced(monkeypatch, "find_batch_size", nothing)
    for kind in ("rate", "batch"):
        press(page, f"trials.{kind}")
        wait(page)
    assert not keys(page) & {"trials.rate.use", "trials.batch.use"}
    assert [warning.value for warning in page.warning][-2:] == [
        r"A \*sentence\* about rates\.",
        r"Not even one patch fits\.",
    ]


def test_an_error_is_shown_where_the_trial_is(page, monkeypatch):
    replaced(monkeypatch, "sweep_rates", TrialProgress(0, 3, "Starting"), OutOfMemory("It does not *fit*."))
    press(page, "trials.rate")
    wait(page)
    assert [error.value for error in page.error] == [r"It does not \*fit\*\."]
    assert not one(page.button, "trials.rate").disabled


def test_a_trial_can_be_cancelled_and_no_other_starts_beside_it(page, monkeypatch):
    go_on = threading.Event()

    def slow(config, volumes, *, weights):
        yield TrialProgress(1, 3, "Going on")
        assert go_on.wait(60)
        yield TrialProgress(2, 3, "Going on")
        yield rates(2.5e-3)

    monkeypatch.setattr(seglib.training.rate_test, "sweep_rates", slow)
    press(page, "trials.rate")
    assert one(page.button, "trials.rate").disabled
    assert one(page.button, "trials.batch").disabled
    assert one(page.button, "train.start").disabled
    press(page, "trials.cancel")
    go_on.set()
    wait(page)
    assert [error.value for error in page.error] == [r"Cancelled; nothing was kept\."]
    assert not one(page.button, "trials.batch").disabled


def test_a_trial_belongs_to_its_data_set(page, monkeypatch, workspace, store, tmp_path):
    replaced(monkeypatch, "sweep_rates", rates(2.5e-3))
    press(page, "trials.rate")
    wait(page)
    assert "trials.rate.use" in keys(page)
    other = import_two_classes(workspace, store, tmp_path / "more", name="More")
    page.run()
    next(box for box in page.selectbox if box.label == "Data set").set_value(other)
    page.run()
    assert not page.exception
    assert "trials.rate" in keys(page)
    assert "trials.rate.use" not in keys(page)


def test_no_trial_starts_beside_a_run(page, store):
    run = submit_training(store, small_config(1))
    assert claim(store, run, owner="someone")
    page.run()
    button = one(page.button, "trials.rate")
    assert button.disabled
    assert "run is under way" in button.help
