"""What the label values of a data set mean: named, coloured, merged, ignored – at any time, without importing again."""

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from pages.ui.frame import plain, services, show_error
from seglib.config.labels import LabelScheme, scheme_for
from seglib.data.checks import colour_code
from seglib.data.palette import PALETTE
from seglib.store.datasets import DatasetSummary, set_labels

CLASS, BACKGROUND, IGNORE = "class", "background", "not annotated"
KINDS = {"classes": "Classes: each value is a kind of thing", "instances": "Instances: each value is one object"}
BORDERS = {
    "none": "No borders",
    "touching": "Only where objects touch",
    "all": "Around every object",
    "planes": "Plane by plane, objects grown first (axons)",
}


def labels_form(dataset: DatasetSummary) -> None:
    """Draws how the labels are read now, and stores what the person makes of it."""
    st.caption(
        "The stored numbers never change, so everything here can be changed back. Runs keep the reading they were "
        "started with; new runs take this one."
    )
    key = f"labels.{dataset.id}.{st.session_state.get('labels.saved', 0)}"
    kinds, now = list(KINDS), dataset.labels.kind
    kind = st.radio(
        "Labels are", kinds, kinds.index(now), format_func=KINDS.__getitem__, horizontal=True, key=f"{key}.kind"
    )
    scheme = _classes(key, dataset) if kind == "classes" else _instances(key, dataset)
    if scheme is None:
        return
    changed = scheme != dataset.labels
    save, undo = st.columns([1, 4])
    if save.button("Save", type="primary", icon=":material/save:", disabled=not changed, key=f"{key}.save"):
        set_labels(services().store, dataset.id, scheme)
        _draw_anew()
    if changed and undo.button("Discard the changes", icon=":material/undo:", key=f"{key}.undo"):
        _draw_anew()


def _draw_anew() -> None:
    st.session_state["labels.saved"] = st.session_state.get("labels.saved", 0) + 1
    st.rerun()


def _classes(key: str, dataset: DatasetSummary) -> LabelScheme | None:
    """The scheme the table of values says, None where it makes no sense yet."""
    counts = dataset.label_counts
    if counts is None:
        st.warning(
            "There are more than 256 different label values, or they were never counted: too many for classes.",
            icon=":material/block:",
        )
        return None
    scheme = dataset.labels if dataset.labels.kind == "classes" else scheme_for("classes", list(counts))
    edited = st.data_editor(
        _table(scheme, counts),
        hide_index=True,
        disabled=["Value", "Share"],
        key=f"{key}.values",
        height=min(38 + 35 * len(counts), 420),
        column_config={
            "Value": st.column_config.TextColumn(help="The number, or the painted colour, in the label files."),
            "Share": st.column_config.NumberColumn(help="Of all voxels of the data set.", format="percent"),
            "Meaning": st.column_config.SelectboxColumn(
                options=[CLASS, BACKGROUND, IGNORE],
                required=True,
                help="Not annotated: never trained on, never measured.",
            ),
            "Class": st.column_config.TextColumn(
                max_chars=80, help="Its name. Values with the same name are merged into one class."
            ),
        },
    )
    rows = list(zip(counts, edited.to_dict("records"), strict=True))
    members: dict[str, list[int]] = {}
    for value, row in rows:
        if row["Meaning"] == CLASS:
            members.setdefault((row["Class"] or "").strip() or f"class {row['Value']}", []).append(value)
    colours = _colours(key, scheme, list(members))
    return _checked(
        {
            "kind": "classes",
            "classes": [{"name": name, "values": values, "colour": colours[name]} for name, values in members.items()],
            "ignore": [value for value, row in rows if row["Meaning"] == IGNORE],
        }
    )


def _table(scheme: LabelScheme, counts: dict[int, int]) -> pd.DataFrame:
    names = {value: part.name for part in scheme.classes for value in part.values}
    voxels = sum(counts.values()) or 1

    def meaning(value: int) -> str:
        return CLASS if value in names else IGNORE if value in scheme.ignore else BACKGROUND

    return pd.DataFrame(
        {
            "Value": [colour_code(value) or str(value) for value in counts],
            "Share": [count / voxels for count in counts.values()],
            "Meaning": [meaning(value) for value in counts],
            "Class": [names.get(value, "") for value in counts],
        }
    )


def _colours(key: str, scheme: LabelScheme, names: list[str]) -> dict[str, str]:
    """A colour to pick for each class; the usual one is stored as none."""
    chosen = {part.name: part.colour for part in scheme.classes}
    picked = {}
    with st.container(horizontal=True):
        for index, name in enumerate(names[:24], start=1):
            usual = "#" + PALETTE[index].tobytes().hex()
            colour = st.color_picker(plain(name), chosen.get(name) or usual, key=f"{key}.colour.{name}", width=120)
            picked[name] = "" if colour.lower() == usual else colour.lower()
    return {name: picked.get(name, chosen.get(name, "")) for name in names}


def _instances(key: str, dataset: DatasetSummary) -> LabelScheme | None:
    now = dataset.labels if dataset.labels.kind == "instances" else LabelScheme()
    left, middle, right = st.columns(3)
    background = left.text_input(
        "Background values", ", ".join(map(str, now.background)), key=f"{key}.background",
        help="Values that are no object, separated by commas; usually 0.",
    )  # fmt: skip
    ignore = middle.text_input(
        "Not annotated", ", ".join(map(str, now.ignore)), key=f"{key}.ignore",
        help="Values that were never annotated: not trained on, not measured.",
    )  # fmt: skip
    borders = right.selectbox(
        "Borders as a class", list(BORDERS), index=list(BORDERS).index(now.borders.kind if now.borders else "none"),
        format_func=BORDERS.__getitem__, key=f"{key}.borders",
        help="Made from the instances: with the task Classes a network then learns background, object and border, "
        "which keeps touching objects apart.",
    )  # fmt: skip
    width = 1
    if borders != "none":
        width = right.number_input(
            "Border width (voxels)", 1, 20, now.borders.width if now.borders else 1, key=f"{key}.width"
        )
    try:
        values = {"background": _numbers(background), "ignore": _numbers(ignore)}
    except ValueError:
        show_error("Label values are whole numbers separated by commas, such as 0, 255.")
        return None
    made = None if borders == "none" else {"kind": borders, "width": int(width)}
    return _checked({"kind": "instances", **values, "borders": made})


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.replace(";", ",").split(",") if part.strip()]


def _checked(said: dict[str, object]) -> LabelScheme | None:
    """The scheme, or None with what is wrong shown."""
    try:
        return LabelScheme.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        show_error(first.removeprefix("Value error, ")[:1].upper() + first.removeprefix("Value error, ")[1:] + ".")
        return None
