"""Suggested settings and recipes on the Train page: the form holds just them, says why, and gives the old ones back."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.suggestions import form_values
from seglib.config import RunConfig, parse_run_config
from seglib.report import make_report, stored_report
from seglib.store.datasets import get_dataset
from seglib.store.runs import list_runs
from seglib.training.advice import recipe_for, suggestion_for
from seglib.training.recipes import RECIPES

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")


@pytest.fixture
def page(dataset) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=120).run()
    page.switch_page("train.py")
    page.query_params["dataset"] = str(dataset)
    page.run()
    assert not page.exception
    return page


def button(page: AppTest, label: str) -> Any:
    return next(one for one in page.button if one.label == label)


def held(page: AppTest, dataset: int) -> RunConfig:
    """What the form holds, as the page remembers it."""
    return page.session_state[f"suggest.{dataset}.state"].now


def reasons(page: AppTest) -> str:
    return " ".join(one.value for one in page.markdown).replace("\\", "")


def test_suggesting_measures_the_data_first_and_fills_the_form(page, workspace, store, dataset):
    row = get_dataset(store, dataset)
    before = held(page, dataset)
    button(page, "Suggest settings").click()
    page.run()
    page.session_state[f"suggest.{dataset}.state"].measuring.work.wait(60)
    page.run()
    page.run()
    assert not page.exception
    report = stored_report(workspace, row)
    found = suggestion_for(row, report.volumes)
    assert held(page, dataset) == found.config != before
    assert all(reason.text in reasons(page) for reason in found.reasons)

    button(page, "Undo").click()
    page.run()
    assert held(page, dataset) == before
    assert found.reasons[0].text not in reasons(page)


def test_what_was_suggested_can_be_changed_and_started(page, workspace, store, dataset):
    make_report(workspace, get_dataset(store, dataset))
    button(page, "Suggest settings").click()
    page.run()
    assert not page.exception
    next(one for one in page.number_input if one.key == f"train.{dataset}.length.epochs").set_value(3)
    page.run()
    button(page, "Start").click()
    page.run()
    config = parse_run_config(list_runs(store)[0].config)
    found = suggestion_for(get_dataset(store, dataset), stored_report(workspace, get_dataset(store, dataset)).volumes)
    assert config.length.epochs == 3
    assert config.model == found.config.model


@pytest.mark.parametrize("name", RECIPES)
def test_the_form_holds_what_a_recipe_says(name, page, store, dataset):
    found = recipe_for(get_dataset(store, dataset), name)
    next(one for one in page.selectbox if one.label == "Start from").set_value(name)
    page.run()
    button(page, "Use recipe").click()
    page.run()
    assert not page.exception
    expected = found.config
    if not expected.model.needs_labels:  # it has no loss, and the form none to ask for
        expected = expected.model_copy(update={"loss": held(page, dataset).loss})
    assert held(page, dataset) == expected
    assert found.reasons[0].text[:60] in reasons(page)


def test_one_after_the_other_leaves_nothing_of_the_first(page, store, dataset):
    for name in ("anatomics", "mycobacteria", "anatomics"):
        next(one for one in page.selectbox if one.label == "Start from").set_value(name)
        page.run()
        button(page, "Use recipe").click()
        page.run()
        assert held(page, dataset) == recipe_for(get_dataset(store, dataset), name).config


def test_class_weights_and_names_are_told_as_the_form_shows_them():
    config = RunConfig.model_validate(
        {
            "data": {"dataset": 1},
            "split": {"kind": "hand", "validation": ("b",)},
            "loss": {"kind": "dice", "class_weights": (1.0, 2.5)},
        }
    )
    values = dict(form_values(config))
    assert values["split.hand.validation"] == ["b"]
    assert (values["loss.dice.class_weights"], values["loss.dice.class_weights.by_hand"]) == ("by_hand", "1, 2.5")
    assert values["patches.shape.z"] == config.patches.shape[0]
    assert "data.dataset" not in values
