"""What a suggestion is: settings, and why they are as they are."""

from dataclasses import dataclass

from seglib.config import RunConfig


@dataclass(frozen=True)
class Reason:
    """Why a setting is as it is, in one sentence. field: its path, such as `patches.shape`."""

    field: str
    text: str


@dataclass(frozen=True)
class Suggestion:
    """Settings of a run, and the reasons for what is in them, in the order of the form."""

    config: RunConfig
    reasons: tuple[Reason, ...]
