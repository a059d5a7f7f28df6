"""Findings: each trouble is one warning with advice and the names of its volumes; clean data have none."""

from dataclasses import replace

import numpy as np
import pytest

from seglib.config.labels import LabelClass, LabelScheme
from seglib.data.report.findings import class_shares, find_problems
from seglib.data.report.measure import measure_volume
from seglib.data.report.signs import Bar
from seglib.data.splits import Region, Split
from seglib.data.volumes import Volume
from tests.data.report.test_signs import cells

INSTANCES = LabelScheme(kind="instances")
CLASSES = LabelScheme(
    kind="classes", classes=(LabelClass(name="cell", values=(1,)), LabelClass(name="spot", values=(2,)))
)
NAMES = ("foreground",)


def facts(seed=0, name="", scheme=INSTANCES, **changes):
    image, labels = cells(seed, shape=(8, 64, 72))
    made = {"name": name or f"leaf{seed}", "image": image, "labels": labels, "voxel_size_nm": (20.0, 10.0, 10.0)}
    made |= changes
    return measure_volume(Volume(**made), scheme)


CLEAN = [facts(seed, voxel_size_nm=(10.0, 10.0, 10.0)) for seed in range(3)]
TEN_NM = {"voxel_size_nm": (10.0, 10.0, 10.0)}


def found(volumes, names=NAMES, **more):
    return find_problems(volumes, names, **more)


def the_warning(volumes, names=NAMES, **more):
    (finding,) = [one for one in found(volumes, names, **more) if one.kind == "warning"]
    return finding


def test_clean_data_have_nothing_to_tell():
    assert found(CLEAN) == []


def test_sizes_that_differ_are_known_not_feared():
    small = facts(5, image=cells(5)[0][:, :8, :40, :40], labels=cells(5)[1][:8, :40, :40])
    sizes = found([*CLEAN[:1], replace(small, voxel_size_nm=(10.0, 10.0, 10.0))])
    assert [one.kind for one in sizes if "size" in one.text] == ["note"]
    assert "from 8 × 40 × 40 to 8 × 64 × 72" in sizes[0].text


def test_other_voxel_sizes_are_named():
    other = replace(CLEAN[1], voxel_size_nm=(10.0, 25.0, 25.0))
    finding = the_warning([CLEAN[0], other])
    assert "up to 2.5 times" in finding.text
    assert finding.volumes == ("leaf1",)
    assert [one.kind for one in found([CLEAN[0], replace(CLEAN[1], voxel_size_nm=(11.0, 10.0, 10.0))])] == ["note"]


def test_deep_voxels_are_told():
    (finding,) = found([facts(0)])
    assert (finding.kind, "2 times as deep as wide" in finding.text) == ("note", True)


def test_channels_that_differ():
    assert the_warning([CLEAN[0], replace(CLEAN[1], channels=3)]).volumes == ("leaf1",)


@pytest.mark.parametrize(("end", "word"), [("white", "brightest"), ("black", "darkest")])
def test_saturated_images(end, word):
    grey = replace(CLEAN[1].grey[0], **{end: 0.034})
    finding = the_warning([CLEAN[0], replace(CLEAN[1], grey=(grey,))])
    assert f"Up to 3.4 % of the voxels are stuck at the {word} value" in finding.text
    assert finding.volumes == ("leaf1",)


def test_a_border_is_not_taken_for_saturation():
    grey = replace(CLEAN[0].grey[0], black=0.24)
    signs = replace(CLEAN[0].signs, bars=(Bar("top", 16, constant=True),))  # a quarter of 64 rows
    assert "empty border" in the_warning([replace(CLEAN[0], grey=(grey,), signs=signs)]).text


def test_grey_values_of_another_scale_or_type():
    image, labels = cells(1, shape=(8, 64, 72))
    wide = facts(1, "wide", image=image.astype(np.uint16) * 40, labels=labels, **TEN_NM)
    assert "differ in type (uint16, uint8)" in the_warning([CLEAN[0], wide]).text
    other = facts(0, "other", image=cells(0, shape=(8, 64, 72))[0].astype(np.uint16), **TEN_NM)
    texts = [one.text for one in found([other, wide]) if one.kind == "warning"]
    assert any("Grey values differ much" in text and " in other, between " in text for text in texts)


def test_an_unknown_voxel_size_is_told():
    (finding,) = found([replace(CLEAN[0], voxel_size_nm=(1.0, 1.0, 1.0))])
    assert (finding.kind, "1 × 1 × 1 nm" in finding.text) == ("note", True)


def test_little_foreground_is_told():
    labels = cells(0, shape=(8, 64, 72))[1]
    sizes = np.bincount(labels.ravel())
    chosen = np.argmin(np.where((sizes > 150) & (sizes < 700), sizes, 10**9))
    labels = np.where(labels == chosen, labels, 0)
    (finding,) = found([facts(0, labels=labels, **TEN_NM)])
    assert finding.kind == "note"
    assert "of the voxels are foreground" in finding.text


def test_empty_images_and_broken_values():
    flat = replace(CLEAN[1].grey[0], low=5.0, high=5.0)
    assert "single grey value" in the_warning([replace(CLEAN[1], grey=(flat,))]).text
    broken = replace(CLEAN[1].grey[0], broken=0.001)
    assert "no finite numbers" in the_warning([replace(CLEAN[1], grey=(broken,))]).text


def test_bars_and_borders_say_where():
    signs = replace(CLEAN[0].signs, bars=(Bar("bottom", 60, constant=False), Bar("left", 9, constant=True)))
    texts = [one.text for one in found([replace(CLEAN[0], signs=signs)])]
    assert "instrument bar, 60 rows at the bottom" in texts[0]
    assert "empty border, 9 columns on the left" in texts[1]


def test_values_of_a_wrong_type():
    wrong = replace(CLEAN[0].signs, dtype="looks as if its bytes were swapped")
    assert the_warning([replace(CLEAN[0], signs=wrong), CLEAN[1]]).volumes == ("leaf0",)
    harmless = replace(CLEAN[0].signs, dtype="has only multiples of 256, which does no harm")
    assert [one.kind for one in found([replace(CLEAN[0], signs=harmless)])] == ["note"]


def test_labels_that_are_empty_or_all_the_same():
    image, labels = cells(3, shape=(8, 64, 72))
    empty = measure_volume(Volume("empty", image, np.zeros_like(labels)), INSTANCES)
    full = measure_volume(Volume("full", image, np.ones_like(labels)), INSTANCES)
    assert "background only" in the_warning([empty]).text
    assert the_warning([empty, replace(CLEAN[0], voxel_size_nm=(1.0, 1.0, 1.0))]).volumes == ("empty",)
    assert "same label" in the_warning([full]).text


def test_labels_beside_the_image():
    image, labels = cells(0, shape=(12, 120, 140))
    shifted = measure_volume(Volume("off", image, np.roll(labels, (0, 5, -3), (0, 1, 2))), INSTANCES)
    finding = the_warning([shifted])
    assert "z +0, y -5, x +3 voxels" in finding.text
    assert finding.volumes == ("off",)


def test_a_rare_class():
    image, labels = cells(0, shape=(8, 64, 72))
    labels = (labels > 0).astype(np.uint8)
    labels[3, 4, 5] = 2
    rare = measure_volume(Volume("rare", image, labels), CLASSES)
    finding = the_warning([rare], ("cell", "spot"))
    assert "The class spot has only 1 voxels" in finding.text


def test_objects_that_are_too_thin_or_specks():
    image, labels = cells(0, shape=(8, 64, 72))
    thin = np.zeros_like(labels)
    for number in range(1, 30):
        thin[:, 2 * number, 5:60] = number
    assert "only 1 voxel thick" in the_warning([measure_volume(Volume("thin", image, thin), INSTANCES)]).text
    specks = labels.copy()
    specks[3, 4::8, 4::8] = np.arange(100, 172, dtype=np.uint16).reshape(8, 9)
    assert any("fewer than four voxels" in one.text
               for one in found([measure_volume(Volume("dust", image, specks), INSTANCES)]))  # fmt: skip


def test_objects_larger_than_a_patch():
    finding = the_warning(CLEAN[:1], patch=(8, 8, 8))
    assert "larger than a patch of 8 × 8 × 8" in finding.text
    assert "y" in finding.text
    # A patch as large as the volume cannot be larger, and is no trouble.
    assert found(CLEAN[:1], patch=(8, 64, 72)) == []


def halves(volume=0):
    return Split((Region(volume, (0, 0, 0), (8, 64, 36)),), (Region(volume, (0, 0, 36), (8, 64, 72)),))


def test_shares_of_a_block_are_those_of_its_voxels():
    image, _ = cells(0, shape=(8, 64, 72))
    labels = np.random.default_rng(0).choice([0, 1, 2], (8, 64, 72), p=[0.6, 0.3, 0.1]).astype(np.uint8)
    labels[:, :, 36:] = np.where(labels[:, :, 36:] == 2, 0, labels[:, :, 36:])
    measured = measure_volume(Volume("leaf", image, labels), CLASSES)
    for regions, part in ((halves().training, labels[:, :, :36]), (halves().validation, labels[:, :, 36:])):
        shares = class_shares([measured], regions)
        for value in (0, 1, 2):
            assert shares.get(value, 0) == pytest.approx((part == value).mean(), abs=0.01)
    whole = class_shares([measured], [Region(0, (0, 0, 0), (8, 64, 72))])
    assert whole == {value: pytest.approx((labels == value).mean()) for value in (0, 1, 2)}
    finding = the_warning([measured], ("cell", "spot"), split=halves())
    assert "judged on holds nothing of spot" in finding.text


def test_a_part_without_any_label():
    image, labels = cells(0, shape=(8, 64, 72))
    labels[:, :, 34:] = 0
    measured = measure_volume(Volume("leaf", image, labels), INSTANCES)
    assert "judged on holds nothing labelled" in the_warning([measured], split=halves()).text


def whole(index):
    return Region(index, (0, 0, 0), (8, 64, 72))


def test_twins_on_both_sides_of_a_split():
    image = cells(0, shape=(8, 64, 72))[0]
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    turned = facts(0, "turned", image=image[:, ::-1, ::-1, ::-1], **TEN_NM)
    pairs = found([CLEAN[0], CLEAN[1], turned], split=Split((whole(0),), (whole(1), whole(2))))
    assert "leaf0 (training) and turned (validation) look the same" in pairs[0].text
    twin = facts(0, "twin", image=(image * 0.8 + noise).clip(0, 255).astype(np.uint8), **TEN_NM)
    volumes = [*CLEAN, twin]
    apart = Split((whole(0), whole(1)), (whole(2), whole(3)))
    finding = the_warning(volumes, split=apart)
    assert "leaf0 (training) and twin (validation) look the same" in finding.text
    assert finding.volumes == ("leaf0", "twin")
    together = Split((whole(0), whole(3), whole(1)), (whole(2),))
    assert found(volumes, split=together) == []
    assert [one.kind for one in found(volumes)] == ["note"]


def test_warnings_come_first():
    grey = replace(CLEAN[1].grey[0], white=0.5)
    mixed = [facts(0), replace(facts(1), grey=(grey,))]
    assert [one.kind for one in found(mixed)] == ["warning", "note"]
