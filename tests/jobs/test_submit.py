"""What is put into the queue, under which name, and what is refused."""

import pytest

from seglib.config import ComputeConfig, PredictConfig, parse_predict_config, parse_run_config
from seglib.config.labels import LabelClass, LabelScheme
from seglib.errors import CheckpointError, ConfigError, StoreError
from seglib.jobs.submit import resume_run, submit_prediction, submit_training
from seglib.store.datasets import get_summary, set_labels
from seglib.store.runs import claim, end_run, get_run, list_runs
from tests.conftest import small_config


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
    config = PredictConfig(run=trained, volume=1, compute=ComputeConfig(device="cpu"))
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


def test_a_prediction_is_not_resumed(store, dataset):
    trained = submit_training(store, small_config(dataset))
    run = ended(store, submit_prediction(store, PredictConfig(run=trained, volume=1)), "stopped")
    with pytest.raises(StoreError, match="starts anew"):
        resume_run(store, run)
    assert get_run(store, run).status == "stopped"
