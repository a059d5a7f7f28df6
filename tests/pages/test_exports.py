"""The section “Export” of a prediction: what can be chosen, the file made in the background, and its download."""

import shutil

import numpy as np
import pytest
import zarr
from PIL import Image
from streamlit.testing.v1 import AppTest

from seglib.data.volumes import image_description
from seglib.export import FORMATS
from seglib.store import open_store
from seglib.store.datasets import get_volume
from seglib.store.runs import get_run

RUN = 2  # the prediction of the trained workspace


def page() -> None:
    from pages.ui.exports import show_exports
    from pages.ui.frame import services
    from seglib.store.datasets import get_volume
    from seglib.store.runs import get_run

    run = get_run(services().store, 2)
    show_exports(run, get_volume(services().store, run.config["volume"]))


@pytest.fixture
def section(trained) -> AppTest:
    section = AppTest.from_function(page, default_timeout=60).run()
    assert not section.exception
    return section


def one(elements, key):
    return next(element for element in elements if element.key == f"export.{RUN}.{key}")


def make(section: AppTest) -> AppTest:
    one(section.button, "go").click()
    section.run()
    work = section.session_state[f"export.{RUN}.state"].work
    if work is not None:
        work.wait(60)
    section.run()
    assert not section.exception
    return section


def links(section: AppTest) -> list[str]:
    return [link.proto.url for link in section.get("link_button")]


def test_only_layers_that_are_there_can_be_chosen(section, trained):
    assert [text.split(":")[0] for text in one(section.selectbox, "layer").options] == ["Labels", "Probabilities"]
    assert len(one(section.selectbox, "format.labels").options) == len(FORMATS)
    group = zarr.create_group(store=str(trained.prediction(RUN) / "uncertainty.zarr"), zarr_format=3)
    shape = get_volume(open_store(trained), get_run(open_store(trained), RUN).config["volume"]).shape_zyx
    group.attrs.update(image_description(name="u", scales=[(1.0, 1.0, 1.0, 1.0)]))
    group.create_array("0", shape=(1, *shape), dtype="uint8")
    section.run()
    one(section.selectbox, "layer").set_value("uncertainty")
    section.run()
    assert [text.split(":")[0] for text in one(section.selectbox, "layer").options] == [
        "Labels", "Probabilities", "Uncertainty",
    ]  # fmt: skip
    assert len(one(section.selectbox, "format.uncertainty").options) == 5  # no pictures


def test_a_file_is_made_and_offered_with_its_size(section, trained):
    assert links(section) == []
    one(section.selectbox, "format.labels").set_value("npy")
    section.run()
    make(section)
    assert links(section) == ["/api/files/prediction/2/labels.npy"]
    assert np.load(trained.prediction(RUN) / "labels.npy").shape == (8, 32, 32)
    assert "kB" in section.get("link_button")[0].proto.label
    one(section.selectbox, "format.labels").set_value("hdf5")
    section.run()
    assert links(section) == []


def test_a_figure_asks_for_its_plane_and_a_movie_for_its_rate(section, trained):
    one(section.selectbox, "format.labels").set_value("png")
    section.run()
    one(section.selectbox, "axis").set_value("y")
    section.run()
    plane = one(section.number_input, "plane.y")
    assert (plane.min, plane.max, plane.value) == (1, 32, 17)
    make(section)
    assert links(section) == ["/api/files/prediction/2/picture.png"]
    with Image.open(trained.prediction(RUN) / "picture.png") as picture:
        assert picture.size == (1800, 1800)  # 8 planes of 40 nm, 32 columns of 10 nm
    one(section.selectbox, "format.labels").set_value("gif")
    section.run()
    assert not [box for box in section.selectbox if box.key.endswith("axis")]
    one(section.number_input, "rate").set_value(5)
    section.run()
    make(section)
    with Image.open(trained.prediction(RUN) / "picture.gif") as movie:
        assert (movie.n_frames, movie.info["duration"]) == (8, 200)


def test_what_goes_wrong_is_said_and_nothing_is_offered(section, trained, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seglib.export.placing.os.replace", full)
    make(section)
    assert any("The disk is full" in error.value.replace("\\", "") for error in section.error)
    assert links(section) == []
    left = sorted(path.name for path in trained.prediction(RUN).iterdir())
    assert left == ["labels.zarr", "probabilities.zarr", "result.json"]


def test_a_prediction_without_files_says_so(trained):
    shutil.rmtree(trained.prediction(RUN))
    section = AppTest.from_function(page, default_timeout=60).run()
    assert not section.exception
    assert any("not in the workspace any more" in caption.value for caption in section.caption)
