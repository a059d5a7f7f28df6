"""`python -m seglib config`: settings to start from, as JSON, and why they are so."""

import argparse
import sys

from seglib.report import Progress, make_report, stored_report
from seglib.store import Store
from seglib.store.datasets import DatasetRow, get_dataset
from seglib.training.advice import config_for, recipe_for, suggestion_for
from seglib.training.recipes import RECIPES
from seglib.training.suggestion import Suggestion
from seglib.workspace import Workspace


def add_config(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("dataset", type=int, help="id of the data set")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--suggest", action="store_true", help="fit all settings to the report of the data set and to this machine"
    )
    which.add_argument("--recipe", choices=tuple(RECIPES), help="published settings, fitted to the data set")


def settings(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> str:
    """The settings as JSON; reasons go to stderr, a line each. Raises SeglibError where there are none."""
    dataset = get_dataset(store, parsed.dataset)
    if not parsed.suggest and not parsed.recipe:
        return config_for(dataset).model_dump_json(indent=2)
    found = recipe_for(dataset, parsed.recipe) if parsed.recipe else _suggested(workspace, dataset, progress)
    for reason in found.reasons:
        print(f"{reason.field}: {reason.text}", file=sys.stderr)
    return found.config.model_dump_json(indent=2)


def _suggested(workspace: Workspace, dataset: DatasetRow, progress: Progress) -> Suggestion:
    """Measures the data set first where that was not done."""
    report = stored_report(workspace, dataset) or make_report(workspace, dataset, progress=progress)
    return suggestion_for(dataset, report.volumes)
