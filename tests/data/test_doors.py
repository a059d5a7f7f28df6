"""From a path to files, and the folders a person may look through."""

import os
import zipfile

import pytest

from seglib.data import doors
from seglib.data.doors import existing_path, expand, files_at, list_folder, roots
from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import confine
from seglib.errors import DataError


@pytest.fixture
def leaves(tmp_path):
    folder = tmp_path / "leaves"
    for name in ("images/leaf2.tif", "images/leaf10.tif", "labels/leaf2.tif", "labels/leaf10.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("SEGLIB_DATA_ROOTS", str(inside))
    return inside


def found(path, scratch, resolve=existing_path) -> list[str]:
    return [source.name for source in files_at(str(path), resolve=resolve, scratch=scratch)]


def refused(path, scratch, resolve=existing_path) -> str:
    with pytest.raises(DataError) as caught:
        files_at(str(path), resolve=resolve, scratch=scratch)
    return str(caught.value)


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.tif")):
            archive.write(path, path.relative_to(folder))
    return target


ALL = ["images/leaf2.tif", "images/leaf10.tif", "labels/leaf2.tif", "labels/leaf10.tif"]


def test_a_folder_gives_all_images_below_it_in_natural_order(leaves, scratch):
    assert found(leaves, scratch) == [f"leaves/{name}" for name in ALL]
    assert found(f"  {leaves}/images ".strip(), scratch) == ALL[:2]


def test_a_file_a_zarr_folder_and_a_tile_list_are_one_each(leaves, scratch):
    (leaves / "a.ome.zarr" / "0").mkdir(parents=True)
    (leaves / "tiles.json").touch()
    assert found(leaves / "images" / "leaf2.tif", scratch) == ["leaf2.tif"]
    assert found(leaves / "a.ome.zarr", scratch) == ["a.ome.zarr"]
    assert found(leaves / "tiles.json", scratch) == ["tiles.json"]


def test_a_zip_gives_what_is_in_it_unpacked_into_scratch(leaves, scratch, tmp_path):
    sources = files_at(str(zipped(leaves, tmp_path / "all.zip")), resolve=existing_path, scratch=scratch)
    assert [source.name for source in sources] == ALL
    assert all(source.path.is_relative_to(scratch.resolve()) for source in sources)
    assert [source.path.read_text() for source in sources] == ALL


def test_two_zips_do_not_unpack_over_each_other(leaves, scratch, tmp_path):
    first = zipped(leaves / "images", tmp_path / "1.zip")
    second = zipped(leaves / "labels", tmp_path / "2.zip")
    sources = expand([SourceFile(first, "1.zip"), SourceFile(second, "2.zip")], scratch)
    assert len({source.path for source in sources}) == 4
    assert {source.path.read_text() for source in sources} == set(ALL)


def test_a_list_gives_its_files_under_the_names_of_their_last_folders(leaves, scratch):
    text = f"\ufeff# my images\n\nimages/leaf10.tif  \r\n{leaves}/images/leaf2.tif\n./images/../labels/leaf2.tif\n"
    (leaves / "list.txt").write_text(text, "utf-8")
    sources = files_at(str(leaves / "list.txt"), resolve=existing_path, scratch=scratch)
    assert [source.name.partition("leaves/")[2] for source in sources] == [ALL[0], ALL[1], ALL[2]]
    assert [source.path.read_text() for source in sources] == [ALL[0], ALL[1], ALL[2]]


def test_a_list_keeps_the_folders_that_conventions_go_by(tmp_path, scratch):
    folder = tmp_path / "TB_raw_data" / "Pos001"
    folder.mkdir(parents=True)
    (folder / "a.tif").touch()
    (tmp_path / "list.txt").write_text("TB_raw_data/Pos001/a.tif")
    assert found(tmp_path / "list.txt", scratch) == ["TB_raw_data/Pos001/a.tif"]


def test_a_list_reaches_below_itself_and_into_allowed_folders_only(root, tmp_path, scratch):
    for name in ("list/a.tif", "secret/b.tif", "inside/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = tmp_path / "list" / "list.txt"
    listed.write_text(f"a.tif\n{root}/c.tif")
    assert len(found(listed, scratch)) == 2
    (tmp_path / "list" / "link.tif").symlink_to(tmp_path / "secret" / "b.tif")
    told = []
    for line in ("../secret/b.tif", "../secret/0.tif", str(tmp_path / "secret" / "b.tif"), "link.tif", "/etc/passwd"):
        listed.write_text(f"a.tif\n# b\n{line}\n")
        told.append(refused(listed, scratch))
        assert "Line 3 of list.txt" in told[-1]
        assert "leads out" in told[-1]
    assert told[0].replace("b.tif", "") == told[1].replace("0.tif", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no file"),
        ("# only\n\n", "no file"),
        ("images/leaf2.tif\nabsent.tif", "Line 2 of list.txt, absent.tif, does not exist"),
        ("images/leaf2.tif\nimages/../images/leaf2.tif", "line 2 and before in line 1"),
        ("images/leaf2.tif\tlabels/leaf2.tif", "two columns"),
        ("images", "no image"),
        ("images/leaf2\x07.tif", "characters"),
        ("list.txt", "no image"),
        ("dir.tif", "does not exist"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_what_is_wrong_in_a_list_is_said_with_its_line(leaves, scratch, text, said):
    (leaves / "dir.tif").mkdir()
    (leaves / "list.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    assert said in refused(leaves / "list.txt", scratch)


def test_what_leads_nowhere_is_said(leaves, scratch, tmp_path):
    assert "nothing.tif does not exist" in refused(tmp_path / "nothing.tif", scratch)
    (tmp_path / "empty").mkdir()
    assert "it is empty" in refused(tmp_path / "empty", scratch)
    (tmp_path / "bad.zip").write_bytes(b"PK not a zip")
    assert "bad.zip" in refused(tmp_path / "bad.zip", scratch)
    (tmp_path / "letter.doc").touch()
    assert "letter.doc cannot be imported" in refused(tmp_path / "letter.doc", scratch)


def test_paths_are_resolved_by_the_caller(scratch, root):
    assert "outside" in refused("/etc", scratch, confine)
    with pytest.raises(DataError, match="outside"):
        list_folder("/etc", resolve=confine)


def test_a_folder_is_listed_folders_first_in_natural_order(root):
    for name in ("b10", "b9", "A.zarr", ".hidden", ".git"):
        (root / name).mkdir()
    for name in ("10.tif", "9.TIF", "all.zip", "list.txt", "tiles.json", "x.nii.gz", "notes.doc", ".dot.tif"):
        (root / name).write_bytes(b"12345")
    listing = list_folder(str(root), resolve=confine)
    assert [(entry.name, entry.kind) for entry in listing.entries] == [
        ("b9", "folder"),
        ("b10", "folder"),
        ("9.TIF", "file"),
        ("10.tif", "file"),
        ("A.zarr", "zarr"),
        ("all.zip", "archive"),
        ("list.txt", "list"),
        ("tiles.json", "list"),
        ("x.nii.gz", "file"),
    ]
    assert (listing.path, listing.parent, listing.more, listing.others) == (str(root), None, 0, 1)
    assert [entry.size_bytes for entry in listing.entries] == [None, None, 5, 5, None, 5, 5, 5, 5]
    assert all(entry.modified == os.stat(entry.path).st_mtime for entry in listing.entries)  # noqa: PTH116
    assert list_folder(listing.entries[0].path, resolve=confine).parent == str(root)
    assert roots() == (root,)


def test_links_out_broken_links_and_pipes_are_left_out(root, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret.tif").touch()
    (root / "real").mkdir()
    (root / "in").symlink_to(root / "real")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out.tif").symlink_to(tmp_path / "secret.tif")
    (root / "gone.tif").symlink_to(root / "nothing.tif")
    (root / "loop.tif").symlink_to("loop.tif")
    os.mkfifo(root / "pipe.tif")
    (root / os.fsdecode(b"\xff.tif")).touch()
    listing = list_folder(str(root), resolve=confine)
    assert [entry.name for entry in listing.entries] == ["in", "real"]
    assert listing.others == 6


def test_a_folder_of_very_many_files_is_cut_with_a_count(root, monkeypatch):
    monkeypatch.setattr(doors, "MAX_ENTRIES", 3)
    for number in range(5):
        (root / f"{number}.tif").touch()
    listing = list_folder(str(root), resolve=confine)
    assert ([entry.name for entry in listing.entries], listing.more) == (["0.tif", "1.tif", "2.tif"], 2)


def test_what_is_no_folder_or_cannot_be_read_is_said(root, monkeypatch):
    (root / "a.tif").touch()
    with pytest.raises(DataError, match="not a folder"):
        list_folder(str(root / "a.tif"), resolve=confine)

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="cannot be opened .Permission denied"):
        list_folder(str(root), resolve=confine)
