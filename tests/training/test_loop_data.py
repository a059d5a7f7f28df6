"""How the loop feeds on data: every way to draw and vary patches, volumes read from disk, the part kept for the end."""

from dataclasses import replace

import numpy as np
import pytest

import seglib.training.setup
from seglib.checkpoints import load_checkpoint
from seglib.config import (
    BlockSplitConfig,
    ClassSamplingConfig,
    EMAugmentationConfig,
    EncoderRangeConfig,
    GridSamplingConfig,
    LightAugmentationConfig,
    MinMaxConfig,
    StandardAugmentationConfig,
    UNet2DConfig,
    WholeSamplingConfig,
    ZScoreConfig,
)
from seglib.events import Note
from seglib.training.loop import train
from tests.training.test_loop import asked, config, numbers, saved_run, volume


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": GridSamplingConfig(overlap=0.5)},
        {"sampling": WholeSamplingConfig()},
        {"sampling": WholeSamplingConfig(), "model": UNet2DConfig(depth=2, start_channels=2)},
        {"sampling": ClassSamplingConfig(per_volume=2), "augmentation": EMAugmentationConfig()},
        {"augmentation": StandardAugmentationConfig(), "normalisation": EncoderRangeConfig()},
        {"normalisation": ZScoreConfig(), "augmentation": LightAugmentationConfig(rotate=1.0, shear=1.0)},
    ],
    ids=lambda changes: "-".join(part.kind for part in changes.values()),
)
def test_a_run_of_any_sampling_and_augmentation_stopped_and_resumed_is_the_undisturbed_run(tmp_path, changes):
    settings = config(**changes)
    volumes = [volume(), volume((7, 13, 18), seed=1)]
    whole = list(train(settings, volumes))
    assert whole[-1].reason == "finished"
    told = saved_run(tmp_path, settings, volumes=volumes, stop=asked(2))
    assert told[-1].reason == "stopped"
    told += saved_run(tmp_path, settings, volumes=volumes, resume=load_checkpoint(tmp_path / "last.pt"))
    assert numbers(told) == numbers(whole)


def test_volumes_read_from_disk_train_the_same_network_as_volumes_in_memory(monkeypatch):
    """Every volume is larger than what may be kept; the sampler then reads ahead in several threads."""
    settings = config(augmentation=StandardAugmentationConfig(), normalisation=MinMaxConfig())
    volumes = [volume(), volume((7, 13, 18), seed=1)]
    kept = numbers(train(settings, volumes))
    monkeypatch.setattr(seglib.training.setup, "memory_for_volumes", lambda config: 100)
    events = list(train(settings, volumes))
    assert any("read from disk" in event.text for event in events if isinstance(event, Note))
    assert numbers(events) == kept


def test_the_test_part_is_never_read():
    """Neither its image nor its labels, whatever trains."""
    whole = volume((8, 16, 40))
    seen = np.zeros(40, bool)

    class Watched:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key):
            seen[key[-1]] = True
            return self.array[key]

    watched = replace(whole, image=Watched(whole.image), labels=Watched(whole.labels))
    settings = config(split=BlockSplitConfig(axis="x", validation_share=0.2, test_share=0.25, gap=2))
    assert list(train(settings, [watched]))[-1].reason == "finished"
    # 10 of 40 for the end, 2 between, 8 that judge, 2 between, 18 that train.
    assert seen.tolist() == [True] * 18 + [False] * 2 + [True] * 8 + [False] * 12
