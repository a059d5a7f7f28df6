"""`python -m seglib export-prediction`: a prediction's labels, probabilities or pictures as a file."""

import argparse
from collections.abc import Callable
from pathlib import Path

from seglib.errors import ConfigError, DataError
from seglib.export import FORMATS, Export, View, Watch, write_export
from seglib.export.sources import LABELS, PLACES
from seglib.store import Store
from seglib.store.runs import get_run
from seglib.workspace import Workspace

Progress = Callable[[int, int, str], None]


def add_export_prediction(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    usual = View()
    command.add_argument("run", type=int, help="id of the prediction")
    command.add_argument("--layer", choices=tuple(PLACES), default=LABELS, help=f"(default: {LABELS})")
    command.add_argument("--format", choices=tuple(FORMATS), default="tiff", help="(default: tiff)")
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the file goes")
    command.add_argument("--axis", choices=("z", "y", "x"), default=usual.axis, help="of a figure (default: z)")
    command.add_argument("--plane", type=int, default=usual.plane, help="of a figure, counted from 0 (default: 0)")
    command.add_argument("--channel", type=int, default=usual.channel, help="of the image in pictures (default: 0)")
    command.add_argument("--filled", action="store_true", help="paint objects over instead of drawing their outline")
    command.add_argument(
        "--fps", type=int, default=usual.frames_per_second, metavar="N", help="frames per second (default: 10)"
    )


def export_prediction(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> str:
    """Makes the file and returns what to say. Raises SeglibError where it cannot be made, and then leaves none."""
    run = get_run(store, parsed.run)
    if run.kind != "predict":
        raise ConfigError(f"Run {run.id} is a training: `export` copies what it left.")
    if not parsed.output.parent.is_dir():
        raise DataError(f"There is no folder {parsed.output.parent}: make it first.")
    view = View(parsed.axis, parsed.plane, parsed.channel, parsed.filled, parsed.fps)
    export = Export(run.id, parsed.layer, parsed.format, run.config["volume"], view)
    write_export(workspace, export, parsed.output, watch=Watch(progress))
    return f"Written: {parsed.output} ({parsed.output.stat().st_size:,} bytes)"
