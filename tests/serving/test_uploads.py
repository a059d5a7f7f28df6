"""Uploads go to the disk in slices that can be sent again, from our own pages only, and never under a user's name."""

import asyncio
import errno
import itertools
import json
import tracemalloc
import zlib
from collections import namedtuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from seglib.errors import DataError, SeglibError
from seglib.serving import upload_store
from seglib.serving.upload_store import (
    SMALL_BYTES,
    UploadRefused,
    clean_name,
    create_manifest,
    find_manifest,
    forget_uploads,
    uploaded_files,
)
from seglib.serving.uploads import upload_routes
from seglib.workspace import open_workspace

OWN = {"Origin": "http://localhost:8501", "X-Seglib-Upload": "1"}
LARGE = SMALL_BYTES + 300_001
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def workspace(tmp_path):
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def app(workspace):
    return Starlette(routes=upload_routes(workspace))


@pytest.fixture
def client(app):
    return TestClient(app, base_url="http://localhost:8501", headers=OWN)


def noise(size: int, seed: int = 0) -> bytes:
    return b"".join(zlib.crc32(f"{seed} {index}".encode()).to_bytes(4, "big") for index in range(size // 4 + 1))[:size]


def described(name: str, content: bytes, modified: int = 1000) -> dict:
    """What the browser says of a file; the checksum is as documented, not as the code under test makes it."""
    parts = [content]
    if len(content) > 1 << 20:
        middle = len(content) // 2
        parts = [content[: 64 << 10], content[middle : middle + (64 << 10)], content[-(64 << 10) :]]
    return {"name": name, "size": len(content), "modified": modified, "sample": zlib.crc32(b"".join(parts))}


def register(client, *files: dict) -> list[dict]:
    answer = client.post("/api/uploads/register", json={"files": list(files)})
    assert answer.status_code == 200, answer.text
    return answer.json()["files"]


def put(client, upload_id: str, offset: int, content: bytes):
    return client.put(f"/api/uploads/{upload_id}?offset={offset}", content=content)


def bundle(*files: tuple[dict, bytes]) -> bytes:
    heads = [(json.dumps(one).encode(), content) for one, content in files]
    return b"".join(len(head).to_bytes(4, "big") + head + content for head, content in heads)


def upload(client, name: str, content: bytes) -> str:
    one = described(name, content)
    if len(content) <= SMALL_BYTES:
        return client.post("/api/uploads/bundle", content=bundle((one, content))).json()["files"][0]["id"]
    (known,) = register(client, one)
    assert put(client, known["id"], 0, content).status_code == 200
    return known["id"]


def everything_in(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- slices


def test_a_file_arrives_in_slices_byte_for_byte(client, workspace):
    content = noise(LARGE)
    (known,) = register(client, described("run 1/image.tif", content))
    assert known["received"] == 0
    assert put(client, known["id"], 0, content[:700_000]).json() == {"received": 700_000, "size": LARGE}
    assert client.get(f"/api/uploads/{known['id']}").json() == {"received": 700_000, "size": LARGE}
    assert put(client, known["id"], 700_000, content[700_000:]).json() == {"received": LARGE, "size": LARGE}
    assert (workspace.upload(known["id"]) / "data").read_bytes() == content
    assert everything_in(workspace.root) == [f"uploads/{known['id']}/data", f"uploads/{known['id']}/meta.json"]


def test_the_same_file_chosen_again_goes_on_where_it_stopped(client):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    put(client, known["id"], 0, content[:500_000])
    assert register(client, described("a.tif", content)) == [{"id": known["id"], "received": 500_000}]


@pytest.mark.parametrize("change", [{"name": "b.tif"}, {"modified": 1001}, {"sample": 7}, {"size": LARGE + 1}])
def test_a_file_that_differs_in_anything_is_another(client, change):
    one = described("a.tif", noise(LARGE))
    first, other = register(client, one, {**one, **change})
    assert first["id"] != other["id"]


@pytest.mark.parametrize("offset", [0, 499_999, 500_001, LARGE])
def test_a_slice_for_another_place_is_refused_with_the_true_one(client, workspace, offset):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    put(client, known["id"], 0, content[:500_000])
    answer = put(client, known["id"], offset, content[500_000:500_010])
    assert (answer.status_code, answer.json()["received"]) == (409, 500_000)
    assert (workspace.upload(known["id"]) / "data").read_bytes() == content[:500_000]


@pytest.mark.parametrize("offset", ["", "-1", "1.5", "٣", "0x1", "9" * 16, "1 "])
def test_an_offset_is_a_plain_number(client, offset):
    (known,) = register(client, described("a.tif", noise(LARGE)))
    assert client.put(f"/api/uploads/{known['id']}", params={"offset": offset}, content=b"x").status_code == 400


def test_more_than_was_declared_is_refused(client, workspace):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    put(client, known["id"], 0, content[:-10])
    answer = put(client, known["id"], LARGE - 10, content[-10:] + b"!")
    assert answer.status_code == 413
    assert "a.tif" in answer.json()["error"]
    assert (workspace.upload(known["id"]) / "data").stat().st_size == LARGE - 10


def test_a_file_that_changed_on_the_way_is_not_kept(client, workspace):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    answer = put(client, known["id"], 0, content[:-1] + bytes([content[-1] ^ 1]))
    assert answer.status_code == 422
    assert "a.tif changed" in answer.json()["error"]
    assert not workspace.upload(known["id"]).exists()


@pytest.mark.parametrize("bad", ["0" * 31, "A" * 32, "..", "%2e%2e", "0" * 31 + "%0a", "manifests", "٣" * 32])
def test_what_is_no_id_is_not_found(client, workspace, bad):
    assert client.get(f"/api/uploads/{bad}").status_code in (404, 405)
    assert client.put(f"/api/uploads/{bad}?offset=0", content=b"x").status_code in (404, 405)
    assert everything_in(workspace.root) == []


def test_a_file_nobody_registered_is_not_found(client, workspace):
    assert put(client, "0" * 32, 0, b"x").status_code == 404
    assert everything_in(workspace.root) == []


# ---------------------------------------------------------------- what the wire does


def request_of(method: str, path: str, query: str = "") -> dict:
    headers = [(b"host", b"localhost:8501"), *((key.lower().encode(), value.encode()) for key, value in OWN.items())]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    return {**scope, "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("localhost", 8501)}


async def answer_of(app, scope: dict, receive) -> tuple[int, dict]:
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body or b"{}")


def test_what_arrived_before_the_browser_went_away_stays_and_counts(app, client, workspace):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    messages = [
        {"type": "http.request", "body": content[:40_000], "more_body": True},
        {"type": "http.request", "body": content[40_000:90_000], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    asyncio.run(answer_of(app, request_of("PUT", f"/api/uploads/{known['id']}", "offset=0"), receive))
    assert client.get(f"/api/uploads/{known['id']}").json()["received"] == 90_000
    assert put(client, known["id"], 90_000, content[90_000:]).status_code == 200
    assert (workspace.upload(known["id"]) / "data").read_bytes() == content


def test_of_two_requests_for_one_file_one_wins(app, client, workspace):
    content = noise(LARGE)
    (known,) = register(client, described("a.tif", content))
    scope = request_of("PUT", f"/api/uploads/{known['id']}", "offset=0")

    async def both():
        started, may_end = asyncio.Event(), asyncio.Event()

        async def slowly():
            if not started.is_set():
                started.set()
                return {"type": "http.request", "body": content[:10], "more_body": True}
            await may_end.wait()
            return {"type": "http.request", "body": content[10:], "more_body": False}

        async def at_once():
            return {"type": "http.request", "body": content, "more_body": False}

        first = asyncio.create_task(answer_of(app, dict(scope), slowly))
        await started.wait()
        second = await answer_of(app, dict(scope), at_once)
        may_end.set()
        return await first, second

    first, second = asyncio.run(both())
    assert first == (200, {"received": LARGE, "size": LARGE})
    assert second[0] == 409
    assert second[1]["busy"] is True
    assert (workspace.upload(known["id"]) / "data").read_bytes() == content


def test_a_large_slice_takes_little_memory(app, client, workspace):
    size, chunk = 200_000_000, bytes(64 << 10)
    part = zlib.crc32(bytes(3 * (64 << 10)))
    (known,) = register(client, {"name": "big.tif", "size": size, "modified": 1, "sample": part})
    left = size

    async def receive():
        nonlocal left
        body = bytearray(chunk[: min(left, len(chunk))])  # a new one each time, as from the wire
        left -= len(body)
        return {"type": "http.request", "body": bytes(body), "more_body": left > 0}

    tracemalloc.start()
    try:
        scope = request_of("PUT", f"/api/uploads/{known['id']}", "offset=0")
        assert asyncio.run(answer_of(app, scope, receive)) == (200, {"received": size, "size": size})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (workspace.upload(known["id"]) / "data").stat().st_size == size
    assert peak < 10e6


# ---------------------------------------------------------------- small files


def test_small_files_travel_together(client, workspace):
    contents = {f"stack/{number}.png": noise(20_000 + number, number) for number in range(30)} | {"empty.txt": b""}
    files = [(described(name, content), content) for name, content in contents.items()]
    assert [one["received"] for one in register(client, *(one for one, _ in files))] == [0] * 31
    answer = client.post("/api/uploads/bundle", content=bundle(*files)).json()["files"]
    for one, content in zip(answer, contents.values(), strict=True):
        assert (workspace.upload(one["id"]) / "data").read_bytes() == content
    again = register(client, *(one for one, _ in files))
    assert again == [{**one, "received": len(c)} for one, c in zip(answer, contents.values(), strict=True)]


@given(cuts=st.lists(st.integers(0, 900), max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bundle_may_arrive_in_any_pieces(app, workspace, cuts):
    contents = [noise(300, 1), b"", noise(1, 2), noise(70, 3)]
    body = bundle(*((described(f"{index}.png", one), one) for index, one in enumerate(contents)))
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:stop] for start, stop in itertools.pairwise(places)]

    async def receive():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    status, answer = asyncio.run(answer_of(app, request_of("POST", "/api/uploads/bundle"), receive))
    assert status == 200
    stored = [(workspace.upload(one["id"]) / "data").read_bytes() for one in answer["files"]]
    assert stored == contents


def test_a_file_in_a_bundle_that_is_not_what_was_said_is_refused_alone(client, workspace):
    good, bad = noise(100, 1), noise(100, 2)
    wrong = {**described("bad.png", bad), "sample": 5}
    answer = client.post("/api/uploads/bundle", content=bundle((wrong, bad), (described("good.png", good), good)))
    first, second = answer.json()["files"]
    assert "bad.png changed" in first["error"]
    assert (workspace.upload(second["id"]) / "data").read_bytes() == good


@pytest.mark.parametrize(
    "body",
    [b"\0", b"\0\0\0\x05{}", b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0\0\x02[]abc",
     bundle((described("a", b"abc"), b"ab")), bundle(({**described("a", b""), "size": 1 << 30}, b"x"))],
)  # fmt: skip
def test_a_broken_bundle_is_refused(client, workspace, body):
    assert client.post("/api/uploads/bundle", content=body).status_code in (400, 413)
    assert everything_in(workspace.root) == []


def test_a_small_file_spoilt_on_the_disk_is_sent_again(client, workspace):
    content = noise(5000)
    upload_id = upload(client, "a.png", content)
    (workspace.upload(upload_id) / "data").write_bytes(bytes(5000))
    assert register(client, described("a.png", content)) == [{"id": upload_id, "received": 0}]
    upload(client, "a.png", content)
    assert (workspace.upload(upload_id) / "data").read_bytes() == content


# ---------------------------------------------------------------- names and sizes


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/abs/./a.tif", "abs/a.tif"),
        ("C:\\data\\..\\a.tif", "C:/data/a.tif"),
        ("細胞 <img src=x onerror=alert(1)>.tif", "細胞 <img src=x onerror=alert(1)>.tif"),
        ("a" * 1024, "a" * 1024),
    ],
)
def test_names_are_shown_clean_and_are_never_a_path(client, workspace, given_name, shown):
    content = noise(10)
    upload_id = upload(client, given_name, content)
    manifest = create_manifest(workspace, [upload_id])
    (file,) = uploaded_files(workspace, manifest.id)
    assert (file.name, file.path) == (shown, workspace.root / "uploads" / upload_id / "data")
    assert [path.name for path in workspace.root.parent.iterdir()] == ["workspace"]


@given(st.text(max_size=40))
def test_any_text_is_a_clean_name_or_refused(text):
    try:
        name = clean_name(text)
    except UploadRefused:
        return
    assert not {"", ".", ".."} & set(name.split("/"))
    assert "\\" not in name
    assert "\0" not in name
    assert clean_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "a\0b", "a\nb", "a\x7fb", "a\x85b", "\ud800", "a" * 1025, None, 3, ["a"]])
def test_a_bad_name_is_refused_alone(client, workspace, name):
    body = json.dumps({"files": [{**described("x", b"1"), "name": name}, described("good", b"1")]})
    first, second = client.post("/api/uploads/register", content=body).json()["files"]
    assert "name" in first["error"]
    assert second["received"] == 0


@pytest.mark.parametrize(
    "change", [{"size": -1}, {"size": 1.5}, {"size": True}, {"size": "1"}, {"modified": None}, {"sample": 1 << 32}]
)
def test_numbers_of_a_file_are_plain(client, change):
    (answer,) = register(client, {**described("a", b"1"), **change})
    assert "whole numbers" in answer["error"]


def test_a_file_above_one_tebibyte_is_refused(client):
    (answer,) = register(client, {**described("huge.tif", b"1"), "size": (1 << 40) + 1})
    assert "huge.tif is larger than 1 TiB" in answer["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"files": 1}', b"{}"])
def test_a_request_that_makes_no_sense_is_refused(client, body):
    for route in ("room", "register", "manifests", "forget"):
        assert client.post(f"/api/uploads/{route}", content=body).status_code in (400, 413)


def test_requests_are_bounded(client):
    assert client.post("/api/uploads/forget", content=b" " * (9 << 20)).status_code == 413
    assert client.post("/api/uploads/register", json={"files": [described("a", b"")] * 1001}).status_code == 413


# ---------------------------------------------------------------- the disk


def test_files_the_disk_has_no_room_for_are_refused_before_they_are_sent(client, monkeypatch):
    free = upload_store.KEPT_FREE_BYTES + 5_000_000
    monkeypatch.setattr(upload_store.shutil, "disk_usage", lambda _: Usage(10**12, 0, free))
    assert client.post("/api/uploads/room", json={"bytes": 4_900_000, "files": 1}).status_code == 200
    answer = client.post("/api/uploads/room", json={"bytes": 5_000_001, "files": 1})
    assert answer.status_code == 507
    assert "5.0 MB are free" in answer.json()["error"]
    assert "Make room" in answer.json()["error"]
    # Very many very small files take more than their bytes.
    assert client.post("/api/uploads/room", json={"bytes": 1000, "files": 1000}).status_code == 507
    too_large = {**described("a.tif", b""), "size": 6_000_000}
    assert client.post("/api/uploads/register", json={"files": [too_large]}).status_code == 507


def test_more_than_a_hundred_thousand_files_are_refused(client):
    answer = client.post("/api/uploads/room", json={"bytes": 0, "files": 100_001})
    assert answer.status_code == 413
    assert "at most 100,000" in answer.json()["error"]


def test_a_disk_that_fills_up_midway_keeps_what_arrived(client, workspace, monkeypatch):
    content = noise(3 * SMALL_BYTES)
    (known,) = register(client, described("a.tif", content))
    real = upload_store.Arriving.write

    class Full:
        """A file of a disk that has room for 1,500,000 bytes."""

        def __init__(self, file):
            self.file = file

        def write(self, view):
            room = 1_500_000 - self.file.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(view[:room])

        def fileno(self):
            return self.file.fileno()

        def close(self):
            self.file.close()

    def write(self, part):
        if not isinstance(self._file, Full):
            self._file = Full(self._file)
        return real(self, part)

    with monkeypatch.context() as patched:
        patched.setattr(upload_store.Arriving, "write", write)
        answer = put(client, known["id"], 0, content)
    assert answer.status_code == 507
    assert "disk is full" in answer.json()["error"]
    assert register(client, described("a.tif", content)) == [{"id": known["id"], "received": 1_500_000}]
    assert put(client, known["id"], 1_500_000, content[1_500_000:]).status_code == 200
    assert (workspace.upload(known["id"]) / "data").read_bytes() == content


# ---------------------------------------------------------------- what belongs together


def make_manifest(client, *ids: str, replaces: str | None = None) -> str:
    answer = client.post("/api/uploads/manifests", json={"ids": list(ids), "replaces": replaces})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_a_manifest_gives_the_files_as_they_were_chosen(client, workspace):
    large, small = upload(client, "run/z2.tif", noise(LARGE)), upload(client, "run/z10.tif", b"abc")
    answer = client.post("/api/uploads/manifests", json={"ids": [small, large]}).json()
    assert (answer["files"], answer["bytes"]) == (2, LARGE + 3)
    files = uploaded_files(workspace, answer["id"])
    assert [file.name for file in files] == ["run/z10.tif", "run/z2.tif"]
    assert [file.path.read_bytes() for file in files] == [b"abc", noise(LARGE)]
    found = find_manifest(workspace, answer["id"])
    assert found is not None
    assert (found.files, found.bytes) == (2, LARGE + 3)


def test_files_that_are_not_whole_are_named(client):
    whole = upload(client, "a.tif", b"abc")
    (half,) = register(client, described("b.tif", noise(LARGE)))
    put(client, half["id"], 0, b"abc")
    answer = client.post("/api/uploads/manifests", json={"ids": [whole, half["id"], "0" * 32]})
    assert (answer.status_code, answer.json()["missing"]) == (409, [half["id"], "0" * 32])


def test_forgetting_removes_all_but_what_another_manifest_needs(client, workspace):
    one, two, three = (upload(client, f"{name}.tif", name.encode()) for name in "abc")
    first, second = make_manifest(client, one, two), make_manifest(client, two, three)
    forget_uploads(workspace, first)
    assert find_manifest(workspace, first) is None
    assert not workspace.upload(one).exists()
    assert [file.name for file in uploaded_files(workspace, second)] == ["b.tif", "c.tif"]
    forget_uploads(workspace, second)
    forget_uploads(workspace, second)
    assert everything_in(workspace.root) == []
    with pytest.raises(DataError, match="Choose them again"):
        uploaded_files(workspace, second)


def test_the_same_files_have_the_same_manifest_and_a_new_list_replaces_the_old(client, workspace):
    one, two = upload(client, "a.tif", b"a"), upload(client, "b.tif", b"b")
    first = make_manifest(client, one)
    assert make_manifest(client, one, replaces=first) == first
    second = make_manifest(client, one, two, replaces=first)
    assert find_manifest(workspace, first) is None
    assert len(uploaded_files(workspace, second)) == 2


def test_the_browser_forgets_files_and_lists(client, workspace):
    one, two = upload(client, "a.tif", b"a"), upload(client, "b.tif", b"b")
    manifest = make_manifest(client, one)
    assert client.post("/api/uploads/forget", json={"ids": [one, two], "manifest": None}).status_code == 200
    assert workspace.upload(one).exists()
    assert not workspace.upload(two).exists()
    client.post("/api/uploads/forget", json={"ids": [one], "manifest": manifest})
    assert everything_in(workspace.root) == []


@pytest.mark.parametrize("bad", ["../../studio", "", "0" * 33, 7, "manifests"])
def test_only_ids_are_forgotten(client, workspace, bad):
    workspace.database.write_bytes(b"precious")
    assert client.post("/api/uploads/forget", json={"ids": [bad]}).status_code in (400, 404)
    assert client.post("/api/uploads/forget", json={"ids": [], "manifest": bad}).status_code in (400, 404)
    assert everything_in(workspace.root) == ["studio.db"]
    assert find_manifest(workspace, bad) is None


def test_a_spoilt_manifest_is_none(client, workspace):
    manifest = make_manifest(client, upload(client, "a.tif", b"a"), upload(client, "b.tif", b"b"))
    path = workspace.upload_manifest(manifest)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(SeglibError, match="Choose them again"):
        uploaded_files(workspace, manifest)
    path.write_bytes(b"")
    assert find_manifest(workspace, manifest) is None


# ---------------------------------------------------------------- who may


FOREIGN = [
    {},
    {"X-Seglib-Upload": "1"},
    {"Origin": "http://localhost:8501"},
    {"Origin": "http://localhost:8502", "X-Seglib-Upload": "1"},
    {"Origin": "http://localhost", "X-Seglib-Upload": "1"},
    {"Origin": "http://evil.test:8501", "X-Seglib-Upload": "1"},
    {"Origin": "http://localhost:8501.evil.test", "X-Seglib-Upload": "1"},
    {"Origin": "http://localhost:8501@evil.test", "X-Seglib-Upload": "1"},
    {"Origin": "null", "X-Seglib-Upload": "1", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "", "X-Seglib-Upload": "1"},
    {"Origin": "localhost:8501", "X-Seglib-Upload": "1"},
    {"X-Seglib-Upload": "1", "Sec-Fetch-Site": "same-site"},
    {"X-Seglib-Upload": "1", "Sec-Fetch-Site": "cross-site"},
    {"X-Seglib-Upload": "0", "Origin": "http://localhost:8501"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_other_sites_change_nothing(app, client, workspace, headers):
    upload_id = upload(client, "a.tif", b"abc")
    (open_one,) = register(client, described("b.tif", noise(LARGE)))
    before = everything_in(workspace.root)
    foreign = TestClient(app, base_url="http://localhost:8501", headers=headers)
    answers = [
        foreign.post("/api/uploads/room", json={"bytes": 1, "files": 1}),
        foreign.post("/api/uploads/register", json={"files": [described("c.tif", noise(LARGE))]}),
        foreign.post("/api/uploads/bundle", content=bundle((described("d", b"d"), b"d"))),
        foreign.post("/api/uploads/manifests", json={"ids": [upload_id]}),
        foreign.post("/api/uploads/forget", json={"ids": [upload_id]}),
        foreign.put(f"/api/uploads/{open_one['id']}?offset=0", content=b"x"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 6
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)
    assert everything_in(workspace.root) == before
    assert foreign.options("/api/uploads/register").status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8501", "X-Seglib-Upload": "1"},
        {"Origin": "http://LOCALHOST:8501", "X-Seglib-Upload": "1"},
        {"Sec-Fetch-Site": "same-origin", "X-Seglib-Upload": "1"},
    ],
)
def test_our_own_pages_may(app, headers):
    own = TestClient(app, base_url="http://localhost:8501", headers=headers)
    assert own.post("/api/uploads/room", json={"bytes": 1, "files": 1}).status_code == 200
