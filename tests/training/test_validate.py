"""Validation: the whole part is counted, once, as a prediction would be."""

import numpy as np
import pytest
import torch
from torch import nn

from seglib.config import BCELossConfig, CrossEntropyLossConfig, DataConfig, PatchConfig, RunConfig, ValidationConfig
from seglib.data.normalise import between
from seglib.data.parts import TrainingPart
from seglib.inference.deciding import decide
from seglib.inference.predict import Predictor, foreground_probabilities
from seglib.losses import build_loss
from seglib.metrics.overlap import Counts, count_overlap, dice
from seglib.metrics.surfaces import hausdorff95, measure_surfaces
from seglib.training.validate import Judging, foreground_counts, validate


def predictor(activation="sigmoid", outputs=2) -> Predictor:
    torch.manual_seed(0)
    network = nn.Conv3d(1, outputs, 1)
    return Predictor(network.eval(), between([-1.0], [1.0]), activation, (2, 2, 2), 2, torch.device("cpu"), half=None)


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


def judged(model, parts, config, loss, stop=lambda: False):
    """What validation gives at its end."""
    judging = Judging(config, ("cell", "wall"), loss, (30.0, 10.0, 10.0))
    steps = validate(model, parts, judging, stop=stop)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def whole_logits(model, leaf):
    return model.logits(torch.from_numpy(model.normalisation.apply(leaf.image)[None]))


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", 2), ("softmax", 3)])
def test_every_voxel_of_every_part_is_counted_once(overlap, activation, outputs):
    model = predictor(activation, outputs)
    loss = build_loss(CrossEntropyLossConfig() if activation == "softmax" else BCELossConfig())
    verdict = judged(model, PARTS, config(overlap), loss)
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
    verdict = judged(model, [leaf], config(), build_loss(BCELossConfig()))
    assert verdict.scores["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_stop_midway_gives_no_verdict():
    answers = iter([False, True])
    loss = build_loss(BCELossConfig())
    assert judged(predictor(), PARTS, config(), loss, stop=lambda: next(answers)) is None


@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", 2), ("softmax", 3)])
def test_counts_of_a_batch_are_those_of_its_decision(activation, outputs):
    logits = torch.randn(4, outputs, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (4, 3, 5, 6), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    probabilities = foreground_probabilities(logits, activation).transpose(0, 1).numpy()
    expected = count_overlap(decide(probabilities, activation, 0.5), target.numpy(), 2)
    counts, voxels = foreground_counts(logits, target, activation, 2)
    assert (listed(counts), voxels) == (listed(expected), target.numel())


@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", 2), ("softmax", 3)])
def test_the_best_threshold_of_each_class_is_that_of_trying_all_of_them(activation, outputs):
    """Every pair of thresholds is tried on the whole part, and none gives a higher Dice than those found."""
    model, leaf = predictor(activation, outputs), part((6, 8, 8), 4)
    loss = build_loss(CrossEntropyLossConfig() if activation == "softmax" else BCELossConfig())
    verdict = judged(model, [leaf], config(0.0), loss)
    probabilities = foreground_probabilities(whole_logits(model, leaf), activation)[0].numpy()
    steps = np.arange(5, 200, 5) / 200
    best = np.zeros(2)
    for one in steps:
        for other in steps:
            scores = dice(count_overlap(decide(probabilities, activation, (one, other)), leaf.target, 2))
            best = np.maximum(best, scores)
    tuned = dice(count_overlap(decide(probabilities, activation, verdict.thresholds), leaf.target, 2))
    assert (tuned >= best - 1e-9).all()
    assert verdict.scores["dice_at_best_threshold"] == pytest.approx(tuned.mean(), abs=2e-3)
    assert verdict.scores["dice_at_best_threshold"] >= verdict.scores["dice"] - 1e-9


def test_surfaces_are_measured_on_the_whole_part_in_nanometres_where_asked():
    model, leaf = predictor(), part((6, 8, 8), 4)
    asked = config().model_copy(update={"validation": ValidationConfig(surfaces=True, tolerance_nm=12)})
    verdict = judged(model, [leaf], asked, build_loss(BCELossConfig()))
    found = decide(foreground_probabilities(whole_logits(model, leaf), "sigmoid")[0].numpy(), "sigmoid", 0.5)
    alone = measure_surfaces(found, leaf.target, 2, voxel_size_nm=(30.0, 10.0, 10.0))
    assert verdict.scores["hausdorff95"] == pytest.approx(np.mean(hausdorff95(alone)))
    assert "hausdorff95" not in judged(model, [leaf], config(), build_loss(BCELossConfig())).scores


def test_a_class_that_is_not_in_the_labels_is_named_and_in_no_mean():
    model, leaf = predictor(), part((6, 8, 8), 4)
    without = TrainingPart("leaf", leaf.image, np.where(leaf.target == 2, 0, leaf.target).astype(np.uint8))
    verdict = judged(model, [without], config(), build_loss(BCELossConfig()))
    assert verdict.details["absent"] == ["wall"]
    assert np.isnan(verdict.scores["dice/wall"])
    assert verdict.scores["dice"] == verdict.scores["dice/cell"]


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

    def found(image, target):
        return judged(model, [TrainingPart("x", image, target)], config, build_loss(config.loss))

    whole, alone = found(image, hidden), found(image[:, 4:], target[4:])
    assert whole.scores == pytest.approx(alone.scores)
    assert whole.counts.hits.tolist() == alone.counts.hits.tolist()
    assert whole.counts.false_alarms.tolist() == alone.counts.false_alarms.tolist()
    nothing = found(image, np.full_like(target, 255))
    assert (nothing.scores, nothing.details) == ({"loss": 0.0}, {})
    assert not nothing.counts.misses.any()


def test_a_batch_counts_only_what_was_annotated():
    logits = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 3, 4, 5), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    seen = target.clone()
    seen[1] = 255
    found, voxels = foreground_counts(logits, seen, "sigmoid", 2)
    expected, _ = foreground_counts(logits[:1], target[:1], "sigmoid", 2)
    assert voxels == 60
    assert found.hits.tolist() == expected.hits.tolist()
    assert found.false_alarms.tolist() == expected.false_alarms.tolist()
    assert found.misses.tolist() == expected.misses.tolist()
