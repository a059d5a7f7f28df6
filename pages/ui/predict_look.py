"""A prediction in the viewer: which layer is shown, and other thresholds and another clean-up tried on it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui.frame import errors_shown, plain, services
from pages.ui.viewer import Layer, Panel, prediction_layer, show_viewer, volume_layers
from seglib.config import CleaningConfig, LabelScheme, parse_predict_config
from seglib.export import layers_there
from seglib.jobs.submit import submit_cleaning
from seglib.serving.predictions import DIFFERENCE, comparable, decided_layer
from seglib.store.datasets import VolumeRow, scheme_of_volume
from seglib.store.runs import RunRow

if TYPE_CHECKING:
    from seglib.tasks.written import Result

# With more classes thresholds are typed, or one is set for all of them.
MOST_SLIDERS = 12
PREDICTION, PREVIEW, UNCERTAINTY, DIFFERING = "prediction", "preview", "uncertainty", "difference"
SHOWN = {
    PREDICTION: "Prediction",
    PREVIEW: "Preview: the thresholds set below",
    UNCERTAINTY: "Uncertainty",
    DIFFERING: "Difference from the label",
}
ABOUT = {
    PREVIEW: "What the labels would be with the thresholds set below, before clean-up. Nothing is predicted again; "
    "press Apply to keep it.",
    UNCERTAINTY: "Bright is where to look twice.",
    DIFFERING: "Hit: found as labelled. Miss: labelled, but not found or taken for another class. False alarm: found "
    "where nothing is labelled. What was not annotated is left out.",
}
NOT_KEPT = (
    "This prediction kept no probabilities, so that its thresholds and clean-up cannot be changed any more. Predict "
    "again with “Keep probabilities” set to uint8 or float16."
)


@dataclass(frozen=True)
class Looked:
    """A finished prediction as it is looked at.

    result: what it says of itself, None of one older than that; layers: what lies in its folder.
    scheme: how the labels of its volume are read; None where there are none, or nobody knows any more.
    """

    run: RunRow
    volume: VolumeRow
    result: "Result | None"
    layers: tuple[str, ...]
    scheme: LabelScheme | None

    @property
    def key(self) -> str:
        """Start of its widgets' keys: made anew, it starts anew."""
        return f"predict.{self.run.id}.{self.run.attempt}"

    @property
    def adjustable(self) -> bool:
        return self.result is not None and "probabilities" in self.layers

    @property
    def choices(self) -> dict[str, str]:
        """The layers that can be shown, and what they are called."""
        names = self.result.names if self.result else ()
        shown = {PREDICTION: SHOWN[PREDICTION]}
        if self.adjustable:
            shown[PREVIEW] = SHOWN[PREVIEW]
        if self.scheme is not None and self.result and comparable(names, self.scheme):
            shown[DIFFERING] = SHOWN[DIFFERING]
        if self.adjustable:
            shown |= {f"probability-{index}": f"Probability of {name}" for index, name in enumerate(names)}
        if UNCERTAINTY in self.layers:
            shown[UNCERTAINTY] = SHOWN[UNCERTAINTY]
        return shown


def threshold_slider(name: str, value: float, *, key: str, on_change: Callable[[], None] | None = None) -> float:
    """A slider for the threshold of a class, 0.001–0.999, and what it says."""
    return st.slider(plain(name), 0.001, 0.999, value, 0.001, "%.3f", key=key, on_change=on_change)


def look_at(run: RunRow, volume: VolumeRow) -> None:
    """Draws the viewer and what can be changed. run: a finished prediction; volume: what it was made from."""
    from seglib.tasks.written import kept_result

    folder, scheme = services().workspace.prediction(run.id), None
    if volume.has_labels:
        scheme = scheme_of_volume(services().store, volume.id)
    _look(Looked(run, volume, kept_result(folder), layers_there(folder), scheme))


@st.fragment
def _look(looked: Looked) -> None:
    """In a fragment of its own, so that a slider draws no more than the viewer."""
    with errors_shown():
        choices = looked.choices
        shown = st.selectbox(
            "Show", list(choices), format_func=choices.__getitem__, key=f"{looked.key}.shown",
            help="All layers lie on the same planes; the place in the viewer stays when you change the layer.",
        )  # fmt: skip
        # Drawn below the viewer, but their values are needed for it.
        viewer, below = st.container(), st.container()
        with below:
            thresholds = _adjust(looked)
        with viewer:
            _view(looked, shown, thresholds)


def _view(looked: Looked, shown: str, thresholds: tuple[float, ...]) -> None:
    volume, version = looked.volume, str(looked.run.ended_at)
    layers = volume_layers(volume.id, has_labels=volume.has_labels, version=volume.fingerprint[:12])
    by_class = looked.scheme is not None and looked.scheme.kind == "classes"
    truth = tuple(replace(layer, chips=by_class and shown != DIFFERING) for layer in layers)
    made = prediction_layer(looked.run.id, version)
    panels = [Panel("Prediction", (layers[0], made))]
    names = looked.result.names if looked.result else ()
    values = looked.result.values if looked.result else ()
    classes, colours = dict(zip(values, names, strict=True)), None
    if shown == PREVIEW:
        tried = replace(made, url=f"/api/planes/prediction/{looked.run.id}/{decided_layer(thresholds)}")
        panels = [Panel("Preview", (layers[0], tried))]
    elif shown == DIFFERING:
        panels = [Panel("Difference", (layers[0], _difference(looked, version)))]
        classes = {value: name for value, (name, _) in DIFFERENCE.items()}
        colours = {value: colour for value, (_, colour) in DIFFERENCE.items()}
    elif shown != PREDICTION:
        grey = prediction_layer(looked.run.id, version, layer=shown, name=shown, grey=True)
        # Two pictures stand side by side: beside the label where there is one, else beside the prediction.
        panels = [Panel(looked.choices[shown], (grey,)), *([] if volume.has_labels else panels)]
    if volume.has_labels:
        panels.append(Panel("Label", truth))
    show_viewer(
        f"predict.viewer.{looked.run.id}",
        panels,
        shape_zyx=volume.shape_zyx,
        voxel_size_nm=volume.voxel_size_nm,
        classes=classes,
        colours=colours,
    )
    if about := ABOUT.get(shown):
        st.caption(about)


def _difference(looked: Looked, version: str) -> Layer:
    assert looked.scheme is not None
    # Labels that are read otherwise differ elsewhere, so that is in the version, too.
    read = volume_layers(looked.volume.id, has_labels=True, version=version, scheme=looked.scheme)[1].version
    name = f"difference-{looked.volume.id}"
    return prediction_layer(looked.run.id, read[-64:].lstrip("-"), layer=name, name="difference")


def _adjust(looked: Looked) -> tuple[float, ...]:
    """Thresholds and clean-up as they are set; queues their use."""
    if not looked.adjustable or looked.result is None:
        st.caption(f":material/info: {NOT_KEPT}")
        return ()
    with st.expander("Change thresholds and clean-up", icon=":material/tune:", expanded=True):
        columns = st.columns([2, 1], gap="large")
        with columns[0]:
            thresholds = _thresholds(looked, looked.result)
        used = parse_predict_config(looked.run.config).cleaning
        with columns[1]:
            fields = CleaningConfig.model_fields
            sizes = {
                name: st.number_input(
                    f"{fields[name].title} (voxels)", 0, None, getattr(used, name), key=f"{looked.key}.{name}",
                    help=fields[name].description,
                )
                for name in ("smallest", "holes")
            }  # fmt: skip
        # Those that were best on the run's validation part stay what they are called.
        same = thresholds == looked.result.thresholds
        wanted = used.model_copy(update={**sizes, **({} if same else {"thresholds": thresholds})})
        _buttons(looked, wanted, changed=wanted != used)
    return thresholds


def _buttons(looked: Looked, wanted: CleaningConfig, *, changed: bool) -> None:
    def back() -> None:
        for name in [name for name in st.session_state if str(name).startswith(f"{looked.key}.")]:
            del st.session_state[name]

    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Apply", type="primary", icon=":material/check:", disabled=not changed,
            key=f"predict.apply.{looked.run.id}",
        ):  # fmt: skip
            with errors_shown():
                submit_cleaning(services().store, looked.run.id, wanted)
                st.rerun()
        st.button(
            "Undo changes", icon=":material/undo:", disabled=not changed, on_click=back, type="tertiary",
            key=f"predict.back.{looked.run.id}",
        )  # fmt: skip
    st.caption(
        "Moving a threshold shows a preview at once. Small objects and holes are worked out when you press Apply, and "
        "scores and files follow. Nothing is predicted again."
    )


def _thresholds(looked: Looked, result: "Result") -> tuple[float, ...]:
    """A threshold for each class, as set; exactly the one used where nothing was moved."""

    def preview() -> None:
        st.session_state[f"{looked.key}.shown"] = PREVIEW

    used = result.thresholds
    names: tuple[str, ...] = result.names
    if many := len(names) > MOST_SLIDERS:
        names, used = ("All classes",), used[:1]
    starts = [round(min(0.999, max(0.001, value)), 3) for value in used]
    found = [
        threshold_slider(name, start, key=f"{looked.key}.threshold.{index}", on_change=preview)
        for index, (name, start) in enumerate(zip(names, starts, strict=True))
    ]
    if many:
        return result.thresholds if found == starts else (found[0],) * len(result.names)
    return tuple(own if now == start else now for own, now, start in zip(used, found, starts, strict=True))
