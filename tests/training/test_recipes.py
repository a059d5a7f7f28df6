"""Published recipes: their numbers as published, changed only where the data force it, and ready to run."""

import pytest

from seglib.config import LabelScheme, RunConfig
from seglib.config.losses import activation_of
from seglib.data.splits import Member
from seglib.errors import ConfigError
from seglib.models import is_flat, model_stride
from seglib.preflight import check_run
from seglib.store.datasets import get_dataset
from seglib.training.advice import config_for, recipe_for
from seglib.training.fitting import apply_recipe
from seglib.training.recipes import RECIPES
from tests.conftest import import_two_classes

START = RunConfig.model_validate({"data": {"dataset": 1, "labels": LabelScheme(kind="instances")}})
LARGE = [Member(f"v{number}", (128, 900, 900)) for number in range(5)]
DEEP = (50.0, 5.0, 5.0)


def applied(name, members=LARGE, voxel=DEEP):
    return apply_recipe(name, START, members, voxel)


@pytest.mark.parametrize(
    ("name", "patch", "batch", "rate", "epochs", "model"),
    [
        ("axon-unet", (32, 64, 64), 2, 1e-4, 150, "unet_3d"),
        ("axon-sm-unet", (32, 64, 64), 2, 1e-4, 500, "smp"),
        ("cellseg3d", (64, 64, 64), 1, 1e-3, 50, "segresnet"),
        ("wnet3d", (64, 64, 64), 2, 2e-5, 50, "wnet"),
        ("anatomics", (16, 224, 224), 1, 1e-4, 100, "unet_3d"),
        ("mycobacteria", (1, 448, 768), 16, 1e-4, 250, "compact_unet"),
        ("fly-brain", (64, 64, 64), 32, 1e-3, 100, "unet_3d"),
    ],
)
def test_large_data_get_the_published_numbers(name, patch, batch, rate, epochs, model):
    config = applied(name).config
    assert (config.patches.shape, config.patches.batch_size) == (patch, batch)
    assert (config.optimiser.learning_rate, config.length.epochs) == (rate, epochs)
    assert config.model.kind == model


def test_details_of_single_recipes():
    axon, sm = applied("axon-unet").config, applied("axon-sm-unet").config
    assert (axon.model.dropout, axon.model.deepest_dropout) == (0.1, 0.5)
    assert (axon.schedule.kind, axon.schedule.factor, axon.schedule.patience) == ("plateau", 0.1, 10)
    assert (activation_of(axon.loss), axon.loss.jaccard, sm.loss.jaccard) == ("softmax", False, True)
    assert (sm.model.encoder, sm.weights.kind, sm.schedule) == ("vgg16", "imagenet", axon.schedule)
    anatomics = applied("anatomics").config
    assert (anatomics.length.iterations, anatomics.checkpoints.interval) == (100_000, 5000)
    assert applied("cellseg3d").config.validation.interval == 2
    assert applied("wnet3d").config.optimiser.weight_decay == 0.01
    fly = applied("fly-brain").config
    assert (fly.sampling.background_most, fly.length.patience, fly.schedule.factor) == (0.95, 15, 0.2)
    assert (fly.model.depth, fly.model.start_channels) == (4, 4)


@pytest.mark.parametrize("name", RECIPES)
def test_each_says_where_it_is_from_first(name):
    found = applied(name)
    assert found.reasons[0].field == "recipe"
    assert len(found.reasons[0].text) > 100


def test_positions_judge_where_names_tell_them():
    members = [Member(f"Pos{number:03d}/a", (1, 500, 900), f"Pos{number:03d}") for number in range(5, 12)]
    assert applied("mycobacteria", members).config.split.kind == "groups"
    other = applied("mycobacteria")
    assert other.config.split.kind == "auto"
    assert any(reason.field == "split" and "*09" in reason.text for reason in other.reasons)
    samples = [Member("training 0001", (128,) * 3), Member("validation 0001", (128,) * 3)]
    assert applied("fly-brain", samples).config.split.validation == "validation*"


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [(1, 60, 90), (3, 200, 200), (10, 40, 40), (20, 17, 300)])
def test_patches_fit_the_network_and_the_data(name, shape):
    found = applied(name, [Member("a", shape)])
    patch, stride = found.config.patches.shape, model_stride(found.config.model)
    assert not any(side % step for side, step in zip(patch, stride, strict=True))
    least = found.config.model.smallest
    assert all(
        side < room + step or side == low for side, room, step, low in zip(patch, shape, stride, least, strict=True)
    )
    if is_flat(found.config.model):
        assert patch[0] == 1
    published = applied(name).config
    if patch != published.patches.shape:
        assert any(reason.field in ("patches.shape", "model") for reason in found.reasons)


def test_data_of_a_plane_take_the_2d_sibling():
    plane = [Member("a", (1, 200, 200))]
    assert applied("axon-unet", plane).config.model.kind == "unet_2d"
    assert applied("axon-unet", plane).config.model.deepest_dropout == 0.5
    assert applied("cellseg3d", plane).config.model.dimensions == "2D"
    assert any("mirrored to 32" in reason.text for reason in applied("axon-sm-unet", plane).reasons)


def test_levels_that_would_leave_a_single_voxel_are_fewer():
    found = applied("anatomics", [Member("a", (8, 16, 12))], (5.0, 5.0, 5.0))
    assert found.config.model.depth == 3
    assert found.config.patches.shape == (8, 12, 12)
    assert any(reason.field == "model.depth" for reason in found.reasons)


def test_cubes_take_cubes():
    config = applied("anatomics", voxel=(5.0, 5.0, 5.0)).config
    assert (config.patches.shape, config.model.flat_levels) == ((112, 112, 112), 0)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"wnet3d"}))
def test_recipes_are_ready_on_small_labelled_data(name, workspace, store, dataset):
    row = get_dataset(store, dataset)
    found = recipe_for(row, name)
    assert found.config.data == config_for(row).data
    preflight = check_run(workspace, row, found.config)
    assert preflight.ready, [problem.text for problem in preflight.problems]


def test_the_recipe_without_labels_is_ready_without_labels(workspace, store, tmp_path):
    row = get_dataset(store, import_two_classes(workspace, store, tmp_path / "bare", labelled=False))
    assert check_run(workspace, row, recipe_for(row, "wnet3d").config).ready


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(ConfigError, match=r"no recipe 'magic'.*axon-unet.*fly-brain"):
        applied("magic")
