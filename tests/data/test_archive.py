"""Zips: what is unpacked, under which names, and what is refused."""

import io
import stat
import zipfile

import numpy as np
import pytest
import tifffile

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
