"""What a training left, over HTTP."""

import io
import zipfile

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from seglib.serving.routes import file_routes


@pytest.fixture
def client(workspace) -> TestClient:
    folder = workspace.run(3)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "checkpoints" / "best.pt").write_bytes(b"weights")
    return TestClient(Starlette(routes=file_routes(workspace)), base_url="http://localhost:8501")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["run-3/checkpoints/best.pt", "run-3/config.json"]),
        ("?checkpoints=1", ["run-3/checkpoints/best.pt", "run-3/config.json"]),
        ("?checkpoints=0", ["run-3/config.json"]),
    ],
)
def test_the_results_of_a_run_are_one_zip_with_checkpoints_by_choice(client, query, names):
    answer = client.get(f"/api/files/run/3/results.zip{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="run-3-results.zip"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers  # it is sent while it is made
    assert sorted(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == names


@pytest.mark.parametrize("path", ["run/4", "run/0", "run/-1", "run/%2e%2e", "runs/3", "run/99999999999"])
def test_what_is_no_run_with_files_is_not_found(client, path):
    assert client.get(f"/api/files/{path}/results.zip").status_code == 404


def test_a_refusal_says_why(client):
    answer = client.get("/api/files/run/4/results.zip")
    assert "has left no files" in answer.json()["error"]
    assert answer.headers["cache-control"] == "no-store"
