"""`python -m seglib predict`: one volume, several of them, or a folder of new images."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from seglib.config import PredictConfig
from seglib.errors import ConfigError, DataError
from seglib.export import Export, write_export
from seglib.store import Store
from seglib.store.datasets import get_dataset, get_volume
from seglib.store.runs import get_run
from seglib.workspace import Workspace

Progress = Callable[[int, int, str], None]
# Queues a prediction and gives its run id.
Submit = Callable[[Store, PredictConfig], int]


def add_predict(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("run", type=int, nargs="+", help="id of the trained run; of several, they predict together")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--volume", type=int, nargs="+", help="ids of imported volumes")
    what.add_argument("--dataset", type=int, help="all volumes of a data set")
    what.add_argument("--image", help="a file or folder, imported first without labels")
    command.add_argument(
        "--output", type=Path, required=True, metavar="PATH", help="a .tif file for one volume, a folder for several"
    )
    command.add_argument("--checkpoint", default="best", help="best, last or a step that was kept (default: best)")
    command.add_argument("--overlap", type=float, default=0.25, help="share of the training patch (default: 0.25)")
    command.add_argument("--blending", choices=("gaussian", "halo"), default="gaussian")
    command.add_argument("--window", type=int, nargs=3, default=(0, 0, 0), metavar=("Z", "Y", "X"))
    command.add_argument(
        "--threshold", type=float, nargs="+", default=(), help="one, or one a class (default: the run's own)"
    )
    command.add_argument("--smallest", type=int, default=0, metavar="VOXELS", help="smaller objects become background")
    command.add_argument("--holes", type=int, default=0, metavar="VOXELS", help="holes up to this size are filled")
    command.add_argument("--augment", choices=("none", "flips", "flips_turns"), default="none")
    command.add_argument("--uncertainty", choices=("none", "entropy", "disagreement"), default="none")
    command.add_argument("--keep", choices=("classes", "uint8", "float16"), default="uint8", help="probabilities kept")


def predictions(
    parsed: argparse.Namespace, workspace: Workspace, store: Store, submit: Submit, progress: Progress
) -> Iterator[tuple[int, Callable[[], Path]]]:
    """Queues predictions one by one: the run's id, and what writes its labels once it is finished.

    Raises SeglibError where settings, volumes or the output cannot be used; images are imported before anything else.
    """
    config = _settings(parsed)
    for run in parsed.run:
        get_run(store, run)
    volumes = _volumes(parsed, workspace, store, progress)
    if len(volumes) > 1:
        parsed.output.mkdir(parents=True, exist_ok=True)
    for volume in volumes:
        row = get_volume(store, volume)
        run = submit(store, config.model_copy(update={"volume": volume}))
        # Names of volumes are free text; the id makes them different and safe.
        path = parsed.output / f"{volume}.tif" if len(volumes) > 1 or parsed.output.is_dir() else parsed.output
        print(f"{row.name} → {path}")

        def write(run: int = run, path: Path = path) -> Path:
            write_export(workspace, Export(run, "labels", "tiff"), path)
            return path

        yield run, write


def _settings(parsed: argparse.Namespace) -> PredictConfig:
    main, *more = parsed.run
    try:
        return PredictConfig.model_validate(
            {
                "run": main,
                "volume": 1,
                "checkpoint": parsed.checkpoint,
                "tiles": {"overlap": parsed.overlap, "blending": parsed.blending, "window": parsed.window},
                "ensemble": {"runs": more, "variations": parsed.augment, "uncertainty": parsed.uncertainty},
                "cleaning": {"thresholds": parsed.threshold, "smallest": parsed.smallest, "holes": parsed.holes},
                "keep": parsed.keep,
            }
        )
    except ValidationError as error:
        raise ConfigError(str(error)) from error


def _volumes(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> list[int]:
    from seglib.ingest import Door, import_images

    if parsed.volume:
        return list(parsed.volume)
    dataset = parsed.dataset
    if dataset is None:
        door = Door(path=parsed.image, confined=False)
        dataset = import_images(workspace, store, door, name="My data", progress=progress, note=print)
    volumes = [row.id for row in get_dataset(store, dataset).volumes]
    if not volumes:
        raise DataError(f"Data set {dataset} has no volumes.")
    return volumes
