"""What can be done with runs on their page: pause, go on, make longer, rename, clone, delete; and groups of runs."""

import re

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.frame import plain
from seglib.config import parse_run_config
from seglib.jobs.submit import submit_cross_validation
from seglib.store import open_store
from seglib.store.groups import list_groups
from seglib.store.metrics import Point, add_batch
from seglib.store.runs import (
    CheckpointRow,
    claim,
    create_run,
    get_run,
    list_runs,
    mark_running,
    request_pause,
    set_checkpoint,
)
from tests.conftest import import_two_classes, small_config
from tests.pages.test_pages import all_clear, open_page, texts


def button(page: AppTest, label: str):
    (found,) = (one for one in page.button if one.label == label)
    return found


def press(page: AppTest, label: str) -> None:
    button(page, label).click()
    page.run()
    all_clear(page)


@pytest.fixture
def running(trained):
    """Run 3 of the workspace, under way."""
    store = open_store(trained)
    with store.writing() as db:
        db.execute("UPDATE runs SET status = 'queued' WHERE id = 3")
    claim(store, 3, owner="me")
    mark_running(store, 3, owner="me", total=10)
    return store


def test_a_running_run_is_paused_and_goes_on(running):
    page = open_page("runs", {"run": "3"})
    press(page, "Pause")
    assert get_run(running, 3).status == "pausing"
    assert button(page, "Pause").disabled
    assert not button(page, "Stop").disabled
    assert any("Pauses after the current batch" in text for text in texts(page))
    with running.writing() as db:
        db.execute("UPDATE runs SET status = 'paused', owner = NULL WHERE id = 3")
    page.run()
    assert "Resume" not in [one.label for one in page.button]
    press(page, "Go on")
    assert get_run(running, 3).status == "queued"


def test_a_paused_run_can_be_stopped(running):
    with running.writing() as db:
        db.execute("UPDATE runs SET status = 'paused', owner = NULL WHERE id = 3")
    page = open_page("runs", {"run": "3"})
    press(page, "Stop")
    assert get_run(running, 3).status == "stopped"
    assert button(page, "Stop").disabled


def state_of(page: AppTest) -> str:
    return {metric.label: metric.value for metric in page.metric}["State"]


def test_a_run_that_gets_no_further_is_shown_as_stalled_with_a_hint(running):
    assert state_of(open_page("runs", {"run": "3"})) == "running"
    with running.writing() as db:
        db.execute("UPDATE runs SET progressed_at = progressed_at - 3600 WHERE id = 3")
    page = open_page("runs", {"run": "3"})
    all_clear(page)
    assert state_of(page) == "stalled"
    assert re.search("no further for 60 minutes", page.warning[0].value)
    table = open_page("runs").dataframe[0].value
    assert dict(zip(table["Run"], table["State"], strict=True))[3] == "stalled"
    assert get_run(running, 3).status == "running"


def test_a_finished_run_is_made_longer(trained):
    store = open_store(trained)
    page = open_page("runs", {"run": "4"})
    page.number_input(key="runs.more.4.2").set_value(3).run()
    press(page, "Go on for longer")
    run = get_run(store, 4)
    assert (run.status, run.config["length"]["epochs"]) == ("queued", 5)


def test_a_run_is_renamed_on_its_page_but_not_to_nothing(trained):
    page = open_page("runs", {"run": "1"})
    page.text_input(key="runs.name.1.First").set_value("   ").run()
    press(page, "Rename it")
    assert "has 0 characters" in page.error[0].value
    page.text_input(key="runs.name.1.First").set_value("  leaves, 細胞  ").run()
    press(page, "Rename it")
    assert get_run(open_store(trained), 1).name == "leaves, 細胞"


def test_results_are_offered_with_and_without_checkpoints(trained):
    page = open_page("runs", {"run": "1"})

    def address() -> str:
        return next(one.proto.url for one in page.get("link_button"))

    assert address() == "/api/files/run/1/results.zip?checkpoints=1"
    next(one for one in page.toggle if one.label.startswith("With checkpoints")).set_value(False).run()
    assert address() == "/api/files/run/1/results.zip?checkpoints=0"
    bare = open_page("runs", {"run": "3"})
    assert not bare.get("link_button")
    assert any("has left no files" in plain(text).replace("\\", "") for text in texts(bare))


def test_deleting_names_what_goes_and_who_needs_it(trained):
    store = open_store(trained)
    config = {"run": 1, "volume": 1}
    waiting = create_run(store, "predict", name="waits", config=config, device="cpu")
    page = open_page("runs", {"run": "1"})
    press(page, "Delete")
    said = " ".join(one.value for one in page.markdown)  # a dialog is not within the page
    assert "its checkpoints: best, last" in said
    assert re.search(r"On disk these are [0-9]+ files, [0-9.]+ [kMG]B", said)
    assert f"Run {waiting} waits to use its checkpoint" in page.warning[0].value
    assert not button(page, "Delete it").disabled


def test_a_clone_has_every_setting_of_its_run_and_another_name(trained):
    store = open_store(trained)
    page = open_page("runs", {"run": "4"})
    button(page, "Clone").click()
    page.run()
    all_clear(page)
    assert [title.value for title in page.title] == ["Train"]
    page = open_page("train", {"clone": "4"})  # where the button has led
    assert any("With the settings of run 4" in one.value for one in page.info)
    next(one for one in page.button if one.key == "train.start").click()
    page.run()
    all_clear(page)
    made, before = (parse_run_config(get_run(store, run).config) for run in (5, 4))
    assert made.name == "Second (copy)"
    assert made.model_copy(update={"name": before.name}) == before


def test_what_is_changed_in_a_clone_stays_and_the_next_clone_starts_anew(trained):
    page = open_page("train", {"clone": "4"})
    key = "train.1.length.epochs"
    assert page.number_input(key=key).value == 2
    page.number_input(key=key).set_value(9).run()
    assert page.number_input(key=key).value == 9
    page.switch_page("runs.py")
    page.query_params.clear()
    page.query_params["run"] = "4"
    page.run()
    button(page, "Clone").click()
    page.run()
    assert page.number_input(key=key).value == 2


@pytest.mark.parametrize(("clone", "said"), [("99", "no run 99"), ("2", "is a prediction")])
def test_what_cannot_be_cloned_is_said_and_the_form_is_there(trained, clone, said):
    page = open_page("train", {"clone": clone})
    all_clear(page)
    assert said in page.error[0].value
    assert page.number_input(key="train.1.length.epochs")


@pytest.fixture
def folds(workspace, store, tmp_path) -> tuple[int, list[int]]:
    """A cross-validation of three folds, queued, on four volumes."""
    dataset = import_two_classes(workspace, store, tmp_path / "four", count=4)
    return submit_cross_validation(store, small_config(dataset, name="*Leaves*"), 3)


def judge(store, run: int, dice: float) -> None:
    add_batch(store, run, points=[Point(2, 1, "val/dice", dice, 0.0), Point(2, 1, "val/loss", 0.5, 0.0)])
    set_checkpoint(store, CheckpointRow(run, "best", 2, 1, dice, "0" * 64, 0.0))


def test_a_group_shows_its_folds_and_what_they_found_together(store, folds):
    group, runs = folds
    page = open_page("runs", {"group": str(group)})
    all_clear(page)
    assert page.header[0].value == f"Cross-validation · {plain('*Leaves*')}"
    assert any("Scores appear after" in text for text in texts(page))
    judge(store, runs[0], 0.8)
    judge(store, runs[1], 0.6)
    page = open_page("runs", {"group": str(group)})
    all_clear(page)
    (cell,) = page.metric
    assert (cell.label, cell.value) == ("dice, mean over the folds", "0.7000 ± 0.1414")
    assert cell.delta == "2 of 3 folds judged, 0 finished"
    scores, table = (frame.value for frame in page.dataframe)
    assert dict(zip(scores["Score"], scores["Mean"], strict=True)) == {"dice": pytest.approx(0.7), "loss": 0.5}
    assert list(table["Run"]) == runs
    assert list(table["dice"])[:2] == [0.8, 0.6]


def test_all_runs_of_a_group_are_stopped_and_resumed_together(store, folds):
    group, runs = folds
    claim(store, runs[0], owner="me")
    request_pause(store, runs[1])
    page = open_page("runs", {"group": str(group)})
    press(page, "Stop all")
    assert [get_run(store, run).status for run in runs] == ["stopping", "stopped", "stopped"]
    press(page, "Resume all")
    assert [get_run(store, run).status for run in runs] == ["stopping", "queued", "queued"]


def test_runs_lead_to_their_group_and_a_group_that_is_gone_is_said(folds):
    group, runs = folds
    links = [one.proto for one in open_page("runs", {"run": str(runs[0])}).get("page_link")]
    assert any("Part of the cross-validation" in link.label and f"group={group}" in link.query_string for link in links)
    listed = [one.proto for one in open_page("runs").get("page_link")]
    assert any(f"group={group}" in link.query_string and "3 runs" in link.label for link in listed)
    assert "no group of runs 9" in open_page("runs", {"group": "9"}).error[0].value


def test_a_cross_validation_starts_from_the_train_page(workspace, store, tmp_path):
    import_two_classes(workspace, store, tmp_path / "four", count=4)
    page = open_page("train", {"dataset": "1"})
    # No more folds than there are volumes to divide.
    assert (page.number_input(key="train.folds").value, page.number_input(key="train.folds").max) == (4, 4)
    press(page, "Start all")
    (group,) = list_groups(store)
    assert group.runs == 4
    assert page.query_params["group"] in ("1", ["1"])
    assert [run.config["split"]["fold"] for run in reversed(list_runs(store))] == [1, 2, 3, 4]
