"""Plans: which files become which volumes, and every problem with them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seglib.data.pairing import Item
from seglib.data.planning import ImportRequest, clean_name, plan_import
from seglib.data.readers import SourceFile, stem_of
from seglib.errors import DataError


@pytest.fixture
def make(tmp_path):
    """Writes arrays as TIFF files and gives them as sources."""

    def write(**arrays) -> tuple[SourceFile, ...]:
        sources = []
        for name, array in arrays.items():
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tif"
            tifffile.imwrite(path, array, photometric="minisblack")
            sources.append(SourceFile(path, name.replace("__", "/") + ".tif"))
        return tuple(sources)

    return write


def request(images, labels=(), **options) -> ImportRequest:
    """One item for each image, with the labels in the same place of theirs."""
    defaults = {"name": "Leaf", "voxel_size_nm": (50.0, 8.0, 8.0)}
    marks = [(label,) for label in labels] or [()] * len(images)
    items = [Item(stem_of(image.name), (image,), mark) for image, mark in zip(images, marks, strict=True)]
    return ImportRequest(items=tuple(items), **{**defaults, **options})


def one(images, labels=(), *, files_are="sections", **options) -> ImportRequest:
    """All files as one item."""
    item = Item("leaf", tuple(images), tuple(labels), files_are=files_are)
    return ImportRequest(name="Leaf", items=(item,), **{"voxel_size_nm": (50.0, 8.0, 8.0), **options})


def planes_of(stack, z0, z1):
    with stack.opened() as read_planes:
        return read_planes(z0, z1)


def flat(rows=8, columns=9, value=0) -> np.ndarray:
    return np.full((rows, columns), value, np.uint8)


def test_planes_of_one_size_whose_names_are_a_series_are_sections_of_one_volume(make):
    plan = plan_import(request(make(s1=flat(value=1), s2=flat(value=2), s10=flat(value=10))))
    assert plan.problems == ()
    (volume,) = plan.volumes
    assert volume.name == "Leaf"
    assert volume.image.shape_czyx == (1, 3, 8, 9)
    assert planes_of(volume.image, 0, 3)[0, :, 0, 0].tolist() == [1, 2, 10]
    assert planes_of(volume.image, 1, 3)[0, :, 0, 0].tolist() == [2, 10]
    assert [source.name for source in volume.sources] == ["s1.tif", "s2.tif", "s10.tif"]


def test_stacks_are_volumes_of_their_own(make):
    plan = plan_import(request(make(a=np.zeros((3, 8, 9), np.uint8), b=np.zeros((3, 8, 9), np.uint8))))
    assert [(volume.name, volume.image.shape_czyx) for volume in plan.volumes] == [
        ("a", (1, 3, 8, 9)),
        ("b", (1, 3, 8, 9)),
    ]


def test_planes_of_different_sizes_are_volumes_of_their_own_and_that_is_noted(make):
    plan = plan_import(request(make(a=flat(8), b=flat(7))))
    assert [volume.image.shape_czyx for volume in plan.volumes] == [(1, 1, 8, 9), (1, 1, 7, 9)]
    assert "differ in size" in plan.notes[0]


def test_the_layout_can_be_asked_for(make):
    files = make(a=flat(), b=flat())
    assert len(plan_import(request(files, layout="volumes")).volumes) == 2
    stacks = make(c=np.zeros((3, 8, 9), np.uint8), d=np.zeros((2, 8, 9), np.uint8))
    (volume,) = plan_import(request(stacks, layout="sections")).volumes
    assert volume.image.shape_czyx == (1, 5, 8, 9)


def test_sections_that_are_not_alike_are_each_named(make):
    files = make(a=flat(), b=flat().astype(np.uint16), c=flat(), d=flat(5))
    plan = plan_import(request(files, layout="sections"))
    assert len(plan.problems) == 2
    assert "b.tif is 8 × 9 uint16 but a.tif is 8 × 9 uint8" in plan.problems[0]
    assert "d.tif is 5 × 9 uint8" in plan.problems[1]


def test_unrelated_pictures_and_very_many_of_one_size_are_volumes_of_their_own(make):
    assert len(plan_import(request(make(cat=flat(), dog=flat(), eel=flat()))).volumes) == 3
    many = make(**{f"cell_{number}": flat(2, 2) for number in range(9)})
    plan = plan_import(request(many))
    assert len(plan.volumes) == 9
    assert (plan.layout, "separate 2D images" in plan.notes[0]) == ("volumes", True)


def test_sections_of_each_group_become_a_volume_of_that_name(make):
    files = make(a1=flat(value=1), a2=flat(value=2), b1=flat(value=3))
    groups = ("leaf", "leaf", "root")
    items = tuple(Item(f.name, (f,), group=group) for f, group in zip(files, groups, strict=True))
    plan = plan_import(ImportRequest(name="Plant", items=items, layout="sections"))
    assert [(v.name, v.group, v.image.shape_czyx[1]) for v in plan.volumes] == [
        ("leaf", "leaf", 2),
        ("root", "root", 1),
    ]


def test_files_that_are_channels_of_one_volume_are_joined(make):
    stack = np.arange(2 * 8 * 9, dtype=np.uint8).reshape(2, 8, 9)
    (volume,) = plan_import(one(make(c0=stack, c1=stack + 100), files_are="channels")).volumes
    assert volume.image.shape_czyx == (2, 2, 8, 9)
    np.testing.assert_array_equal(planes_of(volume.image, 1, 2), np.stack([stack, stack + 100])[:, 1:])


def test_channels_that_are_not_alike_are_told(make):
    problems = plan_import(one(make(c0=flat(), c1=flat(5)), files_are="channels")).problems
    assert problems[0].startswith("c1.tif is 5 × 9 uint8 but c0.tif is 8 × 9 uint8: channels of one volume")


def test_the_axis_order_can_be_changed_and_a_time_axis_is_refused_with_a_way_on(make):
    stored = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    (volume,) = plan_import(request(make(a=stored), axes="yxz")).volumes
    assert volume.image.shape_czyx == (1, 6, 4, 5)
    np.testing.assert_array_equal(planes_of(volume.image, 2, 5)[0], stored.transpose(2, 0, 1)[2:5])
    (problem,) = plan_import(request(make(b=stored), axes="TYX")).problems
    assert "4 time points" in problem
    assert "change the axis order to ZYX" in problem
    (problem,) = plan_import(request(make(c=stored), axes="ZY")).problems
    assert "3 dimensions" in problem


def test_the_voxel_size_comes_from_the_files_unless_it_is_given(tmp_path):
    path = tmp_path / "ij.tif"
    metadata = {"spacing": 0.5, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), imagej=True, resolution=(10, 10), metadata=metadata)
    source = SourceFile(path, "ij.tif")
    (volume,) = plan_import(request([source], voxel_size_nm=None)).volumes
    assert volume.voxel_size_nm == pytest.approx((500.0, 100.0, 100.0))
    (volume,) = plan_import(request([source], voxel_size_nm=(5.0, 4.0, 3.0))).volumes
    assert volume.voxel_size_nm == (5.0, 4.0, 3.0)


def test_where_no_file_says_how_large_a_voxel_is_that_is_noted(make):
    plan = plan_import(request(make(a=np.zeros((3, 8, 9), np.uint8)), voxel_size_nm=None))
    assert plan.volumes[0].voxel_size_nm == (1.0, 1.0, 1.0)
    assert "do not say how large a voxel is" in plan.notes[0]


@pytest.mark.parametrize("stack_is", ["image", "label"])
def test_a_stack_and_its_sections_pair_in_either_direction(make, stack_is):
    stack = make(stack=np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((8, 9), np.uint8))
    sections = make(s1=flat(value=0), s2=flat(value=1), s3=flat(value=2))
    images, labels = (stack, sections) if stack_is == "image" else (sections, stack)
    (volume,) = plan_import(one(images, labels)).volumes
    np.testing.assert_array_equal(planes_of(volume.image, 0, 3), planes_of(volume.labels, 0, 3))


def test_every_pair_of_different_size_is_told(make):
    images = make(images__1=flat(), images__2=flat(), images__3=flat())
    labels = make(labels__1=flat(columns=7), labels__2=flat(), labels__3=flat(rows=7))
    problems = plan_import(request(images, labels)).problems
    assert [problem.split(":")[0] for problem in problems] == [
        "labels/1.tif is 8 × 7 but images/1.tif is 8 × 9",
        "labels/3.tif is 7 × 9 but images/3.tif is 8 × 9",
    ]


def test_a_different_count_is_told_with_the_missing_file(make):
    plan = plan_import(one(make(i1=flat(), i2=flat(), i3=flat()), make(l1=flat(), l3=flat())))
    assert len(plan.problems) == 1
    assert "3 image files but 2 label files; without a partner: i2.tif" in plan.problems[0]


def test_every_unreadable_file_is_told_not_only_the_first(make, tmp_path):
    bad = []
    for name in ("x.tif", "y.tif"):
        (tmp_path / name).write_text("not an image")
        bad.append(SourceFile(tmp_path / name, name))
    plan = plan_import(request([*make(a=flat()), *bad]))
    assert [problem.split()[0] for problem in plan.problems] == ["x.tif", "y.tif"]
    assert [volume.name for volume in plan.volumes] == ["a"]


def test_photos_and_two_channels_are_no_labels_but_colours_are(make, tmp_path):
    Image.fromarray(flat()).save(tmp_path / "l.jpg")
    tifffile.imwrite(tmp_path / "two.tif", np.zeros((8, 9, 2), np.uint8), photometric="minisblack", planarconfig=1)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "l.png")
    for name, told in (("l.jpg", "like a photo"), ("two.tif", "2 channels")):
        plan = plan_import(request(make(a=flat()), [SourceFile(tmp_path / name, name)]))
        assert len(plan.problems) == 1
        assert name in plan.problems[0]
        assert told in plan.problems[0]
    assert plan_import(request(make(a=flat()), [SourceFile(tmp_path / "l.png", "l.png")])).problems == ()


def test_nothing_to_import_is_told():
    assert "no image" in plan_import(request([])).problems[0]


@pytest.mark.parametrize("size", [(0.0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_voxels_without_a_size_are_told(make, size):
    assert "voxel size" in plan_import(request(make(a=flat()), voxel_size_nm=size)).problems[0]


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", "a\0", "\x9f", "\ud800"])
def test_names_that_cannot_be_shown_are_refused(make, name):
    with pytest.raises(DataError):
        clean_name(name)
    assert len(plan_import(request(make(a=flat()), name=name)).problems) == 1


def test_any_other_name_is_only_trimmed():
    for name in ("../../etc/passwd", "葉緑体 10 °C", "<img src=x>", "CON", "x" * 200):
        assert clean_name(f" {name} ") == name


def test_planning_leaves_the_files_alone(make, tmp_path: Path):
    files = make(a=flat())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    plan_import(request(files))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_labels_may_be_another_array_of_the_image_files(tmp_path):
    image, labels = np.full((3, 8, 9), 7, np.uint8), np.eye(8, 9, dtype=np.uint8)[None].repeat(3, 0)
    np.savez(tmp_path / "a.npz", raw=image, marks=labels)
    source = SourceFile(tmp_path / "a.npz", "a.npz")
    (volume,) = plan_import(request([source], member="raw", label_member="marks")).volumes
    np.testing.assert_array_equal(planes_of(volume.image, 0, 3)[0], image)
    np.testing.assert_array_equal(planes_of(volume.labels, 0, 3)[0], labels)
    assert "no array 'other'" in plan_import(request([source], label_member="other")).problems[0]


def test_what_many_files_have_in_common_is_noted_once(tmp_path):
    sources = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        picture = Image.fromarray(flat()).convert("P")
        picture.save(path)
        sources.append(SourceFile(path, path.name))
    notes = plan_import(request(sources)).notes
    assert [note for note in notes if "colour table" in note] == [
        "0.png has a colour table; its index numbers are used as values. (So do 2 more files.)"
    ]


def test_sections_whose_labels_have_other_numbers_are_noted_but_may_be_meant_so(make):
    plan = plan_import(request(make(i1=flat(), i2=flat(value=1)), make(l2=flat(), l3=flat(value=1))))
    assert plan.problems == ()
    assert "l2.tif would belong to i1.tif, but their numbers differ (so in 2 of 2 pairs)" in " ".join(plan.notes)
