"""The running average of the weights, against the formula and against a run that was never interrupted."""

import io

import pytest
import torch
from torch import nn

from seglib.config import UNet3DConfig
from seglib.models import build_model
from seglib.training.averaging import WeightAverage, warm_decay


class Training:
    """A small network with batch norm that learns noise, and its average."""

    def __init__(self, decay=0.6):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Dropout(0.5), nn.Conv3d(2, 1, 1))
        self.optimiser = torch.optim.Adam(self.network.parameters(), 0.05)
        self.average = WeightAverage(self.network, decay)

    def step(self, number):
        images = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(number))
        torch.manual_seed(number)
        self.optimiser.zero_grad()
        self.network(images).square().mean().backward()
        self.optimiser.step()
        self.average.update(self.network)


def copied(state):
    """A state as it comes back from a file that may hold no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_little_is_kept_at_first():
    assert [warm_decay(0.999, n) for n in (1, 2, 8)] == pytest.approx([2 / 11, 3 / 12, 9 / 18])
    assert warm_decay(0.999, 10**6) == 0.999


def test_weights_are_averaged_by_the_formula_and_buffers_are_the_last_ones():
    training = Training()
    kept = None
    for number in range(8):
        training.step(number)
        found = [weight.detach().double().clone() for weight in training.network.parameters()]
        share = min(0.6, (1 + number) / (10 + number))
        kept = [share * old + (1 - share) * new for old, new in zip(kept, found, strict=True)] if kept else found
    for weight, expected in zip(training.average.network.parameters(), kept, strict=True):
        assert torch.allclose(weight.double(), expected, atol=1e-6)
    for mine, theirs in zip(training.average.network.buffers(), training.network.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    assert training.average.network[1].running_mean.any()


def test_predicting_with_it_changes_neither_it_nor_the_training():
    alone, looked_at = Training(), Training()
    for number in range(4):
        alone.step(number)
        looked_at.step(number)
        with torch.no_grad():
            first, again = (looked_at.average.network(torch.ones(1, 1, 4, 4, 4)) for _ in range(2))
        assert torch.equal(first, again)  # nothing is dropped out
        assert not any(weight.requires_grad for weight in looked_at.average.network.parameters())
    assert looked_at.network.training
    for mine, theirs in zip(looked_at.network.state_dict().values(), alone.network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_restored_from_its_state_it_goes_on_exactly():
    whole = Training()
    for number in range(6):
        whole.step(number)
    first = Training()
    for number in range(3):
        first.step(number)
    state = copied([first.network.state_dict(), first.optimiser.state_dict(), first.average.state_dict()])
    again = Training()
    for part, own in zip((again.network, again.optimiser, again.average), state, strict=True):
        part.load_state_dict(own)
    for number in range(3, 6):
        again.step(number)
    expected = whole.average.state_dict()
    found = again.average.state_dict()
    assert found["updates"] == expected["updates"] == 6
    assert all(torch.equal(found["network"][name], tensor) for name, tensor in expected["network"].items())


def test_its_weights_fit_the_network_it_is_of_and_no_other():
    config = UNet3DConfig(depth=2, start_channels=2, norm="batch")
    network = build_model(config, inputs=1, outputs=1, shape=(4, 8, 8))
    average = WeightAverage(network, 0.9)
    build_model(config, inputs=1, outputs=1, shape=(4, 8, 8)).load_state_dict(average.network.state_dict())
    other = build_model(UNet3DConfig(depth=2, start_channels=4), inputs=1, outputs=1, shape=(4, 8, 8))
    with pytest.raises(RuntimeError):
        WeightAverage(other, 0.9).load_state_dict(average.state_dict())
