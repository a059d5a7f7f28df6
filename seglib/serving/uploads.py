"""The HTTP routes behind the upload box: files go to the disk as they arrive, in slices that can be sent again.

These are the only routes that change something, so they answer no other site's page: the Origin must be our own
host and port, and a header of ours is asked for, which another site cannot send without a permission we never give.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from seglib.errors import SeglibError
from seglib.serving.upload_store import (
    SMALL_BYTES,
    Arriving,
    Claim,
    UploadRefused,
    arrived,
    create_manifest,
    forget,
    read_claim,
    register,
    require_room,
    store_small,
)
from seglib.workspace import Workspace

HEADER = "X-Seglib-Upload"
MOST_REGISTERED = 1000
MOST_JSON_BYTES = 8 << 20
# Fewer, larger writes: each is a step into another thread.
WRITE_BYTES = 1 << 20
# A refusal that is sent while the browser still sends is seldom read, so what is under way is awaited, up to this.
_AWAITED_BYTES = 16 << 20

Endpoint = Callable[[Request], Awaitable[Response]]


def upload_routes(workspace: Workspace) -> list[Route]:
    """The routes under `/api/uploads`; every refusal is `{"error": …}` with what the browser needs to go on.

    POST room       {"bytes", "files"}: 507 where the disk has no room for them, 413 where they are too many.
    POST register   {"files": [{name, size, modified, sample}, …]}: {"files": [{id, received} or {error}, …]}.
    POST bundle     small files in one body, each 4 bytes (length of its JSON, big endian), its JSON, its content:
                    {"files": [{id} or {error}, …]}.
    GET  <id>       {"received", "size"}.
    PUT  <id>?offset=n   a slice; 409 with `received` where that is not where the file ends.
    POST manifests  {"ids", "replaces"}: {id, files, bytes}; 409 with `missing` where some are not whole.
    POST forget     {"ids", "manifest"}: removes the manifest, and the files that no other needs.
    """
    started = {"room": _room, "register": _register, "bundle": _bundle, "manifests": _manifest, "forget": _forget}
    return [
        *(
            Route(f"/api/uploads/{name}", _guarded(partial(endpoint, workspace)), methods=["POST"])
            for name, endpoint in started.items()
        ),
        Route("/api/uploads/{id}", _guarded(partial(_offset, workspace)), methods=["GET"]),
        Route("/api/uploads/{id}", _guarded(partial(_put, workspace, set())), methods=["PUT"]),
    ]


async def _room(workspace: Workspace, request: Request) -> Response:
    asked = await _json(request)
    size, files = (_count(asked.get(key)) for key in ("bytes", "files"))
    require_room(workspace, size, files=files)
    return JSONResponse({})


async def _register(workspace: Workspace, request: Request) -> Response:
    described = (await _json(request)).get("files")
    if not isinstance(described, list) or len(described) > MOST_REGISTERED:
        raise UploadRefused(f"Up to {MOST_REGISTERED} files are registered at a time.", 413)
    answers, claims = _claims(described)
    received = await run_in_threadpool(register, workspace, list(claims.values()))
    for index, count in zip(claims, received, strict=True):
        answers[index] = {"id": claims[index].upload_id, "received": count}
    return JSONResponse({"files": answers})


def _claims(described: list[Any]) -> tuple[list[dict[str, Any]], dict[int, Claim]]:
    """A refusal in the place of each file that is refused, and the others by their place."""
    answers: list[dict[str, Any]] = [{} for _ in described]
    claims: dict[int, Claim] = {}
    for index, one in enumerate(described):
        try:
            claims[index] = read_claim(one)
        except UploadRefused as refused:
            answers[index] = {"error": str(refused)}
    return answers, claims


async def _manifest(workspace: Workspace, request: Request) -> Response:
    asked = await _json(request)
    replaces = asked.get("replaces")
    made = await run_in_threadpool(create_manifest, workspace, _ids(asked.get("ids")), replaces=replaces)
    return JSONResponse(asdict(made))


async def _forget(workspace: Workspace, request: Request) -> Response:
    asked = await _json(request)
    await run_in_threadpool(forget, workspace, _ids(asked.get("ids")), manifest_id=asked.get("manifest"))
    return JSONResponse({})


async def _bundle(workspace: Workspace, request: Request) -> Response:
    body = _Body(request)
    answers: list[dict[str, str]] = []
    waiting: list[tuple[Claim, bytes]] = []
    held = 0
    while (head := await body.take(4, may_end=True)) is not None:
        length = int.from_bytes(head, "big")
        if length > SMALL_BYTES:
            raise UploadRefused("A bundle starts each file with the length of what describes it.", 400)
        claim = read_claim(_parsed(await body.take(length) or b""))
        if claim.size > SMALL_BYTES:
            raise UploadRefused(f"{claim.name} is too large for a bundle.", 413)
        waiting.append((claim, await body.take(claim.size) or b""))
        held += length + claim.size
        if held >= WRITE_BYTES:
            answers += await run_in_threadpool(_store, workspace, waiting)
            waiting, held = [], 0
    answers += await run_in_threadpool(_store, workspace, waiting)
    return JSONResponse({"files": answers})


def _store(workspace: Workspace, entries: Sequence[tuple[Claim, bytes]]) -> list[dict[str, str]]:
    require_room(workspace, sum(claim.size for claim, _ in entries), files=len(entries))
    answers = []
    for claim, content in entries:
        try:
            store_small(workspace, claim, content)
            answers.append({"id": claim.upload_id})
        except UploadRefused as refused:
            if refused.status == 507:
                raise
            answers.append({"error": str(refused)})
    return answers


async def _offset(workspace: Workspace, request: Request) -> Response:
    received, claim = await run_in_threadpool(arrived, workspace, request.path_params["id"])
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"received": received, "size": claim.size}, headers=headers)


async def _put(workspace: Workspace, busy: set[str], request: Request) -> Response:
    """busy: ids of files being written to, so that only one request at a time does."""
    upload_id, offset = request.path_params["id"], request.query_params.get("offset", "")
    if not re.fullmatch(r"[0-9]{1,15}", offset):
        raise UploadRefused("A slice is sent with ?offset= and the byte it starts at.", 400)
    if upload_id in busy:
        received, _ = await run_in_threadpool(arrived, workspace, upload_id)
        raise UploadRefused("This file is just being sent.", 409, {"received": received, "busy": True})
    busy.add(upload_id)
    try:
        file = await run_in_threadpool(Arriving, workspace, upload_id, int(offset))
        with file:
            await _write_stream(request, file)
    finally:
        busy.discard(upload_id)
    return JSONResponse({"received": file.received, "size": file.claim.size})


async def _write_stream(request: Request, file: Arriving) -> None:
    """Writes the body as it arrives. What arrived is kept where the browser goes away."""
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) >= WRITE_BYTES:
                full, held = held, bytearray()
                await run_in_threadpool(file.write, full)
    except ClientDisconnect:
        await run_in_threadpool(file.write, held)
        raise
    await run_in_threadpool(file.write, held)
    await run_in_threadpool(file.finish)


class _Body:
    """A request's body, taken in pieces of known length."""

    def __init__(self, request: Request) -> None:
        self._chunks = request.stream()
        self._held = bytearray()

    async def take(self, count: int, *, may_end: bool = False) -> bytes | None:
        """The next `count` bytes; None where the body ends before them and may. Raises UploadRefused else."""
        while len(self._held) < count:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                if may_end and not self._held:
                    return None
                raise UploadRefused("The bundle ends within a file.", 400)
            self._held += chunk
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            if request.method != "GET" and not _is_own(request):
                raise UploadRefused("Uploads are taken from this server's own pages only.", 403)
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except UploadRefused as refused:
            await _await_rest(request)
            return _refusal(str(refused), refused.status, refused.facts)
        except SeglibError as error:
            await _await_rest(request)
            return _refusal(str(error), 404, {})

    return answer


def _is_own(request: Request) -> bool:
    headers = request.headers
    if headers.get(HEADER) != "1":
        return False
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    # “null”, the Origin of a sandboxed page, has no host.
    host = urlsplit(origin).netloc.lower()
    return bool(host) and host == headers.get("host", "").lower()


def _refusal(message: str, status: int, facts: dict[str, Any]) -> Response:
    return JSONResponse({"error": message, **facts}, status_code=status, headers={"Cache-Control": "no-store"})


async def _await_rest(request: Request) -> None:
    try:
        count = 0
        async for chunk in request.stream():
            count += len(chunk)
            if count > _AWAITED_BYTES:
                return
    except (ClientDisconnect, RuntimeError):  # RuntimeError: there is nothing left
        return


async def _json(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_JSON_BYTES:
            raise UploadRefused("The request is too long.", 413)
    asked = _parsed(body)
    if not isinstance(asked, dict):
        raise UploadRefused("The request is not a JSON object.", 400)
    return asked


def _parsed(text: bytes | bytearray) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UploadRefused("The request is not JSON.", 400) from error


def _ids(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UploadRefused("Uploads are named by a list of ids.", 400)
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 60:
        raise UploadRefused("Bytes and files are counted in whole numbers.", 400)
    return value
