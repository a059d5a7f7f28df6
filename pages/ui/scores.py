"""Scores in tables: each class by itself, which class was taken for which, and whole objects."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.ui.frame import plain

Scores = Mapping[str, float | None]

OVERLAP = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "total_error": "Total error",
    "false_negative_rate": "False negative rate",
    "false_positive_rate": "False positive rate",
}
SURFACES = {
    "hausdorff95": "Hausdorff 95 % (nm)",
    "surface_distance": "Surface distance (nm)",
    "surface_dice": "Surface Dice",
}
OBJECTS = {
    "f1@0.5": "F1 at IoU 0.5",
    "precision@0.5": "Precision at IoU 0.5",
    "recall@0.5": "Recall at IoU 0.5",
    "ap@0.5": "AP at IoU 0.5",
    "ap": "AP, mean of IoU 0.5 to 0.95",
    "pq@0.5": "Panoptic quality at IoU 0.5",
    "rand_error": "Adapted Rand error",
    "voi_split": "Variation of information, split (bits)",
    "voi_merge": "Variation of information, merged (bits)",
    "true_objects": "Objects in the labels",
    "predicted_objects": "Objects found",
    "count_error": "Found too many (+) or too few (−)",
}
HEADLINES = ("dice", "iou", "precision", "recall")
HELP = {
    "dice": "Overlap of what was found and what is labelled: 1 is perfect, 0 is none. Mean over the classes labelled.",
    "iou": "Intersection over union, stricter than Dice. Mean over the classes labelled.",
    "precision": "Of what was found, how much is labelled so. Mean over the classes labelled.",
    "recall": "Of what is labelled, how much was found. Mean over the classes labelled.",
}


def show_scores(scores: Scores, details: Mapping[str, Any], *, where: str, over: str) -> None:
    """Headline numbers, and tables under them.

    scores: name -> value, such as `dice` or `dice/axon`, and `objects/…` where objects were matched.
    details: as events have them. where: stands beside each headline; over: what voxels all of it is over, in words.
    """
    for cell, name in zip(st.columns(len(HEADLINES)), HEADLINES, strict=True):
        cell.metric(f"{OVERLAP[name]} ({where})", _text(scores.get(name)), help=HELP[name])
    st.caption(f"Over {plain(over)}.")
    with st.expander("All scores", icon=":material/table:"):
        _classes(scores, details)
        _confusion(details)
    if any(name.startswith("objects/") for name in scores):
        _objects(scores)


def _classes(scores: Scores, details: Mapping[str, Any]) -> None:
    names = list(details.get("names", []))
    shown = {name: title for name, title in (OVERLAP | SURFACES).items() if name in scores}
    absent, thresholds = set(details.get("absent", [])), dict(zip(names, details.get("thresholds", []), strict=False))
    rows = [{"Class": "mean" if len(names) > 1 else (names or ["foreground"])[0]}]
    rows[0] |= {title: _text(scores.get(name)) for name, title in shown.items()}
    for one in names if len(names) > 1 else []:
        said = f"{one} (not in the labels)" if one in absent else one
        rows.append({"Class": said} | {title: _text(scores.get(f"{name}/{one}")) for name, title in shown.items()})
    if thresholds:
        best = [thresholds.get(one) for one in ([None, *names] if len(names) > 1 else names)]
        rows = [row | {"Best threshold": _text(value)} for row, value in zip(rows, best, strict=True)]
    st.dataframe(pd.DataFrame(rows).set_index("Class").T)
    st.caption(
        "– where a class is not in the labels, or nothing can be said. The mean leaves such classes out; accuracy and "
        "total error in its row are over all voxels."
    )


def _confusion(details: Mapping[str, Any]) -> None:
    if not details.get("confusion"):
        return
    names = ["background", *details["names"]]
    table = pd.DataFrame(details["confusion"], index=names, columns=names)
    whole = table.sum(axis=1).replace(0, float("nan"))
    st.markdown("**What was taken for what**: of the voxels labelled as the row says, how many per cent were called …")
    st.dataframe((100 * table.div(whole, axis=0)).round(2), column_config=dict.fromkeys(names, _per_cent()))


def _per_cent() -> Any:
    return st.column_config.NumberColumn(format="%.2f %%")


def _objects(scores: Scores) -> None:
    rows = [
        {"Objects": title, "Value": _text(scores[f"objects/{name}"])}
        for name, title in OBJECTS.items()
        if f"objects/{name}" in scores
    ]
    with st.expander("Objects", icon=":material/bubble_chart:", expanded=True):
        st.dataframe(pd.DataFrame(rows), hide_index=True)
        st.caption("Pieces of foreground that hang together, each matched with the labelled object it overlaps most.")


def _text(value: float | None) -> str:
    """A number with the digits that say something."""
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) < 10 and value != int(value) else f"{value:,.6g}"
