"""The form on the Train page holds every setting there is, and what it holds is what the trainer gets.

The tests walk RunConfig itself, so a field added there is covered here.
"""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import streamlit as st
from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo
from streamlit.testing.v1 import AppTest

import seglib.tasks.training
from pages.ui.forms import FormContext, section, sections
from seglib.config import (
    CrossEntropyLossConfig,
    FocalLossConfig,
    LengthConfig,
    PatchConfig,
    RunConfig,
    WeightedLossConfig,
    parse_run_config,
)
from seglib.events import Ended, Started
from seglib.jobs.foreground import run_in_foreground
from seglib.models import config_class
from seglib.store.datasets import get_dataset
from seglib.store.runs import CheckpointRow, claim, create_run, end_run, list_runs, set_checkpoint
from seglib.training.advice import config_for
from tests.conftest import import_two_classes

SHELL = str(Path(__file__).parents[2] / "pages" / "shell.py")
LIMIT_S = 60


def members(info: FieldInfo) -> list[type[BaseModel]]:
    """The parts a field may hold."""
    annotation = info.annotation
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def is_constant(info: FieldInfo) -> bool:
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1


def kinds(name: str) -> list[str]:
    return [part.model_fields["kind"].default for part in members(RunConfig.model_fields[name])]


UNIONS = {name for name, info in RunConfig.model_fields.items() if len(members(info)) > 1}


def chosen_parts(choice: dict[str, str]) -> Iterator[tuple[str, str, str, FieldInfo]]:
    """(part, widget path, field, its description) of every field of a run with these kinds."""
    for name, info in RunConfig.model_fields.items():
        if is_constant(info):
            continue
        parts = members(info)
        if not parts:
            yield "", name, name, info
        for part in parts:
            kind = part.model_fields["kind"].default if name in UNIONS else ""
            if kind == choice.get(name, ""):
                for field, inner in part.model_fields.items():
                    if not is_constant(inner):
                        yield name, ".".join(filter(None, (name, kind, field))), field, inner


WISHED_SUM = (
    WeightedLossConfig(weight=2.0, loss=FocalLossConfig(classes="compete")),
    WeightedLossConfig(loss=CrossEntropyLossConfig(label_smoothing=0.1)),
)
# Values that must fit one another to be ready for a start; what is not here gets any other value than it has.
WISHES = {
    "patches.shape": (8, 64, 32),  # what every network can take, with the depths below
    "model.unet_2d.depth": 3,
    "model.unet_3d.depth": 2,
    "model.unet_3d.flat_levels": 1,
    "model.unet_2d.start_channels": 3,
    "model.unet_3d.start_channels": 3,
    "data.task": "foreground",
    "split.groups.validation": "*2",
    "split.groups.test": "*3",
    "split.hand.validation": ("leaf2",),
    "split.hand.test": ("leaf3", "leaf1"),
    "split.folds.folds": 3,
    "normalisation.fixed.low": 10.0,
    "normalisation.fixed.high": 200.0,
    "model.smp.decoder": "unet",
    "model.smp.encoder": "resnet18",
    "model.smp.flat_levels": 2,
    "compute.least_parameters": 0.001,
    "weights.run.run": 1,
    "weights.file.path": __file__,  # any file that is there
    "loss.sum.parts": WISHED_SUM,
    "compute.precision": "fp32",
    "compute.device": "cpu",
    "name": "*My* run",
}


def other_value(path: str, info: FieldInfo, now: Any, options: list[str]) -> Any:
    """A value the field may have and does not have now."""
    if path in WISHES:
        return WISHES[path]
    kind = info.annotation
    if get_origin(kind) is Union:  # of a choice and numbers typed in
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return next(value for value in get_args(kind) if value != now)
    if kind is bool:
        return not now
    if kind in (int, float):
        low = next((getattr(r, s) for r in info.metadata for s in ("ge", "gt") if getattr(r, s, None) is not None), 0)
        high = next(
            (getattr(r, s) for r in info.metadata for s in ("le", "lt") if getattr(r, s, None) is not None), low + 9
        )
        if kind is int:
            return now + 1 if now + 1 <= high else now - 1
        return now + (high - now) / 4 if now < high else (low + now) / 2
    raise TypeError(f"Say here what other value {path} may have: {kind}")


def open_train(dataset: int) -> AppTest:
    page = AppTest.from_file(SHELL, default_timeout=LIMIT_S).run()
    page.switch_page("train.py")
    page.query_params["dataset"] = str(dataset)
    page.run()
    assert not page.exception
    return page


def widget(page: AppTest, key: str) -> Any:
    found = [
        one
        for group in (page.selectbox, page.number_input, page.text_input, page.toggle, page.multiselect)
        for one in group
        if one.key == key
    ]  # fmt: skip
    assert len(found) == 1, f"{len(found)} widgets have the key {key}"
    return found[0]


def put(page: AppTest, key: str, value: Any) -> None:
    found = widget(page, key)
    assert not found.disabled, key
    # A choice may be shown under another name than it has.
    found.set_value(value)


def fill(page: AppTest, dataset: int, choice: dict[str, str], start: RunConfig) -> dict[str, Any]:
    """Sets every widget of the form to another value than it has; returns path -> value set."""
    prefix = f"train.{dataset}"
    for name, kind in choice.items():
        put(page, f"{prefix}.{name}.kind", kind)
    page.run()
    wanted: dict[str, Any] = {}
    for part, path, field, info in chosen_parts(choice):
        if path in ("data.dataset", "data.labels"):  # asked for elsewhere on the page
            continue
        if get_origin(info.annotation) is tuple and get_args(info.annotation)[-1] is not Ellipsis:
            value = WISHES[path]
            for axis, side in zip("zyx", value, strict=True):
                if axis == "z" and is_flat(choice["model"]):
                    value = (1, *value[1:])
                    continue
                put(page, f"{prefix}.{path}.{axis}", side)
        elif path == "loss.sum.parts":
            value = WISHED_SUM
            fill_sum(page, f"{prefix}.{path}", value)
        else:
            found = widget(page, f"{prefix}.{path}")
            value = other_value(path, info, found.value, getattr(found, "options", []))
            put(page, f"{prefix}.{path}", list(value) if isinstance(value, tuple) else value)
        wanted[f"{part}.{field}".strip(".")] = value
    page.run()
    assert not page.exception
    return wanted


def fill_sum(page: AppTest, key: str, parts: tuple[WeightedLossConfig, ...]) -> None:
    """Sets the losses of a sum that has as many already."""
    for row, part in enumerate(parts):
        put(page, f"{key}.{row}.loss.kind", part.loss.kind)
    page.run()
    for row, part in enumerate(parts):
        put(page, f"{key}.{row}.weight", part.weight)
        for field, value in part.loss.model_dump(exclude={"kind"}, exclude_defaults=True).items():
            put(page, f"{key}.{row}.loss.{part.loss.kind}.{field}", value)


def is_flat(kind: str) -> bool:
    """Whether a network works plane by plane once all its fields have another value; `dimensions` is then 2D."""
    return config_class(kind)().is_flat or "dimensions" in config_class(kind).model_fields


def every_kind_once() -> list[dict[str, str]]:
    """Choices of kinds in which each kind of each union comes at least once."""
    rounds = max(len(kinds(name)) for name in UNIONS)
    return [{name: kinds(name)[turn % len(kinds(name))] for name in sorted(UNIONS)} for turn in range(rounds)]


def plain_value(config: RunConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.fixture
def six_volumes(workspace, store, tmp_path):
    """Id of a data set that every kind of split can divide in three."""
    return import_two_classes(workspace, store, tmp_path / "leaves", count=6, side=64)


@pytest.mark.parametrize("choice", every_kind_once(), ids=lambda choice: "-".join(choice.values()))
def test_every_setting_of_the_form_is_in_the_stored_run_and_reaches_the_trainer(
    workspace, store, six_volumes, choice, monkeypatch
):
    dataset = six_volumes
    earlier = create_run(store, "train", name="Earlier", config={}, device="cpu")
    claim(store, earlier, owner="me")
    set_checkpoint(store, CheckpointRow(earlier, "best", 1, 1, 0.5, "", 0.0))
    end_run(store, earlier, "finished", owner="me")
    if choice["weights"] == "imagenet":  # which are for that network only, and in 3D
        choice = {**choice, "model": "smp"}
    page = open_train(dataset)
    start = config_for(get_dataset(store, dataset))
    wanted = fill(page, dataset, choice, start)
    assert [error.value for error in page.error] == []
    widget_start = next(button for button in page.button if button.key == "train.start")
    assert not widget_start.disabled
    widget_start.click()
    page.run()
    assert not page.exception
    row = list_runs(store)[0]
    stored = parse_run_config(row.config)
    assert {name: getattr(stored, name).kind for name in UNIONS} == choice
    for path, value in wanted.items():
        found = plain_value(stored, path)
        assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), path
    assert stored.data.dataset == dataset

    handed: list[RunConfig] = []

    def spy(config, volumes, **more):
        handed.append(config)
        yield Started(1)
        yield Ended("finished")

    monkeypatch.setattr(seglib.tasks.training, "train", spy)
    monkeypatch.setattr(seglib.tasks.training, "starting_weights", lambda *_: None)
    ended = run_in_foreground(workspace, store, row.id, stop=lambda: False, on_event=lambda event: None)
    assert (ended.status, ended.message) == ("finished", "")
    assert handed == [stored]


def test_the_rounds_cover_every_kind():
    for name in UNIONS:
        assert {choice[name] for choice in every_kind_once()} == set(kinds(name))


def test_every_value_that_is_set_differs_from_the_one_it_starts_with(store, dataset):
    """Guards the test above against values that are there already; data.task is shown by labels alone."""
    start = config_for(get_dataset(store, dataset))
    assert start.patches.shape != WISHES["patches.shape"]
    assert start.data.task != WISHES["data.task"]
    assert start.compute.precision != WISHES["compute.precision"]
    assert start.compute.device != WISHES["compute.device"]
    assert start.model.depth not in (WISHES["model.unet_3d.depth"],)
    assert start.name != WISHES["name"]


def test_an_untouched_form_starts_what_fits_the_data(store, dataset):
    page = open_train(dataset)
    next(button for button in page.button if button.key == "train.start").click()
    page.run()
    (row,) = list_runs(store)
    stored = parse_run_config(row.config)
    assert stored.model_copy(update={"name": ""}) == config_for(get_dataset(store, dataset))


def test_a_2d_network_fixes_the_depth_of_patches_and_gives_it_back(dataset):
    page = open_train(dataset)
    prefix = f"train.{dataset}"
    before = widget(page, f"{prefix}.patches.shape.z").value
    put(page, f"{prefix}.model.kind", "unet_2d")
    page.run()
    fixed = widget(page, f"{prefix}.patches.shape.z.fixed")
    assert (fixed.value, fixed.disabled) == (1, True)
    put(page, f"{prefix}.model.kind", "unet_3d")
    page.run()
    assert widget(page, f"{prefix}.patches.shape.z").value == before > 1


def test_a_setting_that_cannot_run_is_said_and_keeps_start_shut(dataset, store):
    page = open_train(dataset)
    put(page, f"train.{dataset}.patches.shape.y", 33)
    page.run()
    assert any("does not fit this network" in error.value for error in page.error)
    assert next(button for button in page.button if button.key == "train.start").disabled
    assert list_runs(store) == []


def test_a_patch_that_fits_is_one_click_away(dataset):
    page = open_train(dataset)
    assert not [button for button in page.button if button.key == "train.fit"]
    put(page, f"train.{dataset}.patches.shape.y", 33)
    page.run()
    offer = next(button for button in page.button if button.key == "train.fit")
    assert "× 32 ×" in offer.label
    offer.click()
    page.run()
    assert not page.error
    assert widget(page, f"train.{dataset}.patches.shape.y").value == 32
    assert not [button for button in page.button if button.key == "train.fit"]


def test_the_usual_shares_are_one_click_away(dataset, store):
    page = open_train(dataset)
    key = f"train.{dataset}.split.auto.validation_share"
    assert widget(page, key).value == 0.2
    next(button for button in page.button if button.label == "90/10").click()
    page.run()
    assert widget(page, key).value == 0.1
    next(button for button in page.button if button.key == "train.start").click()
    page.run()
    assert parse_run_config(list_runs(store)[0].config).split.validation_share == 0.1


def test_a_part_that_is_kept_for_the_end_is_shown(dataset):
    page = open_train(dataset)
    put(page, f"train.{dataset}.split.auto.test_share", 0.25)
    page.run()
    assert any("Is kept for the end" in text.value for text in page.markdown)


def test_eight_training_patches_are_shown_before_a_start(dataset):
    page = open_train(dataset)
    assert not page.get("image")
    next(toggle for toggle in page.toggle if toggle.label == "Show eight training patches").set_value(True)
    page.run()
    assert not page.exception
    captions = [image.proto.imgs[0].caption for image in page.get("image")]
    assert len(captions) == 8
    assert all("leaf" in caption and "plane" in caption for caption in captions)


class Made:
    """Draws a form of any model in a page of its own."""

    model: type[BaseModel]
    names: tuple[str, ...]
    values: dict[str, Any]


def draw_made() -> None:
    from tests.pages.test_forms import FormContext, Made, section

    start = Made.model()
    Made.values = {name: section(name, Made.model, start, FormContext("made")) for name in Made.names}


def drawn(model: type[BaseModel], *names: str) -> AppTest:
    Made.model, Made.names = model, names
    page = AppTest.from_function(draw_made).run()
    assert not page.exception
    return page


def test_a_field_that_is_added_to_a_model_is_a_widget_by_itself():
    longer = create_model(
        "LongerConfig",
        __base__=LengthConfig,
        warm_up=(int, Field(3, ge=0, le=9, title="Warm-up", description="How long.", json_schema_extra={"unit": "s"})),
        mirror=(bool, Field(True, title="Mirror", description="Also mirrored.")),
    )
    model = create_model("NewConfig", length=(longer, longer()))
    page = drawn(model, "length")
    added = widget(page, "made.length.warm_up")
    assert (added.label, added.value, added.min, added.max, added.help) == ("Warm-up (s)", 3, 0, 9, "How long.")
    added.set_value(7)
    widget(page, "made.length.mirror").set_value(False)
    page.run()
    assert Made.values["length"] == {**LengthConfig().model_dump(), "warm_up": 7, "mirror": False}


def test_a_kind_that_is_added_to_a_union_can_be_chosen():
    class Old(BaseModel):
        """Old: as ever."""

        kind: Literal["old"] = "old"
        share: float = Field(0.5, ge=0, le=1, title="Share", description="Of it.")

    class New(BaseModel):
        """New: just added."""

        kind: Literal["new"] = "new"
        share: float = Field(0.25, ge=0, le=1, title="Share", description="Of it.")

    union = Annotated[Old | New, Field(discriminator="kind")]
    page = drawn(create_model("Config", choice=(union, Old())), "choice")
    widget(page, "made.choice.old.share").set_value(0.75)
    widget(page, "made.choice.kind").set_value("new")
    page.run()
    # Fields of one name in two kinds do not share what was typed.
    assert Made.values["choice"] == {"kind": "new", "share": 0.25}
    widget(page, "made.choice.kind").set_value("old")
    page.run()
    assert Made.values["choice"] == {"kind": "old", "share": 0.75}


def test_open_and_closed_bounds_reach_the_widget():
    part = create_model(
        "Part",
        closed=(float, Field(0.5, ge=0, le=1, title="a", description="a.")),
        opened=(float, Field(0.5, gt=0, lt=1, title="b", description="b.")),
        sides=(PatchConfig.model_fields["shape"].annotation, Field((1, 2, 3), title="c", description="c.")),
    )
    page = drawn(create_model("Config", part=(part, part())), "part")
    closed, opened = widget(page, "made.part.closed"), widget(page, "made.part.opened")
    assert (closed.min, closed.max) == (0.0, 1.0)
    assert 0 < opened.min < 1e-6
    assert 1 - 1e-5 < opened.max < 1
    assert [widget(page, f"made.part.sides.{axis}").value for axis in "zyx"] == [1, 2, 3]
    assert Made.values["part"]["sides"] == (1, 2, 3)


class Dot(BaseModel):
    """Dot: one of many."""

    kind: Literal["dot"] = "dot"
    size: float = Field(0.5, ge=0, le=9, title="Size", description="Of it.")


class Line(BaseModel):
    """Line: another."""

    kind: Literal["line"] = "line"
    length: int = Field(3, ge=1, le=9, title="Length", description="Of it.")


class Drawn(BaseModel):
    """One of a list."""

    count: int = Field(1, ge=1, le=9, title="Count", description="How many.")
    shape: Annotated[Dot | Line, Field(discriminator="kind")] = Field(Dot(), title="Shape", description="What.")


class Picture(BaseModel):
    """A list of parts."""

    parts: tuple[Drawn, ...] = Field(
        (Drawn(), Drawn(count=2, shape=Line())), min_length=1, max_length=3, title="Parts", description="All of them."
    )


def pressed(page: AppTest, key: str) -> None:
    next(button for button in page.button if button.key == key).click()
    page.run()
    assert not page.exception


def test_a_list_of_parts_grows_shrinks_and_keeps_what_was_set():
    page = drawn(create_model("Config", picture=(Picture, Picture())), "picture")
    assert Picture.model_validate(Made.values["picture"]) == Picture()
    rows = "made.picture.parts"
    widget(page, f"{rows}.1.shape.line.length").set_value(7)
    pressed(page, f"{rows}.rows.add")
    widget(page, f"{rows}.2.shape.kind").set_value("line")
    page.run()
    widget(page, f"{rows}.2.shape.line.length").set_value(9)
    pressed(page, f"{rows}.rows.0.remove")
    found = Picture.model_validate(Made.values["picture"]).parts
    # What stood below is the same as before, not what the widgets of the first part held.
    assert found == (Drawn(count=2, shape=Line(length=7)), Drawn(shape=Line(length=9)))
    pressed(page, f"{rows}.rows.add")
    assert Picture.model_validate(Made.values["picture"]).parts == (*found, Drawn())


def test_a_list_of_parts_keeps_to_its_lengths():
    page = drawn(create_model("Config", picture=(Picture, Picture())), "picture")

    def shut(name):
        return next(button for button in page.button if button.key == f"made.picture.parts.rows.{name}").disabled

    assert (shut("add"), shut("0.remove")) == (False, False)
    pressed(page, "made.picture.parts.rows.add")
    assert shut("add")
    pressed(page, "made.picture.parts.rows.0.remove")
    pressed(page, "made.picture.parts.rows.1.remove")
    assert (shut("add"), shut("2.remove")) == (False, True)


Positive = Annotated[float, Field(gt=0, le=100)]


@pytest.mark.parametrize(
    ("typed", "meant"), [("0.2, 0.5, 1", (0.2, 0.5, 1.0)), (" 3 ", (3.0,)), ("1e1,100", (10.0, 100.0))]
)
def test_numbers_are_typed_with_commas_between_them(typed, meant):
    part = create_model("Part", sizes=(tuple[Positive, ...], Field((1.5, 2.0), title="Sizes", description="All.")))
    page = drawn(create_model("Config", part=(part, part())), "part")
    assert widget(page, "made.part.sizes").value == "1.5, 2"
    assert Made.values["part"]["sizes"] == (1.5, 2.0)
    widget(page, "made.part.sizes").set_value(typed)
    page.run()
    assert not page.error
    assert Made.values["part"]["sizes"] == meant


@pytest.mark.parametrize("typed", ["", "a", "1, two", "1; 2", "0, 1", "-1", "101", "nan", "inf", "1,,2"])
def test_what_is_no_list_of_such_numbers_is_said_at_the_field_and_taken_by_no_config(typed):
    part = create_model("Part", sizes=(tuple[Positive, ...], Field((1.5, 2.0), title="Sizes", description="All.")))
    page = drawn(create_model("Config", part=(part, part())), "part")
    widget(page, "made.part.sizes").set_value(typed)
    page.run()
    assert not page.exception
    assert "commas between them" in page.error[0].value
    with pytest.raises(ValueError):
        part.model_validate(Made.values["part"])


@pytest.mark.parametrize("start", ["alike", (2.0, 3.0)])
def test_numbers_by_hand_are_one_more_choice(start):
    either = Literal["alike", "by_size"] | tuple[Positive, ...]
    part = create_model("Part", weights=(either, Field(start, title="Weights", description="Of all.")))
    page = drawn(create_model("Config", part=(part, part())), "part")
    assert Made.values["part"]["weights"] == start
    widget(page, "made.part.weights").set_value("by_size")
    page.run()
    assert Made.values["part"]["weights"] == "by_size"
    widget(page, "made.part.weights").set_value("by_hand")
    page.run()
    widget(page, "made.part.weights.by_hand").set_value("0.5, 4")
    page.run()
    assert Made.values["part"]["weights"] == (0.5, 4.0)


def test_losses_that_do_not_add_up_are_said_and_keep_start_shut(dataset):
    page = open_train(dataset)
    key = f"train.{dataset}.loss"
    put(page, f"{key}.kind", "sum")
    page.run()
    put(page, f"{key}.sum.parts.1.loss.kind", "cross_entropy")
    page.run()
    assert not page.exception
    assert any("same way" in error.value for error in page.error)
    assert not [button for button in page.button if button.key == "train.start" and not button.disabled]


def test_weights_by_hand_that_are_too_many_are_said_before_a_start(dataset):
    page = open_train(dataset)
    key = f"train.{dataset}.loss.dice_bce.class_weights"
    put(page, key, "by_hand")
    page.run()
    put(page, f"{key}.by_hand", "1, 2, 3, 4, 5")
    page.run()
    assert any("5 given, but 2 needed" in error.value for error in page.error)
    assert next(button for button in page.button if button.key == "train.start").disabled


def test_a_type_without_a_widget_is_a_plain_error_for_who_added_it(monkeypatch):
    part = create_model("Part", odd=(dict[str, int], Field({}, title="Odd", description="Odd.")))
    model = create_model("Config", part=(part, part()))
    with pytest.raises(TypeError, match=r"no widget for part\.odd"), st.container():
        section("part", model, model(), FormContext("made"))


def test_fields_that_no_column_names_come_last():
    columns = (("model",), ("loss", "data"))
    laid_out = sections(RunConfig, columns)
    assert laid_out[0] == ["model"]
    assert laid_out[1][:2] == ["loss", "data"]
    named = [name for column in laid_out for name in column]
    assert sorted(named) == sorted(set(RunConfig.model_fields) - {"version"})
