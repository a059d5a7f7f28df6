"""One checkpoint format: everything a run needs to go on exactly, or to predict.

A file is written beside its place, flushed to disk, read back and checked, and only then renamed, so a crash at
any moment leaves the old one or the new one. The last one but one is kept as `previous`.
"""

import hashlib
import json
import os
import pickle
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from seglib.config import RunConfig, parse_run_config
from seglib.data.normalise import Normalisation, between
from seglib.errors import CheckpointError
from seglib.runfolder.files import duplicate

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps.

    values: label value of each class 1 … K; names: what they are called.
    channels: image channels the network takes.
    network: state dict of what predicts; learning: of what learns, where that is another, as with averaged weights.
    optimiser, schedule: state dicts; random: states of torch's generators.
    thresholds: probability a class needs, best on the validation part; empty before the first validation.
    partial: sums of the epoch under way. best_score: best validation score so far, None before the first.
    Where nothing is annotated the score is the loss, negative.
    """

    config: RunConfig
    values: tuple[int, ...]
    names: tuple[str, ...]
    channels: int
    normalisation: Normalisation
    voxel_size_nm: tuple[float, float, float]
    step: int
    epoch: int
    score: float | None
    best_score: float | None
    network: dict[str, Any]
    optimiser: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    random: dict[str, torch.Tensor] = field(default_factory=dict)
    partial: dict[str, Any] = field(default_factory=dict)
    learning: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()


_TENSOR_PARTS = ("network", "optimiser", "schedule", "random", "partial")
# What later versions added; a file of an earlier one has none of it.
_LATER_PARTS = ("learning",)


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, keep: Path | None = None) -> str:
    """Writes a checkpoint atomically and returns the sha256 of the file.

    keep: where the checkpoint that was at `path` goes; without it, it is replaced.
    Raises CheckpointError where the disk is full or the file does not read back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    content = {name: getattr(checkpoint, name) for name in (*_TENSOR_PARTS, *_LATER_PARTS)}
    meta = {
        name: getattr(checkpoint, name) for name in ("values", "names", "channels", "voxel_size_nm", "step", "epoch")
    }
    meta |= {"score": checkpoint.score, "best_score": checkpoint.best_score, "thresholds": checkpoint.thresholds}
    meta |= {"normalisation": asdict(checkpoint.normalisation), "config": checkpoint.config.model_dump(mode="json")}
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "meta": json.dumps(meta), **content}, file)
            file.flush()
            os.fsync(file.fileno())
        _check(temporary)
        digest = _sha256(temporary)
        if keep and path.exists():
            duplicate(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except CheckpointError:
        temporary.unlink(missing_ok=True)
        raise
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"The checkpoint could not be written to {path.parent}: {error}") from error
    return digest


def load_checkpoint(path: Path, *, sha256: str | None = None) -> Checkpoint:
    """The checkpoint at `path`, on the CPU.

    sha256: what the file must add up to, where it is known.
    Raises CheckpointError where the file is missing, damaged, or not a checkpoint of this program.
    """
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path.name} in {path.parent}.")
    _check(path)
    if sha256 and _sha256(path) != sha256:
        raise CheckpointError(f"The checkpoint {path} is not the one this run wrote: its checksum differs.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise CheckpointError(f"The checkpoint {path} has format {content['format']}; this program reads {FORMAT}.")
        return _read(content)
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this program ({type(error).__name__}).") from error


def _read(content: dict[str, Any]) -> Checkpoint:
    meta = json.loads(content["meta"])
    dz, dy, dx = meta["voxel_size_nm"]
    return Checkpoint(
        config=parse_run_config(meta["config"]),
        values=tuple(meta["values"]),
        names=tuple(meta["names"]),
        channels=meta["channels"],
        normalisation=_normalisation(meta["normalisation"]),
        voxel_size_nm=(dz, dy, dx),
        step=meta["step"],
        epoch=meta["epoch"],
        score=meta["score"],
        best_score=meta["best_score"],
        thresholds=tuple(meta.get("thresholds", ())),
        **{name: content[name] for name in _TENSOR_PARTS},
        **{name: content.get(name, {}) for name in _LATER_PARTS},
    )


def _normalisation(meta: dict[str, Any]) -> Normalisation:
    """Also as earlier versions kept it: grey values that become −1 and +1."""
    if "low" in meta:
        return between(meta["low"], meta["high"])
    return Normalisation(**{name: tuple(meta[name]) for name in ("centre", "scale", "clip", "sources")})


def _check(path: Path) -> None:
    """torch's files are zip archives with a checksum for each part."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    # A damaged entry of the archive's table looks encrypted, of an unknown method, or has a name that is no text.
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged or cut short.") from error
    if damaged:
        raise CheckpointError(f"The checkpoint {path} is damaged: {damaged} does not add up.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and renames durably without
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
