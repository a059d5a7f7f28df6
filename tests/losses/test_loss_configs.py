"""Settings of losses: what was stored stays readable, and what cannot be added is refused."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from seglib.config import (
    BCELossConfig,
    CrossEntropyLossConfig,
    DiceBCELossConfig,
    DiceLossConfig,
    LossConfig,
    SumLossConfig,
    parse_run_config,
)
from seglib.losses import activation_of
from tests.losses.kinds import CONFIGS, all_kinds, name

LOSS = TypeAdapter(LossConfig)
DICE, ENTROPY = {"loss": {"kind": "dice"}}, {"loss": {"kind": "cross_entropy"}}


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_settings_survive_json(config):
    assert LOSS.validate_python(json.loads(LOSS.dump_json(config))) == config


def test_weights_by_hand_survive_json():
    config = DiceLossConfig(class_weights=(0.2, 3))
    assert LOSS.validate_json(LOSS.dump_json(config)) == config
    assert LOSS.dump_python(config, mode="json")["class_weights"] == [0.2, 3]


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ({"kind": "dice", "smooth": 2.0}, DiceLossConfig(smooth=2.0)),
        ({"kind": "bce", "positive_weight": 7.0}, BCELossConfig(positive_weight=7.0)),
        ({"kind": "dice_bce", "dice_weight": 0.3, "smooth": 2.0}, DiceBCELossConfig(dice_weight=0.3, smooth=2.0)),
        ({"kind": "cross_entropy", "label_smoothing": 0.1}, CrossEntropyLossConfig(label_smoothing=0.1)),
    ],
)
def test_runs_stored_before_there_were_more_losses_mean_the_same(stored, meant):
    run = parse_run_config({"version": 2, "data": {"dataset": 1}, "loss": stored})
    assert run.loss == meant
    assert getattr(run.loss, "class_weights", "equal") == "equal"
    assert activation_of(run.loss) == ("softmax" if stored["kind"] == "cross_entropy" else "sigmoid")


def test_every_kind_is_ready_as_it_comes_and_says_what_it_is():
    for kind in all_kinds():
        assert LOSS.validate_python({"kind": kind().kind}) == kind()
        assert "\n" not in kind.__doc__
        fields = {name: info for name, info in kind.model_fields.items() if name != "kind"}
        assert all(info.title and info.description.endswith(".") for info in fields.values())


def test_losses_that_decide_classes_in_two_ways_are_not_added():
    with pytest.raises(ValidationError, match=r"loss 1 \(dice\) decides each by itself and loss 3 \(cross_entropy\)"):
        LOSS.validate_python({"kind": "sum", "parts": [DICE, DICE, ENTROPY]})
    compete = {"loss": {"kind": "dice", "classes": "compete"}}
    assert activation_of(SumLossConfig(parts=[compete, ENTROPY])) == "softmax"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sum", "parts": []},
        {"kind": "sum", "parts": [{"loss": {"kind": "sum"}}]},
        {"kind": "sum", "parts": [{"weight": 0, **DICE}]},
        {"kind": "dice", "class_weights": []},
        {"kind": "dice", "class_weights": [1, -1]},
        {"kind": "dice", "class_weights": "by_hand"},
        {"kind": "weighted_bce", "class_weights": "equal"},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        LOSS.validate_python(wrong)
