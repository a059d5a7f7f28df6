"""A network that needs no labels: it never sees any, is judged by them where there are some, and else by itself."""

from dataclasses import replace

import numpy as np
import pytest

from seglib.checkpoints import load_checkpoint
from seglib.config import (
    AdamConfig,
    ClassSamplingConfig,
    CrossEntropyLossConfig,
    DataConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
)
from seglib.errors import ConfigError
from seglib.models.zoo.wnet import WNetConfig
from seglib.training.loop import train
from seglib.training.setup import prepare
from tests.training.test_loop import asked, config, numbers, saved_run, volume

SETTINGS = {
    "model": WNetConfig(start_channels=4, dropout=0.2),
    "patches": PatchConfig(shape=(16, 16, 16), batch_size=2),
    "sampling": RandomSamplingConfig(per_epoch=4),
    "length": LengthConfig(epochs=2),
}
SHAPE = (16, 32, 60)


def unlabelled(shape=SHAPE, **changes):
    return replace(volume(shape, **changes), labels=None)


def test_it_trains_stops_and_resumes_exactly_without_any_labels(tmp_path):
    settings, volumes = config(**SETTINGS), [unlabelled()]
    whole = list(train(settings, volumes))
    assert whole[-1].reason == "finished"
    told = saved_run(tmp_path, settings, volumes=volumes, stop=asked(1))
    assert told[-1].reason == "stopped"
    told += saved_run(tmp_path, settings, volumes=volumes, resume=load_checkpoint(tmp_path / "last.pt"))
    assert numbers(told) == numbers(whole)
    judged = [event for event in whole if type(event).__name__ == "ValidationDone"]
    epochs = [event for event in whole if type(event).__name__ == "EpochDone"]
    assert [set(event.scores) for event in judged + epochs] == [{"loss"}] * 4
    best = [event.checkpoint for event in whole if type(event).__name__ == "CheckpointMade" and event.kind == "best"]
    assert best[-1].score == pytest.approx(-min(event.scores["loss"] for event in judged))


def test_labels_change_nothing_of_what_it_learns():
    """With labels, without, and with others: the same losses and the same weights."""
    learned = []
    for given in (volume(SHAPE), unlabelled(), replace(volume(SHAPE), labels=np.ones(SHAPE, np.uint8))):
        events = list(train(config(**SETTINGS), [given]))
        made = [event for event in events if type(event).__name__ == "CheckpointMade" and event.kind == "last"]
        learned.append({name: tensor.numpy() for name, tensor in made[-1].checkpoint.network.items()})
    for other in learned[1:]:
        assert all(np.array_equal(learned[0][name], other[name]) for name in other)


def blocks():
    """Bright blocks in noise."""
    given = volume(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:12, 6:26] = np.arange(SHAPE[2]) // 8 % 2
    noise = np.random.default_rng(0).normal(0, 8, (1, *SHAPE))
    image = (60 + 100 * labels[None] + noise).clip(0, 255).astype(np.uint8)
    return replace(given, image=image, labels=labels)


def test_it_is_judged_by_labels_where_there_are_some_and_finds_bright_blocks():
    settings = config(
        **SETTINGS
        | {
            "model": WNetConfig(start_channels=8, dropout=0.2, similarity="neighbours", intensity_sigma=10),
            "optimiser": AdamConfig(learning_rate=1e-2),
            "length": LengthConfig(epochs=6),
            "sampling": RandomSamplingConfig(per_epoch=24),
        }
    )
    judged = [event.scores for event in train(settings, [blocks()]) if type(event).__name__ == "ValidationDone"]
    assert all({"loss", "dice", "iou"} <= set(scores) for scores in judged)
    assert max(scores["dice"] for scores in judged) > 0.78
    assert judged[-1]["loss"] < judged[0]["loss"]


def test_patches_come_from_everywhere_by_the_size_of_the_parts():
    settings = config(**SETTINGS | {"sampling": ClassSamplingConfig(per_epoch=4, foreground_share=1.0)})
    small, large = unlabelled((16, 16, 40), name="small"), unlabelled((16, 64, 120), name="large")
    sampler = prepare(settings, [small, large], resume=None).sampler
    drawn = [window for step in range(60) for window in sampler.windows(step, 4)]
    share = np.mean([window.part for window in drawn])
    assert 0.85 < share < 0.97  # 64 × 120 of 64 × 120 + 16 × 40 is 0.92
    rows = [window.start[1] for window in drawn if window.part]
    assert min(rows) < 5
    assert max(rows) > 43


def test_a_softmax_over_background_and_foreground_works_too():
    settings = config(**SETTINGS | {"loss": CrossEntropyLossConfig()})
    assert list(train(settings, [volume(SHAPE)]))[-1].reason == "finished"


def test_what_it_cannot_do_is_said():
    classes = [{"name": name, "values": [value]} for value, name in ((1, "a"), (2, "b"))]
    data = {"dataset": 1, "task": "classes", "labels": {"kind": "classes", "classes": classes}}
    with pytest.raises(ConfigError, match="choose the task Foreground"):
        list(train(config(**SETTINGS | {"data": DataConfig.model_validate(data)}), [volume(SHAPE)]))
    with pytest.raises(ConfigError, match=r"leaf has no labels, and this network needs them.*WNet3D"):
        list(train(config(), [unlabelled()]))
