"""The Predict page: what is queued from it, what it says before, and what can be changed of a result."""

import math

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui import predict_look
from seglib.config import (
    CleaningConfig,
    ComputeConfig,
    EnsembleConfig,
    PredictConfig,
    parse_predict_config,
)
from seglib.jobs.forecast import forecast_prediction
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import submit_prediction
from seglib.serving.predictions import decided_layer
from seglib.store import open_store
from seglib.store.datasets import get_volume, list_datasets
from seglib.store.runs import claim, end_run, get_run, list_runs
from seglib.tasks.written import kept_result
from tests.conftest import import_two_classes
from tests.pages.test_pages import all_clear, open_page

CPU = ComputeConfig(device="cpu", threads=1)


def one(elements, key):
    return next(element for element in elements if element.key == key)


def press(page: AppTest, key: str) -> AppTest:
    one(page.button, key).click()
    page.run()
    all_clear(page)
    return page


def said(page: AppTest) -> str:
    texts = [*page.caption, *page.error, *page.info, *page.markdown]
    return " ".join(text.value for text in texts).replace("\\", "")


def queued(trained) -> list[PredictConfig]:
    runs = list_runs(open_store(trained), kind="predict", statuses=("queued",))
    return [parse_predict_config(run.config) for run in reversed(runs)]


def predicted(trained, **changes) -> int:
    """Id of a finished prediction of volume 1 by run 1."""
    store = open_store(trained)
    run = submit_prediction(store, PredictConfig(run=1, volume=1, compute=CPU).model_copy(update=changes))
    row = run_in_foreground(trained, store, run, stop=lambda: False, on_event=lambda event: None)
    assert row.status == "finished", row.message
    return run


@pytest.fixture
def viewer(monkeypatch):
    """What the viewer was last asked to show."""
    seen: dict = {}

    def show(key, panels, **more):
        seen.update(panels=list(panels), **more)

    monkeypatch.setattr(predict_look, "show_viewer", show)
    return seen


def layers(viewer) -> list[str]:
    return [layer.url.rpartition("/")[2] for panel in viewer["panels"] for layer in panel.layers]


def test_settings_in_sight_reach_the_queued_run(trained):
    page = open_page("predict", {"run": "1"})
    one(page.selectbox, "predict.1.ensemble.uncertainty").set_value("entropy")
    one(page.selectbox, "predict.1.ensemble.variations").set_value("flips")
    one(page.button_group, "predict.1.thresholds").set_value("By hand")
    page.run()
    one(page.slider, "predict.1.threshold.0").set_value(0.3)
    one(page.number_input, "predict.1.cleaning.smallest").set_value(20)
    page.run()
    press(page, "predict.start")
    (config,) = queued(trained)
    assert config.ensemble == EnsembleConfig(uncertainty="entropy", variations="flips")
    assert config.cleaning == CleaningConfig(thresholds=(0.3, 0.5), smallest=20)
    assert (config.run, config.volume, config.checkpoint) == (1, 1, "best")


def test_several_volumes_are_queued_one_by_one_and_the_first_is_opened(trained):
    page = open_page("predict")
    one(page.toggle, "predict.all.1").set_value(True)
    page.run()
    press(page, "predict.start")
    assert [config.volume for config in queued(trained)] == [1, 2]
    assert page.query_params["prediction"] in ("5", ["5"])
    shown = [bar.proto.text for bar in page.main.get("progress")]
    assert len(shown) == 2
    assert "leaf2" in shown[1]


def test_nothing_chosen_cannot_be_started(trained):
    page = open_page("predict")
    one(page.multiselect, "predict.volumes.1").set_value([])
    page.run()
    all_clear(page)
    assert one(page.button, "predict.start").disabled


def test_all_folds_of_a_cross_validation_predict_together(trained):
    store = open_store(trained)
    with store.writing() as db:
        db.execute("INSERT INTO run_groups (id, name, created_at) VALUES (1, 'folds', 0)")
        db.execute("UPDATE runs SET group_id = 1 WHERE id IN (1, 3, 4)")
    page = open_page("predict", {"run": "1"})
    press(page, "predict.1.folds")
    press(page, "predict.start")
    # Run 3 failed before it had a checkpoint.
    assert queued(trained)[0].ensemble.runs == (4,)
    assert page.query_params["prediction"] in ("5", ["5"])


def test_what_cannot_be_predicted_is_said_before_the_start(trained):
    with open_store(trained).writing() as db:
        db.execute("UPDATE checkpoints SET sha256 = 'f' WHERE run_id = 4")
    page = open_page("predict", {"run": "4"})
    all_clear(page)
    assert len(page.error) == 1
    assert one(page.button, "predict.start").disabled
    page = open_page("predict", {"run": "1"})
    one(page.selectbox, "predict.1.ensemble.uncertainty").set_value("disagreement")
    page.run()
    assert "Disagreement takes several runs" in said(page)
    assert one(page.button, "predict.start").disabled


def test_the_forecast_is_what_the_job_does(trained):
    store, config = open_store(trained), PredictConfig(run=1, volume=1, compute=CPU)
    forecast = forecast_prediction(trained, store, get_volume(store, 1), config)
    run = get_run(store, predicted(trained))
    assert forecast.problem == ""
    assert 0 < forecast.tiles < run.total
    assert forecast.disk_bytes == 8 * 32 * 32 * (1 + 2)
    assert forecast.memory_bytes > math.prod(forecast.window) * 4
    flips = config.model_copy(update={"ensemble": EnsembleConfig(variations="flips", runs=(4,))})
    assert forecast_prediction(trained, store, get_volume(store, 1), flips).looks == 2 * 8
    many = config.model_copy(update={"cleaning": CleaningConfig(thresholds=(0.1, 0.2, 0.3))})
    assert "3 thresholds" in forecast_prediction(trained, store, get_volume(store, 1), many).problem


def test_a_result_shows_each_of_its_layers_beside_the_label(trained, viewer):
    run = predicted(trained, ensemble=EnsembleConfig(uncertainty="entropy"))
    page = open_page("predict", {"prediction": str(run)})
    all_clear(page)
    assert layers(viewer) == ["image-0", "prediction", "image-0", "labels"]
    shown = one(page.selectbox, f"predict.{run}.1.shown")
    assert len(shown.options) == 6
    for choice, wanted in (
        ("difference", ["image-0", "difference-1", "image-0", "labels"]),
        ("probability-1", ["probability-1", "image-0", "labels"]),
        ("uncertainty", ["uncertainty", "image-0", "labels"]),
    ):
        one(page.selectbox, f"predict.{run}.1.shown").set_value(choice)
        page.run()
        all_clear(page)
        assert layers(viewer) == wanted
        if choice == "difference":
            assert viewer["classes"] == {1: "hit", 2: "miss", 3: "false alarm"}


def test_a_moved_threshold_is_previewed_and_applied_without_predicting_again(trained, viewer):
    run = predicted(trained)
    page = open_page("predict", {"prediction": str(run)})
    assert one(page.button, f"predict.apply.{run}").disabled
    used = kept_result(trained.prediction(run)).thresholds
    one(page.slider, f"predict.{run}.1.threshold.0").set_value(0.125)
    page.run()
    all_clear(page)
    assert decided_layer((0.125, used[1])) in layers(viewer)
    one(page.number_input, f"predict.{run}.1.holes").set_value(9)
    page.run()
    press(page, f"predict.apply.{run}")
    store = open_store(trained)
    row = get_run(store, run)
    assert (row.status, row.device) == ("queued", "labels")
    assert parse_predict_config(row.config).cleaning == CleaningConfig(thresholds=(0.125, used[1]), holes=9)
    row = run_in_foreground(trained, store, run, stop=lambda: False, on_event=lambda event: None)
    assert row.status == "finished", row.message
    assert kept_result(trained.prediction(run)).thresholds == (0.125, used[1])
    page.run()
    all_clear(page)
    assert one(page.button, f"predict.apply.{run}").disabled


def test_a_clean_up_alone_leaves_the_runs_own_thresholds(trained, viewer):
    run = predicted(trained)
    page = open_page("predict", {"prediction": str(run)})
    one(page.number_input, f"predict.{run}.1.smallest").set_value(5)
    page.run()
    press(page, f"predict.apply.{run}")
    assert parse_predict_config(get_run(open_store(trained), run).config).cleaning == CleaningConfig(smallest=5)


def test_changes_can_be_undone(trained, viewer):
    run = predicted(trained)
    page = open_page("predict", {"prediction": str(run)})
    one(page.slider, f"predict.{run}.1.threshold.0").set_value(0.125)
    page.run()
    press(page, f"predict.back.{run}")
    assert layers(viewer)[1] == "prediction"
    assert one(page.button, f"predict.apply.{run}").disabled


def test_a_prediction_that_kept_no_probabilities_says_that_nothing_can_be_changed(trained, viewer):
    run = predicted(trained, keep="classes")
    page = open_page("predict", {"prediction": str(run)})
    all_clear(page)
    assert "kept no probabilities" in said(page)
    assert list(page.slider) == []
    assert len(one(page.selectbox, f"predict.{run}.1.shown").options) == 2  # the labels and the difference


def test_one_that_failed_can_be_resumed_and_deleted(trained):
    store = open_store(trained)
    run = submit_prediction(store, PredictConfig(run=1, volume=1))
    assert claim(store, run, owner="nobody")
    end_run(store, run, "failed", owner="nobody", message="The disk is full.")
    page = open_page("predict", {"prediction": str(run)})
    assert "What was predicted is kept" in said(page)
    press(page, f"predict.resume.{run}")
    assert get_run(store, run).status == "queued"
    press(page, f"predict.stop.{run}")
    assert get_run(store, run).status == "stopped"


def asked_to_delete() -> None:
    from pages.ui import predict_queue
    from pages.ui.frame import services
    from seglib.store.runs import list_runs

    for run in list_runs(services().store, kind="predict"):
        predict_queue._confirm_delete(run)


def test_a_prediction_is_deleted_with_its_files_once_that_is_confirmed(trained, viewer):
    press(open_page("predict", {"prediction": "2"}), "predict.delete.2")
    assert trained.prediction(2).exists()
    dialog = AppTest.from_function(asked_to_delete, default_timeout=30).run()
    assert "will be gone for good" in said(dialog)
    press(dialog, "predict.deleted.2")
    assert list_runs(open_store(trained), kind="predict") == []
    assert not trained.prediction(2).exists()


def test_new_images_are_imported_without_labels_and_chosen(trained, tmp_path, monkeypatch):
    folder = tmp_path / "new"
    import_two_classes(trained, open_store(trained), folder, name="Older")
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", str(tmp_path))
    page = open_page("predict")
    one(page.text_input, "predict.images.path.0").set_value(str(folder / "images"))
    page.run()
    press(page, "predict.images.go")
    work = page.session_state["predict.images.state"].work
    if work is not None:
        assert work.wait(60).error == ""
    page.run()
    all_clear(page)
    newest = list_datasets(open_store(trained))[0]
    assert (newest.volume_count, newest.labelled_count) == (2, 0)
    assert page.session_state["predict.opened"] == newest.id
    assert one(page.selectbox, f"predict.dataset.{newest.id}").value == newest.id
