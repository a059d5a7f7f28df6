"""What the training loop costs beside the bare step, and what a watching browser costs it.

    python tests/bench/bench_loop.py [--browser /usr/bin/chromium] [--seconds 20]

Bare: the same network, loss and optimiser stepping on one batch that stays in memory. Loop: `train()` as the queue
drives it, on 3D data with random patches. Both run in turns in this process, so that noise hits both alike.
With a page: the loop runs in a real server's training thread, first alone, then with the run's page open in one
headless browser on the same machine; patches/s are read from the store's own step times.
Exits with 1 where the loop reaches less than 95 % of the bare step, or an open page costs more than 5 %.
"""

import argparse
import itertools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from seglib.config import (
    AugmentationConfig,
    DataConfig,
    LengthConfig,
    NoAugmentationConfig,
    PatchConfig,
    RandomSamplingConfig,
    RunConfig,
    StandardAugmentationConfig,
    UNet3DConfig,
)
from seglib.data.synthetic import demo_volumes
from seglib.data.volumes import Volume
from seglib.events import StepDone
from seglib.ingest import make_demo
from seglib.jobs.manager import JobManager
from seglib.jobs.submit import submit_training
from seglib.store import Store
from seglib.store.metrics import points_since
from seglib.store.runs import request_stop
from seglib.training.loop import train
from seglib.training.setup import prepare
from seglib.workspace import open_workspace

ROOT = Path(__file__).parents[2]
LEAST_SHARE = 0.95
LEAST_VARIED = 0.85
MOST_PAGE_COST = 0.05
MEMORY_STEPS, MOST_GROWTH_MB = 500, 20.0
MOST_START_S = 5.0
ROUNDS = 5


def config(dataset: int = 1, augmentation: AugmentationConfig | None = None) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset=dataset),
        patches=PatchConfig(shape=(16, 96, 96)),
        sampling=RandomSamplingConfig(per_epoch=100_000),
        augmentation=augmentation or NoAugmentationConfig(),
        model=UNet3DConfig(depth=4, start_channels=16),
        length=LengthConfig(epochs=1000),
    )


def compare_with_bare_step(seconds: float, augmentation: AugmentationConfig, least: float) -> float:
    """Share of the bare step's rate that the loop reaches: median over rounds in turns."""
    volumes = [Volume(f"v{i}", image[None], labels) for i, (image, labels) in enumerate(demo_volumes())]
    steps = bare_steps(volumes)
    settings = config(augmentation=augmentation)
    events = (event for event in train(settings, volumes) if isinstance(event, StepDone))
    for _ in range(3):  # the first steps pay for kernels' caches
        next(steps)
        next(events)
    bare, loop = [], []
    for _ in range(ROUNDS):
        bare.append(rate(steps, seconds / ROUNDS))
        loop.append(rate(events, seconds / ROUNDS))
    shares = [a / b for a, b in zip(loop, bare, strict=True)]
    print(f"bare step        {statistics.median(bare):8.2f} patches/s")
    print(f"training loop    {statistics.median(loop):8.2f} patches/s, augmentation {augmentation.kind}")
    rounds = [round(share, 3) for share in shares]
    print(f"share            {statistics.median(shares):8.3f}   (target ≥ {least}; rounds {rounds})")
    return statistics.median(shares)


def bare_steps(volumes: list[Volume]) -> Iterator[None]:
    """Steps of the same network on one fixed batch."""
    setup = prepare(config(), volumes, resume=None)
    batch = setup.sampler.batch(0, setup.config.patches.batch_size)
    images, target = (torch.from_numpy(part).to(setup.device) for part in (batch.images, batch.targets))
    while True:
        with setup.predictor.autocast():
            logits = setup.learner(images)
        loss = setup.loss(logits, target)
        setup.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        setup.optimiser.step()
        yield


def memory_over(steps: int) -> float:
    """By how many MB the process grows over so many small steps, after as many that let it settle."""
    volumes = [Volume(f"v{i}", image[None], labels) for i, (image, labels) in enumerate(demo_volumes())]
    small = config(augmentation=StandardAugmentationConfig()).model_copy(
        update={"patches": PatchConfig(shape=(8, 32, 32)), "model": UNet3DConfig(depth=3, start_channels=8)}
    )
    sizes = []
    for event in train(small, volumes):
        if isinstance(event, StepDone):
            sizes.append(psutil.Process().memory_info().rss / 2**20)
        if len(sizes) == 2 * steps:
            break
    grown = statistics.median(sizes[-50:]) - statistics.median(sizes[steps : steps + 50])
    print(f"memory           {grown:8.1f} MB more after {steps} steps (target ≤ {MOST_GROWTH_MB})")
    return grown


def seconds_to_first_step() -> float:
    """From a run that is put in the queue to its first step, in a server's thread that has torch loaded."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(folder)
        store = Store(workspace.database)
        dataset = make_demo(workspace, store)
        manager = JobManager(workspace, store)
        manager.start()
        began = time.perf_counter()
        run = submit_training(store, config(dataset))
        wait_for_steps(store, run, 1)
        took = time.perf_counter() - began
        request_stop(store, run)
        manager.close()
        store.close()
    print(f"first step after {took:8.2f} s (target ≤ {MOST_START_S})")
    return took


def rate(steps: Iterator[object], seconds: float) -> float:
    """Patches a second."""
    began = time.perf_counter()
    for done in itertools.count(1):
        next(steps)
        spent = time.perf_counter() - began
        if spent >= seconds:
            return done * config().patches.batch_size / spent
    raise AssertionError


def cost_of_an_open_page(browser: str, seconds: float) -> float:
    """Share of the throughput that an open page takes: median over rounds of without and with it."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        workspace = open_workspace(folder)
        store = Store(workspace.database)
        run = submit_training(store, config(make_demo(workspace, store)))
        wait_for_steps(store, run, 5)
        alone, watched = [], []
        with sync_playwright() as playwright:
            for _ in range(ROUNDS):
                alone.append(stored_rate(store, run, seconds))
                chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
                page = chromium.new_page()
                page.goto(f"{url}/runs?run={run}")
                page.locator(".js-plotly-plot").first.wait_for()
                time.sleep(3)  # opening the page is not part of having it open
                watched.append(stored_rate(store, run, seconds))
                chromium.close()
        request_stop(store, run)
        store.close()
    costs = [1 - b / a for a, b in zip(alone, watched, strict=True)]
    print(f"no page open     {statistics.median(alone):8.2f} patches/s")
    print(f"page open        {statistics.median(watched):8.2f} patches/s")
    rounds = [round(cost, 3) for cost in costs]
    print(f"cost             {statistics.median(costs):8.3f}   (target ≤ {MOST_PAGE_COST}; rounds {rounds})")
    return statistics.median(costs)


def stored_rate(store: Store, run: int, seconds: float) -> float:
    """Patches a second over the next `seconds`, by the times of the steps in the store."""
    _, cursor = points_since(store, run)
    time.sleep(seconds)
    points = [point for point in points_since(store, run, cursor)[0] if point.name == "step/loss"]
    return (len(points) - 1) * config().patches.batch_size / (points[-1].time - points[0].time)


def wait_for_steps(store: Store, run: int, steps: int) -> None:
    while sum(point.name == "step/loss" for point in points_since(store, run)[0]) < steps:
        time.sleep(0.2)


@contextmanager
def server(workspace: Path) -> Iterator[str]:
    """A dashboard on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "SEGLIB_WORKSPACE": str(workspace)}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless=true"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parsed = parser.parse_args()
    share = compare_with_bare_step(parsed.seconds, NoAugmentationConfig(), LEAST_SHARE)
    varied = compare_with_bare_step(parsed.seconds, StandardAugmentationConfig(), LEAST_VARIED)
    grown = memory_over(MEMORY_STEPS)
    started = seconds_to_first_step()
    cost = cost_of_an_open_page(parsed.browser, parsed.seconds)
    good = share >= LEAST_SHARE and varied >= LEAST_VARIED and grown <= MOST_GROWTH_MB and started <= MOST_START_S
    return 0 if good and cost <= MOST_PAGE_COST else 1


if __name__ == "__main__":
    sys.exit(main())
