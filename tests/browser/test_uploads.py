"""The upload box in a real browser on a real server: breaks, reloads, removals, folders, and names that mean harm."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from seglib.serving.upload_store import uploaded_files
from seglib.workspace import Workspace, open_workspace

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=window.__x=1> [a](javascript:alert(1)) & \u202e.tif"

APP = """
import asyncio, pathlib
import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route
from seglib.serving.routes import SecurityHeaders, host_check
from seglib.serving.uploads import upload_routes
from seglib.workspace import open_workspace

delay = pathlib.Path(__file__).with_name("delay")

def slow(route):
    async def answer(request):
        answered = await route.endpoint(request)
        await asyncio.sleep(float(delay.read_text()))
        return answered
    return Route(route.path, answer, methods=["PUT"])

routes = [slow(route) if "PUT" in route.methods else route for route in upload_routes(open_workspace())]
app = st.App("page.py", routes=routes, middleware=[host_check(), Middleware(SecurityHeaders)])
"""

PAGE = """
import streamlit as st
from pages.ui.uploads import upload_box
from seglib.serving.upload_store import forget_uploads
from seglib.workspace import open_workspace

st.set_page_config(layout="wide")
st.title("Uploads")
runs = st.session_state["runs"] = st.session_state.get("runs", 0) + 1
st.text(f"run {runs}")
st.button("Run again")
workspace = open_workspace()
left, right = st.columns(2)
if st.checkbox("Show the boxes", True):
    with left:
        images = upload_box(workspace, "images", label="Images", help="Stacks, or the sections of one.",
                            accept=[".tif", ".png"])
    with right:
        labels = upload_box(workspace, "labels", label="Labels")
    for name, state in (("Images", images), ("Labels", labels)):
        st.text(f"{name}: {state.files} files, {state.bytes} bytes, manifest {state.manifest}")
    if st.button("Import") and images.manifest:
        forget_uploads(workspace, images.manifest)
        st.rerun()
"""


@dataclass
class BoxServer:
    """A server of a page with two boxes. Every slice of a large file is answered after what `slow` says."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.folder / "workspace")

    def slow(self, seconds: float) -> None:
        (self.folder / "delay").write_text(str(seconds))

    def start(self) -> None:
        environment = {**os.environ, "SEGLIB_WORKSPACE": str(self.folder / "workspace"), "PYTHONPATH": str(ROOT)}
        options = [f"--server.port={self.port}", "--server.headless=true"]
        command = [sys.executable, "-m", "streamlit", "run", str(self.folder / "app.py"), *options]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.1)
        pytest.fail(f"The server did not start: {(self.folder / 'server.log').read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoxServer]:
    folder = tmp_path_factory.mktemp("boxes")
    (folder / "app.py").write_text(APP)
    (folder / "page.py").write_text(PAGE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = BoxServer(folder, probe.getsockname()[1])
    server.slow(0)
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def clean(server: BoxServer) -> Iterator[None]:
    server.slow(0)
    yield
    for path in stored(server):
        path.unlink(missing_ok=True)


def big_file(folder: Path, megabytes: int, name: str = "stack.tif") -> Path:
    path = folder / name
    path.write_bytes(np.random.default_rng(megabytes).bytes(megabytes * 1_000_000))
    return path


def box(page: Page, label: str = "Images") -> Locator:
    return page.get_by_role("group", name=label, exact=True)


def choose(page: Page, *paths: Path, label: str = "Images", button: str = "choose files") -> None:
    with page.expect_file_chooser() as chooser:
        box(page, label).get_by_role("button", name=f"{label}: {button}").click()
    chooser.value.set_files([str(path) for path in paths])


def expect_state(page: Page, state: str, label: str = "Images") -> None:
    expect(box(page, label)).to_have_attribute("data-state", state, timeout=120_000)


def percent(page: Page) -> int:
    return int(box(page).get_by_role("progressbar").get_attribute("aria-valuenow") or 0)


def wait_for_percent(page: Page, least: int) -> None:
    expect(box(page).get_by_role("progressbar")).to_have_attribute(
        "aria-valuenow", re.compile("|".join(str(value) for value in range(least, 101))), timeout=120_000
    )


def manifest_of(page: Page, label: str = "Images") -> str:
    line = page.get_by_text(re.compile(rf"{label}: \d+ files, \d+ bytes, manifest [0-9a-f]{{32}}"))
    expect(line).to_be_visible()
    return (line.text_content() or "").rsplit(" ", 1)[1]


def stored(server: BoxServer) -> list[Path]:
    # os.walk does not mind that the server removes folders meanwhile.
    walked = os.walk(server.workspace.root / "uploads")
    return [Path(folder) / name for folder, _, names in walked for name in names]


def expect_nothing_stored(page: Page, server: BoxServer) -> None:
    deadline = time.monotonic() + 20
    while stored(server) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert stored(server) == []


def test_files_of_two_boxes_arrive_and_the_page_hears_of_it_once(server, page: Page, tmp_path):
    page.goto(server.url)
    image, labels = big_file(tmp_path, 20), big_file(tmp_path, 3, "labels.tif")
    expect(page.get_by_text("run 1", exact=True)).to_be_visible()
    expect_state(page, "empty")
    choose(page, image)
    expect_state(page, "done")
    expect(page.get_by_text(f"Images: 1 files, {image.stat().st_size} bytes")).to_be_visible()
    (file,) = uploaded_files(server.workspace, manifest_of(page))
    assert file.name == "stack.tif"
    assert file.path.read_bytes() == image.read_bytes()
    # One run for the list, one for its being complete; progress runs nothing.
    expect(page.get_by_text("run 3", exact=True)).to_be_visible()

    choose(page, labels, label="Labels")
    expect_state(page, "done", "Labels")
    assert manifest_of(page, "Labels") != manifest_of(page)
    # Imported: the box empties, the other keeps what it has.
    page.get_by_role("button", name="Import").click()
    expect_state(page, "empty")
    expect(page.get_by_text("Images: 0 files, 0 bytes, manifest None")).to_be_visible()
    assert [file.name for file in uploaded_files(server.workspace, manifest_of(page, "Labels"))] == ["labels.tif"]


def test_reruns_and_leaving_the_page_stop_no_upload(server, page: Page, tmp_path):
    server.slow(0.3)
    page.goto(server.url)
    image = big_file(tmp_path, 60)
    choose(page, image)
    wait_for_percent(page, 10)
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("run 3", exact=True)).to_be_visible()
    before = percent(page)
    assert before >= 10
    page.get_by_text("Show the boxes").click()
    expect(box(page)).to_have_count(0)
    page.get_by_text("Show the boxes").click()
    expect(box(page)).to_be_visible()
    assert percent(page) >= before
    expect_state(page, "done")
    assert uploaded_files(server.workspace, manifest_of(page))[0].path.read_bytes() == image.read_bytes()


def test_an_upload_goes_on_by_itself_after_the_connection_broke(server, page: Page, tmp_path):
    page.goto(server.url)
    image = big_file(tmp_path, 60)
    broken: list[str] = []

    def break_some(route):
        if len(broken) < 3 and "offset=0" not in route.request.url:
            broken.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(re.compile("/api/uploads/.*offset="), break_some)
    choose(page, image)
    expect(box(page).get_by_text("Waiting for the server")).to_be_visible()
    expect_state(page, "done")
    assert len(broken) == 3
    assert uploaded_files(server.workspace, manifest_of(page))[0].path.read_bytes() == image.read_bytes()


def test_an_upload_goes_on_when_a_killed_server_is_back(server, browser, tmp_path):
    server.slow(0.3)
    page = browser.new_page()  # of its own: what it asks of a dead server fails
    page.goto(server.url)
    image = big_file(tmp_path, 60)
    choose(page, image)
    wait_for_percent(page, 20)
    server.kill()
    try:
        expect(box(page).get_by_text("Waiting for the server")).to_be_visible(timeout=30_000)
        # What was under way when the server died does not count.
        assert 0 < percent(page) < 100
    finally:
        server.slow(0)
        server.start()
    expect_state(page, "done")
    assert uploaded_files(server.workspace, manifest_of(page))[0].path.read_bytes() == image.read_bytes()
    page.close()


def test_a_reload_goes_on_with_the_same_file_and_says_so(server, page: Page, tmp_path):
    server.slow(0.3)
    page.goto(server.url)
    image = big_file(tmp_path, 60)
    choose(page, image)
    wait_for_percent(page, 30)
    page.reload()
    expect_state(page, "empty")
    server.slow(0)
    choose(page, image)
    expect(box(page).get_by_text(re.compile(r"Went on at [3-9]\d %"))).to_be_visible()
    expect_state(page, "done")
    assert uploaded_files(server.workspace, manifest_of(page))[0].path.read_bytes() == image.read_bytes()


def test_pause_holds_and_continue_goes_on(server, page: Page, tmp_path):
    server.slow(0.3)
    page.goto(server.url)
    choose(page, big_file(tmp_path, 60))
    wait_for_percent(page, 10)
    box(page).get_by_role("button", name="Images: pause").click()
    expect_state(page, "paused")
    sent_when_paused: list[str] = []
    page.on("request", lambda request: sent_when_paused.append(request.url) if request.method == "PUT" else None)
    wait_for_percent(page, 10)
    page.wait_for_timeout(1000)
    assert sent_when_paused == []
    assert percent(page) < 100
    server.slow(0)
    box(page).get_by_role("button", name="Images: continue").click()
    expect_state(page, "done")
    manifest_of(page)


def test_removing_asks_and_leaves_nothing_on_the_disk(server, page: Page, tmp_path):
    server.slow(0.3)
    page.goto(server.url)
    choose(page, big_file(tmp_path, 40), *(big_file(tmp_path, 1, f"small{index}.png") for index in range(3)))
    wait_for_percent(page, 30)
    box(page).get_by_role("button", name="Images: remove all").click()
    expect(box(page).get_by_role("alertdialog")).to_contain_text("Remove 4 files?")
    box(page).get_by_role("button", name="Keep").click()
    expect(box(page).get_by_role("button", name="Images: remove all")).to_be_focused()
    box(page).get_by_role("button", name="Remove stack.tif").click()
    box(page).get_by_role("button", name="Remove", exact=True).click()
    expect_state(page, "done")
    assert [file.name for file in uploaded_files(server.workspace, manifest_of(page))] == [
        "small0.png",
        "small1.png",
        "small2.png",
    ]
    assert len(stored(server)) == 3 * 2 + 1
    box(page).get_by_role("button", name="Images: remove all").click()
    box(page).get_by_role("button", name="Remove", exact=True).click()
    expect_state(page, "empty")
    expect(page.get_by_text("Images: 0 files, 0 bytes, manifest None")).to_be_visible()
    expect_nothing_stored(page, server)


def test_a_folder_keeps_its_names_and_leaves_out_what_does_not_fit(server, page: Page, tmp_path):
    folder = tmp_path / "experiment"
    for name in ("images/z2.tif", "images/z10.tif", "labels/deep/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    for name in ("notes.doc", ".DS_Store", "images/Thumbs.db"):
        (folder / name).write_bytes(b"x")
    page.goto(server.url)
    choose(page, folder, button="choose a folder")
    expect_state(page, "done")
    expect(box(page).get_by_text("1 file left out: only .tif, .png can be used here.")).to_be_visible()
    files = uploaded_files(server.workspace, manifest_of(page))
    assert {file.name: file.path.read_bytes().decode() for file in files} == {
        f"experiment/{name}": name for name in ("images/z2.tif", "images/z10.tif", "labels/deep/a.png")
    }
    choose(page, folder, button="choose a folder")
    expect(box(page).get_by_text("3 files left out that are in the list already.")).to_be_visible()
    expect(page.get_by_text("Images: 3 files")).to_be_visible()


# A drop cannot be made by hand in a headless browser; these are the browser's own entries, held in its memory.
DROP = """(zone) => {
  const file = (path) => ({
    isFile: true,
    fullPath: path,
    file: (done) => done(new File([path], path.split("/").at(-1))),
  });
  const folder = (path, inside) => {
    const parts = [inside.slice(0, 1), inside.slice(1), []]; // a browser gives them in parts
    const reader = { readEntries: (done) => done(parts.shift()) };
    return { isFile: false, fullPath: path, createReader: () => reader };
  };
  const sub = folder("/top/sub", [file("/top/sub/b.tif"), file("/top/sub/c.txt")]);
  const dropped = [folder("/top", [file("/top/a.tif"), sub]), file("/d.png")];
  const event = new Event("drop", { bubbles: true, cancelable: true });
  const items = dropped.map((entry) => ({ webkitGetAsEntry: () => entry }));
  event.dataTransfer = { types: ["Files"], items };
  zone.dispatchEvent(event);
}"""


def test_dropped_folders_are_walked(server, page: Page):
    page.goto(server.url)
    expect_state(page, "empty")
    box(page).locator(".zone").evaluate(DROP)
    expect_state(page, "done")
    names = {file.name for file in uploaded_files(server.workspace, manifest_of(page))}
    assert names == {"d.png", "top/a.tif", "top/sub/b.tif"}


def test_a_hostile_name_is_text(server, page: Page, tmp_path):
    path = tmp_path / HOSTILE.replace("/", "")
    path.write_bytes(b"abc")
    long = tmp_path / ("n" * 240 + ".tif")
    long.write_bytes(b"abcd")
    page.goto(server.url)
    choose(page, path, long)
    expect_state(page, "done")
    expect(box(page).get_by_text(path.name, exact=True)).to_be_visible()
    assert page.evaluate("window.__x") is None
    assert [file.name for file in uploaded_files(server.workspace, manifest_of(page))] == [path.name, long.name]
    row = box(page).get_by_role("listitem").last.bounding_box()
    outer = box(page).bounding_box()
    assert row is not None
    assert outer is not None
    assert row["x"] + row["width"] <= outer["x"] + outer["width"] + 1


def test_a_full_disk_is_said_and_the_upload_goes_on_when_there_is_room(server, browser, tmp_path):
    page = browser.new_page()  # of its own: it is refused something
    refused: list[str] = []

    def no_room(route):
        refused.append(route.request.url)
        route.fulfill(status=507, json={"error": "The server's disk is full. Make room there, then continue."})

    page.route("**/api/uploads/room", no_room)
    page.goto(server.url)
    choose(page, big_file(tmp_path, 20))
    expect_state(page, "paused")
    expect(box(page).get_by_text("The server's disk is full.")).to_be_visible()
    page.unroute("**/api/uploads/room")
    box(page).get_by_role("button", name="Images: continue").click()
    expect_state(page, "done")
    manifest_of(page)
    page.close()


def test_what_the_server_lost_is_sent_again(server, browser, tmp_path):
    page = browser.new_page()  # of its own: it is told once that there is no such upload
    server.slow(0.2)
    page.goto(server.url)
    image = big_file(tmp_path, 40)
    choose(page, image)
    wait_for_percent(page, 20)
    box(page).get_by_role("button", name="Images: pause").click()
    expect_state(page, "paused")
    for path in stored(server):
        path.unlink()
    server.slow(0)
    box(page).get_by_role("button", name="Images: continue").click()
    expect_state(page, "done")
    assert uploaded_files(server.workspace, manifest_of(page))[0].path.read_bytes() == image.read_bytes()
    page.close()


def test_a_file_that_changed_since_it_was_chosen_is_named_and_the_others_arrive(server, page: Page, tmp_path):
    good = [big_file(tmp_path, 1, f"good{index}.png") for index in range(3)]
    small, large = big_file(tmp_path, 1, "small.png"), big_file(tmp_path, 2, "large.tif")
    held = []

    def change_them(route):
        if not held:
            held.append(route)
            small.write_bytes(b"other")
            os.utime(small, (1, 1))
            large.write_bytes(b"other")
            os.utime(large, (1, 1))
        route.continue_()

    page.route("**/api/uploads/register", change_them)  # the large one is registered before the small are read
    page.goto(server.url)
    choose(page, *good, small, large)
    expect_state(page, "stuck")
    expect(box(page).get_by_text("It cannot be read any more")).to_have_count(2)
    expect(box(page).get_by_text("2 files could not be uploaded: remove them, or try again.")).to_be_visible()
    box(page).get_by_role("button", name="Remove small.png").click()
    box(page).get_by_role("button", name="Remove large.tif").click()
    expect_state(page, "done")
    files = uploaded_files(server.workspace, manifest_of(page))
    assert [file.path.read_bytes() for file in files] == [path.read_bytes() for path in good]


def test_many_small_files_travel_in_few_requests_and_are_found_again(server, page: Page, tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for index in range(900):
        (folder / f"{index}.png").write_bytes(index.to_bytes(4, "big") * 50)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    page.goto(server.url)
    choose(page, folder, button="choose a folder")
    expect_state(page, "done")
    assert asked.count("bundle") == 3
    assert len(uploaded_files(server.workspace, manifest_of(page))) == 900
    expect(box(page).get_by_text("and 840 more files")).to_be_attached()
    asked.clear()
    page.reload()
    expect_state(page, "empty")
    choose(page, folder, button="choose a folder")
    expect_state(page, "done")
    expect(box(page).get_by_text("All of it was on the server already.")).to_be_visible()
    assert asked.count("bundle") == 0
    box(page).get_by_role("button", name="Images: remove all").click()
    box(page).get_by_role("button", name="Remove", exact=True).click()
    expect_nothing_stored(page, server)
