"""Example patches: from the training part, varied as set, labels in the classes' colours."""

from dataclasses import replace

import numpy as np
import pytest

import seglib.training.examples
from seglib.config import (
    BlockSplitConfig,
    DataConfig,
    EMAugmentationConfig,
    FixedRangeConfig,
    NoAugmentationConfig,
    PatchConfig,
    RandomSamplingConfig,
    VolumeSplitConfig,
)
from seglib.config.labels import LabelClass, LabelScheme
from seglib.errors import ConfigError
from seglib.training.examples import draw_examples
from tests.training.test_loop import config, volume

SCHEME = LabelScheme(
    kind="classes",
    classes=(LabelClass(name="bar", values=(1,), colour="#ff0000"), LabelClass(name="spot", values=(2,))),
    ignore=(9,),
)


def settings(**changes):
    usual = {
        "data": DataConfig(dataset=1, task="classes", labels=SCHEME),
        "patches": PatchConfig(shape=(4, 8, 8), batch_size=2),
        "augmentation": NoAugmentationConfig(),
    }
    return config(**{**usual, **changes})


def test_as_many_as_asked_for_and_the_same_for_a_seed():
    first, again, other = (draw_examples(settings(), [volume()], count=8, seed=seed) for seed in (3, 3, 4))
    assert len(first) == 8
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.picture, b.picture) for a, b in zip(first, other, strict=True))
    for example in first:
        assert example.picture.shape == example.plain.shape == (8, 8, 3)
        assert example.picture.dtype == np.uint8
        assert example.volume == "leaf, 4 × 8 × 8"


def test_classes_have_their_colours_and_what_is_not_learned_is_dark():
    made = volume()
    labels = made.labels.copy()
    labels[:, 10:] = 9
    made = replace(made, image=np.full_like(made.image, 200), labels=labels)
    sampling = RandomSamplingConfig(foreground_share=1.0, per_epoch=8)
    flat = settings(sampling=sampling, normalisation=FixedRangeConfig(low=0, high=255))
    for example in draw_examples(flat, [made], count=8):
        assert (example.plain[..., 0] == example.plain[..., 2]).all()
        red = example.picture[..., 0] > example.picture[..., 2]
        assert red.any()  # the bars
        if example.learned < 1:
            assert (example.picture[..., 0] <= example.picture[..., 2]).any()


def test_only_training_voxels_are_shown():
    made = volume()
    labels = np.zeros_like(made.labels)
    labels[:, :, 12:] = 1  # all of it validates
    for example in draw_examples(
        settings(split=BlockSplitConfig(axis="x", validation_share=0.25)), [replace(made, labels=labels)], count=16
    ):
        assert np.array_equal(example.picture, example.plain)


def test_they_are_varied_as_the_run_would_be():
    off = draw_examples(settings(), [volume()])
    em = draw_examples(settings(augmentation=EMAugmentationConfig()), [volume()])
    assert any(not np.array_equal(a.plain, b.plain) for a, b in zip(off, em, strict=True))


def test_of_large_volumes_a_piece_with_labels_is_read(monkeypatch):
    monkeypatch.setattr(seglib.training.examples, "MOST_SIDES", (4, 8, 8))
    read = []

    class Watched:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key):
            read.append(self.array[key].size)
            return self.array[key]

    made = volume((8, 32, 64))
    made = replace(made, image=Watched(made.image), labels=Watched(made.labels))
    assert len(draw_examples(settings(), [made])) == 8
    assert max(read) <= 4 * 8 * 8


def test_settings_that_do_not_fit_are_said():
    with pytest.raises(ConfigError, match="at least 2 volumes"):
        draw_examples(settings(split=VolumeSplitConfig()), [volume()])
