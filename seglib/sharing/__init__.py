"""Trained networks as files for other programs: one door for all kinds.

Nothing here imports torch before a file is made, as pages and routes need the list of kinds alone.
"""

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seglib.errors import ConfigError, DataError
from seglib.workspace import Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seglib.checkpoints import Checkpoint

__all__ = ["KINDS", "LICENCES", "Card", "Kind", "Progress", "share_model", "shared_file", "shared_path"]

Progress = Callable[[int, int, str], None]
# Identifiers of SPDX, the usual one first.
LICENCES = ("CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later", "CC-BY-NC-4.0")


@dataclass(frozen=True)
class Kind:
    """A kind of file. label: what people call it; about: what it is good for; suffix: of its name."""

    label: str
    about: str
    suffix: str
    media_type: str = "application/octet-stream"
    needs_card: bool = False


KINDS: dict[str, Kind] = {
    "onnx": Kind(
        "ONNX",
        "For programs that know nothing of Python or torch. Grey values go in, probabilities come out.",
        ".onnx",
    ),
    "program": Kind(
        "torch.export (.pt2)", "The network for today's torch: torch.export.load reads it, without Seglib.", ".pt2"
    ),
    "torchscript": Kind(
        "TorchScript (.pt)",
        "The network for older programs that use torch, also from C++ and Java: torch.jit.load reads it.",
        ".pt",
    ),
    "bioimageio": Kind(
        "BioImage.IO package",
        "For ilastik, deepImageJ and others of the BioImage Model Zoo: networks, test images, description and licence.",
        ".bioimageio.zip",
        "application/zip",
        needs_card=True,
    ),
}


@dataclass(frozen=True)
class Card:
    """What a package says of its origin. licence: of LICENCES; training_data: what it learned from, in words."""

    name: str
    author: str
    licence: str = LICENCES[0]
    description: str = ""
    training_data: str = ""


# torch's exporters change settings of the whole process while they work.
_ONE_AT_A_TIME = threading.Lock()


def share_model(
    checkpoint: "Checkpoint",
    kind: str,
    path: Path,
    *,
    card: Card | None = None,
    sample: "NDArray[Any] | None" = None,
    progress: Progress = lambda done, total, text: None,
) -> None:
    """Writes the network of a checkpoint as a file of a kind; it appears once it is complete and was checked.

    card: for kinds that need one. sample: an image (C, Z, Y, X) as imported, to show and test a package with; without
    one, it is noise. progress: called with (done, total, text) before each step; what it raises ends the work.
    Raises ConfigError for a kind there is not and for a card that says too little, SeglibError where the network cannot
    be written so or the file does not answer as the network does, DataError where there is no room or no such folder.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no kind of file {kind!r}: choose one of {', '.join(KINDS)}.")
    if KINDS[kind].needs_card:
        _check(card)
    try:
        with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
            made = Path(folder) / f"model{KINDS[kind].suffix}"
            if KINDS[kind].needs_card:
                from seglib.sharing.bioimageio import write_package

                assert card is not None
                write_package(checkpoint, made, card=card, sample=sample, progress=progress)
            else:
                _write(checkpoint, kind, made, progress)
            os.replace(made, path)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error.strerror or error}.") from error


def shared_path(workspace: Workspace, run_id: int, kind: str) -> Path:
    """Where a run's file of a kind is, or goes. Raises DataError for a kind there is not."""
    if kind not in KINDS:
        raise DataError(f"There is no kind of file {kind!r}. A model can be {', '.join(KINDS)}.")
    return workspace.models(run_id) / f"model{KINDS[kind].suffix}"


def shared_file(workspace: Workspace, run_id: int, kind: str) -> tuple[Path, str]:
    """Path and media type of a run's finished file of a kind. Raises DataError where it was not made."""
    path = shared_path(workspace, run_id, kind)
    if not path.is_file():
        raise DataError(f"Run {run_id} has no {KINDS[kind].label} file: make it on the run's page.")
    return path, KINDS[kind].media_type


def _write(checkpoint: "Checkpoint", kind: str, path: Path, progress: Progress) -> None:
    """The kinds that are one network."""
    from seglib.sharing.onnx import write_onnx
    from seglib.sharing.portable import facts, portable
    from seglib.sharing.programs import trace_program, trace_script, write_program, write_script

    progress(0, 2, "Following the network")
    made = portable(checkpoint)
    if kind == "torchscript":
        script = trace_script(made)
        progress(1, 2, "Writing and checking the file")
        write_script(script, made, facts(checkpoint, made, script.free), path)
        return
    traced = trace_program(made)
    progress(1, 2, "Writing and checking the file")
    write = write_onnx if kind == "onnx" else write_program
    write(traced, made, facts(checkpoint, made, traced.free), path)


def _check(card: Card | None) -> None:
    if card is None or not card.name.strip() or not card.author.strip():
        raise ConfigError("A package needs a name and an author: say both.")
    if card.licence not in LICENCES:
        raise ConfigError(f"{card.licence!r} is not one of the licences: choose one of {', '.join(LICENCES)}.")
