"""Splits: training and validation share nothing, leave nothing out, and follow from the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.config import DataConfig
from seglib.data.splits import Region, describe, longest_axis, split_data
from seglib.errors import ConfigError

SHAPES = st.tuples(*[st.integers(2, 9)] * 3)
CONFIGS = st.builds(
    DataConfig,
    dataset=st.just(1),
    split=st.sampled_from(["auto", "volumes", "block"]),
    validation_share=st.floats(0.05, 0.5),
    block_axis=st.sampled_from(["auto", "z", "y", "x"]),
)


def painted(shapes, split):
    """How often each voxel of each volume trains (+1) and validates (+100)."""
    canvases = [np.zeros(shape, int) for shape in shapes]
    for regions, mark in ((split.training, 1), (split.validation, 100)):
        for region in regions:
            canvases[region.volume][region.slices] += mark
    return canvases


@given(st.lists(st.tuples(SHAPES, st.sampled_from("abcdef")), min_size=1, max_size=8), CONFIGS, st.integers(0, 99))
def test_every_voxel_either_trains_or_validates_and_groups_stay_whole(volumes, config, seed):
    shapes, groups = [shape for shape, _ in volumes], [group for _, group in volumes]
    distinct = len(set(groups))
    if config.split == "volumes" and distinct < 2:
        with pytest.raises(ConfigError, match="at least two volumes"):
            split_data(shapes, groups, config, seed)
        return
    split = split_data(shapes, groups, config, seed)
    assert split.training
    assert split.validation
    assert {int(value) for canvas in painted(shapes, split) for value in np.unique(canvas)} == {1, 100}
    assert split == split_data(shapes, groups, config, seed)
    if config.split == "volumes" or (config.split == "auto" and distinct >= 4):
        training, validating = ({groups[r.volume] for r in part} for part in (split.training, split.validation))
        assert not training & validating
    else:
        assert {r.volume for r in split.training} == {r.volume for r in split.validation} == set(range(len(shapes)))


def test_seeds_draw_different_volumes_and_zero_is_a_seed_like_any_other():
    shapes, groups = [(4, 4, 4)] * 12, [f"v{n:02}" for n in range(12)]
    config = DataConfig(dataset=1, split="volumes", validation_share=0.25)
    drawn = [tuple(r.volume for r in split_data(shapes, groups, config, seed).validation) for seed in range(8)]
    assert len(set(drawn)) > 4
    assert all(len(volumes) == 3 for volumes in drawn)
    assert drawn[0] not in ((0, 1, 2), (9, 10, 11))


@pytest.mark.parametrize(("share", "training"), [(0.2, 8), (0.25, 7), (0.5, 5), (0.05, 9)])
def test_a_block_is_the_end_of_the_axis_and_at_least_its_share(share, training):
    config = DataConfig(dataset=1, split="block", block_axis="y", validation_share=share)
    split = split_data([(3, 10, 20)], ["a"], config, 0)
    assert split.training == (Region(0, (0, 0, 0), (3, training, 20)),)
    assert split.validation == (Region(0, (0, training, 0), (3, 10, 20)),)


def test_auto_cuts_along_the_axis_that_is_long_in_every_volume():
    shapes = [(4, 50, 9), (4, 8, 10)]
    assert longest_axis(shapes) == 2
    split = split_data(shapes, ["a", "b"], DataConfig(dataset=1), 0)
    assert [region.start for region in split.validation] == [(0, 0, 7), (0, 0, 8)]


@pytest.mark.parametrize("count", [3, 4])
def test_auto_holds_out_whole_volumes_from_four_groups_on(count):
    split = split_data([(4, 8, 8)] * count, [f"v{n}" for n in range(count)], DataConfig(dataset=1), 0)
    assert all(region.start == (0, 0, 0) for region in split.validation) == (count >= 4)


def test_a_plane_cannot_be_cut_along_z():
    config = DataConfig(dataset=1, split="block", block_axis="z")
    with pytest.raises(ConfigError, match="only 1 voxel.* long along z.*another block axis"):
        split_data([(1, 30, 30)], ["a"], config, 0)


def test_regions_are_described_by_what_is_cut():
    assert describe(Region(0, (0, 0, 0), (4, 5, 6)), (4, 5, 6)) == "all of it"
    assert describe(Region(0, (0, 2, 0), (4, 5, 3)), (4, 5, 6)) == "y 2–4, x 0–2"
