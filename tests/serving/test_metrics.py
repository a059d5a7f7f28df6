"""What the curves ask for: only what is new, everything after a new start, nothing that is about to be taken back."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from seglib.serving.metrics import metric_routes
from seglib.store import Store
from seglib.store.metrics import Point, add_batch, forget_after
from seglib.store.runs import claim, create_run, end_run, mark_running, requeue
from seglib.workspace import open_workspace

OWNER = "host|1|0.00|x"


@pytest.fixture
def store(tmp_path):
    store = Store(open_workspace(tmp_path).database)
    yield store
    store.close()


@pytest.fixture
def client(store):
    return TestClient(Starlette(routes=metric_routes(store)))


@pytest.fixture
def run(store):
    run = create_run(store, "train", name="a", config={}, device="cpu")
    claim(store, run, owner=OWNER)
    mark_running(store, run, owner=OWNER, total=10)
    add_batch(store, run, points=[point(1, 0.5), point(2, 0.25)])
    return run


def point(step: int, value: float | None) -> Point:
    return Point(step, 1, "train/loss", value, 0.0)


def test_the_first_question_gets_all_points_and_the_next_only_what_is_new(client, store, run):
    first = client.get(f"/api/metrics/{run}").json()
    assert first["series"] == {"train/loss": {"step": [1, 2], "epoch": [1, 1], "value": [0.5, 0.25]}}
    assert (first["fresh"], first["over"], first["attempt"]) == (True, False, 1)

    again = f"/api/metrics/{run}?after={first['cursor']}&attempt=1"
    assert client.get(again).json()["series"] == {}
    add_batch(store, run, points=[point(3, None)])
    news = client.get(again).json()
    assert news["series"] == {"train/loss": {"step": [3], "epoch": [1], "value": [None]}}
    assert news["fresh"] is False


def test_a_resumed_run_is_told_anew_once_it_took_its_points_back(client, store, run):
    cursor = client.get(f"/api/metrics/{run}").json()["cursor"]
    end_run(store, run, "stopped", owner=OWNER)
    requeue(store, run)
    claim(store, run, owner=OWNER)
    waiting = client.get(f"/api/metrics/{run}?after={cursor}&attempt=1").json()
    assert (waiting["series"], waiting["attempt"], waiting["fresh"]) == ({}, -1, False)

    forget_after(store, run, 1)
    mark_running(store, run, owner=OWNER, total=10)
    add_batch(store, run, points=[point(2, 0.125)])
    told = client.get(f"/api/metrics/{run}?after={cursor}&attempt=-1").json()
    assert told["fresh"] is True
    assert told["series"]["train/loss"]["value"] == [0.5, 0.125]
    assert told["cursor"] > cursor


def test_a_milestone_changes_with_the_state(client, store, run):
    running = client.get(f"/api/metrics/{run}").json()["milestone"]
    end_run(store, run, "finished", owner=OWNER)
    ended = client.get(f"/api/metrics/{run}").json()
    assert ended["milestone"] != running
    assert ended["over"] is True


@pytest.mark.parametrize("query", ["after=x", "after=99999999999999999999", "attempt=-2"])
def test_questions_that_make_no_sense_are_refused(client, run, query):
    assert client.get(f"/api/metrics/{run}?{query}").status_code == 404


def test_a_run_that_is_not_there_is_not_found(client):
    answer = client.get("/api/metrics/7")
    assert answer.status_code == 404
    assert "no run 7" in answer.json()["error"]


def test_plotly_comes_from_this_server(client):
    answer = client.get("/api/assets/plotly.min.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert b"plotly.js v" in answer.content[:500]
