"""How fast the slice viewer flips, in a real server and a real (headless) browser.

    python tests/bench/bench_viewer.py [--browser /usr/bin/chromium] [--json numbers.json]

A volume of 2048 × 1536 × 16 with labels is written to a temporary workspace and shown by a page of one viewer.
`drawn` is from the slider's input event to both layers drawn, as the page can see it; `on screen` is until the
second frame after that, which is what a person waits for and cannot be less than one frame (17 ms).

Warm: every plane was shown before. Ahead: first time, in order, a person's pace (150 ms a plane), so planes are
usually fetched before they are asked for. Cold: first time, far jumps, nothing fetched ahead.
Exits with 1 where a target is missed, or a late answer is drawn over a newer one.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage

from seglib.data.volumes import TRUTH, create_labels, create_volume, set_contrast
from seglib.workspace import open_workspace

SHAPE = (16, 1536, 2048)
VOXEL_NM = (40.0, 8.0, 8.0)
MEDIAN_MS, P95_MS = 30.0, 60.0
ROOT = Path(__file__).parents[2]

APP = """
import os, pathlib, time
import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route
from seglib.serving.routes import SecurityHeaders, host_check, plane_routes
from seglib.workspace import open_workspace

delay = pathlib.Path(__file__).with_name("delay")

def slow(route):
    def answer(request):
        time.sleep(float(delay.read_text()))
        return route.endpoint(request)
    return Route(route.path, answer)

routes = [slow(route) for route in plane_routes(open_workspace())]
app = st.App("page.py", routes=routes, middleware=[host_check(), Middleware(SecurityHeaders)])
"""

PAGE = f"""
import streamlit as st
from pages.ui.viewer import Panel, show_viewer, volume_layers

st.set_page_config(layout="wide")
version = st.query_params.get("version", "1")
panel = Panel("Bench", volume_layers(1, has_labels=True, version=version))
classes = {{1: "soma", 2: "neuropil", 3: "glia", 4: "trachea"}}
show_viewer("bench", [panel], shape_zyx={SHAPE}, voxel_size_nm={VOXEL_NM}, classes=classes)
"""

# In the page: set the slider as a hand would, wait until drawn, then for two frames.
FLIP = """async (plane) => {
  const root = window.viewerRoot();
  const slider = root.querySelector('input[type=range]');
  const start = performance.now();
  slider.value = plane;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  while (root.dataset.drawn !== String(plane)) await new Promise((go) => setTimeout(go, 0));
  const drawn = root.__flips.at(-1).ms;
  await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
  return [drawn, performance.now() - start];
}"""

# Finds the viewer inside the component's shadow root.
FIND = """() => {
  const inside = (node) => {
    for (const element of node.querySelectorAll('*')) {
      if (element.classList.contains('viewer')) return element;
      const found = element.shadowRoot && inside(element.shadowRoot);
      if (found) return found;
    }
    return null;
  };
  window.viewerRoot = () => inside(document);
  return Boolean(window.viewerRoot()?.dataset.drawn);
}"""


def write_volume(root: Path) -> None:
    """Fills volume 1 of the workspace with noise as fine as a micrograph's and smooth blobs of four classes."""
    generator = np.random.default_rng(0)
    path = open_workspace(root).volume(1)
    image = create_volume(path, name="bench", shape_czyx=(1, *SHAPE), dtype="uint8", voxel_size_nm=VOXEL_NM)
    labels = create_labels(path, TRUTH, shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)
    fields = [ndimage.gaussian_filter(generator.normal(size=SHAPE[1:]), 25) for _ in range(4)]
    for z in range(SHAPE[0]):
        fields = [np.roll(field, (3, 5), axis=(0, 1)) for field in fields]
        blobs = np.stack(fields)
        classes = np.where(blobs.max(0) > 0.1 * blobs.max(), blobs.argmax(0) + 1, 0).astype(np.uint8)
        grain = (
            ndimage.gaussian_filter(generator.normal(size=SHAPE[1:]), 1.2) * 90 + generator.normal(size=SHAPE[1:]) * 6
        )
        image[0, z] = np.clip(128 + grain + classes * 12.0, 0, 255).astype(np.uint8)
        labels[z] = classes
    set_contrast(path, (20.0, 240.0))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A Streamlit server of the page, at the address it yields."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "app.py").write_text(APP)
    (folder / "page.py").write_text(PAGE)
    (folder / "delay").write_text("0")
    environment = {**os.environ, "SEGLIB_WORKSPACE": str(folder / "workspace"), "PYTHONPATH": str(ROOT)}
    options = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
    quiet = ["--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options, *quiet]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def open_page(page: Page, address: str) -> None:
    """Opens the page and waits for the first picture."""
    page.goto(address)
    page.wait_for_function(FIND, timeout=60_000)


def flips(page: Page, planes: list[int], pause_ms: int = 0) -> list[tuple[float, float]]:
    """Shows the planes one after another; (drawn, on screen) of each, in ms."""
    times = []
    for plane in planes:
        times.append(tuple(page.evaluate(FLIP, plane)))
        page.wait_for_timeout(pause_ms)
    return times


def late_answers(page: Page, folder: Path, address: str) -> tuple[int, int, list[int]]:
    """30 quick flips against a server that waits 200 ms: the plane asked for last, the one drawn, all drawn after."""
    open_page(page, f"{address}/?version=late")
    (folder / "delay").write_text("0.2")
    asked = [(7 * step) % SHAPE[0] for step in range(30)]
    page.evaluate(
        """async (planes) => {
          const root = window.viewerRoot();
          const slider = root.querySelector('input[type=range]');
          window.drawn = [];
          const watch = () => window.drawn.push(Number(root.dataset.drawn));
          new MutationObserver(watch).observe(root, { attributes: true, attributeFilter: ['data-drawn'] });
          for (const plane of planes) {
            slider.value = plane;
            slider.dispatchEvent(new Event('input', { bubbles: true }));
            await new Promise((go) => setTimeout(go, 20));
          }
        }""",
        asked,
    )
    page.wait_for_function("plane => window.viewerRoot().dataset.drawn == plane", arg=asked[-1], timeout=20_000)
    page.wait_for_timeout(1500)  # whatever is still on its way must not replace it
    final = int(page.evaluate("Number(window.viewerRoot().dataset.drawn)"))
    (folder / "delay").write_text("0")
    return asked[-1], final, page.evaluate("window.drawn")


def measure(browser: str) -> tuple[dict[str, list[tuple[float, float]]], tuple[int, int, list[int]]]:
    """All cases, and the outcome of the late answers."""
    times: dict[str, list[tuple[float, float]]] = {}
    jumps = [0, 15, 3, 12, 6]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        folder = Path(name)
        write_volume(folder / "workspace")
        with server(folder) as address:
            chromium = play.chromium.launch(executable_path=browser or None, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            open_page(page, address)
            flips(page, jumps)
            for version in ("cold1", "cold2"):  # a new version is new to every cache
                open_page(page, f"{address}/?version={version}")
                times.setdefault("cold", []).extend(flips(page, jumps))
            open_page(page, f"{address}/?version=ahead&view=z_0")
            page.wait_for_timeout(1500)
            times["ahead"] = flips(page, list(range(1, SHAPE[0])), pause_ms=150)
            back_and_forth = [*range(SHAPE[0] - 2, -1, -1), *range(1, SHAPE[0])]
            times["warm"] = flips(page, back_and_forth * 3)
            late = late_answers(page, folder, address)
            chromium.close()
    return times, late


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default="", help="path of Chromium; Playwright's own without it")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    times, (asked, final, seen) = measure(options.browser)
    rows: dict[str, Any] = {}
    print(f"{'case':8}{'flips':>6}{'drawn: median':>16}{'p95':>8}{'on screen: median':>20}{'p95':>8}   (ms)")
    for case, values in times.items():
        (median, p95), (shown, shown95) = (np.percentile(column, [50, 95]) for column in zip(*values, strict=True))
        rows[case] = {"median": median, "p95": p95, "screen_median": shown, "screen_p95": shown95}
        print(f"{case:8}{len(values):6}{median:16.1f}{p95:8.1f}{shown:20.1f}{shown95:8.1f}")
    fast = rows["warm"]["median"] <= MEDIAN_MS and rows["warm"]["p95"] <= P95_MS
    print(f"target, warm, drawn: median ≤ {MEDIAN_MS:.0f}, p95 ≤ {P95_MS:.0f}: {'met' if fast else 'MISSED'}")
    right = final == asked
    verdict = "right" if right else "WRONG"
    print(f"30 flips, answers 200 ms late: asked {asked}, shown {final}, drawn on the way {seen}: {verdict}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return 0 if fast and right else 1


def _wait_for(address: str, log: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"The server did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
