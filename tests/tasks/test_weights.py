"""What a training starts with: an earlier run, a file, ImageNet; frozen encoders; and it goes on exactly."""

import urllib.error

import pytest
import torch
from safetensors.torch import save_file

import seglib.tasks.weights
from seglib.checkpoints import load_checkpoint
from seglib.config import (
    FileWeightsConfig,
    ImageNetConfig,
    LengthConfig,
    RunWeightsConfig,
    UNet3DConfig,
    ZScoreConfig,
)
from seglib.errors import ConfigError, DataError
from seglib.events import CheckpointMade, Note
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import submit_training
from seglib.models.zoo.smp import SMUNetConfig
from seglib.store.runs import get_run
from seglib.tasks.weights import starting_weights
from seglib.training.loop import train
from tests.conftest import small_config
from tests.training.test_loop import asked, config, numbers, saved_run, volume


def ran(workspace, store, settings):
    run, notes = submit_training(store, settings), []
    run_in_foreground(workspace, store, run, stop=lambda: False, on_event=notes.append)
    return get_run(store, run), [event.text for event in notes if isinstance(event, Note)]


def test_a_run_starts_with_what_another_learned(workspace, store, dataset):
    first, _ = ran(workspace, store, small_config(dataset))
    again = small_config(dataset, weights=RunWeightsConfig(run=first.id, checkpoint="last"))
    second, notes = ran(workspace, store, again)
    assert second.status == "finished"
    assert any("tensors taken as they are." in note for note in notes)
    other = small_config(dataset, model=UNet3DConfig(depth=3, start_channels=5), weights=again.weights)
    third, _ = ran(workspace, store, other)
    assert (third.status, "None of the weights fits" in third.message) == ("failed", True)
    missing, _ = ran(workspace, store, small_config(dataset, weights=RunWeightsConfig(run=99)))
    assert "Run 99 has no best checkpoint" in missing.message


def test_weights_of_a_file_within_the_allowed_folders(workspace, store, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", str(tmp_path))
    first, _ = ran(workspace, store, small_config(dataset))
    save_file(load_checkpoint(workspace.checkpoint(first.id, "last")).network, tmp_path / "mine.safetensors")
    start = FileWeightsConfig(path=str(tmp_path / "mine.safetensors"))
    second, notes = ran(workspace, store, small_config(dataset, weights=start))
    assert second.status == "finished"
    assert any("tensors taken" in note for note in notes)
    with pytest.raises(DataError):
        starting_weights(workspace, store, small_config(dataset, weights=FileWeightsConfig(path="/etc/passwd")))
    with pytest.raises(ConfigError, match="which file"):
        starting_weights(workspace, store, small_config(dataset, weights=FileWeightsConfig()))


def test_imagenet_weights_that_cannot_be_had_are_said(workspace, store, dataset, monkeypatch):
    settings = small_config(dataset, weights=ImageNetConfig())
    with pytest.raises(ConfigError, match="for SM-UNet's encoders"):
        starting_weights(workspace, store, settings)

    def offline(encoder):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(seglib.tasks.weights, "imagenet_encoder", offline)
    settings = small_config(dataset, model=SMUNetConfig(encoder="resnet18"), weights=ImageNetConfig())
    with pytest.raises(ConfigError, match="could not be downloaded.*choose “From a file”"):
        starting_weights(workspace, store, settings)


def weights_of(settings):
    """State of the network at the end of a run, and of the tensors it starts with."""
    torch.manual_seed(5)
    floats = {name: one for name, one in first_state(settings).items() if one.is_floating_point()}
    start = {name: torch.rand(one.shape) for name, one in floats.items()}
    made = [event for event in train(settings, [volume()], weights=start) if isinstance(event, CheckpointMade)][-1]
    return start, made.checkpoint.network


def first_state(settings):
    from seglib.models import build_model

    return build_model(settings.model, inputs=1, outputs=1).state_dict()


FROZEN = config(weights=RunWeightsConfig(run=1, freeze_epochs=3), length=LengthConfig(epochs=3))


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns():
    start, end = weights_of(FROZEN)
    kernels = [name for name in start if name.endswith("weight") and start[name].ndim == 5]
    for name in kernels:
        assert torch.equal(start[name], end[name]) == name.startswith("down."), name


def test_an_encoder_of_a_lower_rate_learns_less():
    full = config(weights=RunWeightsConfig(run=1), length=LengthConfig(epochs=1))
    slow = config(weights=RunWeightsConfig(run=1, encoder_rate=0.01), length=LengthConfig(epochs=1))

    def moved(settings):
        start, end = weights_of(settings)
        return float((start["down.0.0.weight"] - end["down.0.0.weight"]).abs().mean())

    assert moved(slow) < 0.1 * moved(full)


def test_a_run_with_a_frozen_encoder_goes_on_exactly(tmp_path):
    settings = FROZEN.model_copy(update={"weights": RunWeightsConfig(run=1, freeze_epochs=1, encoder_rate=0.5)})
    whole = numbers(train(settings, [volume()]))
    for times in (1, 4):
        told = saved_run(tmp_path, settings, stop=asked(times))
        told += saved_run(tmp_path, settings, resume=load_checkpoint(tmp_path / "last.pt"))
        assert numbers(told) == whole


def test_a_network_without_an_encoder_cannot_freeze_it():
    from seglib.models.zoo.hourglass import HourglassConfig

    settings = config(
        model=HourglassConfig(depth=2, start_channels=2),
        weights=RunWeightsConfig(run=1, freeze_epochs=1),
        normalisation=ZScoreConfig(),
    )
    with pytest.raises(ConfigError, match="no encoder of its own"):
        list(train(settings, [volume()]))
