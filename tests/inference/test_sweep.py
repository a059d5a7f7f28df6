"""Going over volumes in tiles: the same as one pass, however it is cut, batched, interrupted or held in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import seglib.inference.sweep
from seglib.config import UNet3DConfig
from seglib.data.normalise import between
from seglib.inference.ensemble import PLAIN, Ensemble, entropy, variations_of
from seglib.inference.predict import Predictor
from seglib.inference.sweep import columns_of, sweep, tiles_of
from seglib.inference.tiles import plan_tiles
from seglib.models import build_model, model_stride

CPU = torch.device("cpu")
MODEL = UNet3DConfig(depth=2, start_channels=4, norm="batch", dropout=0)
# Of two levels with two convolutions of 3 each: 2 + 2 × 2 + 2, and one more for where pooling lies.
SEEN = 10


def unet(seed=0):
    torch.manual_seed(seed)
    network = build_model(MODEL, inputs=1, outputs=2).eval()
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2)
    return network


def predictor(network=None, *, classes=2, low=0.0):
    return Predictor(network or unet(), between([low], [255.0]), "sigmoid", model_stride(MODEL), classes, CPU, None)


def image(shape):
    return np.random.default_rng(1).integers(0, 255, (1, *shape)).astype(np.uint8)


def swept(ensemble, values, tile, margins, *, blending="halo", batch=2, done=(), mirrored=True, classes=2, empty=None):
    """The result, with NaN where nothing came out, and the blocks' corners."""
    tiling = plan_tiles(values.shape[1:], tile, (2, 2, 2), margins, blending=blending, mirrored=mirrored)
    look = ensemble.look(classes, batch)
    result = np.full((look.outputs, *values.shape[1:]), np.nan, np.float32)
    blocks = []
    for block in sweep(tiling, ensemble.source(values, empty=empty), look, done=done):
        z, y, x = block.start
        _, dz, dy, dx = block.values.shape
        assert np.isnan(result[:, z : z + dz, y : y + dy, x : x + dx]).all()
        result[:, z : z + dz, y : y + dy, x : x + dx] = block.values
        blocks.append((block.column, block.end_z, block.tiles_done))
    assert blocks[-1][2] == tiles_of(tiling, 1, CPU)
    return result, blocks


def one_pass(network, values, border):
    """One pass over the volume continued by mirrored voxels."""
    around = [(0, 0), *[(b, b) for b in border]]
    grey = np.pad(values.astype(np.float32), around, mode="symmetric") / 127.5 - 1
    added = [(0, -side % 2) for side in grey.shape[1:]]
    grey = np.pad(grey, [(0, 0), *added], mode="symmetric")
    with torch.inference_mode():
        found = network(torch.from_numpy(grey)[None]).sigmoid()[0].numpy()
    return found[(slice(None), *(slice(b, b + side) for b, side in zip(border, values.shape[1:], strict=True)))]


def test_with_enough_halo_tiles_are_one_pass_over_everything():
    network, values = unet(), image((26, 45, 52))
    found, _ = swept(Ensemble([predictor(network)]), values, (24, 32, 28), (SEEN, SEEN, SEEN))
    assert np.allclose(found, one_pass(network, values, (SEEN, SEEN, SEEN)), atol=1e-5)
    # In the middle it is also one pass over the bare volume.
    inside = (slice(None), *[slice(SEEN, -SEEN)] * 3)
    assert np.allclose(found[inside], one_pass(network, values, (0, 0, 0))[inside], atol=1e-5)


def test_with_too_little_halo_it_is_not():
    network, values = unet(), image((16, 40, 40))
    found, _ = swept(Ensemble([predictor(network)]), values, (16, 20, 20), (2, 2, 2))
    assert np.abs(found - one_pass(network, values, (2, 2, 2))).max() > 1e-3


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(1, 30)),
    tile=st.tuples(*[st.sampled_from([4, 8, 12])] * 3),
    margin=st.integers(0, 4),
    blending=st.sampled_from(["gaussian", "halo"]),
    budget=st.sampled_from([3_000, 20_000, 2**29]),
    batch=st.integers(1, 5),
    mirrored=st.booleans(),
)
def test_columns_and_batches_change_nothing(shape, tile, margin, blending, budget, batch, mirrored):
    ensemble, values = Ensemble([predictor()]), image(shape)
    options = {"blending": blending, "mirrored": mirrored}
    expected, _ = swept(ensemble, values, tile, (margin,) * 3, **options)
    assert not np.isnan(expected).any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seglib.inference.sweep, "BUDGET_CPU", budget)
        found, _ = swept(ensemble, values, tile, (margin,) * 3, batch=batch, **options)
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("blending", ["gaussian", "halo"])
def test_a_sweep_that_goes_on_gives_the_rest_to_the_last_bit(blending, monkeypatch):
    monkeypatch.setattr(seglib.inference.sweep, "BUDGET_CPU", 40_000)
    ensemble, values = Ensemble([predictor()]), image((40, 30, 34))
    tiling = plan_tiles((40, 30, 34), (12, 12, 12), (2, 2, 2), (2, 2, 2), blending=blending, mirrored=True)
    assert len(columns_of(tiling, 1, CPU)) >= 2
    whole, blocks = swept(ensemble, values, (12, 12, 12), (2, 2, 2), blending=blending)
    ends = [[end for column, end, _ in blocks if column == number] for number in (0, 1)]
    for done in [(ends[0][1],), (ends[0][-1], ends[1][2])]:
        rest, again = swept(ensemble, values, (12, 12, 12), (2, 2, 2), blending=blending, done=done)
        there = ~np.isnan(rest)
        assert 0 < there.sum() < there.size
        assert np.array_equal(rest[there], whole[there])
        assert again == blocks[-len(again) :]


def test_no_more_of_a_volume_is_read_at_once_than_the_budget_allows(monkeypatch):
    class Spy:
        def __init__(self, array):
            self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

        def __getitem__(self, key):
            found = self.array[key]
            self.most = max(self.most, found.size)
            return found

    monkeypatch.setattr(seglib.inference.sweep, "BUDGET_CPU", 400_000)
    spy = Spy(image((60, 120, 120)))
    found, _ = swept(Ensemble([predictor()]), spy, (16, 16, 16), (2, 2, 2))
    assert not np.isnan(found).any()
    assert 20 * spy.most < 2 * 400_000
    assert spy.most < 0.2 * 60 * 120 * 120


def test_empty_tiles_are_left_out_and_become_background():
    calls = []

    class Loud(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return torch.full_like(x, 5.0).expand(-1, 2, -1, -1, -1)

    values = np.zeros((1, 16, 32, 32), np.uint8)
    values[0, 3, 20, 25] = 9
    ensemble = Ensemble([predictor(Loud())])
    found, _ = swept(ensemble, values, (16, 16, 16), (0, 0, 0), empty=8, batch=1)
    assert sum(calls) == 1
    assert (found[:, :, 16:, 16:] > 0.99).all()
    assert (found[:, :, :16] == 0).all()
    nothing, _ = swept(ensemble, values, (16, 16, 16), (0, 0, 0), empty=9)
    assert (nothing == 0).all()


def test_several_networks_are_merged_whatever_grey_values_they_know():
    values = image((8, 16, 16))
    networks = [predictor(unet(0)), predictor(unet(1), low=-255.0)]
    each = [swept(Ensemble([one]), values, (8, 16, 16), (0, 0, 0))[0] for one in networks]
    for merging, expected in [("mean", np.mean(each, 0)), ("min", np.min(each, 0)), ("max", np.max(each, 0))]:
        found, _ = swept(Ensemble(networks, merging=merging, spread=True), values, (8, 16, 16), (0, 0, 0))
        assert np.allclose(found[:2], expected, atol=1e-5)
        assert np.allclose(found[2], 2 * np.std(each, 0).max(0), atol=1e-3)


@pytest.mark.parametrize(("kind", "deep", "square", "count"), [
    ("none", True, True, 1), ("flips", True, True, 8), ("flips", False, True, 4), ("flips_turns", True, True, 16),
    ("flips_turns", False, True, 8), ("flips_turns", True, False, 8),
])  # fmt: skip
def test_variations_are_all_different_and_turned_back(kind, deep, square, count):
    variations = variations_of(kind, deep=deep, square=square)
    assert len(variations) == count
    assert variations[0] == PLAIN
    seen = []

    class Pointwise(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.cat([x, -x], 1)

    values = image((4 if deep else 1, 6, 6))
    ensemble = Ensemble([predictor(Pointwise())], variations=variations, spread=True)
    found, _ = swept(ensemble, values, (4, 6, 6), (0, 0, 0))
    plain, _ = swept(Ensemble([predictor(Pointwise())]), values, (4, 6, 6), (0, 0, 0))
    assert np.allclose(found[:2], plain, atol=1e-6)
    assert np.allclose(found[2], 0, atol=2e-3)
    assert len({one.numpy().tobytes() for one in seen[:count]}) == count


def test_a_batch_that_does_not_fit_is_cut_until_it_does():
    class Small(nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("no room")
            return torch.cat([x, x], 1)

    values = image((4, 32, 32))
    ensemble = Ensemble([predictor(Small())])
    found, _ = swept(ensemble, values, (4, 8, 8), (0, 0, 0), batch=7)
    assert ensemble.pieces == 4
    assert np.allclose(found[0], 1 / (1 + np.exp(1 - values[0] / 127.5)), atol=1e-5)

    class Never(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        swept(Ensemble([predictor(Never())]), values, (4, 8, 8), (0, 0, 0), batch=3)


def test_entropy_is_that_of_information_theory():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 50).T.astype(np.float32)
    expected = -(p * np.log2(p)).sum(0) / np.log2(3)
    assert np.allclose(entropy(torch.from_numpy(p[1:]), "softmax")[0], expected, atol=1e-5)
    q = np.array([[0.5, 1.0, 0.25], [0.0, 0.0, 0.5]], np.float32)
    assert entropy(torch.from_numpy(q), "sigmoid")[0].tolist() == pytest.approx([1, 0, 1])
