"""The main job as a person does it: from an empty workspace to a prediction, in a real browser on a real server."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Browser, Locator, Page, expect

from seglib.data.volumes import open_labels
from seglib.store import Store
from seglib.store.runs import list_runs
from seglib.workspace import Workspace

pytestmark = pytest.mark.browser

RUN_TIMEOUT_MS = 240_000


def alone(found: Locator) -> Locator:
    """The same element once it is the only one: while a page is drawn anew the old one may still stand beside it."""
    expect(found).to_have_count(1)
    return found


def test_an_empty_workspace_greets_and_the_demo_trains_and_predicts(server, page: Page):
    page.goto(server.url)
    expect(page.get_by_role("heading", name="Welcome to Seglib Studio")).to_be_visible()
    expect(page.get_by_role("button", name="Import your data")).to_be_visible()

    page.get_by_role("button", name="Try the demo").click()
    expect(page.get_by_text("The demo data are ready")).to_be_visible()
    viewer = page.get_by_role("group", name="Slice viewer")
    expect(viewer).to_have_attribute("data-drawn", "16")

    page.get_by_role("button", name="Start the demo run").click()
    expect(page).to_have_url(re.compile(r"/runs\?run=1"))
    expect(page.get_by_text("Validation part, after epoch")).to_be_visible(timeout=RUN_TIMEOUT_MS)
    expect(metric(page, "State")).to_contain_text("finished", timeout=RUN_TIMEOUT_MS)
    expect(metric(page, "Epoch")).to_contain_text("10 / 10")
    expect(page.locator(".js-plotly-plot")).to_have_count(2)

    page.get_by_role("button", name="Predict with it").click()
    page.get_by_role("button", name="Segment").click()
    expect(page.get_by_role("heading", name="Export")).to_be_visible(timeout=RUN_TIMEOUT_MS)
    expect(metric(page, "Dice (whole volume)")).to_contain_text("0.")
    response = page.request.get(f"{server.url}/api/files/prediction/2/labels.tif")
    downloaded = tifffile.imread(io.BytesIO(response.body()))
    stored = open_labels(Workspace(server.workspace).prediction(2) / "labels.zarr", "prediction")
    np.testing.assert_array_equal(downloaded, stored[:])
    assert 0 < (downloaded > 0).mean() < 1


def test_the_train_page_opens_by_deep_link_and_says_what_would_fail(server, page: Page):
    page.goto(f"{server.url}/train")
    expect(page.get_by_role("heading", name="Before you start")).to_be_visible()
    expect(page.get_by_text("Learns from")).to_be_visible()
    start = page.get_by_role("button", name="Start", exact=True)
    expect(start).to_be_enabled()

    depth = page.get_by_label("z", exact=True)
    depth.fill("13")
    depth.press("Enter")
    expect(page.get_by_text("The patch 13").first).to_be_visible()
    expect(start).to_be_disabled()

    depth.fill("48")
    depth.press("Enter")
    expect(page.get_by_text("No training part is as large as the patch 48").first).to_be_visible()
    expect(start).to_be_enabled()

    depth.fill("16")
    depth.press("Enter")
    expect(start).to_be_enabled()


def test_eight_patches_are_shown_and_the_data_are_checked(server, page: Page):
    page.goto(f"{server.url}/train")
    page.get_by_text("Show eight training patches").click()
    expect(page.get_by_test_id("stImage").locator("img")).to_have_count(8)
    page.get_by_role("link", name="The data were not checked yet").click()
    page.get_by_role("tab", name="Report").click()
    page.get_by_role("button", name="Check the data").click()
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    page.get_by_role("button", name="Train on this").click()
    expect(page.get_by_text(re.compile("background .* %, foreground .* %"))).to_have_count(2)


def test_a_run_lives_on_without_its_page_stops_and_resumes(server, browser: Browser, page: Page):
    start_long_run(server, page)
    run = page.url
    expect(metric(page, "State")).to_contain_text("running", timeout=RUN_TIMEOUT_MS)
    other = browser.new_page()
    other.goto(run)
    expect(metric(other, "State")).to_contain_text("running")
    page.goto("about:blank")

    other.get_by_role("button", name="Stop").click()
    expect(metric(other, "State")).to_contain_text("stopped", timeout=RUN_TIMEOUT_MS)
    expect(other.get_by_test_id("stAlert").get_by_text("everything is saved")).to_be_visible()
    page.goto(run)
    expect(metric(page, "State")).to_contain_text("stopped")

    page.get_by_role("button", name="Resume").click()
    expect(metric(page, "State")).to_contain_text("running", timeout=RUN_TIMEOUT_MS)
    other.reload()  # an ended run has no timer: what happens to it later shows when it is looked at again
    expect(metric(other, "State")).to_contain_text("running")
    other.close()


def test_the_zoom_stays_while_curves_grow(server, page: Page):
    page.goto(f"{server.url}/runs?run={newest_run(server)}")
    expect(metric(page, "State")).to_contain_text("running", timeout=RUN_TIMEOUT_MS)
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible()
    points = "plot => Number(plot.dataset.points)"
    grown = plot.evaluate(points)
    box = plot.locator(".nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.7 * box["height"], steps=5)
    page.mouse.up()
    zoomed = plot.evaluate("plot => plot.layout.xaxis.range")
    plot.evaluate("plot => { plot.id_before = 'same element' }")

    newer = "before => Number(document.querySelector('.js-plotly-plot').dataset.points) > before + 20"
    page.wait_for_function(newer, arg=grown, timeout=60_000)
    assert plot.evaluate("plot => plot.layout.xaxis.range") == zoomed
    assert plot.evaluate("plot => plot.id_before") == "same element"


def test_a_killed_server_leaves_the_run_interrupted_and_resumable(server, page: Page):
    run = newest_run(server)
    server.kill()
    server.start()
    page.goto(f"{server.url}/runs?run={run}")
    expect(metric(page, "State")).to_contain_text("interrupted")
    page.get_by_role("button", name="Resume").click()
    expect(metric(page, "State")).to_contain_text("running", timeout=RUN_TIMEOUT_MS)
    page.get_by_role("button", name="Stop").click()
    expect(metric(page, "State")).to_contain_text("stopped", timeout=RUN_TIMEOUT_MS)


def test_compare_shows_curves_differences_and_one_plane_for_all(server, page: Page):
    page.goto(f"{server.url}/compare?runs=3,1")
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(2)
    page.get_by_text("Only what differs").wait_for()
    expect(page.get_by_text("The same plane, segmented by each")).to_be_visible()
    viewer = page.get_by_role("group", name="Slice viewer")
    expect(viewer).to_have_count(1)
    slider = viewer.get_by_label("Plane", exact=True)
    expect(viewer.locator("canvas")).not_to_have_count(0)
    slider.focus()
    slider.press("Home")
    expect(viewer).to_have_attribute("data-drawn", "0")
    expect(viewer.locator("[data-panels='3']")).to_have_count(1)


def test_stacks_upload_as_sections_or_zip_with_labels(server, page: Page, tmp_path: Path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (6, 40, 48), dtype=np.uint8)
    labels = (image > 128).astype(np.uint8)
    images = [write(tmp_path / f"image_{z + 8}.tif", image[z]) for z in range(6)]
    marks = [write(tmp_path / f"label_{z + 8}.tif", labels[z]) for z in range(6)]
    archive = tmp_path / "both.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for kind, files in (("images", images), ("labels", marks)):
            for z, file in enumerate(files):
                zipped.write(file, f"{kind}/{z}.tif")

    open_import(server, page)
    upload(page, "Images", images)
    upload(page, "Labels", marks)
    check_files(page)
    page.get_by_label("Name of the data set").fill("By sections")
    page.get_by_label("Name of the data set").press("Enter")
    press_import(page)
    expect(page.get_by_label("Data set", exact=True)).to_have_value(re.compile("By sections"))
    expect(page.get_by_role("group", name="Slice viewer")).to_have_attribute("data-drawn", "3")

    open_import(server, page)
    upload(page, "Images", [archive])
    check_files(page)
    expect(page.get_by_text("imported before, as By sections")).to_be_visible()
    press_import(page)
    expect(page.get_by_text("imported before, as By sections")).to_be_visible()
    expect(page.get_by_role("group", name="Slice viewer")).to_have_attribute("data-drawn", "3")
    assert [path.name for path in (server.workspace / "uploads").iterdir() if path.name != "manifests"] == []


def test_what_would_be_imported_is_shown_and_corrected_first(server, page: Page, tmp_path: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    np.save(folder / "stack.npy", np.arange(4 * 30 * 40, dtype=np.uint16).reshape(30, 40, 4) % 251)
    open_import(server, page)
    point_at(page, folder)
    check_files(page)
    axes = page.get_by_role("textbox", name=re.compile("Images: axis order of 30 × 40 × 4"))
    expect(axes).to_have_value("YXC")
    expect(future_cell(page, "1 × 30 × 40")).to_be_attached()
    axes.fill("TYX")
    axes.press("Enter")
    expect(page.get_by_test_id("stAlert").filter(has_text="30 time points")).to_be_visible()
    expect(alone(page.get_by_role("button", name="Import", exact=True))).to_be_disabled()
    axes.fill("YXZ")
    axes.press("Enter")
    expect(future_cell(page, "4 × 30 × 40")).to_be_attached()
    page.get_by_text("Set the voxel size myself").click()
    page.get_by_label("z", exact=True).fill("50")
    page.get_by_label("z", exact=True).press("Enter")
    expect(future_cell(page, "50, 1, 1")).to_be_attached()
    press_import(page)
    expect(page.get_by_role("group", name="Slice viewer")).to_have_attribute("data-drawn", "2")


def test_an_import_can_be_cancelled_and_leaves_nothing(server, page: Page, tmp_path: Path):
    folder = tmp_path / "large"
    folder.mkdir()
    write(folder / "stack.tif", np.zeros((600, 1024, 1024), np.uint8))
    before = sorted((server.workspace / "volumes").iterdir()), sorted((server.workspace / "scratch").iterdir())
    open_import(server, page)
    point_at(page, folder)
    check_files(page)
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_test_id("stAlert").filter(has_text="nothing was kept")).to_be_visible()
    # What was chosen is still there: it can be imported after all, or other files be chosen.
    expect(alone(page.get_by_role("button", name="Import", exact=True))).to_be_enabled()
    page.get_by_role("button", name="Other files").click()
    expect(page.get_by_role("button", name="Check the files")).to_be_visible()
    after = sorted((server.workspace / "volumes").iterdir()), sorted((server.workspace / "scratch").iterdir())
    assert after == before


def test_labels_are_read_anew_without_importing_again(server, page: Page, tmp_path: Path):
    folder = tmp_path / "relabel"
    for kind, values in (("images", 50), ("labels", 1)):
        (folder / kind).mkdir(parents=True)
        stack = np.zeros((6, 32, 32), np.uint8)
        stack[:, 4:12, 4:12], stack[:, 18:26, 4:12] = values, 2 * values
        write(folder / kind / "leaf.tif", stack)
    open_import(server, page)
    point_at(page, folder)
    check_files(page)
    press_import(page)
    expect(page.get_by_role("button", name="class 2")).to_be_visible()  # a chip of the viewer
    page.get_by_role("tab", name="Labels").click()
    page.get_by_text("Instances: each value is one object").click()
    page.get_by_role("combobox", name="Borders as a class").click()
    page.get_by_text("Around every object").click()
    page.get_by_role("button", name="Save").click()
    expect(alone(page.get_by_role("button", name="Save"))).to_be_disabled()
    page.get_by_text("Show what is learned").click()
    expect(page.get_by_role("button", name="border", exact=True)).to_be_visible()
    page.get_by_role("button", name="Train on this").click()
    expect(page.get_by_text("Classes: object, border")).to_be_visible()


def test_bad_files_are_refused_with_a_sentence_and_leave_nothing(server, page: Page, tmp_path: Path):
    image = np.zeros((4, 30, 30), np.uint8)
    folder = tmp_path / "bad"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    write(folder / "images" / "stack.tif", image)
    write(folder / "labels" / "stack.tif", image[:, :20])
    text = tmp_path / "text"
    text.mkdir()
    (text / "notes.tif").write_text("these are my notes")
    empty = tmp_path / "empty"
    empty.mkdir()
    volumes = len(list((server.workspace / "volumes").iterdir()))

    for path, said in (
        (folder, "labels/stack.tif is 4 × 20 × 30"),
        (text, "notes.tif"),
        (empty, "it is empty"),
        (Path("/etc"), "outside the folders from which data may be imported"),
    ):
        open_import(server, page)
        box = point_at(page, path)
        page.get_by_role("button", name="Check the files").click()
        expect(page.get_by_test_id("stAlert").filter(has_text=said)).to_be_visible()
        if path in (folder, text):  # what is wrong is shown beside what would be imported
            expect(alone(page.get_by_role("button", name="Import", exact=True))).to_be_disabled()
            page.get_by_role("button", name="Other files").click()
        expect(box).to_have_value(str(path))  # nothing has to be typed again
    assert len(list((server.workspace / "volumes").iterdir())) == volumes


def test_hostile_names_are_shown_as_typed(server, page: Page, tmp_path: Path):
    name = "<img src=x onerror=window.__hit=1> ![p](http://evil.test/p.png) :red[x] **b**"
    folder = tmp_path / "named"
    folder.mkdir()
    write(folder / "one.tif", np.zeros((2, 20, 20), np.uint8))
    open_import(server, page)
    point_at(page, folder)
    check_files(page)
    page.get_by_label("Name of the data set").fill(name)
    page.get_by_label("Name of the data set").press("Enter")
    press_import(page)
    expect(page.get_by_role("group", name="Slice viewer")).to_have_attribute("data-drawn", "1")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog").get_by_text(name)).to_be_visible()
    assert page.evaluate("window.__hit") is None
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("dialog")).not_to_be_visible()
    assert name not in {row.name for row in list_runs_of(server)}


def metric(page: Page, label: str):
    """The metric of a label."""
    return page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))


def open_import(server, page: Page) -> None:
    page.goto(server.url)
    page.get_by_role("button", name=re.compile("Import (your )?data")).click()
    page.get_by_role("heading", name="Import your data").wait_for()


def upload(page: Page, box: str, files: list[Path]) -> None:
    """Puts files into one of the two boxes and waits until they are on the server."""
    region = page.get_by_role("group", name=box, exact=True)
    region.locator("input[type=file]").first.set_input_files(files)
    expect(region.get_by_text("Everything is on the server")).to_be_visible()


def point_at(page: Page, path: Path):
    """Types a path of the server, and returns where it was typed."""
    page.get_by_text("Folder on the server").click()
    box = page.get_by_role("textbox", name="Folder or file with the images (and labels)")
    box.fill(str(path))
    box.press("Enter")
    return box


def check_files(page: Page) -> None:
    page.get_by_role("button", name="Check the files").click()
    expect(page.get_by_label("Name of the data set")).to_be_visible()


def press_import(page: Page) -> None:
    """Imports, once the preview fits what was asked for, and waits for the data set."""
    button = page.get_by_role("button", name="Import", exact=True)
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_role("button", name="Import data")).to_be_visible()


def future_cell(page: Page, text: str):
    """A cell of the table of what would be imported; the table is drawn on a canvas, its text lies beside it."""
    return page.locator("canvas [role=gridcell]").filter(has_text=re.compile(f"^{re.escape(text)}$")).first


def start_long_run(server, page: Page) -> None:
    """A run of small steps that goes on for minutes, unless it is stopped."""
    page.goto(f"{server.url}/train?dataset=1")
    for label, value in (("Epochs", "2000"), ("Start channels", "4"), ("Patches per epoch", "16")):
        box = page.get_by_label(label, exact=True)
        box.fill(value)
        box.press("Enter")
    expect(page.get_by_text("16,000")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page).to_have_url(re.compile(r"/runs\?run="))


def newest_run(server) -> int:
    return max(run.id for run in list_runs_of(server))


def list_runs_of(server):
    store = Store(server.workspace / "studio.db")
    try:
        return list_runs(store, kind="train")
    finally:
        store.close()


def write(path: Path, array: np.ndarray) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack")
    return path
