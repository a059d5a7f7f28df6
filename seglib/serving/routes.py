"""The HTTP routes behind the viewer and the download buttons, and the guards in front of every route.

All routes only read. Their functions are plain `def`s, which Starlette runs in its thread pool, so that
decoding a plane never holds up the event loop.
"""

import os
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seglib.config.labels import LabelScheme
from seglib.errors import SeglibError
from seglib.export import served_file
from seglib.runfolder.archive import run_files, zipped
from seglib.serving.planes import Plane, PlaneCaches, render_plane
from seglib.sharing import shared_file
from seglib.store import Store
from seglib.store.datasets import scheme_of_volume
from seglib.workspace import Workspace

EXTRA_HOSTS = "SEGLIB_ALLOWED_HOSTS"
# Starlette compares IPv6 addresses with their brackets; its older versions did so without.
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")
FOR_EVER = "private, max-age=31536000, immutable"


def plane_routes(workspace: Workspace, store: Store) -> list[Route]:
    """`GET /api/planes/{kind}/{key}/{layer}/{axis}/{index}?v=<version>`: one plane as JPEG or PNG.

    404 with `{"error": …}` where there is no such plane.
    """
    caches = PlaneCaches()

    def scheme_of(volume_id: int) -> LabelScheme:
        return scheme_of_volume(store, volume_id)

    def plane(request: Request) -> Response:
        name = Plane(**request.path_params, version=request.query_params.get("v", ""))
        body, media_type = render_plane(workspace, name, caches=caches, scheme_of=scheme_of)
        # Without a version the address says nothing about the data, so the browser has to ask each time.
        cache = FOR_EVER if name.version else "no-store"
        headers = {"Cache-Control": cache, "X-Content-Type-Options": "nosniff"}
        return Response(body, media_type=media_type, headers=headers)

    return [Route("/api/planes/{kind}/{key:int}/{layer}/{axis}/{index:int}", _or_not_found(plane))]


def file_routes(workspace: Workspace) -> list[Route]:
    """What can be kept: a prediction's layers and pictures, and what a training left.

    `GET /api/files/prediction/{key}/{file}`: a file of `seglib.export`, such as `labels.tif`, made when first asked for
    where that is quick.
    `GET /api/files/run/{key}/results.zip?checkpoints=<0 or 1>`: the files of a run, with its saved states or without
    (default: with), zipped while they are sent.
    `GET /api/files/run/{key}/model/{kind}`: the network as a file of a kind of `seglib.sharing`, if it was made.
    404 with `{"error": …}` where there is no such file.
    """

    def prediction_file(request: Request) -> Response:
        key = request.path_params["key"]
        path, media_type = served_file(workspace, key, request.path_params["file"])
        headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type=media_type, filename=f"prediction-{key}-{path.name}", headers=headers)

    def results_zip(request: Request) -> Response:
        key = request.path_params["key"]
        files = run_files(workspace, key, checkpoints=request.query_params.get("checkpoints") != "0")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="run-{key}-results.zip"',
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(zipped(files, f"run-{key}"), media_type="application/zip", headers=headers)

    def model_file(request: Request) -> Response:
        key = request.path_params["key"]
        path, media_type = shared_file(workspace, key, request.path_params["kind"])
        headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type=media_type, filename=f"run-{key}-{path.name}", headers=headers)

    return [
        Route("/api/files/run/{key:int}/model/{kind}", _or_not_found(model_file)),
        Route("/api/files/prediction/{key:int}/{file}", _or_not_found(prediction_file)),
        Route("/api/files/run/{key:int}/results.zip", _or_not_found(results_zip)),
    ]


def host_check() -> Middleware:
    """Refuses (400) requests whose Host header is not this machine's, so that no web page can reach us by DNS tricks.

    Further names, for a server behind a proxy, come from $SEGLIB_ALLOWED_HOSTS, separated by commas.
    """
    extra = [name.strip() for name in os.environ.get(EXTRA_HOSTS, "").split(",")]
    hosts = [*LOCAL_HOSTS, *filter(None, extra)]
    return Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)


class SecurityHeaders:
    """ASGI middleware: no framing by other sites, no guessing of media types, no addresses told to other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "SAMEORIGIN"
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _or_not_found(endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except SeglibError as error:
            return JSONResponse({"error": str(error)}, status_code=404, headers={"Cache-Control": "no-store"})

    return answer
