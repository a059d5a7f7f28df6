"""Every page in every situation: it draws, it says what is wrong, and a user's text is never markup."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.frame import plain
from seglib.store import open_store
from seglib.store.datasets import list_datasets
from seglib.store.runs import claim, get_run, list_runs, mark_running
from seglib.training.advice import DEMO_NAME
from tests.conftest import import_two_classes

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")
PAGES = ("datasets", "train", "runs", "compare", "predict")
PLACES = [
    ("datasets", {"dataset": "1"}),
    ("train", {"dataset": "1"}),
    ("runs", {}),
    ("runs", {"run": "1"}),
    ("runs", {"run": "3"}),
    ("train", {"clone": "1"}),
    ("compare", {"runs": "1,4"}),
    ("predict", {"run": "1"}),
    ("predict", {"prediction": "2"}),
]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/x.png)",
    ":red[x] :material/delete: :rainbow-background[y]",
    "[click](javascript:alert(1)) <https://evil.example>",
    "# x **b** _i_ `c` ~~s~~ $\\frac{1}{2}$ --- | a |",
    "&lt;script&gt; &#60;",
    "x" * 200,
    "🧬" * 50,
    "  細胞 \u202e evil  ",
    "\\*x\\*",
]
MARKDOWN = {"title", "header", "subheader", "markdown", "caption", "info", "error", "warning", "success", "metric",
            "button", "button_group", "checkbox", "toggle", "selectbox", "number_input", "text_input", "link_button",
            "progress", "expander", "tab", "divider", "latex", "page_link", "popover", "file_uploader",
            "download_button"}  # fmt: skip


def open_page(name: str, query: dict[str, str] | None = None) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=30).run()
    page.switch_page(f"{name}.py")
    for key, value in (query or {}).items():
        page.query_params[key] = value
    return page.run()


def elements(block: Any) -> Iterator[Any]:
    """Every element and block below a block."""
    for child in getattr(block, "children", {}).values():
        yield child
        yield from elements(child)


def texts(page: AppTest) -> list[str]:
    """Everything on the page, sidebar included, that Streamlit reads as Markdown."""
    found: list[str] = []
    for root in (page.main, page.sidebar):
        for element in elements(root):
            proto = getattr(element, "proto", None)
            if proto is None or element.type not in MARKDOWN:
                continue
            for name in ("body", "label", "text", "help", "delta"):
                value = getattr(proto, name, "")
                found += [value] if isinstance(value, str) and value else []
    return found


def all_clear(page: AppTest) -> None:
    assert [error.message for error in page.exception] == []


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_has_a_way_on_from_every_page(name, workspace):
    page = open_page(name)
    all_clear(page)
    assert len(page.error) == 0
    assert len(page.title) == 1
    said = " ".join(texts(page))
    assert any(word in said for word in ("Import", "Train page", "needs at least two runs", "needs a trained run"))


@pytest.mark.parametrize("name", PAGES)
def test_a_data_set_without_runs(name, dataset):
    page = open_page(name)
    all_clear(page)
    assert len(page.error) == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_data_set_without_labels(name, workspace, store, tmp_path):
    import_two_classes(workspace, store, tmp_path / "bare", labelled=False)
    page = open_page(name)
    all_clear(page)
    assert len(page.error) == 0
    if name == "datasets":
        button = next(button for button in page.button if button.label == "Train on this")
        assert "WNet3D" in button.help
    if name == "train":
        assert page.session_state["train.1.model.kind"] == "wnet"
        assert not any(box.key.startswith("train.1.loss") for box in page.selectbox)
        assert not next(button for button in page.button if button.label == "Start").disabled


@pytest.mark.parametrize(("name", "query"), PLACES)
def test_finished_and_failed_runs(name, query, trained):
    page = open_page(name, query)
    all_clear(page)
    # Only the failed run has something to say in red: its own message.
    assert [error.value for error in page.error] == (
        [r"leaf1\.tif is \*gone\*: import it again\.".replace(":", r"\:")] if query == {"run": "3"} else []
    )


def test_a_finished_run_shows_its_numbers_its_preview_and_its_curves(trained):
    store = open_store(trained)
    page = open_page("runs", {"run": "1"})
    run = get_run(store, 1)
    cells = {metric.label: metric.value for metric in page.metric}
    assert cells["State"] == "finished"
    assert cells["Step"] == f"{run.done} / {run.total}"
    assert cells["Epoch"] == "1 / 1"
    keys = {element.key for element in elements(page.main) if element.type == "bidi_component" or element.key}
    assert any(key and key.startswith("runs.curves.1") for key in keys)
    assert "runs.preview.1" in keys
    disabled = {button.label: button.disabled for button in page.button}
    assert disabled["Stop"]
    assert disabled["Resume"]
    assert not disabled["Delete"]
    assert not disabled["Predict with it"]


def test_a_running_run_can_be_stopped_on_its_page(trained):
    store = open_store(trained)
    with store.writing() as db:
        db.execute("UPDATE runs SET status = 'queued' WHERE id = 3")
    claim(store, 3, owner="me")
    mark_running(store, 3, owner="me", total=10)
    page = open_page("runs", {"run": "3"})
    all_clear(page)
    next(button for button in page.button if button.label == "Stop").click()
    page.run()
    all_clear(page)
    assert get_run(store, 3).status == "stopping"
    assert next(button for button in page.button if button.label == "Stop").disabled


def test_a_failed_run_can_be_resumed_on_its_page(trained):
    page = open_page("runs", {"run": "3"})
    next(button for button in page.button if button.label == "Resume").click()
    page.run()
    all_clear(page)
    assert get_run(open_store(trained), 3).status == "queued"


def test_a_prediction_is_queued_from_its_page(trained):
    page = open_page("predict", {"run": "4"})
    next(button for button in page.button if button.key == "predict.start").click()
    page.run()
    all_clear(page)
    newest = list_runs(open_store(trained))[0]
    assert (newest.kind, newest.status, newest.config["run"]) == ("predict", "queued", 4)
    assert page.query_params["prediction"] in (str(newest.id), [str(newest.id)])


def test_the_demo_is_one_press_away_and_its_run_another(workspace, store):
    page = open_page("datasets")
    next(button for button in page.button if button.label == "Try the demo").click()
    page.run()
    all_clear(page)
    assert [row.name for row in list_datasets(store)] == [DEMO_NAME]
    next(button for button in page.button if button.label == "Start the demo run").click()
    page.run()
    all_clear(page)
    (run,) = list_runs(store)
    assert (run.name, run.status) == ("Demo run", "queued")


def test_a_data_set_is_renamed_on_its_page(dataset, store):
    before = list_datasets(store)[0].name
    page = open_page("datasets", {"dataset": str(dataset)})
    page.text_input(key=f"datasets.name.{dataset}.{before}").set_value("  leaves, 細胞  ").run()
    page.button(key=f"datasets.rename.{dataset}").click().run()
    all_clear(page)
    assert [row.name for row in list_datasets(store)] == ["leaves, 細胞"]


def test_a_name_of_nothing_is_refused_and_the_old_one_kept(dataset, store):
    before = list_datasets(store)[0].name
    page = open_page("datasets", {"dataset": str(dataset)})
    page.text_input(key=f"datasets.name.{dataset}.{before}").set_value("   ").run()
    page.button(key=f"datasets.rename.{dataset}").click().run()
    assert [row.name for row in list_datasets(store)] == [before]
    assert "has 0 characters" in page.error[0].value


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16].strip())
@pytest.mark.parametrize(("name", "query"), PLACES)
def test_a_users_text_is_never_markup(name, query, text, trained):
    store = open_store(trained)
    with store.writing() as db:
        db.execute("UPDATE runs SET name = ?, message = ?", [text, text])
        db.execute("UPDATE datasets SET name = ?, class_names = ?", [text, json.dumps({1: text, 2: text})])
        db.execute("UPDATE volumes SET name = ?, group_name = ?", [text, text])
        db.execute("UPDATE log SET text = 'Scores are over ' || ? WHERE text LIKE 'Scores are over%'", [text])
        db.execute("INSERT INTO log (run_id, time, text) VALUES (1, 0, ?)", [text])
        # One of each state for the sidebar.
        db.execute("INSERT INTO runs (kind, name, status, config, device, created_at, total, done) "
                   "SELECT kind, name, 'queued', config, device, 0, 10, 5 FROM runs WHERE id = 1")  # fmt: skip
        db.execute("INSERT INTO runs (kind, name, status, config, device, created_at, total, done, owner) "
                   "SELECT kind, name, 'running', config, device, 0, 10, 5, 'me' FROM runs WHERE id = 1")  # fmt: skip
    page = open_page(name, query)
    all_clear(page)
    escaped = plain(text)
    shown = texts(page)
    assert any(escaped.strip() in one for one in shown), "the name is not on the page at all"
    if escaped != text:
        assert [one for one in shown if text in one] == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("value", ["99", "0", "-1", "abc", "1e9", "٣", "9999999999", "<b>", "'; DROP TABLE runs;--"])
def test_an_address_that_leads_nowhere_is_no_exception(name, value, trained):
    page = open_page(name, dict.fromkeys(("dataset", "run", "runs", "prediction", "group", "clone"), value))
    all_clear(page)
    assert len(list_runs(open_store(trained))) == 4


def test_a_run_that_is_gone_is_said(trained):
    page = open_page("runs", {"run": "99"})
    assert [error.value for error in page.error] == [r"There is no run 99 in this workspace\."]


def test_a_run_whose_data_set_is_gone_is_still_shown(trained):
    with open_store(trained).writing() as db:
        db.execute("DELETE FROM volumes")
        db.execute("DELETE FROM datasets")
    for name, query in PLACES:
        page = open_page(name, query)
        all_clear(page)


def test_the_run_of_a_prediction_leads_to_the_predictions_page(trained):
    page = open_page("runs", {"run": "2"})
    all_clear(page)
    assert [title.value for title in page.title] == ["Predict"]
