"""Which files are meant: order, folders, and the paths a person may name."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.data.readers import SourceFile
from seglib.data.readers.sources import allowed_roots, confine, confined_to, find_images, natural_key, natural_order
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


def test_all_images_below_a_folder_are_found_under_names_from_it(tmp_path):
    folder = touch(
        tmp_path / "raw", "10.tif", "2.TIF", "notes.txt", "tiles.json", ".3.tif", "deep/er/4.nii.gz", ".git/5.tif"
    )
    assert names(find_images(folder)) == ["raw/2.TIF", "raw/10.tif", "raw/deep/er/4.nii.gz"]
    assert all(source.path.is_file() for source in find_images(folder))


def test_a_zarr_folder_is_one_image_and_a_file_of_that_name_is_none(tmp_path):
    touch(tmp_path, "a.ome.zarr/0/c/0/0.tif", "sub/B.ZARR/zarr.json", "fake.zarr", "folder.tif/inner.tif")
    assert [source.path.name for source in find_images(tmp_path)] == ["a.ome.zarr", "inner.tif", "B.ZARR"]


def test_the_description_of_nnunet_is_taken_along_but_is_no_image(tmp_path):
    assert names(find_images(touch(tmp_path / "a", "x.tif", "Dataset.json"))) == ["a/Dataset.json", "a/x.tif"]
    with pytest.raises(DataError, match="no image"):
        find_images(touch(tmp_path / "b", "dataset.json"))


def test_an_empty_a_missing_and_a_wrong_folder_say_what_was_found(tmp_path):
    with pytest.raises(DataError, match="it is empty"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        find_images(tmp_path / "nowhere")
    touch(tmp_path, "a.doc", "sub/x.txt")
    with pytest.raises(DataError, match=r"a\.doc, sub/.*\.tif"):
        find_images(tmp_path)


def test_too_many_files_and_too_many_levels_are_refused_by_name(tmp_path):
    touch(tmp_path, "1.tif", "2.txt", "a/3.tif")
    assert len(find_images(tmp_path, max_files=3, max_depth=1)) == 2
    with pytest.raises(DataError, match="more than 2 files"):
        find_images(tmp_path, max_files=2)
    with pytest.raises(DataError, match="/a lies more than 0 folders below"):
        find_images(tmp_path, max_depth=0)


def test_links_in_a_circle_end_and_show_nothing_twice(roots):
    touch(roots, "a/1.tif", "elsewhere/2.tif")
    (roots / "a" / "up").symlink_to(roots)
    (roots / "a" / "other").symlink_to(roots / "elsewhere")
    (roots / "a" / "again").symlink_to(roots / "elsewhere")
    (roots / "a" / "here").symlink_to(roots / "a")
    (roots / "elsewhere" / "back").symlink_to(roots / "a")
    assert names(find_images(roots / "a")) == ["a/1.tif", "a/again/2.tif"]


def test_a_name_that_is_no_text_can_be_shown(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.tif")).touch()
    (found,) = find_images(tmp_path)
    assert found.path.is_file()
    assert found.name == f"{tmp_path.name}/caf\ufffd.tif"


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


@pytest.mark.parametrize("target", ["secret.tif", "absent.tif", "folder"])
def test_what_links_out_of_the_allowed_folders_is_refused(roots, tmp_path, target):
    touch(tmp_path, "secret.tif", "folder/x.tif", "inside/real.tif")
    (roots / "near.tif").symlink_to(roots / "real.tif")
    assert names(find_images(roots)) == ["inside/near.tif", "inside/real.tif"]
    (roots / ("far" if target == "folder" else "far.tif")).symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=r"inside/far(\.tif)? is a link"):
        find_images(roots)


def test_paths_in_lists_lie_below_the_list_or_in_an_allowed_folder(roots, tmp_path):
    touch(tmp_path, "list/a.tif", "secret/b.tif", "inside/c.tif")
    (tmp_path / "list" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "list" / "out.tif").symlink_to(tmp_path / "secret" / "b.tif")
    (tmp_path / "list" / "in.tif").symlink_to(roots / "c.tif")
    locate = confined_to(tmp_path / "list")
    for text, found in {"a.tif": "list/a.tif", "./x/../a.tif": "list/a.tif", str(roots / "c.tif"): "inside/c.tif",
                        "in.tif": "inside/c.tif", "absent.tif": "list/absent.tif"}.items():  # fmt: skip
        assert locate(text) == (tmp_path / found).resolve()
    for text in ("../secret/b.tif", "out/b.tif", "out.tif", "../list2/a.tif", "/etc/passwd", "", ".", "..", "a/..", "/",
                 "a\0.tif", "a\n.tif", "../absent.tif"):  # fmt: skip
        assert locate(text) is None


@given(st.text(max_size=40))
def test_no_text_in_a_list_leads_out(text):
    base = Path("/nowhere/list")
    found = confined_to(base)(text)
    assert found is None or any(found.is_relative_to(root) for root in (base, *allowed_roots()))
