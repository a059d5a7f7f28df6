"""The routes behind the curves: what is new of a run since a cursor, and the library that draws it."""

from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from seglib.errors import SeglibError
from seglib.store import Store
from seglib.store.metrics import Point, points_since
from seglib.store.runs import get_run, milestone

MOST_CURSOR = 2**63 - 1


def metric_routes(store: Store) -> list[Route]:
    """`GET /api/metrics/{run}?after=<cursor>&attempt=<n>` and `GET /api/assets/plotly.min.js`.

    Answers {"attempt", "fresh", "over", "milestone", "cursor", "series": {name: {"step": […], "epoch": […],
    "value": […]}}} with the points after the cursor; all of them, and fresh = true, where the run was started anew
    since `attempt`, as points it had may be gone. 404 with {"error": …} where there is no such run.
    """

    def metrics(request: Request) -> Response:
        try:
            run = get_run(store, request.path_params["run"])
            after, attempt = _number(request, "after"), _number(request, "attempt")
        except (SeglibError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=404, headers={"Cache-Control": "no-store"})
        # A run that starts anew still has points it is about to take back: nothing is said until it has.
        starting = run.status in ("queued", "starting")
        fresh = attempt != run.attempt and not starting
        points, cursor = ([], after) if starting else points_since(store, run.id, 0 if fresh else after)
        answer = {
            "attempt": -1 if starting else run.attempt,
            "fresh": fresh,
            "over": run.is_over,
            "milestone": milestone(store, run),
            "cursor": cursor,
            "series": _by_name(points),
        }
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    return [Route("/api/metrics/{run:int}", metrics), Route("/api/assets/plotly.min.js", _plotly)]


def _plotly(_: Request) -> Response:
    """Plotly as its Python package brings it, so that nothing is fetched from elsewhere."""
    script = str(files("plotly") / "package_data" / "plotly.min.js")
    return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "private, max-age=86400"})


def _number(request: Request, name: str) -> int:
    value = int(request.query_params.get(name, "-1"))
    if not -1 <= value <= MOST_CURSOR:
        raise ValueError(f"{name} is out of range.")
    return value


def _by_name(points: list[Point]) -> dict[str, dict[str, list[Any]]]:
    series: dict[str, dict[str, list[Any]]] = {}
    for point in points:
        curve = series.setdefault(point.name, {"step": [], "epoch": [], "value": []})
        curve["step"].append(point.step)
        curve["epoch"].append(point.epoch)
        curve["value"].append(point.value)
    return series
