"""Patches: from the training part only, the same for a seed and step, drawn as often from where as asked."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seglib.config import (
    AutoSplitConfig,
    BlockSplitConfig,
    ClassSamplingConfig,
    EMAugmentationConfig,
    FoldSplitConfig,
    GridSamplingConfig,
    GroupSplitConfig,
    HandSplitConfig,
    RandomSamplingConfig,
    StandardAugmentationConfig,
    VolumeSplitConfig,
    WholeSamplingConfig,
)
from seglib.config.labels import LabelClass, LabelScheme
from seglib.data.augment import plan_augmentation
from seglib.data.normalise import Normalisation, between
from seglib.data.parts import TrainingPart, open_parts
from seglib.data.patches import Extent, PatchSampler, fitting_patch, grid_starts, patches_per_epoch
from seglib.data.splits import Member, split_data
from seglib.data.volumes import Volume
from seglib.errors import ConfigError

IDENTITY = between([-1.0], [1.0])
AS_IS = Normalisation((0.0,), (1.0,), (np.inf,), (0,))
ONE_CLASS = LabelScheme(kind="classes", classes=(LabelClass(values=(1,), name="one"),))


def sampler(parts, shape=(2, 4, 4), seed=0, normalisation=IDENTITY, config=None, **extent):
    return PatchSampler(parts, normalisation, config or RandomSamplingConfig(), Extent(shape, **extent), seed=seed)


def foreground(share):
    return RandomSamplingConfig(foreground_share=share)


def part(target, image=None, name="leaf"):
    target = np.asarray(target, np.uint8)
    return TrainingPart(name, np.zeros((1, *target.shape), np.float32) if image is None else image, target)


def numbered(shape):
    """A part in which every grey value (0 … 1) is another one, and the brightest tenth is foreground."""
    values = np.linspace(0, 1, int(np.prod(shape)), endpoint=False, dtype=np.float32).reshape(1, *shape)
    return part((values[0] > 0.9), values)


# No voxel of validation or test is ever in a training patch.

SIDE = st.integers(4, 14)
SHARE = st.floats(0.05, 0.4)
SPLITS = st.one_of(
    st.builds(AutoSplitConfig, validation_share=SHARE, test_share=SHARE),
    st.builds(VolumeSplitConfig, validation_share=SHARE, test_share=SHARE),
    st.builds(
        BlockSplitConfig,
        validation_share=SHARE,
        test_share=SHARE,
        axis=st.sampled_from(["auto", "z", "y", "x"]),
        gap=st.integers(0, 2),
    ),
    st.builds(FoldSplitConfig, folds=st.just(3), fold=st.integers(1, 3), test_share=SHARE),
    st.just(GroupSplitConfig(validation="*2", test="*3")),
    st.just(HandSplitConfig(validation=("leaf1",), test=("leaf2",))),
)
SAMPLINGS = st.sampled_from(
    [
        RandomSamplingConfig(foreground_share=0.3),
        RandomSamplingConfig(background_most=0.5),
        ClassSamplingConfig(),
        GridSamplingConfig(overlap=0.4),
        WholeSamplingConfig(),
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    shapes=st.lists(st.tuples(SIDE, SIDE, SIDE), min_size=1, max_size=6),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    split=SPLITS,
    sampling=SAMPLINGS,
    augmentation=st.sampled_from(
        [None, StandardAugmentationConfig(rotate=1, scale=1), EMAugmentationConfig(elastic=1)]
    ),
    in_memory=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_voxel_kept_for_validation_or_test_is_ever_in_a_training_patch(
    shapes, patch, split, sampling, augmentation, in_memory, seed
):
    members = [Member(f"leaf{i}", shape) for i, shape in enumerate(shapes)]
    try:
        parts = split_data(members, split, seed)
    except ConfigError:
        assume(False)
    forbidden, allowed = 3.0, 0.0
    volumes = []
    for shape in shapes:
        labels = np.zeros(shape, np.uint8)
        labels[::2, ::3] = 1
        volumes.append(Volume("leaf", np.full((1, *shape), forbidden, np.float32), labels, (1.0, 1.0, 1.0), (0.0, 1.0)))
    for region in parts.training:
        volumes[region.volume].image[0][region.slices] = allowed
    training, _ = open_parts(
        volumes, parts.training, scheme=ONE_CLASS, task="classes", memory_bytes=10**9 if in_memory else 0
    )
    stride = (1, 2, 2)
    shape = fitting_patch(tuple(2 * side for side in patch), [one.shape for one in training], stride)
    plan = plan_augmentation(augmentation, shape, (1.0, 1.0, 1.0)) if augmentation else None
    reach = plan.reach if plan and sampling.kind != "whole" else (0, 0, 0)
    draw = sampler(training, shape, seed, AS_IS, sampling, stride=stride, reach=reach)
    for step in range(5):
        batch = draw.batch(step, 3)
        assert batch.images.max() == allowed
        if plan and sampling.kind != "whole":
            # Noise and light are left out: they would hide where a voxel came from.
            quiet = plan.config.model_copy(update=dict.fromkeys(GREY, 0.0))
            still = plan_augmentation(quiet, shape, (1.0, 1.0, 1.0))
            assert still.reach == reach
            images, _ = still(
                torch.from_numpy(batch.images), torch.from_numpy(batch.targets), np.random.default_rng(seed)
            )
            assert images.shape[2:] == shape
            assert images.max() == allowed


GREY = ("brightness", "contrast", "gamma", "noise", "blur", "missing", "motion", "cutout")


# What a batch is.


def test_image_and_target_of_a_patch_are_the_same_place():
    batch = sampler([numbered((6, 12, 12))]).batch(3, 32)
    assert np.array_equal(batch.images[:, 0] > 0.9, batch.targets.astype(bool))
    assert batch.images.dtype == np.float32
    assert batch.targets.dtype == np.uint8


@pytest.mark.parametrize("config", [RandomSamplingConfig(), ClassSamplingConfig(), GridSamplingConfig()])
def test_a_batch_follows_from_seed_and_step_alone(config):
    parts = [numbered((6, 12, 12)), numbered((4, 8, 8))]
    first, second = (sampler(parts, seed=5, config=config) for _ in range(2))
    first.batch(0, 3)
    first.batch(1, 3)
    assert np.array_equal(first.batch(7, 3).images, second.batch(7, 3).images)
    assert not np.array_equal(second.batch(7, 3).images, second.batch(8, 3).images)
    assert not np.array_equal(second.batch(7, 3).images, sampler(parts, seed=6, config=config).batch(7, 3).images)


def test_reach_is_read_around_the_patch():
    whole = numbered((6, 20, 20))
    draw = sampler([whole], reach=(0, 3, 2), config=foreground(0))
    narrow = sampler([whole], config=foreground(0))
    wide, patch = draw.batch(4, 8).images, narrow.batch(4, 8).images
    assert wide.shape == (8, 1, 2, 10, 8)
    assert np.array_equal(wide[:, :, :, 3:-3, 2:-2], patch)


# Where patches lie.


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_foreground_share_of_patches_holds_foreground(share):
    target = np.zeros((10, 60, 60), np.uint8)
    target[5, 30, 30] = 1  # a random patch holds it in about 1 of 1000 draws
    found = sampler([part(target)], config=foreground(share)).batch(0, 1000).targets.any(axis=(1, 2, 3)).mean()
    assert found == pytest.approx(share, abs=0.05)


def test_foreground_in_a_corner_is_still_in_the_patch():
    target = np.zeros((6, 20, 20), np.uint8)
    target[0, 0, 19] = 1
    targets = sampler([part(target)], shape=(4, 7, 8), config=foreground(1.0)).batch(0, 200).targets
    assert targets.any(axis=(1, 2, 3)).all()


def test_objects_are_not_always_in_the_middle():
    target = np.zeros((3, 40, 40), np.uint8)
    target[1, 20, 20] = 1
    targets = sampler([part(target)], shape=(1, 8, 8), config=foreground(1.0)).batch(0, 200).targets
    places = {tuple(int(p) for p in place[1:]) for place in np.argwhere(targets)[:, 1:]}
    assert len(places) == 25  # ± a quarter of 8 in y and x


def test_random_patches_reach_every_voxel_of_every_part():
    shapes = [(3, 7, 5), (2, 6, 9)]
    parts, seen, start = [], set(), 0
    for shape in shapes:
        values = np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(1, *shape)
        parts.append(part(np.zeros(shape), values))
        start += values.size
    draw = sampler(parts, shape=(2, 3, 3), normalisation=AS_IS)
    for step in range(40):
        seen |= set(draw.batch(step, 16).images.astype(int).ravel().tolist())
    assert seen == set(range(start))


def test_every_class_is_met_equally_often_however_rare():
    target = np.zeros((4, 60, 60), np.uint8)
    target[:, :30, :50], target[1, 55, 55], target[2, 58, 3] = 1, 2, 3
    config = ClassSamplingConfig(foreground_share=1.0)
    targets = sampler([part(target)], config=config).batch(0, 900).targets
    shares = [(targets == value).any(axis=(1, 2, 3)).mean() for value in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)
    # By voxels instead of classes, the single ones would hardly ever be met.
    usual = sampler([part(target)], config=foreground(1.0)).batch(0, 900).targets
    assert (usual == 3).any(axis=(1, 2, 3)).mean() < 0.02


def test_patches_of_too_much_background_are_drawn_again():
    target = np.zeros((4, 64, 64), np.uint8)
    target[:, 10:14, 10:14] = 1  # one patch of 4 × 4 in 3721 is all foreground
    config = RandomSamplingConfig(foreground_share=0.5, background_most=0.9)
    targets = sampler([part(target)], config=config).batch(0, 60).targets
    assert ((targets == 0).mean(axis=(1, 2, 3)) <= 0.9).all()
    every = sampler([part(target)], config=RandomSamplingConfig(foreground_share=0.5)).batch(0, 60).targets
    assert ((every == 0).mean(axis=(1, 2, 3)) > 0.9).any()


def test_a_part_of_nothing_but_background_still_gives_patches():
    config = RandomSamplingConfig(background_most=0.5, foreground_share=1.0)
    assert sampler([part(np.zeros((2, 4, 4)))], config=config).batch(0, 2).targets.sum() == 0


def test_a_grid_sees_every_voxel_once_an_epoch_and_nothing_twice_without_overlap():
    parts = [numbered((4, 8, 12)), numbered((2, 4, 8))]
    draw = sampler(parts, shape=(2, 4, 4), normalisation=AS_IS, config=GridSamplingConfig())
    assert draw.per_epoch == 2 * 2 * 3 + 2
    values = np.concatenate([draw.batch(step, 2).images.ravel() for step in range(7)])
    assert np.array_equal(np.sort(values), np.sort(np.concatenate([one.image.ravel() for one in parts])))
    orders = [[draw.windows(7 * epoch + step, 2) for step in range(7)] for epoch in (0, 1)]
    assert orders[0] != orders[1]


@given(room=st.tuples(SIDE, SIDE, SIDE), patch=st.tuples(*[st.integers(1, 6)] * 3), overlap=st.floats(0, 0.9))
def test_a_grid_leaves_nothing_out(room, patch, overlap):
    seen = np.zeros(room, int)
    for z, y, x in grid_starts(room, patch, overlap):
        assert all(first >= 0 for first in (z, y, x))
        seen[z : z + patch[0], y : y + patch[1], x : x + patch[2]] += 1
    assert seen.min() >= 1


def test_whole_volumes_are_mirrored_up_to_the_networks_stride_and_no_further():
    parts = [numbered((3, 9, 8)), numbered((2, 4, 10))]
    draw = sampler(parts, stride=(2, 4, 4), normalisation=AS_IS, config=WholeSamplingConfig())
    assert draw.per_epoch == 2
    assert sorted(window.shape for window in draw.windows(0, 2)) == [(2, 4, 12), (4, 12, 8)]
    batch = draw.batch(0, 2)  # both at once: as large as the larger along each axis
    assert batch.images.shape == (2, 1, 4, 12, 12)
    learned = sorted(int((target != 255).sum()) for target in batch.targets)
    assert learned == [2 * 4 * 10, 3 * 9 * 8]
    one = next(draw.batch(step, 1) for step in (0, 1) if draw.windows(step, 1)[0].part == 0)
    assert np.array_equal(one.images[0, 0, 3], one.images[0, 0, 2])  # mirrored about the face
    assert (one.targets[0, 3] == 255).all()
    assert np.array_equal(one.images[0, 0, :3, :9], parts[0].image[0])


def test_patches_are_counted_a_volume_where_that_is_asked():
    shapes = [(4, 8, 8)] * 3
    assert patches_per_epoch(RandomSamplingConfig(per_epoch=64), shapes, (2, 4, 4)) == 64
    assert patches_per_epoch(RandomSamplingConfig(per_epoch=64, per_volume=10), shapes, (2, 4, 4)) == 30
    assert patches_per_epoch(ClassSamplingConfig(per_volume=1), shapes, (2, 4, 4)) == 3
    assert patches_per_epoch(GridSamplingConfig(overlap=0.5), shapes, (2, 4, 4)) == 3 * 3 * 3 * 3
    assert patches_per_epoch(WholeSamplingConfig(), shapes, (2, 4, 4)) == 3


# Volumes smaller than a patch.


def test_a_patch_is_no_larger_than_the_largest_part_needs():
    assert fitting_patch((16, 64, 64), [(5, 30, 200), (6, 40, 10)], (1, 8, 8)) == (6, 40, 64)
    assert fitting_patch((16, 64, 64), [(5, 30, 30)], (2, 4, 4)) == (6, 32, 32)


def test_small_volumes_are_mirrored_and_what_is_added_is_not_learned():
    """Mirroring is numpy's `symmetric`, checked against an index of its own; no side grows to a power of two."""
    small, large = numbered((2, 5, 6)), numbered((4, 12, 12))
    draw = sampler([small, large], shape=(4, 8, 8), normalisation=AS_IS, config=foreground(0))
    for step in range(20):
        batch = draw.batch(step, 1)
        if draw.windows(step, 1)[0].part == 1:
            continue
        assert batch.images.shape == (1, 1, 4, 8, 8)
        learned = batch.targets[0] != 255
        assert learned.sum() == 2 * 5 * 6
        assert np.array_equal(batch.images[0, 0][learned], small.image.ravel())
        place = np.ix_([0, 1, 1, 0], [0, 1, 2, 3, 4, 4, 3, 2], [0, 1, 2, 3, 4, 5, 5, 4])
        assert np.array_equal(batch.images[0, 0], small.image[0][place])
        return
    raise AssertionError("The small part was never drawn.")


# What was not annotated.


def sparse_part(annotated: int) -> TrainingPart:
    """A part in which only a small block around one place is annotated, `annotated` voxels wide."""
    target = np.full((12, 40, 40), 255, np.uint8)
    target[5:7, 20 : 20 + annotated, 20 : 20 + annotated] = 0
    target[5, 20, 20] = 1
    return part(target, name="sparse")


def test_every_patch_holds_something_annotated():
    batch = sampler([sparse_part(3)], (4, 8, 8), config=foreground(0)).batch(0, 60)
    assert (batch.targets != 255).any(axis=(1, 2, 3)).all()


def test_what_was_not_annotated_is_no_foreground():
    batch = sampler([sparse_part(3)], (4, 8, 8), config=foreground(1.0)).batch(0, 30)
    # Each patch is drawn around the only foreground voxel, shifted by at most a quarter of its side.
    assert (batch.targets == 1).any(axis=(1, 2, 3)).all()


def test_a_part_without_annotation_is_never_drawn_and_none_at_all_is_refused():
    empty = part(np.full((12, 40, 40), 255), name="empty")
    batch = sampler([empty, sparse_part(3)], (4, 8, 8)).batch(0, 40)
    assert (batch.targets != 255).any(axis=(1, 2, 3)).all()
    with pytest.raises(ConfigError, match="annotated"):
        sampler([empty])
