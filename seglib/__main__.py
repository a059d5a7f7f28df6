"""`python -m seglib …`: the dashboard's jobs without the dashboard, on the same workspace."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from seglib.cli.check import add_check, check
from seglib.cli.exports import add_export_prediction, export_prediction
from seglib.cli.importing import add_import, run_import
from seglib.cli.models import add_export_model, export_model
from seglib.cli.predicting import add_predict, predictions
from seglib.cli.results import add_export, export, folds_in_words
from seglib.cli.scores import epoch_in_words, volume_in_words
from seglib.cli.settings import add_config, settings
from seglib.cli.synth import add_synth, synth
from seglib.config import RunConfig, parse_run_config
from seglib.config.labels import LabelScheme
from seglib.errors import ConfigError, SeglibError
from seglib.events import EpochDone, Event, Measured, Note, Progress, Saved, ValidationDone
from seglib.store import Store, open_store
from seglib.workspace import Workspace, open_workspace

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
LISTED = 100
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 done, 2 bad input, 3 stopped before the end."""
    parsed = _parser().parse_args(arguments)
    try:
        workspace = open_workspace(parsed.workspace)
        return int(parsed.command(parsed, workspace, open_store(workspace)))
    except SeglibError as error:
        print(f"seglib: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nseglib: stopped.", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seglib", description="Train 3D segmentation without the dashboard."
    )
    parser.add_argument(
        "--workspace", metavar="FOLDER", help="workspace folder (default: $SEGLIB_WORKSPACE, then ~/seglib-workspace)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_data_commands(commands)
    _add_run_commands(commands)
    return parser


def _add_data_commands(commands: Commands) -> None:
    command = commands.add_parser("import", help="import images, with or without labels, as a data set")
    add_import(command)
    command.set_defaults(command=_import)

    command = commands.add_parser("label", help="show or change how the label values of a data set are read")
    command.add_argument("dataset", type=int, help="id of the data set")
    command.add_argument(
        "--set", type=Path, metavar="FILE.json", help="what `label` prints, changed; borders between instances are "
        '"borders": {"kind": "touching", "width": 1}, with the kinds all, touching and planes'
    )  # fmt: skip
    command.set_defaults(command=_label)

    command = commands.add_parser("delete", help="delete a data set; the files it was imported from stay")
    command.add_argument("dataset", type=int, help="id of the data set")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(command=_delete)

    command = commands.add_parser("check", help="report what is in a data set and what in it will hurt")
    add_check(command)
    command.set_defaults(command=_check)

    command = commands.add_parser("demo", help="make the synthetic demo data set")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(command=_demo)

    command = commands.add_parser("synth", help="make synthetic samples with labels, as files or as a data set")
    add_synth(command)
    command.set_defaults(command=_synth)


def _add_run_commands(commands: Commands) -> None:
    command = commands.add_parser("list", help="list data sets, volumes and runs with their ids")
    command.set_defaults(command=_list)

    command = commands.add_parser("config", help="print settings that fit a data set, to save and change")
    add_config(command)
    command.set_defaults(command=_config)

    command = commands.add_parser("train", help="train with the settings of a JSON file, or go on with a run")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="settings as the Train page or `config` gives them")
    what.add_argument("--resume", type=int, metavar="RUN", help="go on with this run from its last checkpoint")
    command.add_argument(
        "--folds", type=int, metavar="K", help="cross-validation: K runs, each judged on another part of the volumes"
    )
    command.set_defaults(command=_train)

    command = commands.add_parser("export", help="copy what a training left into a zip")
    add_export(command)
    command.set_defaults(command=_export)

    command = commands.add_parser("export-model", help="write a trained network for other programs")
    add_export_model(command)
    command.set_defaults(command=_export_model)

    command = commands.add_parser("export-prediction", help="write labels, probabilities or pictures of a prediction")
    add_export_prediction(command)
    command.set_defaults(command=_export_prediction)

    command = commands.add_parser("predict", help="segment volumes with a trained run, or several runs together")
    add_predict(command)
    command.set_defaults(command=_predict)


def _import(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    return run_import(parsed, workspace, store, _show_progress)


def _label(parsed: argparse.Namespace, _: Workspace, store: Store) -> int:
    from seglib.store.datasets import get_summary, set_labels

    if parsed.set:
        try:
            labels = LabelScheme.model_validate(_read_json(parsed.set))
        except ValidationError as error:
            raise ConfigError(_in_words(parsed.set, error)) from error
        set_labels(store, parsed.dataset, labels)
    print(get_summary(store, parsed.dataset).labels.model_dump_json(indent=2))
    return 0


def _in_words(path: Path, error: ValidationError) -> str:
    """What is wrong with a file of settings, each on a line."""
    places = [(".".join(map(str, wrong["loc"])) or "settings", wrong["msg"]) for wrong in error.errors()]
    return f"{path} cannot be used:\n" + "\n".join(
        f"  {place}: {text.removeprefix('Value error, ')}" for place, text in places
    )


def _delete(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.store.datasets import delete_dataset, get_summary

    dataset = get_summary(store, parsed.dataset)
    if not parsed.yes:
        asked = f"Delete data set {dataset.id}, {dataset.name}, with {dataset.volume_count:,} volume(s)? [y/N] "
        if not sys.stdin.isatty() or input(asked).strip().casefold() not in ("y", "yes"):
            raise ConfigError("Nothing was deleted: answer y, or say --yes.")
    removed = [workspace.volume(volume) for volume in delete_dataset(store, dataset.id)]
    workspace.discard([*removed, workspace.report(dataset.id)]).join()
    print(f"Deleted data set {dataset.id}: {dataset.name}")
    return 0


def _demo(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.ingest import make_demo

    print(f"Data set {make_demo(workspace, store, seed=parsed.seed)}")
    return 0


def _check(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(check(parsed, workspace, store, _show_progress))
    return 0


def _synth(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(f"\r{synth(parsed, workspace, store, _show_progress)}")
    return 0


def _list(_: argparse.Namespace, __: Workspace, store: Store) -> int:
    from seglib.store.datasets import find_volumes, list_datasets
    from seglib.store.runs import list_runs

    for dataset in reversed(list_datasets(store)):
        print(f"data set {dataset.id}  {dataset.name}  ({dataset.label_kind}, {dataset.volume_count} volumes)")
        volumes, _count = find_volumes(store, dataset.id, limit=LISTED)
        for volume in volumes:
            shape = " × ".join(map(str, volume.shape_zyx))
            print(f"  volume {volume.id}  {volume.name}  {shape} {volume.dtype}")
        if dataset.volume_count > LISTED:
            print(f"  … and {dataset.volume_count - LISTED} more")
    for run in reversed(list_runs(store)):
        print(f"run {run.id}  {run.kind}  {run.status}  {run.done}/{run.total}  {run.name}")
    return 0


def _config(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(settings(parsed, workspace, store, _show_progress))
    return 0


def _train(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.jobs.submit import resume_run, submit_training
    from seglib.preflight import check_run
    from seglib.store.datasets import get_dataset

    if parsed.resume:
        if parsed.folds:
            raise ConfigError("--folds starts new runs: give it with a file of settings, not with --resume.")
        resume_run(store, parsed.resume)
        return _run_here(workspace, store, parsed.resume)
    config = _read_config(parsed.config)
    checked = check_run(workspace, get_dataset(store, config.data.dataset), config)
    for problem in checked.problems:
        print(f"{problem.kind}: {problem.text}", file=sys.stderr)
    if not checked.ready:
        return EXIT_BAD_INPUT
    if parsed.folds is not None:
        return _train_folds(workspace, store, config, parsed.folds)
    return _run_here(workspace, store, submit_training(store, config))


def _train_folds(workspace: Workspace, store: Store, config: RunConfig, folds: int) -> int:
    """Trains the folds one after the other; where one is stopped, those that have not begun are stopped too."""
    from seglib.jobs.submit import submit_cross_validation
    from seglib.store.groups import list_members
    from seglib.store.runs import request_stop

    group, runs = submit_cross_validation(store, config, folds)
    status = 0
    for index, run in enumerate(runs):
        ended = _run_here(workspace, store, run)
        status = status or ended
        if ended == EXIT_STOPPED:
            for later in runs[index + 1 :]:
                request_stop(store, later)
            break
    print(folds_in_words(list_members(store, group)))
    return status


def _export(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(export(parsed, workspace, store))
    return 0


def _read_config(path: Path) -> RunConfig:
    data = _read_json(path)
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path} holds {type(data).__name__}, not settings: write them with `python -m seglib config`."
        )
    return parse_run_config(data)


def _export_model(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(f"\r{export_model(parsed, workspace, store, _show_progress)}")
    return 0


def _export_prediction(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    print(f"\r{export_prediction(parsed, workspace, store, _show_progress)}")
    return 0


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a readable JSON file: {error}") from error


def _predict(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.jobs.submit import submit_prediction

    status = 0
    for run, write in predictions(parsed, workspace, store, submit_prediction, _show_progress):
        ended = _run_here(workspace, store, run)
        if ended == 0:
            print(f"Written: {write()}")
        status = status or ended
        if ended == EXIT_STOPPED:
            break
    return status


def _run_here(workspace: Workspace, store: Store, run_id: int) -> int:
    """Runs a queued run in this process; the first Ctrl-C saves and stops it."""
    from seglib.jobs.foreground import run_in_foreground

    stop = _stop_on_interrupt()
    print(f"Run {run_id}")
    run = run_in_foreground(workspace, store, run_id, stop=stop, on_event=_show_event)
    outcome = f"Run {run_id}: {run.status}. {run.message}".rstrip()
    if run.status == "failed":
        print(f"seglib: {outcome}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"\r{outcome}")
    return 0 if run.status == "finished" else EXIT_STOPPED


def _stop_on_interrupt() -> Callable[[], bool]:
    asked = False

    def on_signal(_: int, __: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nStopping after this batch; once more to end at once.", file=sys.stderr)

    signal.signal(signal.SIGINT, on_signal)
    return lambda: asked


def _show_event(event: Event) -> None:
    match event:
        case EpochDone(epoch=epoch, scores=scores):
            print(f"epoch {epoch}: training patches: {epoch_in_words(scores)}", flush=True)
        case ValidationDone(epoch=epoch, scores=scores):
            print(f"epoch {epoch}: validation part: {epoch_in_words(scores)}", flush=True)
        case Measured(scores=scores, details=details):
            print(f"\rwhole volume against its labels: {volume_in_words(scores, details)}", flush=True)
        case Saved(kind=kind, step=step):
            print(f"saved {kind} checkpoint of step {step}", flush=True)
        case Progress(done=done, total=total):
            _show_progress(done, total, "pieces")
        case Note(text=text):
            print(text, flush=True)


def _show_progress(done: int, total: int, text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{done}/{total} {text:40.40}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
