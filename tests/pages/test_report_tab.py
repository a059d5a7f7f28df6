"""The Report tab: nothing is read before it is asked for; then findings, table and histograms; the Train page knows."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from seglib.report import make_report, stored_report
from seglib.store.datasets import get_dataset

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")


@pytest.fixture
def page(workspace, dataset) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=60)
    page.query_params["dataset"] = str(dataset)
    page.session_state[f"datasets.tabs.{dataset}"] = "Report"
    page.run()
    assert not page.exception
    return page


def test_a_report_is_made_when_it_is_asked_for(page, workspace, store, dataset):
    row = get_dataset(store, dataset)
    assert stored_report(workspace, row) is None
    next(button for button in page.button if button.label == "Check the data").click()
    page.run()
    page.session_state[f"report.{dataset}.state"].work.wait(60)
    page.run()
    page.run()
    assert not page.exception
    assert stored_report(workspace, row) is not None
    assert any("4 times as deep as wide" in info.value for info in page.info)
    tables = [frame.value for frame in page.dataframe if "Stuck white (%)" in frame.value.columns]
    assert tables[0]["Volume"].tolist() == ["leaf1", "leaf2"]
    assert len(page.get("plotly_chart")) == 3


def test_the_train_page_says_what_the_parts_hold(page, workspace, store, dataset):
    page.switch_page("train.py")
    page.query_params["dataset"] = str(dataset)
    page.run()
    assert not any("background" in caption.value for caption in page.caption)
    make_report(workspace, get_dataset(store, dataset))
    page.run()
    assert not page.exception
    assert sum("background" in caption.value and "class 1" in caption.value for caption in page.caption) == 2
