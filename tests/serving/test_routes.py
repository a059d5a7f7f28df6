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
from seglib.errors import DataError
from seglib.inference import export
from seglib.inference.export import export_tiff
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
    assert sorted(p.name for p in workspace.prediction(7).iterdir()) == ["labels.zarr", "prediction.tif"]


def test_the_tiff_is_made_once_and_again_when_the_labels_are_newer(client, workspace, labels, monkeypatch):
    made = []
    real = export.export_tiff
    monkeypatch.setattr(export, "export_tiff", lambda *a: made.append(a[1].name) or real(*a))
    for _ in range(2):
        client.get("/api/files/prediction/7/labels.tif")
    assert made == ["prediction.tif"]
    os.utime(workspace.prediction(7) / "prediction.tif", (1, 1))
    client.get("/api/files/prediction/7/labels.tif")
    assert made == ["prediction.tif"] * 2


def test_a_prediction_that_is_not_there_cannot_be_downloaded(client, workspace, labels):
    assert client.get("/api/files/prediction/8/labels.tif").status_code == 404
    assert client.get("/api/files/prediction/0/labels.tif").status_code == 404
    assert not workspace.prediction(8).exists()


@pytest.mark.parametrize(("dtype", "imagej"), [("uint8", True), ("uint16", True), ("uint32", False)])
@pytest.mark.parametrize("shape", [(1, 8, 9), (20, 8, 9)])
def test_an_exported_tiff_holds_the_labels_and_the_voxel_size(tmp_path, dtype, imagej, shape):
    labels = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    export_tiff(labels, tmp_path / "a.tif", VOXEL_NM)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray().reshape(shape), labels)
        assert (tiff.is_imagej, tiff.is_ome, tiff.is_bigtiff) == (imagej, not imagej, not imagej)
        assert tiff.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        if imagej:
            assert (tiff.imagej_metadata["spacing"], tiff.imagej_metadata["unit"]) == (0.04, "um")
            assert tiff.pages[0].resolution == pytest.approx((250.0, 125.0))
        else:
            size = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
            sides = [float(size[f"PhysicalSize{axis}"]) for axis in "ZYX"]
            assert (sides, size["PhysicalSizeXUnit"]) == ([0.04, 0.008, 0.004], "µm")


def test_an_export_reads_few_planes_at_a_time(tmp_path, monkeypatch):
    class Watched:
        def __init__(self, values):
            self.values, self.shape, self.dtype, self.most = values, values.shape, values.dtype, 0

        def __getitem__(self, key):
            part = self.values[key]
            self.most = max(self.most, part.nbytes)
            return part

    monkeypatch.setattr(export, "_READ_BYTES", 3 * 64)
    watched = Watched(np.arange(10 * 64, dtype=np.uint8).reshape(10, 8, 8))
    export_tiff(watched, tmp_path / "a.tif", VOXEL_NM)
    assert watched.most == 3 * 64
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), watched.values)


def test_an_export_that_breaks_leaves_no_file_and_keeps_the_old_one(tmp_path):
    class Broken:
        shape, dtype = (2, 4, 4), np.dtype("uint8")

        def __getitem__(self, key):
            raise OSError("disk gone")

    (tmp_path / "a.tif").write_bytes(b"old")
    with pytest.raises(OSError, match="disk gone"):
        export_tiff(Broken(), tmp_path / "a.tif", VOXEL_NM)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"old"


@pytest.mark.parametrize(
    "values", [np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint64)]
)
def test_only_labels_are_exported(tmp_path, values):
    with pytest.raises(DataError, match="uint8, uint16 or uint32 with axes ZYX"):
        export_tiff(values, tmp_path / "a.tif", VOXEL_NM)
