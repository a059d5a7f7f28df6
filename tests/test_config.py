"""The config tree: survives JSON, refuses what it does not know, and tells a form all it needs."""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seglib.config import (
    BlockSplitConfig,
    DataConfig,
    NoAugmentationConfig,
    PatchConfig,
    PredictConfig,
    RandomSamplingConfig,
    RunConfig,
    parse_predict_config,
    parse_run_config,
)
from seglib.errors import ConfigError

SMALLEST = {"data": {"dataset": 1}}


def members(info: FieldInfo) -> list[type[BaseModel]]:
    """The parts a field may hold."""
    annotation = info.annotation
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every plain field below a model, through every member of every union."""
    for name, info in model.model_fields.items():
        below = members(info)
        for part in below:
            kind = part.model_fields.get("kind")
            yield from leaves(part, f"{path}{name}[{kind.default}]." if kind else f"{path}{name}.")
        if not below:
            yield f"{path}{name}", info


UNIONS = [
    (name, part) for name, info in RunConfig.model_fields.items() if len(members(info)) > 1 for part in members(info)
]
LEAVES = [
    pytest.param(info, id=f"{model.__name__}.{path}")
    for model in (RunConfig, PredictConfig)
    for path, info in leaves(model)
    if not (get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1)
]


def test_the_walk_sees_the_tree():
    """Guards the tests below against walking past everything."""
    wanted = {"split", "normalisation", "sampling", "augmentation", "weights", "model", "loss", "optimiser", "schedule"}
    assert {name for name, _ in UNIONS} == wanted
    assert len(UNIONS) >= 12
    assert len(LEAVES) >= 40


@pytest.mark.parametrize(("name", "part"), UNIONS, ids=lambda value: getattr(value, "__name__", value))
def test_every_member_of_every_union_survives_json(name, part):
    config = RunConfig.model_validate({**SMALLEST, name: part()})
    assert type(getattr(config, name)) is part
    text = config.model_dump_json()
    assert parse_run_config(json.loads(text)) == config
    assert parse_run_config(config.model_dump(mode="json")) == config


def test_every_member_has_a_kind_and_a_sentence_of_its_own():
    for name in {name for name, _ in UNIONS}:
        parts = [part for of, part in UNIONS if of == name]
        assert len({part.model_fields["kind"].default for part in parts}) == len(parts)
        assert len({part.__doc__ for part in parts}) == len(parts)
        assert all(part.__doc__ for part in parts)


def test_a_prediction_survives_json():
    config = PredictConfig(run=3, volume=4, keep="float16", resample=False)
    assert parse_predict_config(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("info", LEAVES)
def test_every_field_has_a_title_and_a_help_text(info):
    assert info.title
    assert info.description
    assert len(info.description) > len(info.title)


def bounds(info: FieldInfo) -> tuple[bool, bool]:
    low = any(getattr(rule, side, None) is not None for rule in info.metadata for side in ("ge", "gt"))
    high = any(getattr(rule, side, None) is not None for rule in info.metadata for side in ("le", "lt"))
    return low, high


@pytest.mark.parametrize("info", LEAVES)
def test_every_number_has_bounds_and_every_text_an_end(info):
    kind = info.annotation
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if kind in (int, float):
        # A row's id has no highest value; the form offers those there are.
        assert bounds(info) == (True, extra.get("widget") is None) or bounds(info) == (True, True)
    elif get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        assert any(getattr(rule, "max_length", None) for rule in info.metadata)
    elif get_origin(kind) is tuple:
        assert all(bounds(FieldInfo.from_annotation(part)) == (True, True) for part in get_args(kind))
    elif kind is str:
        assert any(hasattr(rule, "max_length") or getattr(rule, "pattern", None) for rule in info.metadata)
    elif get_origin(kind) is Union:
        # Words, or as many numbers as are needed.
        assert get_origin(get_args(kind)[0]) is Literal
        rules = [rule for one in get_args(kind)[1:] for rule in FieldInfo.from_annotation(one).metadata]
        assert any(getattr(rule, "max_length", None) for rule in rules)
    else:
        assert kind is bool or get_origin(kind) is Literal


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"colour": "blue"}, "colour"),
        ({"model": {"kind": "unet_3d", "colour": "blue"}}, "model.unet_3d.colour"),
        ({"patches": {"batch_size": 0}}, "patches.batch_size"),
        ({"patches": {"shape": [16, 0, 16]}}, "patches.shape.1"),
        ({"patches": {"shape": [16, 16]}}, "patches.shape.2"),
        ({"optimiser": {"kind": "adam", "learning_rate": 0}}, "optimiser.adam.learning_rate"),
        ({"optimiser": {"kind": "adam", "learning_rate": "fast"}}, "optimiser.adam.learning_rate"),
        ({"optimiser": {"kind": "adam", "learning_rate": float("nan")}}, "optimiser.adam.learning_rate"),
        ({"optimiser": {"kind": "adam", "momentum": 0.5}}, "optimiser.adam.momentum"),
        ({"loss": {"kind": "hinge"}}, "loss"),
        ({"loss": {}}, "loss"),
        ({"compute": {"device": "cuda:x"}}, "compute.device"),
        ({"name": "n" * 201}, "name"),
        ({"data": {}}, "data.dataset"),
        ({"split": {"kind": "block", "validation_share": 0.9}}, "split.block.validation_share"),
        ({"version": 3}, "version"),
    ],
)
def test_what_cannot_work_is_refused_with_its_path(changes, path):
    with pytest.raises(ConfigError) as caught:
        parse_run_config({**SMALLEST, **changes})
    assert f" {path}: " in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_run_config({**SMALLEST, "patches": {"batch_size": 0}, "length": {"epochs": -1, "seed": -1}})
    assert all(path in str(caught.value) for path in ("patches.batch_size", "length.epochs", "length.seed"))


def test_a_prediction_is_refused_the_same_way():
    with pytest.raises(ConfigError, match=r"threshold: .*got 2"):
        parse_predict_config({"run": 1, "volume": 1, "threshold": 2})


@pytest.mark.parametrize("data", [[], "text", None, 3])
def test_what_is_no_mapping_is_refused(data: Any):
    with pytest.raises(ConfigError, match="cannot be used"):
        parse_run_config(data)


def test_a_config_cannot_be_changed():
    config = parse_run_config(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


def test_settings_of_the_first_version_mean_today_what_they_meant_then():
    first = {
        "version": 1,
        "data": {"dataset": 4, "task": "classes", "split": "block", "validation_share": 0.3, "block_axis": "x"},
        "patches": {"shape": [1, 32, 32], "batch_size": 3, "per_epoch": 7, "foreground_share": 0.9},
        "model": {"kind": "unet_2d"},
    }
    config = parse_run_config(first)
    assert config.data == DataConfig(dataset=4, task="classes")
    assert config.split == BlockSplitConfig(validation_share=0.3, axis="x")
    assert config.patches == PatchConfig(shape=(1, 32, 32), batch_size=3)
    assert config.sampling == RandomSamplingConfig(per_epoch=7, foreground_share=0.9)
    assert config.augmentation == NoAugmentationConfig()
    assert parse_run_config(config.model_dump(mode="json")) == config
    assert first["version"] == 1
    assert parse_run_config({"version": 1, "data": {"dataset": 4, "split": "volumes"}}).split.kind == "volumes"
    with pytest.raises(ConfigError, match="data"):
        parse_run_config({"version": 1, "data": 7})
