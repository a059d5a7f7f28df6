"""Settings written by earlier versions of the product, as they are said today."""

from collections.abc import Mapping
from typing import Any


def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's settings in today's form; those of today, and what is no mapping, come back as they are.

    Version 1 held the split within `data` and the drawing of patches within `patches`, and varied no patches.
    """
    if not isinstance(data, Mapping) or data.get("version") != 1:
        return data
    whole = {**data, "version": 2, "augmentation": {"kind": "off"}}
    whole["data"], split = _divided(data.get("data"), ("split", "validation_share", "block_axis"))
    whole["patches"], sampling = _divided(data.get("patches"), ("per_epoch", "foreground_share"))
    kind, axis = split.pop("split", "auto"), split.pop("block_axis", "auto")
    whole["split"] = {"kind": kind, **split} | ({"axis": axis} if kind != "volumes" else {})
    whole["sampling"] = {"kind": "random", **sampling}
    return {name: value for name, value in whole.items() if value is not None}


def upgraded_prediction(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A prediction's settings in today's form; those of today, and what is no mapping, come back as they are.

    Version 1 had overlap, batch size and threshold (0: the run's own) side by side, kept no probabilities and took no
    notice of voxel sizes; limits on parameters, which only mean something to a run, are left out.
    """
    if not isinstance(data, Mapping) or data.get("version") != 1:
        return data
    whole = {**data, "version": 2, "keep": "classes", "resample": False}
    whole["compute"], _ = _divided(data.get("compute"), ("most_parameters", "least_parameters"))
    whole["tiles"] = {name: whole.pop(name) for name in ("overlap", "batch_size") if name in whole}
    threshold = whole.pop("threshold", 0)
    whole["cleaning"] = {"thresholds": [threshold]} if threshold else {}
    return {name: value for name, value in whole.items() if value is not None}


def _divided(part: Any, names: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """A part without these fields, and the fields."""
    if not isinstance(part, Mapping):
        return part, {}
    taken = {name: value for name, value in part.items() if name in names}
    return {name: value for name, value in part.items() if name not in names}, taken
