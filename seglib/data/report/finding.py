"""What a finding is, and how volumes are named in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from seglib.data.report.measure import VolumeFacts


@dataclass(frozen=True)
class Finding:
    """One sentence or two, of some volumes, by name. kind: a `warning` is to be acted upon, a `note` to be known."""

    kind: Literal["warning", "note"]
    text: str
    volumes: tuple[str, ...] = ()


def names_of(volumes: Sequence[VolumeFacts], test: Callable[[VolumeFacts], bool]) -> tuple[str, ...]:
    """Names of the volumes that pass a test."""
    return tuple(facts.name for facts in volumes if test(facts))


def size_text(shape: Sequence[int]) -> str:
    """“16 × 64 × 64”."""
    return " × ".join(map(str, shape))
