"""`python -m seglib …`: the dashboard's jobs without the dashboard, on the same workspace."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from seglib.check import add_check, check
from seglib.config import PredictConfig, RunConfig, parse_run_config
from seglib.config.labels import LabelScheme
from seglib.errors import ConfigError, DataError, SeglibError
from seglib.events import EpochDone, Event, Measured, Note, Progress, Saved, ValidationDone
from seglib.store import Store, open_store
from seglib.synth import add_synth, synth
from seglib.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from seglib.ingest import ImportRequest, Preview, Proposal

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
LISTED = 100


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

    _add_import(commands.add_parser("import", help="import images, with or without labels, as a data set"))

    command = commands.add_parser("label", help="show or change how the label values of a data set are read")
    command.add_argument("dataset", type=int, help="id of the data set")
    command.add_argument("--set", type=Path, metavar="FILE.json", help="what `label` prints, changed")
    command.set_defaults(command=_label)

    command = commands.add_parser("check", help="report what is in a data set and what in it will hurt")
    add_check(command)
    command.set_defaults(command=_check)

    command = commands.add_parser("demo", help="make the synthetic demo data set")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(command=_demo)

    command = commands.add_parser("synth", help="make synthetic samples with labels, as files or as a data set")
    add_synth(command)
    command.set_defaults(command=_synth)

    command = commands.add_parser("list", help="list data sets, volumes and runs with their ids")
    command.set_defaults(command=_list)

    command = commands.add_parser("config", help="print settings that fit a data set, to save and change")
    command.add_argument("dataset", type=int, help="id of the data set")
    command.set_defaults(command=_config)

    command = commands.add_parser("train", help="train with the settings of a JSON file, or go on with a run")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="settings as the Train page or `config` gives them")
    what.add_argument("--resume", type=int, metavar="RUN", help="go on with this run from its last checkpoint")
    command.set_defaults(command=_train)

    command = commands.add_parser("predict", help="segment a volume with a trained run")
    command.add_argument("run", type=int, help="id of the trained run")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--volume", type=int, help="id of an imported volume")
    what.add_argument("--image", help="a file or folder, imported first without labels")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.tif", help="where the labels go")
    command.add_argument("--checkpoint", choices=("best", "last"), default="best")
    command.add_argument("--overlap", type=float, default=0.25)
    command.add_argument("--threshold", type=float, default=0.5)
    command.set_defaults(command=_predict)
    return parser


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "images",
        help="a file, a zip, a .txt list of 2D images, a .json tile list, or a folder (of images, or with images/ and "
        "labels/, X_raw_data/ and X_masks/, or imagesTr/ and labelsTr/ in it)",
    )
    command.add_argument("--labels", help="a file or folder of labels, where the first one does not hold them")
    command.add_argument("--name", help="of the data set (default: the folder's or file's)")
    command.add_argument(
        "--voxel-size", nargs=3, type=float, metavar=("Z", "Y", "X"), help="in nm (default: what the files say)"
    )
    command.add_argument("--labels-are", choices=("auto", "classes", "instances"), default="auto")
    command.add_argument("--files-are", choices=("auto", "sections", "volumes"), default="auto")
    command.add_argument("--axes", default="", help="a letter for each stored dimension, such as ZCYX (default: guess)")
    command.add_argument("--label-axes", default="", help="the same for the labels")
    command.add_argument("--array", default="", help="which array inside HDF5, Zarr or npz files")
    command.add_argument("--label-array", default="", help="the same for the labels, which may lie in the image files")
    command.add_argument("--class", action="append", default=[], metavar="VALUE=NAME", dest="classes", type=_named)
    command.add_argument("--ignore", action="append", default=[], type=int, metavar="VALUE", help="not annotated")
    command.add_argument("--unpaired", action="store_true", help="import images without labels, leave out labels alone")
    command.add_argument("--dry-run", action="store_true", help="only say what would become of the files")
    command.set_defaults(command=_import)


def _import(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.ingest import Desk, Door, import_dataset

    door = Door(path=parsed.images, labels_path=parsed.labels or "", confined=False)
    with Desk(workspace) as desk:
        proposal = desk.find(door, progress=_show_progress)
        request = _request(parsed, proposal)
        for text in proposal.notes:
            print(text)
        if parsed.dry_run:
            return _show_plan(desk.look(request, progress=_show_progress))
        dataset = import_dataset(workspace, store, request, progress=_show_progress, note=print)
    print(f"\rData set {dataset}: {request.name}")
    return 0


def _request(parsed: argparse.Namespace, proposal: "Proposal") -> "ImportRequest":
    """What the options make of a proposal. Raises DataError where labels have no image, or some images no labels."""
    from seglib.data.planning import Layout
    from seglib.ingest import ImportRequest

    labelled = [bool(item.labels) for item in proposal.items]
    if not parsed.unpaired and (proposal.unused or (any(labelled) and not all(labelled))):
        raise DataError(
            f"{labelled.count(False)} of {len(labelled)} images have no labels, and {len(proposal.unused)} label files "
            "have no image. Rename or complete the files, or say --unpaired to import them so.\n"
            + "\n".join(proposal.notes)
        )
    layout: Layout = "volumes" if proposal.separate and parsed.files_are == "auto" else parsed.files_are
    return ImportRequest(
        name=parsed.name or proposal.name or "My data",
        items=proposal.items,
        layout=layout,
        voxel_size_nm=tuple(parsed.voxel_size) if parsed.voxel_size else None,
        axes=parsed.axes,
        label_axes=parsed.label_axes,
        member=parsed.array,
        label_member=parsed.label_array,
        label_kind=parsed.labels_are,
        class_names={**proposal.class_names, **dict(parsed.classes)},
        ignore=(*proposal.ignore, *parsed.ignore),
        channel_names=proposal.channel_names,
    )


def _named(text: str) -> tuple[int, str]:
    value, _, name = text.partition("=")
    if not value.isdecimal() or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not VALUE=NAME, such as 1=nucleus")
    return int(value), name.strip()


def _show_plan(preview: "Preview") -> int:
    for stored, what in ((preview.image, "images"), (preview.labels, "labels")):
        if stored is not None:
            shape = " × ".join(map(str, stored.shape))
            print(f"{what}: {shape} {stored.dtype}, axes {stored.axes}{'' if stored.known else ' (guessed)'}")
            print("".join(f"  array {m.name}  {m.shape}  {m.dtype}\n" for m in stored.members), end="")
    for volume in preview.volumes:
        shape = " × ".join(map(str, volume.shape_czyx))
        voxel = ", ".join(f"{size:g}" for size in volume.voxel_size_nm)
        files = f"{volume.image_files} image and {volume.label_files} label files"
        print(f"{volume.name}: {shape} {volume.dtype} (C × Z × Y × X), {voxel} nm, {files}")
    for text in preview.notes:
        print(text)
    for text in preview.problems:
        print(f"seglib: {text}", file=sys.stderr)
    return EXIT_BAD_INPUT if preview.problems else 0


def _label(parsed: argparse.Namespace, _: Workspace, store: Store) -> int:
    from seglib.store.datasets import get_summary, set_labels

    if parsed.set:
        try:
            labels = LabelScheme.model_validate(_read_json(parsed.set))
        except ValidationError as error:
            raise ConfigError(str(error)) from error
        set_labels(store, parsed.dataset, labels)
    print(get_summary(store, parsed.dataset).labels.model_dump_json(indent=2))
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


def _config(parsed: argparse.Namespace, _: Workspace, store: Store) -> int:
    from seglib.store.datasets import get_dataset
    from seglib.training.advice import config_for

    print(config_for(get_dataset(store, parsed.dataset)).model_dump_json(indent=2))
    return 0


def _train(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.jobs.submit import resume_run, submit_training
    from seglib.preflight import check_run
    from seglib.store.datasets import get_dataset

    if parsed.resume:
        resume_run(store, parsed.resume)
        return _run_here(workspace, store, parsed.resume)
    config = _read_config(parsed.config)
    checked = check_run(workspace, get_dataset(store, config.data.dataset), config)
    for problem in checked.problems:
        print(f"{problem.kind}: {problem.text}", file=sys.stderr)
    if not checked.ready:
        return EXIT_BAD_INPUT
    return _run_here(workspace, store, submit_training(store, config))


def _read_config(path: Path) -> RunConfig:
    data = _read_json(path)
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path} holds {type(data).__name__}, not settings: write them with `python -m seglib config`."
        )
    return parse_run_config(data)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a readable JSON file: {error}") from error


def _predict(parsed: argparse.Namespace, workspace: Workspace, store: Store) -> int:
    from seglib.data.volumes import open_labels
    from seglib.inference.export import export_tiff
    from seglib.jobs.submit import submit_prediction
    from seglib.store.datasets import get_volume
    from seglib.tasks.prediction import PREDICTION_LAYER

    volume = parsed.volume or _import_to_predict(parsed.image, workspace, store)
    try:
        config = PredictConfig(
            run=parsed.run,
            volume=volume,
            checkpoint=parsed.checkpoint,
            overlap=parsed.overlap,
            threshold=parsed.threshold,
        )
    except ValidationError as error:
        raise ConfigError(str(error)) from error
    run = submit_prediction(store, config)
    status = _run_here(workspace, store, run)
    if status == 0:
        labels = open_labels(workspace.prediction(run) / "labels.zarr", PREDICTION_LAYER)
        export_tiff(labels, parsed.output, get_volume(store, volume).voxel_size_nm)
        print(f"Written: {parsed.output}")
    return status


def _import_to_predict(images: str, workspace: Workspace, store: Store) -> int:
    """Imports images without labels and returns the id of their volume. Raises DataError where they are several."""
    from seglib.ingest import Desk, Door, ImportRequest, import_dataset
    from seglib.store.datasets import get_dataset

    with Desk(workspace) as desk:
        proposal = desk.find(Door(path=images, confined=False), progress=_show_progress)
        items = tuple(replace(item, labels=()) for item in proposal.items)
        request = ImportRequest(name=proposal.name or "My data", items=items)
        dataset = get_dataset(store, import_dataset(workspace, store, request, progress=_show_progress, note=print))
    if len(dataset.volumes) > 1:
        raise DataError(
            f"{images} is now data set {dataset.id} with {len(dataset.volumes)} volumes: "
            "predict them one by one with --volume."
        )
    return dataset.volumes[0].id


def _run_here(workspace: Workspace, store: Store, run_id: int) -> int:
    """Runs a queued run in this process; the first Ctrl-C saves and stops it."""
    from seglib.jobs.foreground import run_in_foreground

    stop = _stop_on_interrupt()
    print(f"Run {run_id}")
    run = run_in_foreground(workspace, store, run_id, stop=stop, on_event=_show_event)
    outcome = f"Run {run_id}: {run.status}. {run.message}".rstrip()
    if run.status == "failed":
        print(f"seglib: {outcome}", file=sys.stderr)
    else:
        print(f"\r{outcome}")
    return (
        0 if run.status == "finished" else EXIT_STOPPED if run.status in ("stopped", "interrupted") else EXIT_BAD_INPUT
    )


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
            print(f"epoch {epoch}: training patches: {_listed(scores)}", flush=True)
        case ValidationDone(epoch=epoch, scores=scores):
            print(f"epoch {epoch}: validation part: {_listed(scores)}", flush=True)
        case Measured(scores=scores):
            print(f"\rwhole volume against its labels: {_listed(scores)}", flush=True)
        case Saved(kind=kind, step=step):
            print(f"saved {kind} checkpoint of step {step}", flush=True)
        case Progress(done=done, total=total):
            _show_progress(done, total, "tiles")
        case Note(text=text):
            print(text, flush=True)


def _show_progress(done: int, total: int, text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{done}/{total} {text:40.40}", end="", flush=True)


def _listed(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


if __name__ == "__main__":
    sys.exit(main())
