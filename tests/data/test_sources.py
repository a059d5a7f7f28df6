"""Which files are meant: order, folders, and the paths a person may name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.data.readers import SourceFile
from seglib.data.readers.sources import (
    allowed_roots,
    confine,
    find_files,
    find_pairs,
    natural_key,
    natural_order,
    split_pairs,
)
from seglib.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(sources) -> list[str]:
    return [source.name for source in sources]


@pytest.fixture
def roots(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", str(inside))
    return inside


def test_two_comes_before_ten():
    shuffled = ["s10.tif", "s2.tif", "S1.tif", "s02b.tif", "s9_10.tif", "s9_9.tif"]
    ordered = names(natural_order(SourceFile(Path("x"), name) for name in shuffled))
    assert ordered == ["S1.tif", "s2.tif", "s02b.tif", "s9_9.tif", "s9_10.tif", "s10.tif"]


@given(st.lists(st.text(max_size=30)))
def test_any_names_can_be_ordered(texts):
    assert sorted(sorted(texts, key=natural_key)) == sorted(texts)


@given(st.lists(st.integers(0, 10**9), unique=True))
def test_numbered_names_come_in_the_order_of_their_numbers(numbers):
    shuffled = [SourceFile(Path("x"), f"plane{number}.tif") for number in numbers]
    assert names(natural_order(shuffled)) == [f"plane{number}.tif" for number in sorted(numbers)]


def test_a_very_long_number_is_no_trouble():
    assert natural_key("9" * 10_000) < natural_key("1" + "0" * 10_000)


def test_find_files_takes_supported_files_directly_in_the_folder(tmp_path):
    folder = touch(tmp_path / "raw", "10.tif", "2.TIF", "notes.txt", ".3.tif", "deep/4.tif")
    assert names(find_files(folder)) == ["raw/2.TIF", "raw/10.tif"]


def test_an_empty_a_missing_and_a_wrong_folder_say_what_was_found(tmp_path):
    with pytest.raises(DataError, match="it is empty"):
        find_files(tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        find_pairs(tmp_path / "nowhere")
    touch(tmp_path, "a.doc", "sub/x.tif")
    for find in (find_files, find_pairs):
        with pytest.raises(DataError, match=r"a\.doc, sub/.*\.tif"):
            find(tmp_path)


@pytest.mark.parametrize(("image_folder", "label_folder"), [("images", "labels"), ("raw", "masks"), ("Imgs", "GT")])
def test_folders_of_images_and_labels_are_paired(tmp_path, image_folder, label_folder):
    touch(
        tmp_path, f"{image_folder}/10.tif", f"{image_folder}/2.tif", f"{label_folder}/2.tif", f"{label_folder}/10.tif"
    )
    images, labels = find_pairs(tmp_path)
    assert names(images) == [f"{image_folder}/2.tif", f"{image_folder}/10.tif"]
    assert names(labels) == [f"{label_folder}/2.tif", f"{label_folder}/10.tif"]


def test_two_files_called_image_and_label_are_paired(tmp_path):
    images, labels = find_pairs(touch(tmp_path, "image.tif", "label.tif"))
    assert [source.path.name for source in images] == ["image.tif"]
    assert [source.path.name for source in labels] == ["label.tif"]


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_what_the_folder_itself_is_called_does_not_matter(tmp_path, folder):
    images, labels = find_pairs(touch(tmp_path / folder, "image.tif", "label.tif"))
    assert (names(images), names(labels)) == (["image.tif"], ["label.tif"])


def test_labels_in_a_folder_beside_the_images_are_paired(tmp_path):
    images, labels = find_pairs(touch(tmp_path, "1.tif", "masks/1.tif"))
    assert [source.path.name for source in images] == ["1.tif"]
    assert names(labels) == ["masks/1.tif"]


def test_without_such_names_all_files_are_images(tmp_path):
    images, labels = find_pairs(touch(tmp_path, "1.tif", "2.tif"))
    assert len(images) == 2
    assert labels == []


def test_labels_without_images_are_refused():
    with pytest.raises(DataError, match="the images are missing"):
        split_pairs([SourceFile(Path("x"), "labels/1.tif")])


def test_the_nearest_folder_decides_in_a_zip():
    images, labels = split_pairs(
        [SourceFile(Path("x"), "labels project/images/1.tif"), SourceFile(Path("x"), "images/labels/1.tif")]
    )
    assert names(images) == ["labels project/images/1.tif"]
    assert names(labels) == ["images/labels/1.tif"]


def test_a_path_inside_an_allowed_folder_is_resolved(roots):
    (roots / "a").mkdir()
    assert confine(f"  {roots}/a/../a ") == (roots / "a").resolve()


def test_paths_that_lead_out_are_refused_with_the_way_to_allow_them(roots, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (roots / "link").symlink_to(outside)
    for text in (str(outside), f"{roots}/../outside", f"{roots}/link", "/", "~", str(tmp_path / "inside2")):
        with pytest.raises(DataError, match="SEGLIB_DATA_ROOTS") as caught:
            confine(text)
        assert str(roots) in str(caught.value)


def test_outside_it_is_not_told_whether_something_is_there(roots, tmp_path):
    told = []
    for name in ("exists", "absent"):
        if name == "exists":
            (tmp_path / name).mkdir()
        with pytest.raises(DataError) as caught:
            confine(str(tmp_path / name))
        told.append(str(caught.value).replace(name, ""))
    assert told[0] == told[1]


@pytest.mark.parametrize("text", ["", "   ", "a\0b", "a\nb", "\\\\server\\share", "~nobody-of-this-name/x"])
def test_texts_that_are_no_path_are_refused(roots, text):
    with pytest.raises(DataError):
        confine(text)


def test_a_missing_and_an_overlong_path_are_refused(roots):
    with pytest.raises(DataError, match="cannot be opened"):
        confine(str(roots / "nowhere"))
    with pytest.raises(DataError):
        confine(str(roots / ("x" * 5000)))


@given(st.text(max_size=60))
def test_no_text_makes_confine_fail_otherwise_or_lead_out(text):
    try:
        path = confine(text)
    except DataError:
        return
    assert any(path.is_relative_to(root) for root in allowed_roots())


def test_several_roots_can_be_given_and_the_whole_disk_is_never_a_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", os.pathsep.join([str(tmp_path), "", str(tmp_path / "b")]))
    assert allowed_roots() == [tmp_path.resolve(), (tmp_path / "b").resolve()]
    monkeypatch.delenv("SEGLIB_DATA_ROOTS")
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    assert Path("/") not in allowed_roots()


def test_a_file_that_links_out_of_the_allowed_folders_is_refused(roots, tmp_path):
    touch(tmp_path, "secret.tif", "inside/real.tif")
    (roots / "near.tif").symlink_to(roots / "real.tif")
    assert len(find_files(roots)) == 2
    (roots / "far.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(DataError, match=r"far\.tif is a link"):
        find_files(roots)
