"""Patches: from the training part only, the same for a seed and step, on foreground as often as asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.config import DataConfig
from seglib.data.normalise import Normalisation, measure
from seglib.data.patches import PatchSampler, TrainingPart
from seglib.data.splits import split_data
from seglib.errors import ConfigError

IDENTITY = Normalisation((-1.0,), (1.0,))


def sampler(parts, shape=(2, 4, 4), foreground_share=0.5, seed=0, normalisation=IDENTITY):
    return PatchSampler(parts, normalisation, shape=shape, foreground_share=foreground_share, seed=seed)


def part(target, image=None, name="leaf"):
    target = np.asarray(target, np.uint8)
    return TrainingPart(name, np.zeros((1, *target.shape), np.float32) if image is None else image, target)


def numbered(shape):
    """A part in which every grey value (0 … 1) is another one, and the brightest tenth is foreground."""
    values = (np.arange(np.prod(shape), dtype=np.float32) / np.prod(shape)).reshape(1, *shape)
    return part((values[0] > 0.9), values)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(4, 9), st.integers(6, 14), st.integers(6, 14)), st.floats(0.05, 0.4), st.integers(0, 99))
def test_no_patch_ever_holds_a_validation_voxel(shape, share, seed):
    config = DataConfig(dataset=1, split="block", validation_share=share)
    split = split_data([shape], ["a"], config, seed)
    image, target = np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8)
    target[::2, ::3] = 1
    for region in split.validation:
        image[0][region.slices] = 3.0  # forbidden
        target[region.slices] = 9
    (region,) = split.training
    training = part(target[region.slices], image[0][region.slices][None])
    draw = sampler([training], shape=(2, 3, 3), seed=seed)
    for step in range(10):
        batch = draw.batch(step, 4)
        assert batch.images.shape == (4, 1, 2, 3, 3)
        assert batch.targets.shape == (4, 2, 3, 3)
        assert batch.images.max() == 0.0
        assert batch.targets.max() <= 1


def test_image_and_target_of_a_patch_are_the_same_place():
    batch = sampler([numbered((6, 12, 12))]).batch(3, 32)
    assert np.array_equal(batch.images[:, 0] > 0.9, batch.targets.astype(bool))
    assert batch.images.dtype == np.float32
    assert batch.targets.dtype == np.uint8


def test_a_batch_follows_from_seed_and_step_alone():
    parts = [numbered((6, 12, 12)), numbered((4, 8, 8))]
    first, second = sampler(parts, seed=5), sampler(parts, seed=5)
    first.batch(0, 3)
    first.batch(1, 3)
    assert np.array_equal(first.batch(7, 3).images, second.batch(7, 3).images)
    assert not np.array_equal(second.batch(7, 3).images, second.batch(8, 3).images)
    assert not np.array_equal(second.batch(7, 3).images, sampler(parts, seed=6).batch(7, 3).images)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_foreground_share_of_patches_holds_foreground(share):
    target = np.zeros((10, 60, 60), np.uint8)
    target[5, 30, 30] = 1  # a random patch holds it in about 1 of 1000 draws
    found = sampler([part(target)], foreground_share=share).batch(0, 1000).targets.any(axis=(1, 2, 3)).mean()
    assert found == pytest.approx(share, abs=0.05)


def test_foreground_in_a_corner_is_still_in_the_patch():
    target = np.zeros((6, 20, 20), np.uint8)
    target[0, 0, 19] = 1
    targets = sampler([part(target)], shape=(4, 7, 8), foreground_share=1.0).batch(0, 200).targets
    assert targets.any(axis=(1, 2, 3)).all()


def test_objects_are_not_always_in_the_middle():
    target = np.zeros((3, 40, 40), np.uint8)
    target[1, 20, 20] = 1
    targets = sampler([part(target)], shape=(1, 8, 8), foreground_share=1.0).batch(0, 200).targets
    places = {tuple(int(p) for p in place[1:]) for place in np.argwhere(targets)[:, 1:]}
    assert len(places) == 25  # ± a quarter of 8 in y and x


def test_random_patches_reach_every_voxel_of_every_part():
    shapes = [(3, 7, 5), (2, 6, 9)]
    parts, seen = [], set()
    for shape in shapes:
        start = sum(len(p.image.ravel()) for p in parts)
        values = np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(1, *shape)
        parts.append(part(np.zeros(shape), values))
    wide = Normalisation((-100.0,), (300.0,))
    draw = sampler(parts, shape=(2, 3, 3), normalisation=wide)
    for step in range(40):
        seen |= set(np.round((draw.batch(step, 16).images + 1) * 200 - 100).astype(int).ravel().tolist())
    assert seen == set(range(3 * 7 * 5 + 2 * 6 * 9))


def test_parts_without_foreground_are_drawn_at_random():
    assert sampler([part(np.zeros((2, 4, 4)))], foreground_share=1.0).batch(0, 2).targets.sum() == 0


def test_a_patch_larger_than_a_part_is_refused_by_name():
    parts = [part(np.zeros((4, 8, 8))), part(np.zeros((4, 8, 3)), name="leaf2.tif")]
    with pytest.raises(ConfigError, match="patch 2 × 4 × 4 is larger.*leaf2.tif, which is 4 × 8 × 3"):
        sampler(parts)


def sparse_part(annotated: int) -> TrainingPart:
    """A part in which only a small block around one place is annotated, `annotated` voxels wide."""
    target = np.full((12, 40, 40), 255, np.uint8)
    target[5:7, 20 : 20 + annotated, 20 : 20 + annotated] = 0
    target[5, 20, 20] = 1
    return TrainingPart("sparse", np.zeros((1, 12, 40, 40), np.uint8), target)


def sampler_of(*parts, share=0.0):
    scale = measure(part.image for part in parts)
    return PatchSampler(parts, scale, shape=(4, 8, 8), foreground_share=share, seed=0)


def test_every_patch_holds_something_annotated():
    batch = sampler_of(sparse_part(3)).batch(0, 60)
    assert (batch.targets != 255).any(axis=(1, 2, 3)).all()


def test_what_was_not_annotated_is_no_foreground():
    part = sparse_part(3)
    batch = sampler_of(part, share=1.0).batch(0, 30)
    # Each patch is drawn around the only foreground voxel, shifted by at most a quarter of its side.
    assert (batch.targets == 1).any(axis=(1, 2, 3)).all()


def test_a_part_without_annotation_is_never_drawn_and_none_at_all_is_refused():
    empty = TrainingPart("empty", np.full((1, 12, 40, 40), 7, np.uint8), np.full((12, 40, 40), 255, np.uint8))
    batch = sampler_of(empty, sparse_part(3)).batch(0, 40)
    assert (batch.targets != 255).any(axis=(1, 2, 3)).all()
    with pytest.raises(ConfigError, match="annotated"):
        sampler_of(empty)
