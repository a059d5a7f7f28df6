"""What a prediction is looked at as: its probabilities, other thresholds, and where it differs from the labels."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from seglib.config.labels import Borders, LabelClass, LabelScheme
from seglib.data.palette import PALETTE
from seglib.data.volumes import create_labels, create_volume
from seglib.errors import DataError, SeglibError
from seglib.export.sources import PROBABILITIES, UNCERTAINTY
from seglib.inference.deciding import decide
from seglib.serving import predictions
from seglib.serving.planes import JPEG, PNG, Plane, PlaneCaches, render_plane
from seglib.serving.predictions import DIFFERENCE, asked_thresholds, comparable, decided_layer
from seglib.tasks.written import Result, Unfinished, decoded, write_result
from seglib.workspace import Workspace, open_workspace

SHAPE, VOXEL_NM = (6, 20, 30), (40.0, 8.0, 8.0)
NAMES, VALUES = ("wall", "axon"), (7, 300)
SCHEME = LabelScheme(
    kind="classes",
    classes=(LabelClass(name="axon", values=(300,)), LabelClass(name="wall", values=(7, 9))),
    ignore=(2,),
)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_workspace(tmp_path)


@pytest.fixture
def truth(workspace) -> np.ndarray:
    """The labels of volume 1: walls are 7 and 9, axons 300, 2 was not annotated."""
    path = workspace.volume(1)
    create_volume(path, name="one", shape_czyx=(1, *SHAPE), dtype="uint8", voxel_size_nm=VOXEL_NM)
    labels = np.random.default_rng(1).choice(np.array([0, 2, 7, 9, 300], np.uint16), SHAPE)
    create_labels(path, "labels", shape_zyx=SHAPE, dtype="uint16", voxel_size_nm=VOXEL_NM)[:] = labels
    return labels


def write(workspace: Workspace, kept: np.ndarray, activation="softmax", values=VALUES) -> np.ndarray:
    """Prediction 5 of volume 1 from what is kept of its probabilities; returns its labels at 0.5."""
    folder = workspace.prediction(5)
    unfinished = Unfinished(folder)
    folder.mkdir(parents=True)
    kind = "uint8" if kept.dtype == np.uint8 else "float16"
    unfinished.array(PROBABILITIES, SHAPE, kind, VOXEL_NM, NAMES)[:] = kept
    unfinished.array(UNCERTAINTY, SHAPE, "uint8", VOXEL_NM, (UNCERTAINTY,))[:] = smooth()[None]
    labels = np.array([0, *values], np.uint16)[decide(decoded(kept), activation, 0.5)]
    create_labels(folder / "labels.zarr", "prediction", shape_zyx=SHAPE, dtype="uint16", voxel_size_nm=VOXEL_NM)[:] = (
        labels
    )
    write_result(folder, Result("key", activation, NAMES, values, (0.5, 0.5)))
    return labels


def smooth() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return (20 * z + 3 * y + 2 * x).astype(np.uint8)


def probabilities(kind: str = "uint8") -> np.ndarray:
    parts = np.random.default_rng(0).dirichlet(np.ones(3), SHAPE)[..., 1:]
    values = np.moveaxis(parts, -1, 0)
    return np.rint(values * 255).astype(np.uint8) if kind == "uint8" else values.astype(np.float16)


def picture(workspace: Workspace, layer: str, axis: str = "z", index: int = 2, scheme=SCHEME) -> np.ndarray:
    plane = Plane("prediction", 5, layer, axis, index, "1")
    body, media_type = render_plane(workspace, plane, caches=PlaneCaches(), scheme_of=lambda volume: scheme)
    found = Image.open(io.BytesIO(body))
    assert media_type == (PNG if found.mode == "P" else JPEG)
    return np.asarray(found)


def cut(volume: np.ndarray, axis: str, index: int) -> np.ndarray:
    return volume.take(index, "zyx".index(axis))


def entries(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, 0, (values.astype(int) - 1) % 255 + 1)


@pytest.mark.parametrize("axis", "zyx")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_other_thresholds_show_what_the_labels_would_be(workspace, monkeypatch, kind, activation, axis):
    kept = probabilities(kind)
    write(workspace, kept, activation)
    monkeypatch.setattr(predictions, "AT_ONCE", 37)
    wanted = np.array([0, *VALUES])[decide(decoded(kept), activation, (0.45, 0.3))]
    found = picture(workspace, "decided-450-300", axis, 3)
    np.testing.assert_array_equal(found, entries(cut(wanted, axis, 3)))
    everywhere = np.array([0, *VALUES])[decide(decoded(kept), activation, 0.6)]
    np.testing.assert_array_equal(picture(workspace, "decided-600", axis, 3), entries(cut(everywhere, axis, 3)))


def test_the_stored_labels_and_the_layer_of_their_own_thresholds_are_the_same(workspace):
    labels = write(workspace, probabilities())
    np.testing.assert_array_equal(picture(workspace, "prediction"), entries(labels[2]))
    np.testing.assert_array_equal(picture(workspace, decided_layer((0.5, 0.5))), entries(labels[2]))


def test_thresholds_go_into_a_layers_name_and_come_back_in_thousandths():
    assert decided_layer((0.45, 0.0001, 0.99999)) == "decided-450-1-999"
    assert asked_thresholds("decided-450-1-999") == (0.45, 0.001, 0.999)
    assert asked_thresholds("decided-0") is None
    assert asked_thresholds("prediction") is None


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_the_probability_of_a_class_is_grey_from_0_to_1(workspace, kind):
    kept = np.stack([smooth(), 255 - smooth()])
    write(workspace, kept if kind == "uint8" else (kept / 255).astype(np.float16))
    for channel in (0, 1):
        grey = picture(workspace, f"probability-{channel}").astype(int)
        assert np.abs(grey - kept[channel, 2].astype(int)).max() <= 6


def test_uncertainty_is_grey(workspace):
    write(workspace, probabilities())
    assert np.abs(picture(workspace, "uncertainty", "y", 4).astype(int) - smooth()[:, 4].astype(int)).max() <= 8


@pytest.mark.parametrize("axis", "zyx")
def test_hits_misses_and_false_alarms_are_those_of_a_loop_over_voxels(workspace, truth, axis):
    made = write(workspace, probabilities())
    known = {0: 0, 7: 7, 9: 7, 300: 300}
    wanted = np.zeros(SHAPE, int)
    for place in np.ndindex(SHAPE):
        real, found = int(truth[place]), int(made[place])
        if real == 2:
            continue
        if known[real]:
            wanted[place] = 1 if found == known[real] else 2
        elif found:
            wanted[place] = 3
    assert set(np.unique(wanted)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(picture(workspace, "difference-1", axis, 3), cut(wanted, axis, 3))


def test_a_run_of_the_foreground_is_compared_with_all_classes_as_one(workspace, truth):
    folder = workspace.prediction(5)
    write(workspace, probabilities())
    write_result(folder, Result("key", "sigmoid", ("foreground",), (300,), (0.5,)))
    found = picture(workspace, "difference-1")
    made = entries(picture(workspace, "prediction")) == 45
    real = np.isin(truth[2], (7, 9, 300))
    np.testing.assert_array_equal(found == 1, made & real)
    np.testing.assert_array_equal(found == 3, made & (truth[2] == 0))


def test_the_difference_follows_how_labels_are_read(workspace, truth):
    write(workspace, probabilities())
    before = picture(workspace, "difference-1")
    swapped = SCHEME.model_copy(update={"classes": (LabelClass(name="wall", values=(300,)),)})
    assert (picture(workspace, "difference-1", scheme=swapped) != before).any()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("decided-100-200-300", "3 thresholds"),
        ("probability-2", "Class 2 was asked for of 2"),
        ("decided-0", "layer"),
        ("difference-9", "no volume 9"),
        ("image", "label layers only"),
        ("decided" + "-500" * 255, "1 to 40 characters"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_a_reason(workspace, truth, layer, message):
    write(workspace, probabilities())
    with pytest.raises(DataError, match=message):
        picture(workspace, layer)


def test_labels_of_other_classes_or_another_size_cannot_be_compared(workspace, truth):
    write(workspace, probabilities())
    other = LabelScheme(kind="classes", classes=(LabelClass(name="glia", values=(7,)),))
    with pytest.raises(DataError, match="other classes"):
        picture(workspace, "difference-1", scheme=other)
    with pytest.raises(SeglibError, match="not classes"):
        picture(workspace, "difference-1", scheme=LabelScheme())
    path = workspace.volume(2)
    create_volume(path, name="two", shape_czyx=(1, 2, 20, 30), dtype="uint8", voxel_size_nm=VOXEL_NM)
    create_labels(path, "labels", shape_zyx=(2, 20, 30), dtype="uint8", voxel_size_nm=VOXEL_NM)
    with pytest.raises(DataError, match="another size"):
        picture(workspace, "difference-2")


def test_a_prediction_that_kept_no_probabilities_says_so(workspace):
    folder = workspace.prediction(5)
    folder.mkdir(parents=True)
    create_labels(folder / "labels.zarr", "prediction", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=VOXEL_NM)
    with pytest.raises(DataError, match="older than"):
        picture(workspace, "decided-500")
    write_result(folder, Result("key", "softmax", NAMES, VALUES, (0.5, 0.5)))
    for layer in ("decided-500", "probability-0", "uncertainty"):
        with pytest.raises(DataError, match="has no (probabilities|uncertainty)"):
            picture(workspace, layer)


@pytest.mark.parametrize(
    ("names", "scheme", "wanted"),
    [
        (("foreground",), LabelScheme(), True),
        (("wall", "axon"), SCHEME, True),
        (("glia", "axon"), SCHEME, True),
        (("glia", "soma"), SCHEME, False),
        (("object", "border"), LabelScheme(borders=Borders()), True),
        (("object", "border"), LabelScheme(), False),
        (("wall",), LabelScheme(kind="none"), False),
        (("wall",), LabelScheme(kind="classes"), False),
    ],
)
def test_what_can_be_compared(names, scheme, wanted):
    assert comparable(names, scheme) is wanted


# How colours look to people without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1, linear RGB.
SIGHTS = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_hits_misses_and_false_alarms_differ_to_every_eye_and_from_grey(sight):
    def seen(colour: np.ndarray) -> np.ndarray:
        share = colour / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        mixed = np.clip(np.asarray(SIGHTS[sight]) @ linear, 0, 1)
        return rgb2lab(np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055)[None, None])

    palette = predictions.difference_palette()
    colours = [seen(palette[value].astype(float)) for value in DIFFERENCE]
    assert min(float(deltaE_ciede2000(a, b).item()) for a, b in itertools.combinations(colours, 2)) > 20
    greys = [seen(np.full(3, grey)) for grey in range(40, 220, 20)]
    assert min(float(deltaE_ciede2000(a, b).item()) for a, b in itertools.product(colours, greys)) > 12
    np.testing.assert_array_equal(palette[4:], PALETTE[4:])


def test_the_folder_of_a_prediction_is_left_as_it_was(workspace, truth):
    write(workspace, probabilities())
    before = sorted(Path(workspace.prediction(5)).rglob("*"))
    for layer in ("decided-500", "difference-1", "probability-0"):
        picture(workspace, layer)
    assert sorted(Path(workspace.prediction(5)).rglob("*")) == before
