"""Events become rows: what is buffered, what is written at once, and what the numbers are."""

import math

import pytest

from seglib.events import (
    Discarded,
    Ended,
    EpochDone,
    Measured,
    Note,
    PreviewSaved,
    Progress,
    Restarted,
    Saved,
    Started,
    StepDone,
    ValidationDone,
    ValidationProgress,
    Warned,
)
from seglib.jobs import recorder as module
from seglib.jobs.recorder import Recorder, recorder_of
from seglib.store.metrics import Point, add_batch, add_preview, list_previews, log_tail, points_since
from seglib.store.runs import checkpoints, claim, create_run, get_run


@pytest.fixture
def run(store) -> int:
    run = create_run(store, "train", name="n", config={}, device="cpu")
    claim(store, run, owner="me")
    return run


@pytest.fixture
def never_by_itself(monkeypatch):
    """Nothing is written for the time that passed, however slow the machine."""
    monkeypatch.setattr(module, "FLUSH_S", math.inf)


def step(number: int, **changes) -> StepDone:
    values = {"epoch": 1, "loss": 0.5, "learning_rate": 1e-3, "patches": 2, "seconds": 0.25}
    return StepDone(step=number, **{**values, **changes})


def curves(store, run) -> dict[str, list[tuple[int, float | None]]]:
    found: dict[str, list[tuple[int, float | None]]] = {}
    for point in points_since(store, run)[0]:
        found.setdefault(point.name, []).append((point.step, point.value))
    return found


def test_started_makes_the_run_running_with_its_total(store, run):
    Recorder(store, run, "me").take(Started(total=40))
    assert (get_run(store, run).status, get_run(store, run).total) == ("running", 40)


def test_a_resumed_run_forgets_what_it_will_make_again(store, run):
    add_batch(store, run, points=[Point(n, 1, "step/loss", 1.0, 0.0) for n in (1, 2, 3)])
    for n in (2, 3):
        add_preview(store, run, step=n, epoch=1, layer=f"step-{n}")
    Recorder(store, run, "me").take(Started(total=40, done=2))
    assert curves(store, run) == {"step/loss": [(1, 1.0), (2, 1.0)]}
    assert [row.step for row in list_previews(store, run)] == [2]


@pytest.mark.usefixtures("never_by_itself")
def test_steps_are_gathered_until_they_are_flushed(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=10))
    recorder.take(step(1, loss=0.75, learning_rate=0.125, gradient_norm=2.5))
    assert curves(store, run) == {}
    recorder.flush()
    assert curves(store, run) == {
        "step/loss": [(1, 0.75)],
        "step/learning_rate": [(1, 0.125)],
        "step/gradient_norm": [(1, 2.5)],
    }
    recorder.flush()
    assert len(points_since(store, run)[0]) == 3


@pytest.mark.usefixtures("never_by_itself")
def test_a_full_buffer_is_written_by_itself(store, run, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_POINTS", 9)
    recorder = Recorder(store, run, "me")
    for number in (1, 2):
        recorder.take(step(number))
    assert curves(store, run) == {}
    recorder.take(step(3))
    assert [number for number, _ in curves(store, run)["step/loss"]] == [1, 2, 3]


@pytest.mark.usefixtures("never_by_itself")
def test_progress_speed_and_time_left_follow_the_last_steps(store, run):
    """Steps of 0.25 s with 2 patches: 8 patches/s; 6 steps left are 1.5 s, and 3 validations of 10 s."""
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=10, steps_per_validation=2))
    recorder.take(ValidationDone(step=2, epoch=2, scores={}, seconds=10.0))
    for number in (3, 4):
        recorder.take(step(number, epoch=number))
    recorder.flush()
    row = get_run(store, run)
    assert (row.done, row.total, row.epoch) == (4, 10, 4)
    assert row.patches_per_s == pytest.approx(8.0)
    assert row.seconds_left == pytest.approx(6 * 0.25 + 3 * 10.0)


def test_scores_get_the_name_of_the_part_they_are_of(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=8))
    recorder.take(EpochDone(step=4, epoch=1, scores={"dice": 0.5}))
    recorder.take(ValidationDone(step=4, epoch=1, scores={"dice": 0.25, "dice/nucleus": 0.125}, seconds=1.0))
    recorder.take(Measured(scores={"iou": 0.75}))
    recorder.flush()
    assert curves(store, run) == {
        "train/dice": [(4, 0.5)],
        "val/dice": [(4, 0.25)],
        "val/dice/nucleus": [(4, 0.125)],
        "volume/iou": [(8, 0.75)],
    }
    assert "dice 0.2500" in log_tail(store, run)[-1][1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_a_gap_in_the_curve(store, run, value):
    recorder = Recorder(store, run, "me")
    recorder.take(step(1, loss=value))
    recorder.take(EpochDone(step=1, epoch=1, scores={"dice": value}))
    recorder.flush()
    assert curves(store, run)["step/loss"] == curves(store, run)["train/dice"] == [(1, None)]


@pytest.mark.usefixtures("never_by_itself")
def test_checkpoints_and_previews_are_written_at_once(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Saved("best", 6, 3, "a" * 64, 0.5))
    recorder.take(PreviewSaved(6, 3, "step-0000006"))
    saved = checkpoints(store, run)["best"]
    assert (saved.step, saved.epoch, saved.score, saved.sha256) == (6, 3, 0.5, "a" * 64)
    assert [(row.step, row.layer) for row in list_previews(store, run)] == [(6, "step-0000006")]


def test_notes_and_the_end_are_lines_of_the_log_and_silence_is_not(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Note("first"))
    recorder.take(Ended("finished"))
    recorder.take(Ended("stopped", "because"))
    recorder.say("said")
    recorder.flush()
    assert [text for _, text in log_tail(store, run)] == ["first", "because", "said"]


@pytest.mark.usefixtures("never_by_itself")
def test_tiles_are_the_progress_of_a_prediction(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=12))
    recorder.take(Progress(done=3, total=12))
    recorder.flush()
    row = get_run(store, run)
    assert (row.done, row.total) == (3, 12)
    # Three tiles took t, so nine take 3 t.
    assert row.seconds_left == pytest.approx(9 / row.patches_per_s)


@pytest.mark.usefixtures("never_by_itself")
def test_the_tiles_of_a_validation_are_progress_though_no_step_is_made(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=12))
    recorder.take(step(3))
    recorder.flush()
    with store.writing() as db:
        db.execute("UPDATE runs SET progressed_at = 5.0")
    recorder.flush()
    assert get_run(store, run).progressed_at == 5.0
    recorder.take(ValidationProgress(done=1, total=40))
    recorder.flush()
    row = get_run(store, run)
    assert row.progressed_at > 1e9
    assert (row.done, row.total) == (3, 12)


@pytest.mark.usefixtures("never_by_itself")
def test_a_run_that_starts_again_by_itself_forgets_its_curves_and_says_why(store, run):
    recorder = Recorder(store, run, "me")
    recorder.take(Started(total=12))
    recorder.take(PreviewSaved(1, 1, "step-1"))
    for number in (1, 2):
        recorder.take(step(number))
    recorder.take(Warned("The loss explodes."))
    recorder.take(Restarted("Starting again."))
    recorder.take(Started(total=20))
    recorder.take(step(1, loss=0.125))
    recorder.flush()
    assert curves(store, run)["step/loss"] == [(1, 0.125)]
    assert list_previews(store, run) == []
    assert [text for _, text in log_tail(store, run)] == ["Warning. The loss explodes.", "Starting again."]
    assert (get_run(store, run).status, get_run(store, run).total) == ("running", 20)


def test_a_checkpoint_that_was_let_go_has_no_row(store, run):
    recorder = Recorder(store, run, "me")
    for kind in ("last", "step-0000002"):
        recorder.take(Saved(kind, 2, 1, "a" * 64))
    recorder.take(Discarded("step-0000002"))
    assert set(checkpoints(store, run)) == {"last"}


def test_the_log_of_a_training_is_in_its_folder_too(workspace, store, run):
    recorder = recorder_of(workspace, store, get_run(store, run), "me")
    recorder.take(Note("first"))
    recorder.flush()
    recorder.say("Traceback\n  in task")
    recorder.flush()
    lines = workspace.log(run).read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines[:2]] == ["first", "Traceback"]
    assert lines[2].strip() == "in task"


def test_a_prediction_leaves_no_run_folder(workspace, store):
    run = create_run(store, "predict", name="n", config={}, device="cpu")
    recorder = recorder_of(workspace, store, get_run(store, run), "me")
    recorder.say("hello")
    recorder.flush()
    assert not workspace.run(run).exists()
    assert [text for _, text in log_tail(store, run)] == ["hello"]


@pytest.mark.usefixtures("never_by_itself")
def test_a_log_file_that_cannot_be_written_is_said_once_and_stops_nothing(workspace, store, run):
    workspace.run(run).write_text("a file where the folder should be")
    recorder = recorder_of(workspace, store, get_run(store, run), "me")
    for text in ("first", "second", "third"):
        recorder.say(text)
        recorder.flush()
    said = [text for _, text in log_tail(store, run)]
    assert [text for text in said if "log.txt" not in text] == ["first", "second", "third"]
    assert len(said) == 4
