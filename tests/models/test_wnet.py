"""The W-Net: its cut against a sum over all pairs of voxels, its size, and which cluster is the foreground."""

import itertools

import numpy as np
import pytest
import torch

from seglib.errors import ConfigError
from seglib.models import build_model
from seglib.models.base import SelfJudged
from seglib.models.networks.wnet import CutPlan, soft_cut
from seglib.models.zoo.wnet import WNetConfig

SMALL = WNetConfig(start_channels=4, dropout=0.0)


def case(seed=0, channels=1):
    """Probabilities of three clusters and grey values of a tiny batch."""
    rng = np.random.default_rng(seed)
    clusters = rng.dirichlet(np.ones(3), (2, 3, 4, 5)).transpose(0, 4, 1, 2, 3)
    grey = rng.uniform(0, 4, (2, channels, 3, 4, 5))
    return clusters, grey


def by_pairs(clusters, grey, likeness):
    """The cut by its definition: a sum over all pairs of voxels. likeness: (sample, cluster, here, there) -> weight."""
    total = 0.0
    places = list(itertools.product(*(range(side) for side in clusters.shape[2:])))
    for sample in range(len(clusters)):
        for k in range(clusters.shape[1]):
            chance = clusters[sample, k]
            within = whole = 0.0
            for here in places:
                for there in places:
                    weight = likeness(sample, k, here, there)
                    within += weight * chance[here] * chance[there]
                    whole += weight * chance[here]
            total += within / whole
    return clusters.shape[1] - total / len(clusters)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("radius", [1, 2])
def test_the_cut_between_neighbours_is_the_sum_over_all_pairs(channels, radius):
    clusters, grey = case(channels=channels)

    def likeness(sample, _, here, there):
        distance = sum((a - b) ** 2 for a, b in zip(here, there, strict=True))
        if distance > radius**2:
            return 0.0
        far = ((grey[sample][:, *here] - grey[sample][:, *there]) ** 2).sum()
        return np.exp(-far / 1.5**2) * np.exp(-distance / 3.0**2)

    plan = CutPlan(intensity_sigma=1.5, spatial_sigma=3.0, radius=radius, to_mean=False)
    found = soft_cut(torch.from_numpy(clusters), torch.from_numpy(grey), plan)
    assert float(found) == pytest.approx(by_pairs(clusters, grey, likeness), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_cut_to_the_mean_is_the_sum_over_all_pairs(channels):
    clusters, grey = case(seed=1, channels=channels)

    def likeness(sample, k, here, there):
        if max(abs(a - b) for a, b in zip(here, there, strict=True)) > 2:
            return 0.0
        distance = sum((a - b) ** 2 for a, b in zip(here, there, strict=True))
        mean = (grey[sample] * clusters[sample, k]).sum((1, 2, 3)) / clusters[sample, k].sum()
        far = ((grey[sample][:, *there] - mean) ** 2).sum()
        return np.exp(-(far**2) / 1.5**2) * np.exp(-distance / (2 * 4.0**2))

    plan = CutPlan(intensity_sigma=1.5, spatial_sigma=4.0, radius=2, to_mean=True)
    found = soft_cut(torch.from_numpy(clusters), torch.from_numpy(grey), plan)
    assert float(found) == pytest.approx(by_pairs(clusters, grey, likeness), rel=1e-4)


@pytest.mark.parametrize("to_mean", [True, False])
def test_a_perfect_division_is_cut_for_next_to_nothing(to_mean):
    """Two halves of grey values far apart: the right clusters cut nothing, swapped halves of each cut much."""
    plan = CutPlan(intensity_sigma=1.0, spatial_sigma=4.0, radius=2, to_mean=to_mean)
    grey = torch.zeros(1, 1, 8, 8, 8)
    grey[..., 4:] = 100
    right = torch.stack([grey[:, 0] == 0, grey[:, 0] > 0], 1).float()
    wrong = torch.stack([torch.arange(8) % 2 == 0, torch.arange(8) % 2 == 1]).float()[None, :, None, None]
    wrong = wrong.expand(1, 2, 8, 8, 8)
    assert float(soft_cut(right, grey, plan)) < 0.05
    assert float(soft_cut(wrong, grey, plan)) > 0.5


def test_it_is_as_large_as_the_published_layout():
    """Counted by hand from the layers of CellSeg3D's two halves, one channel, two clusters, 64 to 1024 channels."""

    def convolution(inputs, outputs, side):
        return inputs * outputs * side**3 + outputs

    def half(inputs, outputs):
        w = [64, 128, 256, 512, 1024]

        def block(a, b):
            first = convolution(a, a, 3) + convolution(a, b, 1) + 2 * b
            return first + convolution(b, b, 3) + convolution(b, b, 1) + 2 * b

        start = convolution(inputs, 64, 3) + convolution(64, 64, 3) + 4 * 64
        end = convolution(128, 64, 3) + convolution(64, 64, 3) + 4 * 64 + convolution(64, outputs, 1)
        down = sum(block(w[i], w[i + 1]) for i in range(4))
        up = sum(block(w[i], w[i - 1]) for i in (4, 3, 2)) + sum(convolution(w[i], w[i - 1], 2) for i in (4, 3, 2, 1))
        return start + down + up + end

    with torch.device("meta"):
        network = build_model(WNetConfig(), inputs=1, outputs=1)
    assert sum(weight.numel() for weight in network.parameters()) == half(1, 2) + half(2, 1) == 205_222_403


@pytest.mark.parametrize(("objects", "expected"), [("bright", 2), ("dark", 0)])
def test_the_foreground_is_the_brightest_or_darkest_cluster_that_has_voxels(objects, expected):
    network = build_model(SMALL.model_copy(update={"clusters": 4, "objects": objects}), inputs=1, outputs=1).eval()
    network.brightness.copy_(torch.tensor([20.0, 50.0, 80.0, 99.0]))
    network.share.copy_(torch.tensor([0.5, 0.3, 0.2, 0.0]))  # nothing is in the last one
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        found = network(image).sigmoid()
        grey = (image + 1) * 50
        chance = network.encoder(grey).softmax(1)[:, expected : expected + 1]
    torch.testing.assert_close(found, chance)


def test_two_outputs_compete_as_the_clusters_do():
    torch.manual_seed(0)
    one = build_model(SMALL, inputs=1, outputs=1).eval()
    two = build_model(SMALL, inputs=1, outputs=2).eval()
    two.load_state_dict(one.state_dict())
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(two(image).softmax(1)[:, 1:], one(image).sigmoid())
    with pytest.raises(ConfigError, match="choose the task Foreground"):
        build_model(SMALL, inputs=1, outputs=3)


def test_judging_leaves_the_running_means_alone_unless_it_trains():
    torch.manual_seed(0)
    network = build_model(SMALL, inputs=1, outputs=1)
    image = torch.randn(2, 1, 16, 16, 16)
    first = network(image)
    assert isinstance(first, SelfJudged)
    assert float(network.share.sum()) == pytest.approx(1, abs=1e-5)
    # One number each: the mean over both clusters, weighted by their shares, is the mean of the image.
    mean = float((network.brightness * network.share).sum())
    assert mean == pytest.approx(float(((image + 1) * 50).mean()), rel=1e-4)
    kept = network.brightness.clone()
    network.eval().judge(image * 2)
    assert torch.equal(network.brightness, kept)
