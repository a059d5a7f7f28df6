"""Splits: training, validation and test share nothing, leave nothing out, and follow from the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.config import (
    AutoSplitConfig,
    BlockSplitConfig,
    FoldSplitConfig,
    GroupSplitConfig,
    HandSplitConfig,
    VolumeSplitConfig,
)
from seglib.data.splits import Member, Region, describe, fits, longest_axis, split_data
from seglib.errors import ConfigError

SHARES = {"validation_share": st.floats(0.02, 0.5), "test_share": st.sampled_from([0.0, 0.1, 0.3])}
AXES = st.sampled_from(["auto", "z", "y", "x"])
CONFIGS = st.one_of(
    st.builds(AutoSplitConfig, axis=AXES, **SHARES),
    st.builds(VolumeSplitConfig, **SHARES),
    st.builds(BlockSplitConfig, axis=AXES, gap=st.integers(0, 3), **SHARES),
    st.integers(2, 5).flatmap(
        lambda k: st.builds(
            FoldSplitConfig, folds=st.just(k), fold=st.integers(1, k), test_share=st.sampled_from([0.0, 0.2])
        )
    ),
    st.builds(
        GroupSplitConfig, validation=st.sampled_from(["a", "a, b", "v1*"]), test=st.sampled_from(["", "c", "d, e"])
    ),
    st.builds(HandSplitConfig, validation=st.just(("v0",)), test=st.sampled_from([(), ("v1",)])),
)
MEMBERS = st.lists(
    st.tuples(st.tuples(*[st.integers(2, 12)] * 3), st.sampled_from(["", *"abcdef"])), min_size=1, max_size=8
)


def members_of(found):
    return [Member(f"v{index}", shape, group) for index, (shape, group) in enumerate(found)]


def alike(count, shape=(4, 8, 8)):
    return [Member(f"v{n:02}", shape) for n in range(count)]


def painted(members, split):
    """How often each voxel of each volume trains (+1), validates (+100) and tests (+10,000)."""
    canvases = [np.zeros(member.shape, int) for member in members]
    for regions, mark in ((split.training, 1), (split.validation, 100), (split.test, 10_000)):
        for region in regions:
            canvases[region.volume][region.slices] += mark
    return canvases


@given(MEMBERS, CONFIGS, st.integers(0, 99))
def test_every_voxel_is_in_one_part_and_groups_stay_whole(found, config, seed):
    members = members_of(found)
    try:
        split = split_data(members, config, seed)
    except ConfigError as error:
        assert len(str(error)) > 40
        return
    assert split.training
    assert split.validation
    marks = {int(value) for canvas in painted(members, split) for value in np.unique(canvas)}
    gaps = {0} if getattr(config, "gap", 0) else set()
    assert {1, 100} <= marks <= {1, 100, 10_000} | gaps
    assert split == split_data(members, config, seed)
    cut = config.kind == "block" or (config.kind == "auto" and len({m.family for m in members}) < 4)
    assert (10_000 in marks) or not getattr(config, "test_share", 0)
    if not cut and config.kind != "hand":
        families = [{members[r.volume].family for r in part} for part in (split.training, split.validation, split.test)]
        assert sum(map(len, families)) == len(set.union(*families))


def test_seeds_draw_different_volumes_and_zero_is_a_seed_like_any_other():
    config = VolumeSplitConfig(validation_share=0.25)
    drawn = [tuple(r.volume for r in split_data(alike(12), config, seed).validation) for seed in range(8)]
    assert len(set(drawn)) > 4
    assert all(len(volumes) == 3 for volumes in drawn)
    assert drawn[0] not in ((0, 1, 2), (9, 10, 11))


def test_a_test_part_takes_nothing_from_validation():
    drawn = [split_data(alike(20), VolumeSplitConfig(validation_share=0.2, test_share=share), 3) for share in (0, 0.1)]
    assert drawn[0].validation == drawn[1].validation
    assert [len(split.test) for split in drawn] == [0, 2]


@pytest.mark.parametrize(("share", "training"), [(0.2, 8), (0.25, 7), (0.5, 5), (0.05, 9)])
def test_a_block_is_the_end_of_the_axis_and_at_least_its_share(share, training):
    split = split_data(alike(1, (3, 10, 20)), BlockSplitConfig(axis="y", validation_share=share), 0)
    assert split.training == (Region(0, (0, 0, 0), (3, training, 20)),)
    assert split.validation == (Region(0, (0, training, 0), (3, 10, 20)),)


def test_blocks_for_test_and_gaps_lie_where_they_are_said_to():
    config = BlockSplitConfig(axis="x", validation_share=0.2, test_share=0.1, gap=4)
    split = split_data(alike(1, (3, 10, 100)), config, 0)
    assert [(r.start[2], r.stop[2]) for part in (split.training, split.validation, split.test) for r in part] == [
        (0, 62),
        (66, 86),
        (90, 100),
    ]


def test_auto_cuts_along_the_axis_that_is_long_in_every_volume():
    shapes = [(4, 50, 9), (4, 8, 10)]
    assert longest_axis(shapes) == 2
    split = split_data([Member("a", shapes[0]), Member("b", shapes[1])], AutoSplitConfig(), 0)
    assert [region.start for region in split.validation] == [(0, 0, 7), (0, 0, 8)]


@pytest.mark.parametrize("count", [3, 4])
def test_auto_holds_out_whole_volumes_from_four_groups_on(count):
    split = split_data(alike(count), AutoSplitConfig(), 0)
    assert all(region.start == (0, 0, 0) for region in split.validation) == (count >= 4)


def test_every_volume_judges_in_exactly_one_fold():
    folds = [split_data(alike(11), FoldSplitConfig(folds=4, fold=n, test_share=0.1), 5) for n in (1, 2, 3, 4)]
    judged = [region.volume for split in folds for region in split.validation]
    (test,) = {tuple(region.volume for region in split.test) for split in folds}
    assert sorted([*judged, *test]) == list(range(11))
    assert {len(split.validation) for split in folds} == {2, 3}


def test_positions_are_held_out_by_the_end_of_their_folders_name():
    members = [Member(f"img_{n}", (1, 8, 8), f"Pos{n}") for n in (101, 109, 110, 111, 119, 120, 190)]
    split = split_data(members, GroupSplitConfig(test="Pos190"), 0)
    assert [members[r.volume].group for r in split.validation] == ["Pos109", "Pos110", "Pos119", "Pos120"]
    assert [members[r.volume].group for r in split.training] == ["Pos101", "Pos111"]
    assert [members[r.volume].group for r in split.test] == ["Pos190"]


@pytest.mark.parametrize(
    ("name", "group", "patterns", "expected"),
    [
        ("plate/Pos09/a.tif", "", "*09", True),
        ("plate/Pos09/a.tif", "", "Pos0", False),
        ("leaf 3.tif", "", "leaf 3", True),
        ("leaf 3.tif", "", " x , *3 ", True),
        ("leaf", "day1", "DAY1", False),
        ("leaf", "", "", False),
        ("leaf", "", " , ,", False),
        ("a[1]", "", "a[[]1]", True),
    ],
)
def test_patterns_fit_groups_folders_and_names(name, group, patterns, expected):
    assert fits(Member(name, (1, 1, 1), group), patterns) == expected


def test_a_pattern_made_to_hang_does_not():
    assert not fits(Member("a" * 200, (1, 1, 1)), "*a" * 400 + "b")


def test_patterns_that_tear_a_group_or_fit_twice_are_refused():
    members = [Member("a1", (1, 8, 8), "mouse"), Member("a2", (1, 8, 8), "mouse"), Member("b", (1, 8, 8))]
    with pytest.raises(ConfigError, match="tear the group mouse apart"):
        split_data(members, GroupSplitConfig(validation="a1"), 0)
    with pytest.raises(ConfigError, match="a1 fits the patterns of validation and those of test"):
        split_data(members, GroupSplitConfig(validation="a*", test="mouse"), 0)
    with pytest.raises(ConfigError, match="No volume is left for validation"):
        split_data(members, GroupSplitConfig(validation="zebra"), 0)


def test_volumes_named_by_hand_judge_and_unknown_ones_are_said():
    split = split_data(alike(4), HandSplitConfig(validation=("v02",), test=("v00",)), 0)
    assert [[r.volume for r in part] for part in (split.training, split.validation, split.test)] == [[1, 3], [2], [0]]
    with pytest.raises(ConfigError, match="no labelled volume v9"):
        split_data(alike(4), HandSplitConfig(validation=("v9",)), 0)
    with pytest.raises(ValueError, match="v1 is in validation and in test"):
        HandSplitConfig(validation=("v1",), test=("v1",))


def test_a_plane_cannot_be_cut_along_z():
    with pytest.raises(ConfigError, match=r"v00 is only 1 voxel.* long along z.*another block axis"):
        split_data(alike(1, (1, 30, 30)), BlockSplitConfig(axis="z"), 0)


def test_too_few_volumes_for_folds_are_said():
    with pytest.raises(ConfigError, match=r"5 folds needs at least 5 .* has 3"):
        split_data(alike(3), FoldSplitConfig(), 0)


def test_regions_are_described_by_what_is_cut():
    assert describe(Region(0, (0, 0, 0), (4, 5, 6)), (4, 5, 6)) == "all of it"
    assert describe(Region(0, (0, 2, 0), (4, 5, 3)), (4, 5, 6)) == "y 2–4, x 0–2"
