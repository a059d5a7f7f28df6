import io
import json
import os
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from seglib.data.volumes import create_labels, create_volume, set_contrast
from seglib.serving.routes import SecurityHeaders, file_routes, host_check, plane_routes
from seglib.store import open_store
from seglib.workspace import Workspace, open_workspace

VOXEL_NM = (40.0, 8.0, 4.0)
SHAPE = (5, 24, 32)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path)


@pytest.fixture
def labels(workspace) -> np.ndarray:
    """Volume 1 and prediction 7 with the same labels, returned; the image is a ramp in z of window 100–180."""
    path = workspace.volume(1)
    image = create_volume(path, name="one", shape_czyx=(1, *SHAPE), dtype="uint8", voxel_size_nm=VOXEL_NM)
    image[:] = np.arange(100, 200, 20, dtype=np.uint8)[None, :, None, None]
    set_contrast(path, (100.0, 180.0))
    values = np.random.default_rng(1).integers(0, 6, SHAPE).astype(np.uint8)
    workspace.prediction(7).mkdir()
    for folder, layer in ((path, "labels"), (workspace.prediction(7) / "labels.zarr", "prediction")):
        create_labels(folder, layer, shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)[:] = values
    return values


@pytest.fixture
def client(workspace) -> TestClient:
    routes = [*plane_routes(workspace, open_store(workspace)), *file_routes(workspace)]
    app = Starlette(routes=routes, middleware=[host_check(), Middleware(SecurityHeaders)])
    return TestClient(app, base_url="http://localhost:8501")


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_label_planes_come_back_pixel_for_pixel(client, labels):
    np.testing.assert_array_equal(picture(client.get("/api/planes/volume/1/labels/z/3")), labels[3])
    np.testing.assert_array_equal(picture(client.get("/api/planes/volume/1/labels/y/23")), labels[:, 23])
    np.testing.assert_array_equal(picture(client.get("/api/planes/prediction/7/prediction/x/0")), labels[:, :, 0])


def test_image_planes_are_shown_through_the_stored_window(client, labels):
    shown = [picture(client.get(f"/api/planes/volume/1/image/z/{z}")).mean() for z in range(5)]
    np.testing.assert_allclose(shown, [0, 63.75, 127.5, 191.25, 255], atol=1.5)


def test_a_plane_with_a_version_is_kept_by_the_browser_and_one_without_is_not(client, labels):
    versioned = client.get("/api/planes/volume/1/labels/z/0?v=abc-1")
    assert versioned.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert versioned.headers["content-type"] == "image/png"
    assert versioned.headers["x-content-type-options"] == "nosniff"
    assert client.get("/api/planes/volume/1/labels/z/0").headers["cache-control"] == "no-store"
    assert client.get("/api/planes/volume/1/image/z/0?v=1").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "path",
    [
        "volume/1/%2e%2e/z/0",
        "volume/1/..%2f..%2fstudio.db/z/0",
        "volume/1/%252e%252e%252f/z/0",
        "volume/1/labels%00/z/0",
        "volume/1/" + "a" * 300 + "/z/0",
        "volume/1/labels/z/5",
        "volume/1/labels/z/-1",
        "volume/1/labels/z/" + "9" * 40,
        "volume/1/labels/w/0",
        "volume/2/labels/z/0",
        "volume/0/labels/z/0",
        "volume/%D9%A1/labels/z/0",
        "runs/1/labels/z/0",
        "prediction/7/image/z/0",
        "volume/1/labels/z/0?v=" + "9" * 65,
    ],
)
def test_what_is_not_a_plane_is_not_found(client, labels, path):
    assert client.get("/api/planes/" + path).status_code == 404


def test_a_refusal_says_why_as_json_and_is_not_cached(client, labels):
    answer = client.get("/api/planes/volume/1/labels/z/5?v=1")
    assert answer.json() == {"error": "Plane 5 was asked for along z, which has planes 0 to 4."}
    assert answer.headers["cache-control"] == "no-store"


def test_two_dots_as_a_layer_do_not_leave_the_volume(workspace, labels):
    route = plane_routes(workspace, open_store(workspace))[0]
    for layer in ("..", "../../../volumes/1.zarr/labels", "labels/../labels"):
        scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
        params = {"kind": "volume", "key": 1, "layer": layer, "axis": "z", "index": 0}
        answer = route.endpoint(Request({**scope, "path_params": params}))
        assert answer.status_code == 404 and "1 to 40 characters" in json.loads(answer.body)["error"]


def test_planes_of_a_deleted_volume_are_not_served_from_memory(client, workspace, labels):
    address = "/api/planes/volume/1/labels/z/0?v=1"
    assert client.get(address).status_code == 200
    shutil.rmtree(workspace.volume(1))
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "evil.test:8501", "127.0.0.1.evil.test", "10.0.0.1", "[::2]", "", "@"]
)
def test_a_forged_host_is_refused(client, labels, host):
    assert client.get("/api/planes/volume/1/labels/z/0", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:8501", "127.0.0.1:8501", "[::1]", "[::1]:8501", "LOCALHOST"])
def test_this_machines_own_names_are_accepted(client, labels, host):
    assert client.get("/api/planes/volume/1/labels/z/0", headers={"Host": host}).status_code == 200


def test_further_hosts_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SEGLIB_ALLOWED_HOSTS", "lab.example.org, studio.local,")
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("in"))], middleware=[host_check()])
    codes = [
        TestClient(app).get("/", headers={"Host": host}).status_code
        for host in ("lab.example.org", "studio.local:80", "localhost", "other.example.org", "")
    ]
    assert codes == [200, 200, 200, 400, 400]


def test_every_answer_carries_the_guarding_headers(client, labels):
    for path in ("/api/planes/volume/1/labels/z/0", "/nothing-here"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert headers["referrer-policy"] == "same-origin"


def test_a_prediction_downloads_as_a_tiff_named_by_us(client, workspace, labels):
    answer = client.get("/api/files/prediction/7/labels.tif")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="prediction-7-labels.tif"'
    assert answer.headers["content-type"] == "image/tiff"
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(answer.content)), labels)
    assert sorted(p.name for p in workspace.prediction(7).iterdir()) == ["labels.tif", "labels.zarr"]


def test_the_tiff_is_made_once_and_again_when_the_labels_are_newer(client, workspace, labels):
    path, made = workspace.prediction(7) / "labels.tif", []
    for _ in range(2):
        client.get("/api/files/prediction/7/labels.tif")
        made.append((path.stat().st_ino, path.stat().st_mtime_ns))
    assert made[0] == made[1]
    os.utime(path, (1, 1))
    client.get("/api/files/prediction/7/labels.tif")
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("labels.ome.tif", "image/tiff"),
        ("labels.ome.zarr.zip", "application/zip"),
        ("labels.npy", "application/octet-stream"),
        ("labels.h5", "application/x-hdf5"),
    ],
)
def test_small_layers_download_in_every_format(client, workspace, labels, name, media_type):
    answer = client.get(f"/api/files/prediction/7/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["content-disposition"] == f'attachment; filename="prediction-7-{name}"'
    assert answer.content == (workspace.prediction(7) / name).read_bytes()


def test_a_picture_downloads_once_it_was_made(client, workspace, labels):
    missing = client.get("/api/files/prediction/7/picture.png")
    assert missing.status_code == 404 and "make it on the Predict page" in missing.json()["error"]
    (workspace.prediction(7) / "picture.png").write_bytes(b"picture")
    assert client.get("/api/files/prediction/7/picture.png").content == b"picture"


@pytest.mark.parametrize(
    "name",
    [
        "labels.zarr",
        "labels.zarr%2fzarr.json",
        "..%2f..%2fstudio.db",
        "%2e%2e",
        "%2fetc%2fpasswd",
        "labels.tif%00",
        "LABELS.TIF",
        "labels.tif%0a",
        "uncertainty.mp4",
        ".hidden.tmp",
        "a" * 3000 + ".tif",
        "probabilities.tif",
    ],
)
def test_what_is_no_file_of_a_prediction_is_not_found(client, workspace, labels, name):
    before = sorted(workspace.prediction(7).rglob("*"))
    answer = client.get(f"/api/files/prediction/7/{name}")
    assert answer.status_code == 404
    assert sorted(workspace.prediction(7).rglob("*")) == before


def test_a_prediction_that_is_not_there_cannot_be_downloaded(client, workspace, labels):
    assert client.get("/api/files/prediction/8/labels.tif").status_code == 404
    assert client.get("/api/files/prediction/0/labels.tif").status_code == 404
    assert not workspace.prediction(8).exists()
