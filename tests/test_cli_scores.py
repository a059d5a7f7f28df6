"""Scores on the command line: the main ones, class by class, and what is not in the labels is said."""

import math

from seglib.cli.scores import epoch_in_words, volume_in_words


def test_an_epoch_is_one_line_of_its_main_scores():
    scores = {"loss": 0.5, "dice": 0.75, "dice/axon": 0.75, "recall/axon": 1.0, "dice_at_best_threshold": 0.8}
    assert epoch_in_words(scores) == "loss 0.5000, dice 0.7500, dice/axon 0.7500, dice at best threshold 0.8000"


def test_a_volume_has_a_line_for_each_class_and_one_for_objects():
    scores = {"dice": 0.5, "dice/axon": 0.5, "dice/wall": math.nan, "objects/f1@0.5": 0.25, "objects/true_objects": 8.0}
    details = {"names": ["axon", "wall"], "absent": ["wall"]}
    assert volume_in_words(scores, details).splitlines() == [
        "dice 0.5000",
        "  axon: dice 0.5000",
        "  wall: not in the labels",
        "  objects: true objects 8, f1@0.5 0.2500",
    ]
    assert volume_in_words({"dice": 0.5}, {"names": ["foreground"]}) == "dice 0.5000"
