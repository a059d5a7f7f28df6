"""Synthetic data on the Datasets page: a preview of what will be made, then the data set itself."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.synthetic_form import STATE
from seglib.store.datasets import get_dataset, list_datasets

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")


def one(elements, key):
    return next(element for element in elements if element.key == key)


@pytest.fixture
def page(workspace) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=60).run()
    next(button for button in page.button if button.label == "Other synthetic data").click()
    return page.run()


def choose_small(page):
    for axis in "zyx":
        one(page.number_input, f"synthetic.sample.optic_lobe.shape.{axis}").set_value(32)
    one(page.number_input, "synthetic.training").set_value(2)
    one(page.number_input, "synthetic.validation").set_value(1)
    return page.run()


def test_a_sample_is_shown_before_any_is_made(page, store):
    assert not page.exception
    assert len(page.get("image")) == 2  # a plane, and from above
    choose_small(page)
    assert any("32 × 32 × 32 voxels" in caption.value for caption in page.caption)
    before = [image.proto.imgs[0].url for image in page.get("image")]
    one(page.number_input, "synthetic.seed").set_value(5)
    page.run()
    assert [image.proto.imgs[0].url for image in page.get("image")] != before
    one(page.selectbox, "synthetic.sample.kind").set_value("rings")
    page.run()
    assert not page.exception
    assert len(page.get("image")) == 1
    assert list_datasets(store) == []


def test_what_is_made_is_opened(page, store):
    choose_small(page)
    one(page.button, "synthetic.go").click()
    page.run()
    page.session_state[STATE].work.wait(60)
    page.run()
    assert not page.exception
    (summary,) = list_datasets(store)
    dataset = get_dataset(store, summary.id)
    assert [volume.name for volume in dataset.volumes] == ["training 0001", "training 0002", "validation 0001"]
    assert dataset.name == "Fly optic lobe"
    assert any("Datasets" in title.value for title in page.title)
    assert any("validation" in info.value for info in page.info)


def test_settings_that_make_no_sense_are_said(page):
    one(page.number_input, "synthetic.validation_seed").set_value(0)
    page.run()
    assert any("same seed 0" in error.value for error in page.error)
    assert not [button for button in page.button if button.key == "synthetic.go"]
