"""Tiled prediction against one pass over everything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seglib.config import UNet2DConfig
from seglib.data.normalise import between
from seglib.inference.deciding import decide
from seglib.inference.predict import Predictor, count_tiles, foreground_probabilities, predict_slabs
from seglib.models import build_model

LOW, HIGH = (0.0, -1.0), (2.0, 1.0)


def predictor(network, *, stride=(1, 1, 1), activation="sigmoid", channels=2, classes=1):
    scale = between(LOW[:channels], HIGH[:channels])
    return Predictor(network.eval(), scale, activation, stride, classes, torch.device("cpu"), half=None)


def pointwise(outputs=3):
    torch.manual_seed(0)
    return nn.Conv3d(2, outputs, 1)


def volume(shape, channels=2):
    return np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)


def one_pass(model, image):
    logits = model.logits(torch.from_numpy(model.normalisation.apply(image)[None]))
    return foreground_probabilities(logits, model.activation)[0].numpy()


def tiled(model, image, tile, overlap=0.25, batch_size=2):
    """The whole prediction, after checking that planes come in order and each once."""
    slabs = list(predict_slabs(model, image, tile=tile, overlap=overlap, batch_size=batch_size))
    assert [slab.z for slab in slabs] == np.cumsum([0, *(s.probabilities.shape[1] for s in slabs[:-1])]).tolist()
    counted = count_tiles(model, image, tile, overlap)
    assert slabs[-1].tiles_done == slabs[-1].tiles == counted
    assert all(slab.probabilities.dtype == np.float32 for slab in slabs)
    return np.concatenate([slab.probabilities for slab in slabs], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20)),
    times=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    stride=st.sampled_from([(1, 1, 1), (1, 4, 4), (2, 2, 2), (4, 4, 4)]),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]),
    batch_size=st.integers(1, 5),
    activation=st.sampled_from(["sigmoid", "softmax"]),
)
def test_a_network_that_sees_one_voxel_predicts_the_same_in_tiles(
    shape, times, stride, overlap, batch_size, activation
):
    model = predictor(pointwise(), stride=stride, activation=activation, classes=3 if activation == "sigmoid" else 2)
    image = volume(shape)
    tile = tuple(n * step for n, step in zip(times, stride, strict=True))
    found = tiled(model, image, tile, overlap, batch_size)
    assert found.shape == ((3 if activation == "sigmoid" else 2), *shape)
    assert np.allclose(found, one_pass(model, image), atol=1e-5)


def test_the_batch_size_changes_nothing():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 1))
    model, image = predictor(network), volume((5, 17, 19))
    one, many = (tiled(model, image, (4, 8, 8), 0.5, batch_size) for batch_size in (1, 7))
    assert np.allclose(one, many, atol=1e-6)


def test_a_network_that_sees_its_neighbours_predicts_the_same_away_from_tile_borders():
    torch.manual_seed(0)
    model, image = predictor(nn.Conv3d(2, 1, 3, padding=1)), volume((8, 24, 24))
    found, whole = tiled(model, image, (8, 8, 24), overlap=0.0), one_pass(model, image)
    same = np.isclose(found, whole, atol=1e-5).all(axis=(0, 1, 3))
    # Tiles begin at y = 0, 8 and 16; the rows beside a cut lack a neighbour.
    assert [y for y in range(24) if not same[y]] == [7, 8, 15, 16]


def test_blending_trusts_the_middle_of_tiles_more():
    torch.manual_seed(0)
    model, image = predictor(nn.Conv3d(2, 1, 3, padding=1)), volume((8, 24, 24))
    whole = one_pass(model, image)
    hard, soft = (np.abs(tiled(model, image, (8, 8, 8), overlap) - whole).max() for overlap in (0.0, 0.5))
    assert soft < 0.5 * hard


def test_planes_of_a_2d_network_are_predicted_one_by_one():
    torch.manual_seed(0)
    network = build_model(UNet2DConfig(depth=2, start_channels=2, norm="none"), inputs=1, outputs=1)
    model, image = predictor(network, stride=(1, 2, 2), channels=1), volume((5, 16, 16), channels=1)
    expected = np.concatenate([one_pass(model, image[:, z : z + 1]) for z in range(5)], axis=1)
    assert np.allclose(tiled(model, image, (1, 16, 16), 0.25, 4), expected, atol=1e-5)


def test_what_sticks_out_of_the_volume_is_mirrored():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x[:, :1]

    image = volume((3, 2, 4), channels=1)
    tiled(predictor(Spy(), stride=(4, 4, 4), channels=1), image, (8, 8, 8))
    (x,) = seen
    assert x.shape == (1, 1, 4, 4, 4)
    expected = image[:, [0, 1, 2, 2]][:, :, [0, 1, 1, 0]] - 1  # SCALE maps 0 … 2 to −1 … 1
    assert np.allclose(x[0].numpy(), np.clip(expected, -3, 3))


def test_no_more_than_a_row_of_tiles_is_read_at_once():
    class SpyArray:
        def __init__(self, array):
            self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

        def __getitem__(self, key):
            found = self.array[key]
            self.read.append(found.shape)
            return found

    image = volume((70, 16, 12))
    spy = SpyArray(image)
    model = predictor(pointwise(), classes=3)
    found = tiled(model, spy, (16, 8, 8), 0.25)
    assert set(spy.read) == {(2, 16, 16, 12)}
    assert len(spy.read) == 6  # 0, 12, …, 48, 54
    assert np.allclose(found, one_pass(model, image), atol=1e-5)


def test_slabs_come_before_the_rest_is_read():
    image = volume((40, 8, 8))
    slabs = predict_slabs(predictor(pointwise(), classes=3), image, tile=(8, 8, 8), overlap=0.0, batch_size=1)
    first = next(slabs)
    image[:, 24:] = 0.0
    assert first.probabilities.shape == (3, 8, 8, 8)
    rest = np.concatenate([first.probabilities, *(slab.probabilities for slab in slabs)], axis=1)
    assert np.allclose(rest, one_pass(predictor(pointwise(), classes=3), image), atol=1e-5)


def test_raw_logits_of_every_tile_are_shown_with_their_place():
    model, image = predictor(pointwise(), classes=3), volume((5, 9, 7))
    expected = model.logits(torch.from_numpy(model.normalisation.apply(image)[None]))[0]
    shown = []

    def on_tiles(logits, starts):
        shown.extend(starts)
        for tile, (z, y, x) in zip(logits, starts, strict=True):
            assert torch.allclose(tile, expected[:, z : z + 4, y : y + 4, x : x + 4], atol=1e-5)

    list(predict_slabs(model, image, tile=(4, 4, 4), overlap=0.0, batch_size=3, on_tiles=on_tiles))
    assert sorted(shown) == [(z, y, x) for z in (0, 1) for y in (0, 4, 5) for x in (0, 3)]


def test_sigmoid_takes_the_likeliest_class_above_the_threshold():
    probabilities = np.array([[0.9, 0.2, 0.5, 0.6, 0.3], [0.1, 0.4, 0.5, 0.7, 0.31]], np.float32)
    assert decide(probabilities, "sigmoid", 0.5).tolist() == [1, 0, 0, 2, 0]
    assert decide(probabilities, "sigmoid", 0.3).tolist() == [1, 2, 1, 2, 2]
    assert decide(probabilities, "sigmoid", 0.5).dtype == np.uint8


def test_softmax_at_a_half_is_won_by_the_likeliest_of_all_classes():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(1, 4, 500)))
    probabilities = foreground_probabilities(logits, "softmax")[0].numpy()
    assert decide(probabilities, "softmax", 0.5).tolist() == logits[0].argmax(0).tolist()
    assert set(np.unique(decide(probabilities, "softmax", 0.5))) == {0, 1, 2, 3}
    assert decide(probabilities, "softmax", 0.6).tolist() == [
        int(p.argmax()) + 1 if p.max() * 0.4 > (1 - p.sum()) * 0.6 else 0 for p in probabilities.T
    ]


def test_thresholds_that_differ_little_give_results_that_differ_little():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(1, 4, 5000)))
    probabilities = foreground_probabilities(logits, "softmax")[0].numpy()
    changed = decide(probabilities, "softmax", 0.5) != decide(probabilities, "softmax", 0.51)
    assert 0 < changed.mean() < 0.02


def test_255_classes_can_be_told_apart():
    probabilities = np.eye(255, dtype=np.float32)
    assert decide(probabilities, "sigmoid", 0.5).tolist() == list(range(1, 256))


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 3), ("softmax", 2)])
def test_probabilities_have_one_channel_a_foreground_class(activation, channels):
    found = foreground_probabilities(torch.zeros(2, 3, 1, 2, 2), activation)
    assert found.shape == (2, channels, 1, 2, 2)
    assert found.unique().item() == pytest.approx(1 / 2 if activation == "sigmoid" else 1 / 3)
