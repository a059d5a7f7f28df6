"""From a path to image and label files."""

import zipfile

import pytest

from seglib.data.doors import existing_path, expand, files_at
from seglib.data.readers.base import SourceFile
from seglib.errors import DataError
from tests.conftest import write_two_classes


@pytest.fixture
def leaves(tmp_path):
    return write_two_classes(tmp_path / "leaves")


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def names(files) -> list[str]:
    return [file.path.name for file in files]


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.tif")):
            archive.write(path, path.relative_to(folder))
    return target


def test_a_folder_with_images_and_labels_gives_both(leaves, scratch):
    found = files_at(str(leaves), "", scratch, resolve=existing_path)
    assert names(found.images) == names(found.labels) == ["leaf1.tif", "leaf2.tif"]
    assert {file.path.parent.name for file in found.labels} == {"labels"}
    assert found.name == "leaves"


def test_two_folders_give_images_and_labels_whatever_they_are_called(leaves, scratch):
    (leaves / "images").rename(leaves / "a")
    (leaves / "labels").rename(leaves / "b")
    found = files_at(str(leaves / "a"), str(leaves / "b"), scratch, resolve=existing_path)
    assert {file.path.parent.name for file in found.images} == {"a"}
    assert {file.path.parent.name for file in found.labels} == {"b"}


def test_a_folder_of_images_alone_has_no_labels(leaves, scratch):
    found = files_at(str(leaves / "images"), " ", scratch, resolve=existing_path)
    assert names(found.images) == ["leaf1.tif", "leaf2.tif"]
    assert found.labels == ()


def test_a_single_file_is_one_image_named_after_it(leaves, scratch):
    found = files_at(str(leaves / "images" / "leaf2.tif"), "", scratch, resolve=existing_path)
    assert (names(found.images), found.labels, found.name) == (["leaf2.tif"], (), "leaf2")


def test_a_zip_with_images_and_labels_gives_both(leaves, scratch, tmp_path):
    found = files_at(str(zipped(leaves, tmp_path / "all.zip")), "", scratch, resolve=existing_path)
    assert len(found.images) == len(found.labels) == 2
    assert found.name == "all"
    assert all(file.path.is_relative_to(scratch) for file in (*found.images, *found.labels))
    assert found.images[0].path.read_bytes() == (leaves / "images" / "leaf1.tif").read_bytes()
    assert found.labels[1].path.read_bytes() == (leaves / "labels" / "leaf2.tif").read_bytes()


def test_two_zips_do_not_unpack_over_each_other(leaves, scratch, tmp_path):
    first = zipped(leaves / "images", tmp_path / "1.zip")
    second = zipped(leaves / "labels", tmp_path / "2.zip")
    found = expand([SourceFile(first, "1.zip"), SourceFile(second, "2.zip")], scratch)
    assert len({file.path for file in found}) == 4
    assert len({file.path.read_bytes() for file in found}) >= 3


def test_files_come_in_natural_order(leaves, scratch):
    (leaves / "images" / "leaf1.tif").rename(leaves / "images" / "leaf10.tif")
    found = files_at(str(leaves / "images"), "", scratch, resolve=existing_path)
    assert names(found.images) == ["leaf2.tif", "leaf10.tif"]


def test_what_leads_nowhere_is_said(leaves, scratch, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.tif does not exist"):
        files_at(str(tmp_path / "nothing.tif"), "", scratch, resolve=existing_path)
    with pytest.raises(DataError, match="does not exist"):
        files_at(str(leaves / "images"), str(tmp_path / "nothing"), scratch, resolve=existing_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        files_at(str(tmp_path / "empty"), "", scratch, resolve=existing_path)
    (tmp_path / "bad.zip").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match=r"bad\.zip"):
        files_at(str(tmp_path / "bad.zip"), "", scratch, resolve=existing_path)


def test_paths_are_resolved_by_the_caller(scratch):
    def refuse(text):
        raise DataError(f"{text} is outside")

    with pytest.raises(DataError, match="/etc is outside"):
        files_at("/etc", "", scratch, resolve=refuse)
