"""First settings: whatever the data's sizes, they can run as they are."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.config import DataConfig
from seglib.config.labels import Borders, LabelScheme, scheme_for
from seglib.data.splits import Member, split_data
from seglib.models import is_flat, model_stride
from seglib.models.zoo.unet import UNet3DConfig
from seglib.models.zoo.wnet import WNetConfig
from seglib.preflight import check_run
from seglib.store.datasets import get_dataset
from seglib.training.advice import DEEPEST, config_for, demo_config, first_config, learned_volumes
from seglib.training.cost import estimate_cost
from tests.conftest import import_two_classes

OBJECTS = LabelScheme(kind="instances")
SHAPES = st.lists(st.tuples(st.integers(1, 80), st.integers(4, 400), st.integers(4, 400)), min_size=1, max_size=6)


def members(shapes):
    return [Member(str(n), shape) for n, shape in enumerate(shapes)]


def training_room(shapes, config):
    split = split_data(members(shapes), config.split, config.length.seed)
    return [min(region.shape[axis] for region in split.training) for axis in range(3)]


@settings(max_examples=150, deadline=None)
@given(SHAPES)
def test_the_patch_fits_every_training_part_and_the_network(shapes):
    config = first_config(1, members(shapes), labels=OBJECTS)
    patch, stride = config.patches.shape, model_stride(config.model)
    room = training_room(shapes, config)
    assert all(side <= whole for side, whole in zip(patch, room, strict=True))
    assert all(side % step == 0 for side, step in zip(patch, stride, strict=True))
    assert is_flat(config.model) == (room[0] < 4)
    assert 2 <= config.model.depth <= DEEPEST
    # Instance normalisation, the default, needs two voxels in the deepest level.
    assert math.prod(side // step for side, step in zip(patch, stride, strict=True)) > 1


@pytest.mark.parametrize("shape", [(8, 10, 8), (10, 8, 8), (1, 8, 10), (4, 5, 5)])
def test_small_volumes_get_settings_whose_network_computes(shape):
    config = first_config(1, members([shape]), labels=OBJECTS)
    one = config.model_copy(update={"patches": config.patches.model_copy(update={"batch_size": 1})})
    assert estimate_cost(one, inputs=1, classes=1, half=False).parameters > 0


@pytest.mark.parametrize(
    ("shape", "voxel", "patch", "depth"),
    [
        ((100, 512, 512), (1, 1, 1), (64, 64, 64), 4),
        ((100, 512, 512), (8, 1, 1), (16, 128, 128), 4),
        ((100, 512, 512), (300, 1, 1), (8, 160, 160), 4),
        ((20, 100, 300), (8, 1, 1), (16, 96, 128), 4),
        # Too few planes for a cube: as many voxels, lying flat.
        ((10, 1536, 2048), (1, 1, 1), (8, 160, 160), 4),
        ((1, 512, 1024), (1, 1, 1), (1, 256, 256), 4),
        ((3, 64, 512), (1, 1, 1), (1, 64, 256), 4),
    ],
)
def test_larger_volumes_get_a_patch_as_deep_as_wide_in_nanometres(shape, voxel, patch, depth):
    config = first_config(1, members([shape]), labels=OBJECTS, voxel_size_nm=voxel)
    assert (config.patches.shape, config.model.depth) == (patch, depth)


def test_labels_that_are_classes_are_learned_each():
    two = scheme_for("classes", [0, 1, 2])
    assert first_config(1, members([(8, 32, 32)]), labels=two).data == DataConfig(dataset=1, task="classes", labels=two)
    one = scheme_for("classes", [0, 1])
    assert first_config(1, members([(8, 32, 32)]), labels=one).data.task == "foreground"
    borders = LabelScheme(kind="instances", borders=Borders())
    assert first_config(1, members([(8, 32, 32)]), labels=borders).data.task == "classes"
    assert first_config(1, members([(8, 32, 32)]), labels=OBJECTS).data.task == "foreground"


def test_the_demo_is_short_and_of_the_demos_size():
    config = demo_config(3)
    assert (config.data.dataset, config.length.epochs, config.sampling.per_epoch) == (3, 10, 32)


def test_settings_for_a_stored_data_set_follow_its_labels(store, dataset):
    row = get_dataset(store, dataset)
    config = config_for(row)
    assert config.data == DataConfig(dataset=dataset, task="classes", labels=row.labels)
    # Two volumes of 8 × 32 × 32: a block along y is kept for validation.
    assert config.patches.shape == (8, 24, 32)


def test_without_labels_a_network_is_advised_that_needs_none(workspace, store, tmp_path):
    number = import_two_classes(workspace, store, tmp_path / "bare", name="Bare", labelled=False)
    dataset = get_dataset(store, number)
    config = config_for(dataset)
    assert config.model == WNetConfig(start_channels=16)
    assert not any(side % 16 for side in config.patches.shape)
    assert check_run(workspace, dataset, config).ready
    assert len(learned_volumes(dataset, config)) == len(dataset.volumes)
    assert learned_volumes(dataset, config.model_copy(update={"model": UNet3DConfig()})) == []
