"""A real server on a workspace of its own, and a headless browser that tolerates no error and no outside call."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# On a deep link Streamlit's own page first tries whether the app lives under that path.
PROBES = re.compile(r"/\w+/_stcore/(health|host-config)$")
SERVER_START_S = 120
# Long, as a slow machine is no fault of a page.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Server:
    """A dashboard process. `kill` ends it the hard way; `start` brings it back on the same workspace and port."""

    workspace: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.port",
            str(self.port),
            "--server.headless=true",
        ]
        log = (self.workspace / "server.log").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + SERVER_START_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.workspace / "server.log").read_text()
                time.sleep(0.1)
        pytest.fail(f"The server did not start: {(self.workspace / 'server.log').read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Troubles:
    """What went wrong in a page while a test looked elsewhere."""

    found: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.found.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._outside(request.url))
        page.on("response", self._refused)

    def _outside(self, url: str) -> None:
        if not re.match(r"(https?|ws)://(127\.0\.0\.1|localhost):|data:|blob:", url):
            self.found.append(f"outside call: {url}")

    def _refused(self, response: Response) -> None:
        if response.status >= 400 and not PROBES.search(response.url):
            self.found.append(f"{response.status}: {response.url}")


def browser_path() -> str:
    """The Chromium or Chrome of this machine; the tests fail, not skip, without one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.fail("The browser tests need Chromium: install it with `apt-get install chromium`, or Chrome.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with its module: while it lives an event loop runs in this thread, which other tests cannot bear."""
    path = browser_path()
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("workspace")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    roots = os.pathsep.join([str(tmp_path_factory.getbasetemp()), str(ROOT.parent)])
    environment = {**os.environ, "SEGLIB_WORKSPACE": str(workspace), "SEGLIB_DATA_ROOTS": roots}
    server = Server(workspace, port, environment)
    server.start()
    yield server
    server.close()


@pytest.fixture
def troubles() -> Iterator[Troubles]:
    troubles = Troubles()
    yield troubles
    assert troubles.found == []


@pytest.fixture
def page(browser: Browser, troubles: Troubles) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    troubles.watch(page)
    yield page
    context.close()
