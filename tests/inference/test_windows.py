"""Which windows a network is shown, and how it is laid out: what it answers must not depend on either."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import seglib.inference.windows
from seglib.config import TilesConfig, UNet3DConfig
from seglib.data.normalise import between
from seglib.inference.layouts import LAYOUTS, fastest_layout
from seglib.inference.predict import Predictor
from seglib.inference.tiles import plan_tiles
from seglib.inference.windows import choose_windows, mixes_window
from seglib.models import build_model, model_stride
from seglib.models.zoo.smp import SMUNetConfig

CPU = torch.device("cpu")
FREE = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.Conv3d(2, 1, 1))


def chosen(room, patch, stride=(2, 8, 8), network=FREE, bytes_per_voxel=100.0, **changes):
    return choose_windows(
        TilesConfig(**changes), room, network=network, patch=patch, stride=stride,
        bytes_per_voxel=bytes_per_voxel, device=CPU,
    )  # fmt: skip


def voxels(tiling):
    """How many are computed in all."""
    return math.prod(len(axis.starts) * axis.tile for axis in tiling.axes)


@pytest.mark.parametrize(
    ("norm", "mixing"), [("batch", ""), ("none", ""), ("instance", "normalises"), ("group", "normalises")]
)
def test_norms_that_see_the_whole_window_bind_a_network_to_its_patch(norm, mixing):
    config = UNet3DConfig(depth=2, start_channels=4, norm=norm)
    network = build_model(config, inputs=1, outputs=1)
    assert mixes_window(network).startswith(mixing)
    assert bool(mixes_window(network)) == bool(mixing)
    found = chosen((40, 300, 300), (16, 64, 64), network=network)
    assert (found.tile == (16, 64, 64)) == bool(mixing)
    assert ("training patch, 16 × 64 × 64 voxels" in found.notes[0]) == bool(mixing)


def test_pooling_over_everything_binds_too():
    assert mixes_window(nn.Sequential(nn.AdaptiveAvgPool3d(1))) == "looks at the whole window at once"
    attention = build_model(SMUNetConfig(encoder="resnet18", decoder="pan"), inputs=1, outputs=1, shape=(32, 64, 64))
    assert mixes_window(attention)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 900), st.integers(1, 900)),
    st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([1e2, 1e4, 1e6]),
)
def test_windows_are_multiples_of_the_stride_and_no_larger_than_memory_allows(room, times, bytes_per_voxel):
    stride = (2, 8, 8)
    patch = tuple(n * step for n, step in zip(times, stride, strict=True))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(seglib.inference.windows, "memory_for_windows", lambda device: 10**9)
        found = chosen(room, patch, bytes_per_voxel=bytes_per_voxel)
    assert all(side % step == 0 for side, step in zip(found.tile, stride, strict=True))
    assert math.prod(found.tile) <= max(math.prod(patch), 10**9 / bytes_per_voxel)
    assert found.batch_size >= 1
    tiling = plan_tiles(room, found.tile, stride, found.margins, blending="halo", mirrored=True)
    usual = plan_tiles(room, patch, stride, found.margins, blending="halo", mirrored=True)
    # Never more voxels than the patch itself would take; of choices that are about as good the smaller window.
    assert voxels(tiling) <= 1.03 * voxels(usual)


def test_windows_that_are_asked_for_are_taken_and_told_where_they_may_be_worse():
    found = chosen((40, 300, 300), (16, 64, 64), window=(8, 0, 100), batch_size=3)
    assert (found.tile, found.batch_size) == ((8, 64, 104), 3)
    bound = chosen((40, 300, 300), (16, 64, 64), network=nn.GroupNorm(1, 1), window=(8, 0, 100))
    assert "may be worse" in bound.notes[1]


def test_planes_stay_planes():
    assert chosen((30, 500, 500), (1, 128, 128), stride=(1, 16, 16)).tile[0] == 1


def test_a_layout_changes_no_answer():
    torch.manual_seed(0)
    config = UNet3DConfig(depth=3, start_channels=8, norm="batch")
    network = build_model(config, inputs=1, outputs=2).eval()
    predictor = Predictor(network, between([0.0], [1.0]), "sigmoid", model_stride(config), 2, CPU, None)
    images = torch.randn(1, 1, 8, 32, 32)
    before = predictor.logits(images)
    found = fastest_layout(predictor, (8, 32, 32))
    assert found.layout in LAYOUTS
    assert torch.allclose(found.logits(images), before, atol=1e-4)
