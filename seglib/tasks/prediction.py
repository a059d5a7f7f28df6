"""A prediction as a job: trained runs over one volume, tile by tile, then labels made of the probabilities.

It goes on where it was stopped or cut off. A prediction that is over can be queued again with other thresholds or
another clean-up: its probabilities are there, so that only its labels are made anew.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import zarr
from numpy.typing import NDArray

from seglib.config import parse_predict_config
from seglib.errors import OutOfMemory
from seglib.events import Ended, Event, Note, Progress, Started
from seglib.export.sources import PROBABILITIES, UNCERTAINTY
from seglib.inference.devices import is_out_of_memory
from seglib.inference.ensemble import entropy
from seglib.inference.sweep import Block, columns_of, sweep, tiles_of
from seglib.store import Store
from seglib.store.datasets import get_volume
from seglib.store.runs import RunRow
from seglib.tasks.labelling import Labelling
from seglib.tasks.looking import Job, arranged, prepare_job
from seglib.tasks.written import (
    UNFINISHED,
    BlockWriter,
    Kept,
    Unfinished,
    encoded,
    full_disk_told,
    kept_result,
)
from seglib.workspace import Workspace

Stop = Callable[[], bool]


def prediction_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a prediction, see `run_task`."""
    config = parse_predict_config(run.config)
    row = get_volume(store, config.volume)
    job = prepare_job(workspace, store, row, config)
    folder = workspace.prediction(run.id)
    unfinished, result = Unfinished(folder / UNFINISHED), kept_result(folder)
    made = result is not None and result.key == job.key and (folder / f"{PROBABILITIES}.zarr").exists()
    kept = Kept(job.key, swept=True) if made else unfinished.progress()
    if kept is None or kept.key != job.key or not (made or not kept.done or unfinished.holds(PROBABILITIES)):
        unfinished.begin(job.key)
        kept = Kept(job.key)
    labelling = Labelling(workspace, store, run, row, job, folder if made else unfinished.folder)
    tiles = tiles_of(job.tiling, job.volume.channels, job.ensemble.device)
    total = tiles + labelling.steps
    yield Started(total, tiles if kept.swept else tiles_before(job, kept.done))
    yield from (Note(text) for text in job.notes)
    with full_disk_told():
        stopped = False
        if not kept.swept:
            stopped = yield from _predict(job, unfinished, kept, stop, total)
        if not stopped:
            stopped = yield from labelling.events(stop, tiles, total)
    yield Ended("stopped", "Stopped; what was predicted is kept. Resume to go on.") if stopped else Ended("finished")


def tiles_before(job: Job, done: Sequence[int]) -> int:
    """How many tiles need not be computed where so many planes of each column are finished."""
    axis, counted = job.tiling.axes[0], 0
    for number, column in enumerate(columns_of(job.tiling, job.volume.channels, job.ensemble.device)):
        first = axis.border + (done[number] if number < len(done) else 0)
        over = sum(axis.reach(index)[1] <= first for index in range(len(axis.starts)))
        counted += len(column.y) * len(column.x) * (over if first < axis.border + axis.length else len(axis.starts))
    return counted


def _predict(job: Job, unfinished: Unfinished, kept: Kept, stop: Stop, total: int) -> Generator[Event, None, bool]:
    """Goes over the volume from where it was left; whether it was stopped."""
    job, size, names = arranged(job), job.grid_voxel_size_nm, job.models[0].names
    arrays: dict[str, zarr.Array] = {PROBABILITIES: unfinished.array(PROBABILITIES, job.grid, job.kind, size, names)}
    if job.config.ensemble.uncertainty != "none":
        arrays[UNCERTAINTY] = unfinished.array(UNCERTAINTY, job.grid, "uint8", size, (UNCERTAINTY,))
    # Grey values that are shown black are as good as nothing.
    empty = job.volume.contrast[0] if job.config.tiles.skip_empty else None
    source, look = job.ensemble.source(job.image, empty=empty), job.ensemble.look(job.classes, job.windows.batch_size)
    pieces = job.ensemble.pieces
    with BlockWriter(unfinished, kept, arrays) as writer:
        for block in _with_memory(sweep(job.tiling, source, look, done=kept.done), job):
            writer.write(block.column, block.start, _layers(job, block))
            if job.ensemble.pieces > pieces:
                pieces = job.ensemble.pieces
                yield Note(f"Memory ran out: a batch of windows is computed in {pieces} parts from now on.")
            yield Progress(block.tiles_done, total)
            if stop():
                return True
        writer.finish()
    return False


def _layers(job: Job, block: Block) -> dict[str, NDArray[Any]]:
    """What is kept of a block."""
    probabilities = block.values[: job.classes]
    layers = {PROBABILITIES: encoded(probabilities, job.kind)}
    match job.config.ensemble.uncertainty:
        case "entropy":
            layers[UNCERTAINTY] = encoded(entropy(probabilities, job.ensemble.activation), "uint8")
        case "disagreement":
            layers[UNCERTAINTY] = encoded(block.values[job.classes :], "uint8")
    return layers


def _with_memory(blocks: Iterator[Block], job: Job) -> Iterator[Block]:
    sizes = " × ".join(map(str, job.windows.tile))
    try:
        yield from blocks
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"Not even one window of {sizes} voxels fits into the memory: choose a smaller window and resume."
        ) from error
