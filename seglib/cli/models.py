"""`python -m seglib export-model`: a trained network as a file for other programs."""

import argparse
from pathlib import Path

from seglib.errors import DataError
from seglib.sharing import KINDS, LICENCES, Card, Progress
from seglib.sharing.runs import Order, share_run
from seglib.store import Store
from seglib.store.runs import get_run
from seglib.workspace import Workspace


def add_export_model(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("run", type=int, help="id of the training run")
    command.add_argument("--kind", choices=tuple(KINDS), default="onnx", help="(default: onnx)")
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the file goes")
    command.add_argument("--checkpoint", default="best", help="best, last, or such as step-0000123 (default: best)")
    command.add_argument("--name", help="of a BioImage.IO package (default: the run's)")
    command.add_argument("--author", default="", help="of a BioImage.IO package, which needs one")
    command.add_argument("--licence", choices=LICENCES, default=LICENCES[0], help=f"(default: {LICENCES[0]})")
    command.add_argument("--description", default="", help="of a BioImage.IO package, in a sentence or two")


def export_model(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> str:
    """Makes the file and returns what to say. Raises SeglibError where it cannot be made, and then leaves none."""
    run = get_run(store, parsed.run)
    if not parsed.output.parent.is_dir():
        raise DataError(f"There is no folder {parsed.output.parent}: make it first.")
    card = Card(parsed.name or run.name, parsed.author, parsed.licence, parsed.description)
    share_run(workspace, store, Order(run.id, parsed.kind, parsed.checkpoint, card), parsed.output, progress=progress)
    return f"Written: {parsed.output} ({parsed.output.stat().st_size:,} bytes)"
