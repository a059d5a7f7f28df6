"""What is put into the queue, under which name, and what is refused."""

import pytest
import torch

from seglib.checkpoints import load_checkpoint
from seglib.config import (
    BlockSplitConfig,
    ComputeConfig,
    ConstantConfig,
    DeviceConfig,
    PredictConfig,
    parse_predict_config,
    parse_run_config,
)
from seglib.config.labels import LabelClass, LabelScheme
from seglib.errors import CheckpointError, ConfigError, StoreError
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import (
    extend_run,
    resume_run,
    submit_cross_validation,
    submit_prediction,
    submit_training,
)
from seglib.store.datasets import get_summary, set_labels
from seglib.store.groups import list_groups, list_members
from seglib.store.metrics import log_tail, points_since
from seglib.store.runs import CheckpointRow, claim, end_run, get_run, list_runs, set_checkpoint
from tests.conftest import LengthConfig, import_two_classes, small_config


def test_a_training_is_queued_with_its_whole_config(store, dataset):
    config = small_config(dataset, compute=ComputeConfig(device="cpu"))
    run = get_run(store, submit_training(store, config))
    assert (run.kind, run.status, run.name, run.device) == ("train", "queued", "Small", "cpu")
    stored = parse_run_config(run.config)
    # What the data set says of its labels is kept with the run.
    labels = get_summary(store, dataset).labels
    assert stored == config.model_copy(update={"data": config.data.model_copy(update={"labels": labels})})


def test_a_run_keeps_how_labels_were_read_when_it_was_started(store, dataset):
    before = get_summary(store, dataset).labels
    run = submit_training(store, small_config(dataset))
    set_labels(store, dataset, LabelScheme(kind="instances"))
    assert parse_run_config(get_run(store, run).config).data.labels == before
    own = LabelScheme(kind="classes", classes=(LabelClass(name="both", values=(1, 2)),))
    config = small_config(dataset)
    config = config.model_copy(update={"data": config.data.model_copy(update={"labels": own})})
    assert parse_run_config(get_run(store, submit_training(store, config)).config).data.labels == own


def test_a_run_without_a_name_is_called_after_data_and_network(store, dataset):
    run = get_run(store, submit_training(store, small_config(dataset, name="  ")))
    assert run.name == run.config["name"] == "Leaves · unet 3d · dice bce"


def test_a_training_on_a_data_set_that_is_gone_is_refused(store):
    with pytest.raises(StoreError, match="no data set 7"):
        submit_training(store, small_config(7))
    assert list_runs(store) == []


def test_a_device_that_is_not_there_is_refused(store, dataset):
    with pytest.raises(ConfigError, match="cuda:77"):
        submit_training(store, small_config(dataset, compute=ComputeConfig(device="cuda:77")))
    assert list_runs(store) == []


def test_a_prediction_is_named_after_its_volume_and_run(store, dataset):
    trained = submit_training(store, small_config(dataset))
    config = PredictConfig(run=trained, volume=1, compute=DeviceConfig(device="cpu"))
    run = get_run(store, submit_prediction(store, config))
    assert (run.kind, run.status) == ("predict", "queued")
    assert run.name == "leaf1 by run 1 (Small)"
    assert parse_predict_config(run.config) == config


def test_a_prediction_by_a_prediction_is_refused(store, dataset):
    trained = submit_training(store, small_config(dataset))
    prediction = submit_prediction(store, PredictConfig(run=trained, volume=1))
    with pytest.raises(CheckpointError, match="choose a training run"):
        submit_prediction(store, PredictConfig(run=prediction, volume=1))


@pytest.mark.parametrize(("run", "volume"), [(9, 1), (1, 9)])
def test_a_prediction_of_what_is_not_there_is_refused(store, dataset, run, volume):
    submit_training(store, small_config(dataset))
    with pytest.raises(StoreError, match="There is no .* 9"):
        submit_prediction(store, PredictConfig(run=run, volume=volume))


def ended(store, run, status) -> int:
    assert claim(store, run, owner="me")
    end_run(store, run, status, owner="me")
    return run


def test_a_training_that_ended_early_is_queued_again(store, dataset):
    run = ended(store, submit_training(store, small_config(dataset)), "interrupted")
    resume_run(store, run)
    assert get_run(store, run).status == "queued"


def test_a_prediction_that_was_stopped_is_queued_again(store, dataset):
    trained = submit_training(store, small_config(dataset))
    run = ended(store, submit_prediction(store, PredictConfig(run=trained, volume=1)), "stopped")
    resume_run(store, run)
    assert get_run(store, run).status == "queued"


def run_now(workspace, store, run):
    row = run_in_foreground(workspace, store, run, stop=lambda: False, on_event=lambda event: None)
    assert row.status == "finished", row.message
    return row


def test_a_run_made_longer_is_what_it_would_have_been_from_the_start(workspace, store, dataset):
    def config(epochs):
        return small_config(dataset, length=LengthConfig(epochs=epochs), schedule=ConstantConfig())

    short, long = submit_training(store, config(1)), submit_training(store, config(3))
    run_now(workspace, store, short)
    extend_run(store, short, epochs=2)
    assert get_run(store, short).status == "queued"
    row = run_now(workspace, store, short)
    assert (row.done, row.total, row.epoch, row.attempt) == (6, 6, 3, 2)
    assert row.config["length"]["epochs"] == 3
    assert "Made longer: 3 epochs in all instead of 1 epochs." in [text for _, text in log_tail(store, short)]
    run_now(workspace, store, long)
    one, other = (load_checkpoint(workspace.checkpoint(run, "last")).network for run in (short, long))
    assert all(torch.equal(one[name], other[name]) for name in other)
    first, second = (
        [(point.step, point.name, point.value) for point in points_since(store, run)[0]] for run in (short, long)
    )
    assert first == second


@pytest.fixture
def finished(store, dataset):
    """Makes a run as it is after its end, with a checkpoint's row."""

    def make(**length):
        run = ended(store, submit_training(store, small_config(dataset, length=LengthConfig(**length))), "finished")
        set_checkpoint(store, CheckpointRow(run, "last", 8, 4, None, "0" * 64, 0.0))
        with store.writing() as db:
            db.execute("UPDATE runs SET total = 8 WHERE id = ?", [run])
        return run

    return make


@pytest.mark.parametrize(
    ("length", "more", "becomes"),
    [
        ({"epochs": 4}, {"epochs": 3}, (7, 0)),
        ({"epochs": 4}, {"iterations": 5}, (4, 13)),
        ({"epochs": 4, "iterations": 8}, {"iterations": 5}, (4, 13)),
    ],
)
def test_more_is_counted_from_the_length_there_was(store, finished, length, more, becomes):
    run = finished(**length)
    extend_run(store, run, **more)
    now = get_run(store, run).config["length"]
    assert (now["epochs"], now["iterations"]) == becomes


@pytest.mark.parametrize(
    ("length", "more", "said"),
    [
        ({"epochs": 4}, {}, "one of them"),
        ({"epochs": 4}, {"epochs": 1, "iterations": 1}, "one of them"),
        ({"epochs": 4}, {"epochs": -2}, "one of them"),
        ({"epochs": 4, "iterations": 8}, {"epochs": 1}, "counted in iterations"),
        ({"epochs": 4}, {"epochs": 100_000}, "No run can be that long"),
    ],
)
def test_a_length_that_is_none_is_refused(store, finished, length, more, said):
    run = finished(**length)
    before = get_run(store, run)
    with pytest.raises(ConfigError, match=said):
        extend_run(store, run, **more)
    assert get_run(store, run) == before


def test_a_run_that_is_under_way_or_has_no_checkpoint_is_not_made_longer(store, dataset, finished):
    run = finished(epochs=4)
    with store.writing() as db:
        db.execute("UPDATE runs SET status = 'running', owner = 'me' WHERE id = ?", [run])
    with pytest.raises(StoreError, match="it is running"):
        extend_run(store, run, epochs=1)
    assert get_run(store, run).config["length"]["epochs"] == 4
    bare = ended(store, submit_training(store, small_config(dataset)), "failed")
    with pytest.raises(ConfigError, match="no checkpoint"):
        extend_run(store, bare, epochs=1)


@pytest.fixture
def six(workspace, store, tmp_path) -> int:
    """Id of a data set of six volumes."""
    return import_two_classes(workspace, store, tmp_path / "six", name="Six", count=6)


def test_the_folds_of_a_cross_validation_are_queued_together(store, six):
    config = small_config(six, name="", split=BlockSplitConfig(test_share=0.2))
    group, runs = submit_cross_validation(store, config, 3)
    (row,) = list_groups(store)
    assert (row.id, row.name, row.runs) == (group, "Six · unet 3d · dice bce", 3)
    assert [member.run.id for member in list_members(store, group)] == runs
    for fold, run in enumerate(runs, 1):
        found = get_run(store, run)
        split = parse_run_config(found.config).split
        assert (split.kind, split.folds, split.fold, split.test_share) == ("folds", 3, fold, 0.2)
        assert found.name == f"Six · unet 3d · dice bce · fold {fold} of 3"
        same = parse_run_config(found.config).model_copy(update={"split": config.split, "name": ""})
        assert same.model_copy(update={"data": config.data}) == config


@pytest.mark.parametrize("folds", [-1, 0, 1, 51, 7])
def test_more_folds_than_volumes_or_fewer_than_two_are_refused(store, six, folds):
    with pytest.raises(ConfigError, match="Cross-validation"):
        submit_cross_validation(store, small_config(six), folds)
    assert (list_runs(store), list_groups(store)) == ([], [])


def test_a_long_name_leaves_room_for_the_fold(store, six):
    _, runs = submit_cross_validation(store, small_config(six, name="n" * 200), 2)
    names = [get_run(store, run).name for run in runs]
    assert [name[-13:] for name in names] == ["· fold 1 of 2", "· fold 2 of 2"]
    assert {len(name) for name in names} == {200}
