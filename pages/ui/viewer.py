"""The slice viewer as pages use it: which layers to show; the browser does the rest.

One call shows any number of panels that share axis, plane, zoom, opacity, classes and contrast. Flipping
through planes never reruns the page: viewer.js fetches them from `/api/planes/…` (seglib.serving.routes).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from seglib.config.labels import LabelScheme
from seglib.data.palette import colour_of, palette_entry
from seglib.data.volumes import TRUTH
from seglib.serving.classes import CLASSES

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "seglib_slice_viewer",
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js=(_HERE / "viewer.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Layer:
    """One layer of a panel.

    name: what its controls are called; label layers of one name share opacity and visibility in all panels.
    url: the planes' address up to the axis, such as `/api/planes/volume/3/image`.
    version: changes whenever the data do, or the browser goes on showing what it has.
    opacity: of a label layer at first, 0–1.
    chips: whether the chips of classes hide values of it.
    """

    name: str
    url: str
    kind: Literal["image", "labels"]
    version: str
    opacity: float = 0.5
    chips: bool = True


@dataclass(frozen=True)
class Panel:
    """One picture: its layers lie on each other, the first at the bottom."""

    title: str
    layers: tuple[Layer, ...]


def volume_layers(
    volume_id: int, *, has_labels: bool, version: str, channel: int = 0, scheme: LabelScheme | None = None
) -> tuple[Layer, ...]:
    """A channel of an imported volume, and its labels if it has any.

    scheme: shows the labels as it reads them; without one each label value has a colour of its own.
    """
    image = Layer("image", f"/api/planes/volume/{volume_id}/image-{channel}", "image", version)
    if not has_labels:
        return (image,)
    if scheme is None:
        return image, Layer(TRUTH, f"/api/planes/volume/{volume_id}/{TRUTH}", "labels", version)
    read = f"{version}-{hashlib.sha256(scheme.model_dump_json().encode()).hexdigest()[:12]}"
    return image, Layer(CLASSES, f"/api/planes/volume/{volume_id}/{CLASSES}", "labels", read)


def prediction_layer(
    run_id: int, version: str, *, layer: str = "prediction", name: str = "prediction", grey: bool = False
) -> Layer:
    """A layer of what a prediction run has written; labels are to be laid on the image of the volume it segmented.

    layer: as `seglib.serving.planes.Plane` calls it; name: what its controls are called; grey: shown as an image.
    """
    url = f"/api/planes/prediction/{run_id}/{layer}"
    return Layer(name, url, "image" if grey else "labels", version)


def preview_layers(run_id: int, prediction_layer_name: str, version: str) -> tuple[Layer, ...]:
    """A training run's preview crop with one of its prediction layers."""
    start = f"/api/planes/preview/{run_id}"
    return (
        Layer("image", f"{start}/image", "image", version),
        Layer("prediction", f"{start}/{prediction_layer_name}", "labels", version),
    )


def show_viewer(
    key: str,
    panels: Sequence[Panel],
    *,
    shape_zyx: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    classes: dict[int, str] | None = None,
    colours: dict[int, str] | None = None,
    height: int = 560,
) -> None:
    """Shows panels side by side under one control bar.

    key: names the viewer on its page; while it stays the same, plane, zoom and the rest stay through reruns.
    shape_zyx, voxel_size_nm: of all panels alike.
    classes: label value -> name, for chips that show and hide classes; None for instances.
    colours: label value -> #rrggbb, where it is not the usual one.
    height: of the pictures, in CSS pixels.
    """
    chosen = colours or {}
    data: dict[str, Any] = {
        "key": key,
        "panels": [_as_data(panel) for panel in panels],
        "shape": list(shape_zyx),
        "voxel": list(voxel_size_nm),
        "classes": [_chip(value, name, chosen.get(value)) for value, name in sorted((classes or {}).items()) if value],
        "height": height,
    }
    _component(key=key, data=data)


def _as_data(panel: Panel) -> dict[str, Any]:
    return {"title": panel.title, "layers": [asdict(layer) for layer in panel.layers]}


def _chip(value: int, name: str, colour: str | None) -> dict[str, Any]:
    return {"entry": palette_entry(value), "name": name, "colour": colour or colour_of(value)}
