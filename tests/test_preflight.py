"""Preflight: each thing that would make a training fail is one sentence with the name of what is wrong."""

import shutil
from collections import namedtuple
from dataclasses import replace

import psutil
import pytest

import seglib.preflight
from seglib.config import (
    BlockSplitConfig,
    ComputeConfig,
    DataConfig,
    EncoderRangeConfig,
    FileWeightsConfig,
    GridSamplingConfig,
    ImageNetConfig,
    PatchConfig,
    RunWeightsConfig,
    UNet2DConfig,
    UNet3DConfig,
    VolumeSplitConfig,
    WholeSamplingConfig,
)
from seglib.config.labels import LabelClass, LabelScheme
from seglib.models.zoo.monai import VNetConfig
from seglib.models.zoo.smp import SMUNetConfig
from seglib.preflight import Problem, check_run
from seglib.store.datasets import get_dataset
from seglib.training.setup import NEEDS_LABELS
from tests.conftest import import_two_classes, small_config

FOREGROUND = DataConfig(dataset=1, task="foreground")


@pytest.fixture
def rows(store, dataset):
    return get_dataset(store, dataset)


@pytest.fixture
def config(dataset):
    return lambda **changes: small_config(dataset, compute=ComputeConfig(device="cpu", precision="fp32"), **changes)


def errors(preflight) -> list[str]:
    assert preflight.ready == (not [p for p in preflight.problems if p.kind == "error"])
    return [problem.text for problem in preflight.problems if problem.kind == "error"]


def the_error(preflight) -> str:
    (text,) = errors(preflight)
    return text


def test_good_settings_are_ready_and_what_they_will_do_is_told(workspace, rows, config):
    found = check_run(workspace, rows, config())
    assert found.problems == ()
    assert found.ready
    assert found.training == (("leaf1", "y 0–24"), ("leaf2", "y 0–24"))
    assert found.validation == (("leaf1", "y 25–31"), ("leaf2", "y 25–31"))
    assert (found.training_voxels, found.validation_voxels) == (2 * 8 * 25 * 32, 2 * 8 * 7 * 32)
    assert (found.classes, found.device) == (("class 1", "class 2"), "cpu")
    assert found.cost.parameters > 0
    assert 0 < found.memory_available <= psutil.virtual_memory().total


@pytest.mark.parametrize("task", ["foreground", "classes"])
def test_no_labels(workspace, store, config, tmp_path, task):
    bare = get_dataset(store, import_two_classes(workspace, store, tmp_path / "bare", name="Bare", labelled=False))
    found = check_run(workspace, bare, config(data=DataConfig(dataset=bare.id, task=task)))
    assert the_error(found) == f"Bare has no labels, and {NEEDS_LABELS}"
    assert (found.training, found.validation, found.cost) == ((), (), None)


def warnings(preflight) -> list[str]:
    assert preflight.ready
    return [problem.text for problem in preflight.problems]


def test_a_volume_smaller_than_the_patch_is_mirrored_and_named(workspace, rows, config):
    small = replace(rows.volumes[1], shape_czyx=(1, 8, 10, 32))
    rows = replace(rows, volumes=(rows.volumes[0], small))
    found = check_run(workspace, rows, config(data=FOREGROUND, split=BlockSplitConfig(axis="x")))
    assert warnings(found) == [
        "Smaller than the patch 4 × 16 × 16 (z × y × x), and mirrored at the edges: leaf2. "
        "What is added is not learned from."
    ]
    assert found.patch == (4, 16, 16)


def test_a_patch_larger_than_every_volume_is_made_smaller(workspace, rows, config):
    found = check_run(
        workspace, rows, config(model=UNet3DConfig(depth=3), patches=PatchConfig(shape=(64, 64, 16), batch_size=1))
    )
    # 8 × 25 × 32 trains of both; a depth of 3 needs multiples of 4.
    assert found.patch == (8, 28, 16)
    assert warnings(found)[0].startswith("No training part is as large as the patch 64 × 64 × 16: patches of 8 × 28")


def test_the_steps_of_an_epoch_are_told(workspace, rows, config):
    assert check_run(workspace, rows, config()).steps_per_epoch == 2
    every = config(sampling=GridSamplingConfig())
    # 8 × 25 × 32 of each volume, by patches of 4 × 16 × 16: 2 × 2 × 2.
    assert check_run(workspace, rows, every).steps_per_epoch == 16
    whole = config(sampling=WholeSamplingConfig())
    assert check_run(workspace, rows, whole).steps_per_epoch == 2


def test_a_part_that_is_kept_for_the_end_is_told(workspace, rows, config):
    found = check_run(workspace, rows, config(split=BlockSplitConfig(axis="x", test_share=0.25)))
    assert found.test == (("leaf1", "x 24–31"), ("leaf2", "x 24–31"))
    assert found.test_voxels == 2 * 8 * 32 * 8


def test_a_patch_that_is_no_multiple_of_the_stride_gets_one_that_works(workspace, rows, config):
    found = check_run(
        workspace, rows, config(model=UNet3DConfig(depth=3), patches=PatchConfig(shape=(4, 15, 16), batch_size=1))
    )
    assert "sides must be multiples of 4 × 4 × 4" in the_error(found)
    assert "4 × 16 × 16 works" in the_error(found)


def test_the_nearest_patch_that_works_is_told(workspace, rows, config):
    model = UNet3DConfig(depth=3)
    found = check_run(workspace, rows, config(model=model, patches=PatchConfig(shape=(5, 15, 1), batch_size=1)))
    assert found.works == (4, 16, 4)
    assert check_run(workspace, rows, config()).works == (4, 16, 16)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (RunWeightsConfig(), "Choose the run"),
        (FileWeightsConfig(path="  "), "which file"),
        (ImageNetConfig(), "for SM-UNet's encoders"),
    ],
)
def test_weights_that_are_not_said_or_of_no_use(workspace, rows, config, weights, words):
    assert words in the_error(check_run(workspace, rows, config(weights=weights)))


@pytest.mark.parametrize(("limits", "words"), [({"most_parameters": 0.0001}, "more than the 0.0001 million"),
                                               ({"least_parameters": 5.0}, "fewer than the 5 million")])  # fmt: skip
def test_limits_on_parameters_refuse_to_start(workspace, rows, dataset, limits, words):
    compute = ComputeConfig(device="cpu", precision="fp32", **limits)
    assert words in the_error(check_run(workspace, rows, small_config(dataset, compute=compute)))


def test_a_network_that_needs_larger_patches_than_there_are(workspace, rows, config):
    model = SMUNetConfig(encoder="resnet18", decoder="pan")
    found = check_run(workspace, rows, config(model=model, patches=PatchConfig(shape=(128, 128, 128), batch_size=1)))
    assert "at least 128 × 128 × 128 (z × y × x), and 32 × 32 × 32 are taken" in the_error(found)


def test_what_a_network_says_of_a_patch_is_passed_on(workspace, rows, config):
    """Three channels are too many for V-Net's sixteen."""
    found = check_run(workspace, rows, config(model=VNetConfig(), normalisation=EncoderRangeConfig(),
                                              patches=PatchConfig(shape=(16, 16, 16), batch_size=2)))  # fmt: skip
    assert "3 do not divide 16" in the_error(found)


def test_a_2d_network_with_a_deep_patch(workspace, rows, config):
    found = check_run(workspace, rows, config(model=UNet2DConfig(depth=2)))
    assert the_error(found) == "A 2D network works plane by plane: set the patch's z to 1 (it is 4)."


@pytest.mark.parametrize(
    ("norm", "batch", "ready"),
    [("instance", 4, False), ("batch", 1, False), ("batch", 2, True), ("none", 1, True), ("group", 2, False)],
)
def test_a_patch_that_shrinks_to_one_voxel_where_norms_need_two(workspace, rows, config, norm, batch, ready):
    found = check_run(
        workspace,
        rows,
        config(
            model=UNet3DConfig(depth=3, start_channels=2, norm=norm),
            patches=PatchConfig(shape=(4, 4, 4), batch_size=batch),
        ),
    )
    assert found.ready == ready
    if not ready:
        assert f"patch 4 × 4 × 4 shrinks to a single voxel, which {norm} normalisation" in the_error(found)


def test_a_batch_that_cannot_fit_into_memory_is_told_which_would(workspace, rows, config, monkeypatch):
    Memory = namedtuple("Memory", "available total")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(2**28, 2**33))
    found = check_run(
        workspace, rows, config(model=UNet3DConfig(depth=2), patches=PatchConfig(shape=(8, 24, 32), batch_size=256))
    )
    assert "take a batch of " in the_error(found)
    batch = int(the_error(found).rsplit("a batch of ", 1)[1].rstrip("."))
    smaller = check_run(
        workspace, rows, config(model=UNet3DConfig(depth=2), patches=PatchConfig(shape=(8, 24, 32), batch_size=batch))
    )
    assert smaller.ready
    assert 1 <= batch < 256


def test_volumes_that_cannot_be_held_in_memory(workspace, rows, config):
    huge = replace(rows.volumes[0], shape_czyx=(1, 100_000, 100_000, 1000))
    rows = replace(rows, volumes=(huge,))
    (text,) = warnings(check_run(workspace, rows, config(data=FOREGROUND)))
    assert "the largest are read from disk while the network learns" in text


def test_a_task_of_classes_on_instances(workspace, rows, config):
    objects = tuple(replace(volume, label_counts=None, objects=5) for volume in rows.volumes)
    found = check_run(workspace, replace(rows, labels=LabelScheme(kind="instances"), volumes=objects), config())
    assert the_error(found) == (
        "The labels of this data set are ids of single objects without borders, not classes: "
        "choose the task Foreground."
    )


def test_volume_files_that_are_gone_are_named(workspace, rows, config):
    shutil.rmtree(workspace.volume(rows.volumes[1].id))
    assert the_error(check_run(workspace, rows, config())) == (
        "leaf2: its files are gone from the workspace. Import it again."
    )


def test_volumes_of_different_channels(workspace, rows, config):
    other = replace(rows.volumes[1], shape_czyx=(2, *rows.volumes[1].shape_zyx))
    found = check_run(workspace, replace(rows, volumes=(rows.volumes[0], other)), config())
    assert "leaf2 has 2 channel(s) but leaf1 has 1" in the_error(found)


def test_nothing_labelled_anywhere_is_an_error_and_in_one_volume_a_warning(workspace, rows, config):
    first, second = rows.volumes
    empty = replace(second, label_counts={0: 8 * 32 * 32})
    one = check_run(workspace, replace(rows, volumes=(first, empty)), config())
    assert one.problems == (Problem("warning", "Nothing is labelled in leaf2."),)
    both = check_run(
        workspace, replace(rows, volumes=(replace(first, label_counts={0: 8192}), empty)), config(data=FOREGROUND)
    )
    assert "no voxel of any volume is labelled" in the_error(both)


def test_labels_without_background_and_volumes_without_labels_are_warned_of(workspace, rows, config):
    full = replace(rows.volumes[0], label_counts={1: 4096, 2: 4096})
    bare = replace(rows.volumes[1], has_labels=False, label_counts=None)
    objects = replace(rows, labels=LabelScheme(kind="instances"), volumes=(full, bare))
    found = check_run(workspace, objects, config(data=FOREGROUND))
    assert found.ready
    assert [problem.text for problem in found.problems] == [
        "Without labels, and left out: leaf2.",
        "Every voxel is an object, and none background, in leaf1.",
    ]
    assert found.training == (("leaf1", "y 0–24"),)


def test_a_class_that_never_occurs_is_warned_of_and_ignored_values_are_nothing_to_learn(workspace, rows, config):
    wall, bar = (LabelClass(name=name, values=(value,)) for name, value in (("wall", 1), ("bar", 9)))
    found = check_run(
        workspace, replace(rows, labels=LabelScheme(kind="classes", classes=(wall, bar))), config(data=FOREGROUND)
    )
    assert [problem.text for problem in found.problems] == ["No voxel belongs to the class bar."]
    ignoring = LabelScheme(kind="instances", ignore=(1, 2))
    found = check_run(workspace, replace(rows, labels=ignoring), config(data=FOREGROUND))
    assert "no voxel of any volume is labelled" in the_error(found)


def test_one_volume_cannot_be_split_by_volumes(workspace, rows, config):
    found = check_run(
        workspace,
        replace(rows, volumes=rows.volumes[:1]),
        config(data=DataConfig(dataset=1, task="classes"), split=VolumeSplitConfig()),
    )
    assert "at least 2 volumes" in the_error(found)


def test_a_device_that_is_not_there(workspace, rows, config):
    found = check_run(workspace, rows, config().model_copy(update={"compute": ComputeConfig(device="cuda:77")}))
    assert "no device 'cuda:77'" in the_error(found)
    assert (found.device, found.cost) == ("", None)


def test_a_disk_that_is_nearly_full(workspace, rows, config, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(seglib.preflight.shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 100 * 2**20))
    assert "Only 100 MB are free on the disk of the workspace" in the_error(check_run(workspace, rows, config()))
