"""`python -m seglib synth`: made-up samples as files, or as a data set of the workspace."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from seglib.config.synthetic import SyntheticConfig
from seglib.errors import ConfigError, DataError
from seglib.store import Store
from seglib.workspace import Workspace

OPTIONS = {
    "shape": "--size",
    "training": "--training",
    "validation": "--validation",
    "seed": "--seed",
    "validation_seed": "--validation-seed",
}
Progress = Callable[[int, int, str], None]


def add_synth(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    usual = SyntheticConfig()
    command.add_argument("folder", nargs="?", type=Path, help="a new folder for the files; without it, see --dataset")
    command.add_argument("--dataset", metavar="NAME", help="make a data set of the workspace instead of files")
    command.add_argument("--kind", choices=("optic-lobe", "rings"), default="optic-lobe", help="3D columns or 2D rings")
    command.add_argument("--training", type=int, default=usual.training, help=f"samples (default: {usual.training})")
    command.add_argument("--validation", type=int, default=usual.validation, help=f"(default: {usual.validation})")
    command.add_argument("--seed", type=int, default=usual.seed, help=f"of training (default: {usual.seed})")
    command.add_argument(
        "--validation-seed", type=int, default=usual.validation_seed, help=f"(default: {usual.validation_seed})"
    )
    command.add_argument("--size", nargs=3, type=int, metavar=("Z", "Y", "X"), help="(default: 128 128 128)")
    command.add_argument(
        "--format",
        choices=("ome-zarr", "hdf5"),
        default="ome-zarr",
        help="of the files; hdf5 names arrays vol_data and vol_labels, as the 3dsegmentation toolkit does",
    )


def synth(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> str:
    """Makes what was asked for and says where it is. Raises SeglibError where it cannot."""
    from seglib.ingest import make_dataset, make_files

    if (parsed.folder is None) == (parsed.dataset is None):
        raise ConfigError("Say where the samples go: a folder for files, or --dataset NAME.")
    config = _config(parsed)
    if parsed.dataset is not None:
        dataset = make_dataset(workspace, store, config, name=parsed.dataset, progress=progress)
        return f"Data set {dataset}: {parsed.dataset}"
    make_files(parsed.folder, config, file_format=parsed.format, progress=progress)
    return f"Written: {parsed.folder}"


def _config(parsed: argparse.Namespace) -> SyntheticConfig:
    sample: dict[str, Any] = {"kind": parsed.kind.replace("-", "_")}
    if parsed.size and parsed.kind == "rings":
        raise DataError("--size is for the optic lobe; rings have 128 × 128 pixels.")
    if parsed.size:
        sample["shape"] = parsed.size
    counts = {name: getattr(parsed, name) for name in ("training", "validation", "seed", "validation_seed")}
    try:
        return SyntheticConfig.model_validate({"sample": sample, **counts})
    except ValidationError as error:
        wrong = error.errors()[0]
        place = next((OPTIONS[str(part)] for part in wrong["loc"] if str(part) in OPTIONS), "synth")
        raise ConfigError(f"{place}: {wrong['msg'].removeprefix('Value error, ')}.") from error
