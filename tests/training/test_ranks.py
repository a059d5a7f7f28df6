"""Several processes that share every batch learn what one learns from the whole batch."""

import pytest
import torch

from seglib.config import (
    AdamConfig,
    BCELossConfig,
    ComputeConfig,
    ConstantConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
    UNet3DConfig,
)
from seglib.errors import ConfigError
from seglib.events import Ended, StepDone, ValidationDone
from seglib.training.loop import train
from seglib.training.ranks import Ranks
from tests.training.test_loop import asked, config, volume

SHARED = {
    "loss": BCELossConfig(),
    "model": UNet3DConfig(depth=2, start_channels=2, norm="instance", dropout=0),
    "optimiser": AdamConfig(learning_rate=1e-3),
    "sampling": RandomSamplingConfig(per_epoch=8),
    "schedule": ConstantConfig(),
    "length": LengthConfig(epochs=2),
}


def settings(gpus, batch):
    compute = ComputeConfig(device="cpu", precision="fp32", threads=1, gpus=gpus)
    return config(compute=compute, patches=PatchConfig(shape=(4, 8, 8), batch_size=batch), **SHARED)


def last_network(events):
    return [event.checkpoint for event in events if hasattr(event, "checkpoint")][-1].network


def test_two_processes_learn_from_halves_what_one_learns_from_the_whole():
    """With a loss that is a mean over voxels and no batch norm."""
    one, two = (list(train(settings(*how), [volume()])) for how in ((1, 4), (2, 2)))
    losses = [[event.loss for event in events if isinstance(event, StepDone)] for events in (one, two)]
    assert len(losses[1]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    expected, found = last_network(one), last_network(two)
    assert all(torch.allclose(expected[name], found[name], atol=1e-5) for name in expected)
    assert [event.patches for event in two if isinstance(event, StepDone)] == [4] * 4
    scores = [[event.scores["dice"] for event in events if isinstance(event, ValidationDone)] for events in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)


def test_a_stop_ends_all_processes():
    events = list(train(settings(2, 2), [volume()], stop=asked(2)))
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "stopped"
    assert not torch.distributed.is_initialized()


def test_shares_cover_a_batch_once():
    for world in (1, 2, 3, 5):
        taken = [index for rank in range(world) for index in range(10)[Ranks(rank, world).share(10)]]
        assert taken == list(range(10))


def test_more_gpus_than_there_are_is_refused():
    compute = ComputeConfig(device="auto", gpus=64)
    with pytest.raises(ConfigError, match="asks for 64 GPUs"):
        list(train(config(compute=compute), [volume()]))
