"""`python -m seglib export`: what a run left as one zip; and what the folds of a cross-validation found, as text."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from seglib.errors import ConfigError
from seglib.runfolder.archive import run_files, zipped
from seglib.store import Store
from seglib.store.groups import Member, combined
from seglib.store.runs import get_run
from seglib.workspace import Workspace


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("run", type=int, help="id of the training run")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.zip", help="where the zip goes")
    command.add_argument("--no-checkpoints", action="store_true", help="leave out the saved states, which are large")


def export(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> str:
    """Writes the zip and returns what to say. Raises ConfigError where it cannot be written, and then leaves none."""
    run = get_run(store, parsed.run)
    files = run_files(workspace, run.id, checkpoints=not parsed.no_checkpoints)
    unfinished = parsed.output.with_name(f"{parsed.output.name}.part")
    try:
        with unfinished.open("wb") as target:
            for piece in zipped(files, f"run-{run.id}"):
                target.write(piece)
        os.replace(unfinished, parsed.output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"{parsed.output} could not be written: {error.strerror}.") from error
    return f"Written: {parsed.output} ({len(files):,} files)"


def folds_in_words(members: Sequence[Member]) -> str:
    """The best validation scores of each fold, and their mean and standard deviation over the folds."""
    lines = []
    for fold, member in enumerate(members, 1):
        found = ", ".join(f"{name} {value:.4f}" for name, value in member.scores.items())
        lines.append(f"fold {fold}: run {member.run.id}, {member.run.status}: {found or 'not judged'}")
    for name, spread in combined(members).items():
        deviation = "" if spread.deviation is None else f" ± {spread.deviation:.4f}"
        lines.append(f"{name}: {spread.mean:.4f}{deviation} over {spread.count} fold(s)")
    return "\n".join(lines)
