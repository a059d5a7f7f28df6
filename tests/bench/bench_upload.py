"""How fast files come in through the upload routes, and what that costs the server in memory.

    python tests/bench/bench_upload.py [--gigabytes 3] [--files 20000]

The real app, on a workspace of its own. One large file in slices of 8 MB, one after another, as the browser sends
them; then small files of 20 kB in bundles, three requests at a time. Ends with status 1 where the server's memory
grows by more than 300 MB, or where what is on the disk is not what was sent.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from seglib.serving.upload_store import SAMPLE_BYTES, SLICE_BYTES, uploaded_files
from seglib.workspace import open_workspace

ROOT = Path(__file__).parents[2]
MOST_GROWTH_MB = 300
SMALL = 20_000
BUNDLE_FILES = 400
PARALLEL = 3
PIECE = 1 << 20


class Client:
    """One connection that is kept open, as a browser keeps it."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.headers = {"Origin": f"http://127.0.0.1:{port}", "X-Seglib-Upload": "1"}

    def send(self, method: str, path: str, body: bytes) -> dict:
        self.connection.request(method, f"/api/uploads/{path}", body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return json.loads(text)

    def post(self, path: str, content: dict) -> dict:
        return self.send("POST", path, json.dumps(content).encode())


class Memory:
    """Watches the largest resident size of a process, in MB."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.largest = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        return self.process.memory_info().rss / 1e6

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                self.largest = max(self.largest, self.now())
                time.sleep(0.02)


def start(workspace: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The real app, and its port, once it answers and has imported all it imports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "SEGLIB_WORKSPACE": str(workspace)}
    options = [f"--server.port={port}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    resident = psutil.Process(process.pid)
    sizes: list[int] = []
    # It imports torch a while after it answers, which is no cost of an upload: wait until memory rests.
    while len(sizes) < 10 or max(sizes[-5:]) - min(sizes[-5:]) > 1e6:
        assert process.poll() is None, "the server did not start"
        time.sleep(1.5)
        sizes.append(resident.memory_info().rss)
    return process, port


def upload_large(client: Client, size: int) -> str:
    """Sends a generated file; returns its id."""
    block = np.random.default_rng(0).bytes(SLICE_BYTES)

    def content(start: int, count: int) -> bytes:
        start %= SLICE_BYTES
        return (block[start:] + block[:start])[:count] if start + count > SLICE_BYTES else block[start : start + count]

    parts = [content(at, SAMPLE_BYTES) for at in (0, size // 2, size - SAMPLE_BYTES)]
    described = {"name": "big.tif", "size": size, "modified": 1, "sample": zlib.crc32(b"".join(parts))}
    (known,) = client.post("register", {"files": [described]})["files"]
    offset = 0
    while offset < size:
        slice_ = content(offset, min(SLICE_BYTES, size - offset))
        offset = client.send("PUT", f"{known['id']}?offset={offset}", slice_)["received"]
    return known["id"]


def upload_small(port: int, count: int) -> list[str]:
    """Sends `count` files in bundles; returns their ids."""
    block = np.random.default_rng(1).bytes(SMALL)
    local = threading.local()

    def one_bundle(first: int) -> list[str]:
        if not hasattr(local, "client"):
            local.client = Client(port)
        described, parts = [], []
        for index in range(first, min(first + BUNDLE_FILES, count)):
            content = index.to_bytes(8, "big") + block[8:]
            one = {"name": f"tiles/{index}.png", "size": SMALL, "modified": 1, "sample": zlib.crc32(content)}
            head = json.dumps(one).encode()
            described.append(one)
            parts += [len(head).to_bytes(4, "big"), head, content]
        local.client.post("register", {"files": described})
        return [one["id"] for one in local.client.send("POST", "bundle", b"".join(parts))["files"]]

    with ThreadPoolExecutor(PARALLEL) as pool:
        return [upload_id for ids in pool.map(one_bundle, range(0, count, BUNDLE_FILES)) for upload_id in ids]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--files", type=int, default=20_000)
    arguments = parser.parse_args()
    size = int(arguments.gigabytes * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(folder)
        process, port = start(workspace.root)
        try:
            client, memory = Client(port), Memory(process.pid)
            before = memory.now()
            began = time.perf_counter()
            large = upload_large(client, size)
            seconds = time.perf_counter() - began
            whole = (workspace.upload(large) / "data").stat().st_size == size
            grown = memory.largest - before
            print(f"large: {size / 1e9:.2f} GB in {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s")
            print(f"       server memory {before:.0f} MB, at most {grown:.0f} MB more")
            began = time.perf_counter()
            ids = upload_small(port, arguments.files)
            seconds = time.perf_counter() - began
            print(f"small: {len(ids):,} files of {SMALL:,} bytes in {seconds:.1f} s, {len(ids) / seconds:.0f} files/s")
            client = Client(port)  # the server closes connections that rest
            began = time.perf_counter()
            made = client.post("manifests", {"ids": ids})
            listed = time.perf_counter()
            files = uploaded_files(workspace, made["id"])
            print(f"       listed in {listed - began:.2f} s, read in {time.perf_counter() - listed:.2f} s")
            began = time.perf_counter()
            client.post("forget", {"ids": ids, "manifest": made["id"]})
            print(f"       forgotten in {time.perf_counter() - began:.2f} s")
            grown = memory.largest - before
            print(f"       server memory at most {grown:.0f} MB more")
            return 0 if whole and len(files) == arguments.files and grown <= MOST_GROWTH_MB else 1
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
