"""The section that makes files of a run's model for other programs."""

import os

import pytest

import pages.ui.model_export
from seglib.errors import SeglibError
from seglib.sharing import Card, shared_path
from seglib.sharing.runs import Order
from tests.pages.test_pages import all_clear, open_page, texts


@pytest.fixture
def orders(monkeypatch):
    """What the page had made; the files are empty."""
    seen = []

    def made(workspace, store, order, *, progress):
        seen.append(order)
        if order.card is not None and not order.card.author:
            raise SeglibError("Say *who*.")
        path = shared_path(workspace, order.run_id, order.kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress(1, 2, "Writing")
        path.write_bytes(b"0" * 2_100_000)
        return path

    monkeypatch.setattr(pages.ui.model_export, "share_run", made)
    return seen


def make(page, run: int):
    """Presses the button and waits for the work it starts."""
    page.button(key=f"model.{run}.go").click().run()
    if (work := page.session_state[f"model.{run}.state"].work) is not None:
        work.wait(30)
    return page.run()


def links(page):
    return [(one.proto.label, one.proto.url) for one in page.get("link_button") if "/model/" in one.proto.url]


def test_a_file_is_made_of_the_chosen_kind_and_weights_and_offered(trained, orders):
    page = open_page("runs", {"run": "4"})
    assert not links(page)
    page.selectbox(key="model.4.kind").set_value("torchscript").run()
    page.selectbox(key="model.4.checkpoint").set_value("last").run()
    make(page, 4)
    all_clear(page)
    assert orders == [Order(4, "torchscript", "last")]
    assert links(page) == [("Download TorchScript (.pt) (2.1 MB)", "/api/files/run/4/model/torchscript")]
    page.selectbox(key="model.4.kind").set_value("onnx").run()
    assert not links(page)


def test_a_file_older_than_the_runs_last_state_says_so(trained, orders):
    path = shared_path(trained, 4, "onnx")
    path.parent.mkdir()
    path.write_bytes(b"0")
    assert not any("make it again" in text for text in texts(open_page("runs", {"run": "4"})))
    os.utime(path, (1e9, 1e9))
    assert any("make it again" in text for text in texts(open_page("runs", {"run": "4"})))


def test_a_package_asks_for_its_card_and_an_error_is_shown_as_typed(trained, orders):
    page = open_page("runs", {"run": "1"})
    assert not any("card" in (one.key or "") for one in page.text_input)
    page.selectbox(key="model.1.kind").set_value("bioimageio").run()
    make(page, 1)
    assert any("\\*who\\*" in one.value for one in page.error)
    page.text_input(key="model.1.card.author").set_value("A. Author").run()
    page.text_input(key="model.1.card.name").set_value("Leaf blades").run()
    page.selectbox(key="model.1.card.licence").set_value("MIT").run()
    make(page, 1)
    all_clear(page)
    assert orders[-1] == Order(1, "bioimageio", "best", Card("Leaf blades", "A. Author", "MIT", ""))
    assert links(page)[0][1] == "/api/files/run/1/model/bioimageio"


def test_a_run_without_checkpoints_has_nothing_to_take_along(trained):
    page = open_page("runs", {"run": "3"})
    all_clear(page)
    assert any("once the run has saved a checkpoint" in text for text in texts(page))
