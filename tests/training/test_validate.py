"""Validation: the whole part is counted, once, as a prediction would be."""

import numpy as np
import pytest
import torch
from torch import nn

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DataConfig, PatchConfig, RunConfig
from seglib.data.normalise import between
from seglib.data.parts import TrainingPart
from seglib.inference.predict import Predictor, decide, foreground_probabilities
from seglib.losses import build_loss
from seglib.metrics.overlap import Counts, count_overlap
from seglib.training.validate import Verdict, foreground_counts, validate


def predictor(activation="sigmoid", outputs=2) -> Predictor:
    torch.manual_seed(0)
    network = nn.Conv3d(1, outputs, 1)
    return Predictor(network.eval(), between([-1.0], [1.0]), activation, (2, 2, 2), torch.device("cpu"), half=False)


def part(shape, seed) -> TrainingPart:
    rng = np.random.default_rng(seed)
    return TrainingPart("leaf", rng.normal(size=(1, *shape)), rng.integers(0, 3, shape).astype(np.uint8))


def config(overlap=0.25) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset=1),
        patches=PatchConfig(shape=(4, 6, 4), batch_size=3),
        validation={"overlap": overlap},
    )


def listed(counts: Counts):
    return counts.hits.tolist(), counts.false_alarms.tolist(), counts.misses.tolist()


PARTS = [part((7, 9, 5), 1), part((3, 4, 11), 2)]


def whole_logits(model, leaf):
    return model.logits(model.normalisation.apply(leaf.image)[None])


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", 2), ("softmax", 3)])
def test_every_voxel_of_every_part_is_counted_once(overlap, activation, outputs):
    model = predictor(activation, outputs)
    loss = build_loss(CrossEntropyLossConfig() if activation == "softmax" else BCELossConfig())
    verdict = validate(model, PARTS, config(overlap), loss=loss, classes=2, stop=lambda: False)
    expected = [
        count_overlap(
            decide(foreground_probabilities(whole_logits(model, leaf), activation)[0].numpy(), activation, 0.5),
            leaf.target,
            2,
        )
        for leaf in PARTS
    ]
    assert listed(verdict.counts) == listed(expected[0] + expected[1])
    total = sum(leaf.target.size for leaf in PARTS)
    assert (verdict.counts.hits + verdict.counts.misses).sum() == sum((leaf.target > 0).sum() for leaf in PARTS) < total


def test_the_loss_is_the_mean_over_tiles_of_what_lies_inside_the_part():
    model, leaf = predictor(), part((3, 5, 4), 3)  # tiles of 4 × 6 × 4 stick out by one plane and one row
    logits = whole_logits(model, leaf)
    expected = float(build_loss(BCELossConfig())(logits, torch.from_numpy(leaf.target)[None]))
    verdict = validate(model, [leaf], config(), loss=build_loss(BCELossConfig()), classes=2, stop=lambda: False)
    assert verdict.loss == pytest.approx(expected, rel=1e-5)


def test_a_stop_midway_gives_no_verdict():
    answers = iter([False, True])
    loss = build_loss(BCELossConfig())
    assert validate(predictor(), PARTS, config(), loss=loss, classes=2, stop=lambda: next(answers)) is None


@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", 2), ("softmax", 3)])
def test_counts_of_a_batch_are_those_of_its_decision(activation, outputs):
    logits = torch.randn(4, outputs, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (4, 3, 5, 6), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    probabilities = foreground_probabilities(logits, activation).transpose(0, 1).numpy()
    expected = count_overlap(decide(probabilities, activation, 0.5), target.numpy(), 2)
    assert listed(foreground_counts(logits, target, activation, 2)) == listed(expected)


def test_scores_name_classes_only_where_there_are_several():
    one = Verdict(0.5, Counts(np.array([6]), np.array([2]), np.array([4])), annotated=True)
    assert one.scores(["cell"]) == pytest.approx({"loss": 0.5, "dice": 12 / 18, "iou": 6 / 12})
    two = Verdict(0.5, Counts(np.array([6, 0]), np.array([2, 0]), np.array([4, 0])), annotated=True)
    scores = two.scores(["cell", "wall"])
    assert scores["dice"] == scores["dice/cell"] == pytest.approx(12 / 18)
    assert np.isnan(scores["dice/wall"])
    assert Verdict(0.5, two.counts, annotated=False).scores(["cell", "wall"]) == {"loss": 0.5}


def test_what_was_not_annotated_is_neither_counted_nor_in_the_loss():
    model = predictor()
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1, 8, 16, 16)).astype(np.float32)
    target = rng.integers(0, 3, (8, 16, 16)).astype(np.uint8)
    hidden = target.copy()
    hidden[:4] = 255
    config = RunConfig(
        data=DataConfig(dataset=1), patches=PatchConfig(shape=(4, 16, 16)), loss=BCELossConfig(positive_weight=1.0)
    )
    config = config.model_copy(update={"validation": config.validation.model_copy(update={"overlap": 0.0})})

    def judged(image, target):
        part = TrainingPart("x", image, target)
        loss = build_loss(config.loss)
        return validate(model, [part], config, loss=loss, classes=2, stop=lambda: False)

    whole, alone = judged(image, hidden), judged(image[:, 4:], target[4:])
    assert whole.loss == pytest.approx(alone.loss)
    assert whole.counts.hits.tolist() == alone.counts.hits.tolist()
    assert whole.counts.false_alarms.tolist() == alone.counts.false_alarms.tolist()
    nothing = judged(image, np.full_like(target, 255))
    assert nothing.loss == 0
    assert not nothing.counts.misses.any()


def test_a_batch_counts_only_what_was_annotated():
    logits = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 3, 4, 5), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    seen = target.clone()
    seen[1] = 255
    found = foreground_counts(logits, seen, "sigmoid", 2)
    expected = foreground_counts(logits[:1], target[:1], "sigmoid", 2)
    assert found.hits.tolist() == expected.hits.tolist()
    assert found.false_alarms.tolist() == expected.false_alarms.tolist()
    assert found.misses.tolist() == expected.misses.tolist()
