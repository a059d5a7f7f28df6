"""nnU-Net's dataset.json: what the label values and the channels of a data set mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seglib.data.readers.base import SourceFile
from seglib.data.readers.sources import without_control

MAX_BYTES = 64 << 20
_MAX_NAMES = 65_536
_MAX_NAME = 80
_MAX_VALUE = 2**53


@dataclass(frozen=True)
class Description:
    """class_names: label value -> name, without background 0. ignore: values that mean "not annotated"."""

    class_names: Mapping[int, str] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_description(source: SourceFile) -> Description:
    """What a dataset.json says, of nnU-Net version 1 ({value: name}) or 2 ({name: value}).

    It is a help and no more: where it cannot be read, or not in part, a note says so and nothing is raised.
    """
    try:
        size = source.path.stat().st_size
        said = json.loads(source.path.read_bytes()) if size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Description(notes=(f"{source.name} cannot be read, so classes have no names yet.",))
    names, ignore, skipped = _labels(said.get("labels"))
    notes = []
    if skipped:
        notes.append(
            f"{source.name} has {skipped} labels that are no single value (such as regions of several); they were left "
            "out. Merge classes under Labels once the data are imported."
        )
    channels = said.get("channel_names", said.get("modality"))
    return Description(names, ignore, _channels(channels), tuple(notes))


def _labels(said: Any) -> tuple[dict[int, str], tuple[int, ...], int]:
    """Names of values, values to ignore, and how many labels are neither."""
    if not isinstance(said, dict):
        return {}, (), 0
    names: dict[int, str] = {}
    ignore: list[int] = []
    skipped = 0
    for key, content in list(said.items())[:_MAX_NAMES]:
        name, number = (content, key) if isinstance(content, str) and _value(content) is None else (key, content)
        value = _value(number)
        if value is None or value in names:
            skipped += 1
        elif name.strip().casefold() == "ignore":
            ignore.append(value)
        elif value:
            names[value] = _clean(name) or f"class {value}"
    return dict(sorted(names.items())), tuple(sorted(set(ignore))), skipped


def _value(said: Any) -> int | None:
    """A label value, written as a number or as text; None for everything else."""
    if isinstance(said, str):
        said = int(said) if said.isascii() and said.isdigit() and len(said) < 17 else None
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said < _MAX_VALUE:
        return None
    return said


def _channels(said: Any) -> tuple[str, ...]:
    if not isinstance(said, dict):
        return ()
    numbered = sorted((number, name) for key, name in said.items() if (number := _value(key)) is not None)
    if [number for number, _ in numbered] != list(range(len(said))):
        return ()
    return tuple(_clean(str(name)) or str(number) for number, name in numbered)


def _clean(name: str) -> str:
    return without_control(name.strip()[:_MAX_NAME]).strip()
