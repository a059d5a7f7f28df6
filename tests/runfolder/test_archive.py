"""A run's folder as a zip: everything that is its own, nothing that is elsewhere, never whole in memory."""

import io
import os
import tracemalloc
import zipfile

import pytest

from seglib.errors import SeglibError
from seglib.runfolder.archive import CHUNK, RunFile, run_files, zipped


@pytest.fixture
def folder(workspace):
    """The folder of run 3 with some of each kind of file."""
    root = workspace.run(3)
    (root / "checkpoints").mkdir(parents=True)
    (root / "preview.zarr" / "0").mkdir(parents=True)
    contents = {
        "config.json": b'{"a": 1}' * 1000,
        "history.csv": b"step,loss\n" * 1000,
        "checkpoints/best.pt": b"weights " * 5000,
        "checkpoints/last.pt": bytes(3 * CHUNK),
        "preview.zarr/0/c": b"chunk",
        "empty.txt": b"",
        "Größe \u00b5.txt": b"text",
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return root, contents


def opened(pieces) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.testzip() is None
    return archive


def test_every_file_comes_back_as_it_is(workspace, folder):
    _, contents = folder
    archive = opened(zipped(run_files(workspace, 3), "run-3"))
    assert {name: archive.read(name) for name in archive.namelist()} == {
        f"run-3/{name}": content for name, content in contents.items()
    }


def test_weights_are_stored_and_text_is_compressed(workspace, folder):
    archive = opened(zipped(run_files(workspace, 3), "run-3"))
    kinds = {entry.filename: entry.compress_type for entry in archive.infolist()}
    assert kinds["run-3/checkpoints/best.pt"] == kinds["run-3/preview.zarr/0/c"] == zipfile.ZIP_STORED
    assert kinds["run-3/history.csv"] == kinds["run-3/config.json"] == zipfile.ZIP_DEFLATED
    assert archive.getinfo("run-3/history.csv").compress_size < 1000


def test_checkpoints_can_be_left_out(workspace, folder):
    names = {file.name for file in run_files(workspace, 3, checkpoints=False)}
    assert names == {name for name in folder[1] if not name.startswith("checkpoints/")}


def test_sizes_are_those_on_disk(workspace, folder):
    assert {file.name: file.size for file in run_files(workspace, 3)} == {
        name: len(content) for name, content in folder[1].items()
    }


def test_links_are_not_followed_and_unfinished_files_left_out(workspace, folder, tmp_path):
    root, contents = folder
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("secret")
    (root / "key.txt").symlink_to(secret / "key.txt")
    (root / "elsewhere").symlink_to(secret)
    (root / "checkpoints" / "last.tmp").write_bytes(b"half")
    os.mkfifo(root / "pipe")
    assert {file.name for file in run_files(workspace, 3)} == set(contents)


def test_a_run_without_files_is_said(workspace):
    with pytest.raises(SeglibError, match="Run 4 has left no files"):
        run_files(workspace, 4)


def test_a_file_that_is_let_go_meanwhile_is_left_out(workspace, folder):
    root, contents = folder
    pieces = zipped(run_files(workspace, 3), "run-3")
    first = next(pieces)
    (root / "history.csv").unlink()
    names = opened([first, *pieces]).namelist()
    assert sorted(names) == sorted(f"run-3/{name}" for name in contents if name != "history.csv")


def test_a_file_that_changes_its_size_meanwhile_is_whole_as_it_was_read(workspace, folder):
    root, _ = folder
    files = run_files(workspace, 3)
    with (root / "history.csv").open("ab") as file:
        file.write(b"more\n")
    assert opened(zipped(files, "r")).read("r/history.csv").endswith(b"more\n")


def test_little_of_it_is_in_memory_at_a_time(workspace, folder):
    root, _ = folder
    with (root / "checkpoints" / "large.pt").open("wb") as file:
        file.truncate(64 * CHUNK)
    files = run_files(workspace, 3)
    tracemalloc.start()
    total = sum(len(piece) for piece in zipped(files, "r"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 64 * CHUNK
    assert peak < 8 * CHUNK


def test_a_file_from_before_1980_has_a_date_that_a_zip_can_hold(workspace, tmp_path):
    path = tmp_path / "old.txt"
    path.write_text("old")
    os.utime(path, (0, 0))
    (entry,) = opened(zipped([RunFile(path, "old.txt", 3)], "r")).infolist()
    assert entry.date_time[0] == 1980


def test_every_entry_says_its_size_in_64_bits(workspace, folder):
    """What is streamed is not known to be small when its header is written."""
    raw = b"".join(zipped(run_files(workspace, 3), "r"))
    start = raw.index(b"PK\x03\x04")
    version_needed = int.from_bytes(raw[start + 4 : start + 6], "little")
    assert version_needed == 45
