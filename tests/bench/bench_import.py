"""How fast an import is against the least it could do, and how much memory it takes.

python tests/bench/bench_import.py stack [GB]     an uncompressed TIFF stack against tifffile → Zarr
python tests/bench/bench_import.py pairs [COUNT]  small PNG pairs, and opening the page of their data set
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import tifffile
import zarr
from PIL import Image
from zarr.codecs import BloscCodec

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from seglib.data.volumes import CHUNK_ZYX  # noqa: E402
from seglib.ingest import Desk, Door, ImportRequest, import_dataset  # noqa: E402
from seglib.store import open_store  # noqa: E402
from seglib.workspace import open_workspace  # noqa: E402

SIDE = 2048
ROUNDS = 3


def main(what: str, size: float) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        (bench_stack if what == "stack" else bench_pairs)(Path(folder), size)


def bench_stack(folder: Path, gigabytes: float) -> None:
    path = folder / "stack.tif"
    planes = int(gigabytes * 1e9) // SIDE**2
    _write_stack(path, planes)
    voxels = planes * SIDE**2
    rates: dict[str, list[float]] = {"bare copy": [], "import": []}
    peak = 0
    for _ in range(ROUNDS):  # in turns, as the machine's speed drifts
        seconds = _timed(lambda: _bare_copy(path, folder / "bare.zarr"))
        rates["bare copy"].append(voxels / seconds / 1e6)
        with _Peak() as memory:
            seconds = _timed(lambda: _import(folder / "workspace", str(path)))
        peak = max(peak, memory.bytes)
        rates["import"].append(voxels / seconds / 1e6)
    for name, values in rates.items():
        print(f"{name:12} {statistics.median(values):7.0f} MB/s   {[round(value) for value in values]}")
    ratio = statistics.median(b / a for a, b in zip(rates["bare copy"], rates["import"], strict=True))
    print(f"import / bare copy: {ratio:.2f} (wanted ≥ 0.60)")
    print(f"peak memory of the import with its processes: {peak / 2**20:.0f} MB (wanted ≤ 1024)")


def bench_pairs(folder: Path, count: float) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(int(count)):
        image = rng.integers(0, 255, (256, 256), np.uint8) // 8 * 8
        label = np.zeros((256, 256), np.uint8)
        label[40:90, 40 + number % 100 : 120 + number % 100] = 1 + number % 3
        Image.fromarray(image).save(folder / "data" / "images" / f"{number:05}.png", compress_level=1)
        Image.fromarray(label).save(folder / "data" / "labels" / f"{number:05}.png", compress_level=1)
    with _Peak() as memory:
        seconds = _timed(lambda: _import(folder / "workspace", str(folder / "data"), layout="volumes"))
    print(f"{count:.0f} pairs in {seconds:.1f} s: {count / seconds:.0f} pairs/s (wanted ≥ 150)")
    print(f"peak memory: {memory.bytes / 2**20:.0f} MB")
    _open_page(folder / "workspace")


def _write_stack(path: Path, planes: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 16, (SIDE, SIDE), np.uint8)
    smooth = (np.add.outer(np.sin(np.arange(SIDE) / 40), np.cos(np.arange(SIDE) / 55)) * 50 + 110).astype(np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for z in range(planes):
            tif.write(np.roll(smooth, z, 0) + np.roll(noise, 7 * z, 1), contiguous=False, photometric="minisblack")


def _bare_copy(path: Path, target: Path) -> None:
    with tifffile.TiffFile(path) as tif:
        pages = tif.pages
        array = zarr.create_array(
            str(target),
            shape=(len(pages), SIDE, SIDE),
            dtype=np.uint8,
            chunks=CHUNK_ZYX,
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            overwrite=True,
        )
        for z in range(0, len(pages), CHUNK_ZYX[0]):
            stop = min(len(pages), z + CHUNK_ZYX[0])
            array[z:stop] = np.stack([pages[index].asarray() for index in range(z, stop)])


def _import(root: Path, path: str, **options: str) -> None:
    workspace = open_workspace(root)
    store = open_store(workspace)
    with Desk(workspace) as desk:
        proposal = desk.find(Door(path=path, confined=False))
        import_dataset(workspace, store, ImportRequest(name="bench", items=proposal.items, **options))


def _open_page(root: Path) -> None:
    """Times the page of the newest data set in a headless browser, server and browser warm."""
    from playwright.sync_api import sync_playwright

    port = 8599
    environment = {**os.environ, "SEGLIB_WORKSPACE": str(root)}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless=true"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page()
            times = []
            for attempt in range(8):
                began = time.perf_counter()
                try:
                    page.goto(f"http://localhost:{port}/")
                    page.get_by_text("Volumes (").first.wait_for(timeout=30_000)
                    page.locator("canvas").first.wait_for(timeout=30_000)
                except Exception:
                    time.sleep(1)
                    continue
                if attempt > 2:
                    times.append(time.perf_counter() - began)
            print(
                f"page of the data set: {statistics.median(times):.2f} s (wanted ≤ 1), {[round(t, 2) for t in times]}"
            )
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class _Peak:
    """The most memory this process and those it starts hold together, sampled."""

    def __enter__(self) -> "_Peak":
        self._over, self.bytes = threading.Event(), 0
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.05):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else {"stack": 4.0, "pairs": 20_000}[sys.argv[1]])
