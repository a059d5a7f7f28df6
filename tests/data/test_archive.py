"""Zips: what is unpacked, under which names, and what is refused."""

import io
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.data.readers import SourceFile
from seglib.data.readers.archive import unpack
from seglib.errors import DataError


def tiff_bytes(value: int = 0) -> bytes:
    tifffile.imwrite(buffer := io.BytesIO(), np.full((4, 4), value, np.uint8))
    return buffer.getvalue()


def make_zip(path, members) -> SourceFile:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return SourceFile(path, "upload.zip")


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "in" / "to"
    folder.mkdir(parents=True)
    return folder


def test_images_are_unpacked_under_our_names_and_keep_theirs_for_people(tmp_path, into):
    members = [("set/images/02.TIF", tiff_bytes(2)), ("set/labels/02.tif", tiff_bytes(1)), ("set/read me.txt", b"hi")]
    sources = unpack(make_zip(tmp_path / "a.zip", members), into)
    assert [source.name for source in sources] == ["set/images/02.TIF", "set/labels/02.tif"]
    assert sorted(path.name for path in into.iterdir()) == ["000000.tif", "000001.tif"]
    assert sources[0].path.read_bytes() == tiff_bytes(2)


def test_what_computers_add_to_zips_is_left_out(tmp_path, into):
    junk = ["__MACOSX/images/._1.tif", "images/.DS_Store", "images/._1.tif", "images/Thumbs.db"]
    source = make_zip(tmp_path / "a.zip", [*((name, b"x") for name in junk), ("images/1.tif", tiff_bytes())])
    assert [found.name for found in unpack(source, into)] == ["images/1.tif"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.tif",
        "images/../../evil.tif",
        "/etc/evil.tif",
        "C:/evil.tif",
        "..\\evil.tif",
        "a\\b.tif",
        "a\x07.tif",
        "x" * 300 + ".tif",
        "inner.zip",
        "inner.tar.gz",
        "inner.gz",
        "a.zarr/../../evil.tif",
        "a.zarr/c:/x",
        "a.zarr/..\\x",
        "a.zarr/\x85",
    ],
)
def test_names_that_lead_astray_are_refused_and_nothing_is_written(tmp_path, into, name):
    source = make_zip(tmp_path / "a.zip", [("good.tif", tiff_bytes()), (name, tiff_bytes())])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"upload\.zip cannot be unpacked"):
        unpack(source, into)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_with_a_nul_is_refused(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [("aXb.tif", tiff_bytes())])
    source.path.write_bytes(source.path.read_bytes().replace(b"aXb.tif", b"a\0b.tif"))
    with pytest.raises(DataError, match="character"):
        unpack(source, into)


def test_links_are_refused(tmp_path, into):
    link = zipfile.ZipInfo("link.tif")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DataError, match="link"):
        unpack(make_zip(tmp_path / "a.zip", [(link, "/etc/passwd")]), into)


def test_the_same_name_twice_is_refused_also_in_other_case(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [("a/1.tif", tiff_bytes()), ("A/1.TIF", tiff_bytes())])
    with pytest.raises(DataError, match="twice"):
        unpack(source, into)


def test_too_many_files_and_too_many_bytes_are_refused(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [(f"{i}.tif", tiff_bytes()) for i in range(5)])
    with pytest.raises(DataError, match="at most 4"):
        unpack(source, into, max_members=4)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(source, into, max_bytes=5 * len(tiff_bytes()) - 1)
    assert len(unpack(source, into, max_members=5, max_bytes=5 * len(tiff_bytes()))) == 5


def test_a_header_that_lies_about_the_size_does_not_fill_the_disk(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [("a.tif", bytes(300_000))])
    data = source.path.read_bytes().replace((300_000).to_bytes(4, "little"), (300).to_bytes(4, "little"))
    source.path.write_bytes(data)
    with pytest.raises(DataError):
        unpack(source, into, max_bytes=1000)
    assert list(into.iterdir()) == []


def test_bytes_are_counted_also_where_the_header_was_believed(tmp_path, into, monkeypatch):
    monkeypatch.setattr("seglib.data.readers.archive._check_sizes", lambda *_: None)
    source = make_zip(tmp_path / "a.zip", [("a.tif", bytes(600)), ("b.tif", bytes(600))])
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(source, into, max_bytes=1000)
    assert list(into.iterdir()) == []


def test_members_that_share_their_bytes_are_refused(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [("a.tif", bytes(range(256)) * 4), ("b.tif", bytes(range(256)) * 4)])
    with zipfile.ZipFile(source.path) as archive:
        second = archive.infolist()[1].header_offset
    data = bytearray(source.path.read_bytes())
    place = data.rindex(second.to_bytes(4, "little"), 0, len(data) - 22)
    data[place : place + 4] = (10).to_bytes(4, "little")
    source.path.write_bytes(data)
    with pytest.raises(DataError, match="overlaps"):
        unpack(source, into)


def test_a_damaged_zip_and_a_file_that_is_none_are_refused_by_name(tmp_path, into):
    whole = make_zip(tmp_path / "a.zip", [("a.tif", bytes(range(256)) * 50)])
    data = bytearray(whole.path.read_bytes())
    data[45:60] = bytes(15)
    for content in (bytes(data), whole.path.read_bytes()[:100], b"not a zip", b""):
        (tmp_path / "b.zip").write_bytes(content)
        with pytest.raises(DataError, match=r"upload\.zip"):
            unpack(SourceFile(tmp_path / "b.zip", "upload.zip"), into)
        assert list(into.iterdir()) == []


def test_a_zip_without_images_says_what_it_found(tmp_path, into):
    with pytest.raises(DataError, match=r"notes\.txt.*\.tif"):
        unpack(make_zip(tmp_path / "a.zip", [("notes.txt", b"hi")]), into)


def tree_of(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_zarr_folder_is_one_image_with_its_names_kept(tmp_path, into):
    tree = {"zarr.json": b"{}", ".zattrs": b"a", "0/.zarray": b"b", "0/c/1/10": b"c", "0/c/2.tif": b"d"}
    members = [(f"set/a.ome.zarr/{name}", data) for name, data in tree.items()]
    junk = [("set/a.ome.zarr/.DS_Store", b"x"), ("set/a.ome.zarr/0/._c", b"x"), ("__MACOSX/a.zarr/x", b"x")]
    sources = unpack(make_zip(tmp_path / "a.zip", [*members, *junk, ("set/b.tif", tiff_bytes())]), into)
    assert [source.name for source in sources] == ["set/a.ome.zarr", "set/b.tif"]
    assert [source.path.name for source in sources] == ["000000.zarr", "000001.tif"]
    assert tree_of(sources[0].path) == tree


def test_a_zarr_folder_in_another_is_part_of_it(tmp_path, into):
    (source,) = unpack(make_zip(tmp_path / "a.zip", [("a.zarr/labels/b.zarr/0", b"x"), ("a.zarr/1", b"y")]), into)
    assert tree_of(source.path) == {"labels/b.zarr/0": b"x", "1": b"y"}


def test_a_zip_that_is_a_zarr_folder_itself_is_one_image(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [("zarr.json", b"{}"), ("c/0/0", b"x")])
    (found,) = unpack(SourceFile(source.path, "cells.zarr.zip"), into)
    assert found.name == "cells.zarr"
    assert tree_of(found.path) == {"zarr.json": b"{}", "c/0/0": b"x"}


@pytest.mark.parametrize(
    "names", [("a.zarr/0", "a.zarr/0/1"), ("a.zarr/0/1", "a.zarr/0"), ("a.zarr//x/0", "a.zarr/x/0")]
)
def test_a_zarr_folder_whose_names_collide_is_refused_and_nothing_is_left(tmp_path, into, names):
    source = make_zip(tmp_path / "a.zip", [("good.tif", tiff_bytes()), *((name, b"x") for name in names)])
    with pytest.raises(DataError, match=r"upload\.zip cannot be unpacked"):
        unpack(source, into)
    assert list(into.iterdir()) == []


def test_the_parts_of_zarr_folders_count_in_members_and_bytes(tmp_path, into):
    source = make_zip(tmp_path / "a.zip", [(f"a.zarr/{i}", bytes(100)) for i in range(5)])
    with pytest.raises(DataError, match="at most 4"):
        unpack(source, into, max_members=4)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(source, into, max_bytes=499)
    assert list(into.iterdir()) == []
    assert len(unpack(source, into, max_members=5, max_bytes=500)) == 1


def test_packed_nifti_is_an_image_and_the_description_of_nnunet_comes_along(tmp_path, into):
    members = [
        ("d/imagesTr/a_0000.nii.gz", b"n"),
        ("d/dataset.json", b"{}"),
        ("d/tiles.json", b"{}"),
        ("d/x.zarr", b""),
    ]
    sources = unpack(make_zip(tmp_path / "a.zip", members), into)
    assert [(source.name, source.path.name) for source in sources] == [
        ("d/imagesTr/a_0000.nii.gz", "000000.nii.gz"),
        ("d/dataset.json", "000001.json"),
    ]
    with pytest.raises(DataError, match="holds no image"):
        unpack(make_zip(tmp_path / "b.zip", members[1:]), into)


WILD = st.lists(
    st.sampled_from(["a.zarr", "..", ".", "", "b.tif", "/", "\\", "c:", "zarr.json", "x\x00", "B.zarr"]), max_size=5
)


@settings(max_examples=150)
@given(st.lists(WILD.map("/".join).filter(bool), min_size=1, max_size=4))
def test_no_names_make_unpacking_write_elsewhere_or_fail_otherwise(names):
    with tempfile.TemporaryDirectory() as outer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        into = Path(outer) / "deep" / "into"
        into.mkdir(parents=True)
        source = make_zip(Path(outer) / "a.zip", [(name, b"x") for name in names])
        try:
            sources = unpack(source, into)
        except DataError:
            assert list(into.iterdir()) == []
        else:
            assert all(found.path.parent == into.resolve() for found in sources)
        assert sorted(path.name for path in Path(outer).iterdir()) == ["a.zip", "deep"]
