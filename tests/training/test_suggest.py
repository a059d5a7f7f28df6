"""Suggested settings: ready to run whatever the data, from the numbers of the report, each with its reason."""

import math
from dataclasses import replace

import numpy as np
import pytest

from seglib.config import LabelScheme
from seglib.config.labels import Borders, LabelClass
from seglib.data.report.measure import VolumeFacts, measure_volume
from seglib.data.splits import Member, split_data
from seglib.data.volumes import Volume
from seglib.models import is_flat, model_stride
from seglib.preflight import check_run
from seglib.store.datasets import DatasetRow, VolumeRow
from seglib.training.machine import Machine
from seglib.training.suggest import suggest

GB = 2**30
CPU = Machine("cpu", 4 * GB, cores=2)
GPU = Machine("cuda:0", 70 * GB, half=True, cores=16)
INSTANCES = LabelScheme(kind="instances")
TWO = LabelScheme(kind="classes", classes=(LabelClass(name="cell", values=(1,)), LabelClass(name="spot", values=(2,))))


def facts(shape, voxel=(1.0, 1.0, 1.0), *, scheme=INSTANCES, channels=1, name="a", bare=False, group="") -> VolumeFacts:
    """A measured volume: two objects, the second one bright and small, or nothing labelled."""
    rng = np.random.default_rng(0)
    _, y, x = shape
    labels = np.zeros(shape, np.uint8)
    labels[:, : y // 2 + 1, : x // 2 + 1] = 1
    labels[:, -max(1, y // 8) :, :: max(1, x // 6)] = 2
    image = rng.integers(0, 90, (channels, *shape)).astype(np.uint8) + labels * 60
    volume = Volume(name, image, None if bare else labels, voxel_size_nm=voxel, group=group)
    return measure_volume(volume, scheme)


def row(volumes, scheme) -> DatasetRow:
    """What the database would hold of measured volumes."""
    rows = tuple(
        VolumeRow(
            id=number,
            dataset_id=1,
            name=one.name,
            group=one.group,
            shape_czyx=(one.channels, *one.shape),
            dtype=one.dtype,
            voxel_size_nm=one.voxel_size_nm,
            has_labels=one.labels is not None,
            label_counts={0: 9, 1: 5, 2: 1} if one.labels and one.labels.labelled else {0: 9} if one.labels else None,
            objects=2,
            contrast=(0.0, 255.0),
            fingerprint=str(number),
        )
        for number, one in enumerate(volumes, 1)
    )
    return DatasetRow(
        id=1,
        name="Data",
        labels=scheme,
        label_counts=None,
        created_at=0.0,
        volume_count=len(rows),
        labelled_count=sum(one.has_labels for one in rows),
        volumes=rows,
    )


MANY = [facts((8, 40, 48), name=f"v{number}") for number in range(6)]
CASES = {
    "cubes": ([facts((40, 48, 64))], INSTANCES),
    "sections": ([facts((12, 200, 240), (50.0, 8.0, 8.0))], INSTANCES),
    "very deep voxels": ([facts((9, 64, 80), (500.0, 5.0, 5.0))], INSTANCES),
    "flat voxels": ([facts((60, 40, 40), (5.0, 20.0, 20.0))], INSTANCES),
    "a plane": ([facts((1, 150, 170))], INSTANCES),
    "three planes": ([facts((3, 60, 90))], INSTANCES),
    "tiny": ([facts((4, 5, 6))], INSTANCES),
    "tiny plane": ([facts((1, 4, 5))], INSTANCES),
    "a rod": ([facts((5, 3, 120))], INSTANCES),
    "classes": ([facts((8, 60, 70), scheme=TWO)], TWO),
    "borders": ([facts((8, 60, 70))], LabelScheme(kind="instances", borders=Borders())),
    "channels": ([facts((8, 40, 50), channels=4)], INSTANCES),
    "many": (MANY, INSTANCES),
    "some without labels": ([*MANY[:5], facts((8, 40, 48), bare=True, name="bare")], INSTANCES),
    "no labels": ([facts((20, 40, 48), bare=True)], LabelScheme(kind="none")),
    "a plane without labels": ([facts((1, 80, 70), bare=True)], LabelScheme(kind="none")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_settings_are_ready_to_run(case, workspace):
    volumes, scheme = CASES[case]
    dataset = row(volumes, scheme)
    for one in dataset.volumes:
        workspace.volume(one.id).mkdir(parents=True)
    found = suggest(1, volumes, scheme, CPU)
    preflight = check_run(workspace, dataset, found.config)
    assert preflight.ready, [problem.text for problem in preflight.problems]
    assert found.config.patches.batch_size >= 2
    assert preflight.cost.memory_bytes < 0.7 * CPU.memory_bytes
    assert len({reason.text for reason in found.reasons}) == len(found.reasons)
    named = {name: reason.field.split(".")[0] for reason in found.reasons for name in [reason.text]}
    assert set(named.values()) <= set(type(found.config).model_fields)
    assert all(any(sign.isdigit() for sign in reason.text) for reason in found.reasons)


@pytest.mark.parametrize("case", ["cubes", "sections", "a plane", "no labels"])
def test_the_same_data_give_the_same_settings(case):
    volumes, scheme = CASES[case]
    assert suggest(1, volumes, scheme, CPU) == suggest(1, volumes, scheme, CPU)


def said(found, field) -> str:
    return " ".join(reason.text for reason in found.reasons if reason.field == field)


def test_voxels_deeper_than_wide_get_flat_levels_and_flat_patches():
    found = suggest(1, [facts((40, 200, 240), (48.0, 8.0, 8.0))], INSTANCES, CPU)
    z, y, _ = found.config.patches.shape
    assert y / z == pytest.approx(6, rel=0.35)
    assert found.config.model.flat_levels == 3
    assert said(found, "model.flat_levels") == (
        "Voxels are 6 times as deep as wide, so the first 3 levels shrink in the plane only."
    )
    assert found.config.augmentation.kind == "em"


def test_cubes_get_cubes():
    found = suggest(1, [facts((90, 90, 110), (20.0, 20.0, 20.0))], INSTANCES, CPU)
    assert len(set(found.config.patches.shape)) == 1
    assert found.config.model.flat_levels == 0


def test_a_plane_is_learned_in_2d():
    found = suggest(1, [facts((1, 150, 170))], INSTANCES, CPU)
    assert is_flat(found.config.model)
    assert found.config.patches.shape[0] == 1
    assert "1 plane," in said(found, "model")


def large(shape, share=0.3, extents=(8, 60, 60)) -> VolumeFacts:
    """A volume of any size, said rather than made."""
    small = facts((8, 64, 64))
    voxels = math.prod(shape)
    labels = replace(
        small.labels,
        counts={0: round(voxels * (1 - share)), 1: round(voxels * share)},
        pieces={
            value: tuple((round(voxels * part / 32),) * 32 for _ in range(3))
            for value, part in ((0, 1 - share), (1, share))
        },
        objects=replace(small.labels.objects, extents=extents),
    )
    return replace(small, shape=shape, labels=labels)


def test_a_gpu_gets_larger_patches_wider_networks_and_a_longer_training():
    volumes = [large((200, 600, 600))]
    on_cpu, on_gpu = (suggest(1, volumes, INSTANCES, machine).config for machine in (CPU, GPU))
    assert math.prod(on_gpu.patches.shape) > 8 * math.prod(on_cpu.patches.shape)
    assert on_gpu.model.start_channels > on_cpu.model.start_channels
    assert on_gpu.length.epochs > on_cpu.length.epochs
    assert on_gpu.patches.shape == (128, 128, 128)


def test_less_memory_gives_smaller_patches():
    little, much = (
        suggest(1, [large((200, 600, 600))], INSTANCES, replace(GPU, memory_bytes=gb * GB)) for gb in (2, 40)
    )
    assert math.prod(little.config.patches.shape) < math.prod(much.config.patches.shape)
    assert "2 GB of free memory" in said(little, "patches.shape")


def test_large_objects_ask_for_larger_patches_where_there_is_memory():
    small, big = (suggest(1, [large((1, 2000, 2000), extents=(1, side, side))], INSTANCES, GPU) for side in (100, 700))
    assert small.config.patches.shape == (1, 512, 512)
    assert min(big.config.patches.shape[1:]) >= 700
    assert all("so whole ones are seen" in said(found, "patches.shape") for found in (small, big))


def test_a_step_on_a_cpu_is_kept_short():
    found = suggest(1, [large((200, 600, 600))], INSTANCES, CPU)
    assert "a step of about 1 s on a CPU of 2 cores" in said(found, "patches.shape")
    assert "an epoch of about" in said(found, "length.epochs")


@pytest.mark.parametrize(("share", "centred"), [(0.4, 0.33), (0.1, 0.5), (0.01, 0.75), (0.0005, 0.9)])
def test_the_rarer_the_more_patches_are_centred_on_it(share, centred):
    found = suggest(1, [large((40, 200, 200), share=share)], INSTANCES, CPU)
    assert found.config.sampling.foreground_share == centred
    assert f"{100 * share:.2g} %" in said(found, "sampling")


def test_few_bright_voxels_are_not_cut_off():
    rare = suggest(1, [large((40, 200, 200), share=0.001)], INSTANCES, CPU)
    assert rare.config.normalisation.high > 99.9
    assert suggest(1, [large((40, 200, 200))], INSTANCES, CPU).config.normalisation.high == 99.5


def test_classes_compete_and_are_drawn_equally_often():
    config = suggest(1, [facts((8, 60, 70), scheme=TWO)], TWO, CPU).config
    assert (config.data.task, config.loss.kind, config.sampling.kind) == ("classes", "dice_ce", "classes")


def test_the_split_leaves_no_part_without_a_class():
    """Class 2 lies at the low end of x alone: cutting x, the longest axis, would leave validation without it."""
    labels = np.zeros((8, 40, 90), np.uint8)
    labels[:, :, 30:] = 1
    labels[:, :, :12] = 2
    image = np.random.default_rng(0).integers(0, 255, (1, 8, 40, 90)).astype(np.uint8)
    volumes = [measure_volume(Volume("a", image, labels), TWO)]
    found = suggest(1, volumes, TWO, CPU)
    split = split_data([Member("a", (8, 40, 90))], found.config.split, 0)
    for part in (split.training, split.validation):
        assert set(np.unique(labels[part[0].slices])) >= {1, 2}
    assert "would lack a class" in said(found, "split")


def test_labels_that_hold_nothing_are_none():
    empty = measure_volume(Volume("a", np.ones((1, 20, 40, 48), np.uint8), np.zeros((20, 40, 48), np.uint8)), INSTANCES)
    assert not suggest(1, [empty], INSTANCES, CPU).config.model.needs_labels


def test_what_stands_out_without_labels_is_bright_or_dark():
    image = np.full((1, 20, 40, 48), 30, np.uint8)
    image[:, 5:9, 10:20, 10:20] = 200
    for grey, objects in ((image, "bright"), (230 - image, "dark")):
        config = suggest(1, [measure_volume(Volume("a", grey), INSTANCES)], INSTANCES, CPU).config
        assert config.model.objects == objects
        assert not any(side % step for side, step in zip(config.patches.shape, model_stride(config.model), strict=True))
