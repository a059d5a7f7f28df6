"""Labels made of a prediction's probabilities: decided, cleaned, written with coarser copies, and measured."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from seglib.config import parse_run_config
from seglib.data.pyramids import LayerWriter, layer_writer, levels_of
from seglib.data.splits import Shape
from seglib.data.volumes import (
    fitting_uint,
    label_group,
    labels_description,
    open_labels,
    scales_of,
)
from seglib.events import Event, Note, Progress
from seglib.export.sources import LABELS, PREDICTION, PROBABILITIES, UNCERTAINTY
from seglib.inference.cleanup import Slabs, cleaned, passes, slab_starts
from seglib.inference.deciding import decide
from seglib.inference.resample import Resampled
from seglib.store import Store
from seglib.store.datasets import VolumeRow
from seglib.store.runs import RunRow, get_run
from seglib.tasks.looking import Job, thresholds_of
from seglib.tasks.measuring import Comparison, find_comparison, seen_in_training
from seglib.tasks.written import (
    UNFINISHED,
    Result,
    Unfinished,
    decoded,
    layer_group,
    place,
    write_result,
)
from seglib.workspace import Workspace

# Voxels that are looked at at once, over all classes.
AT_ONCE = 2**24


class Stopped(Exception):
    """Raised where the work is to end between two slabs."""


@dataclass(frozen=True)
class Layer:
    """A layer of probabilities or of uncertainty, on the grid of a volume. array: (C, Z, Y, X), on the network's."""

    array: zarr.Array
    shape_zyx: Shape

    @property
    def resampled(self) -> bool:
        """Whether the network saw the volume on another grid."""
        return bool(self.array.shape[1:] != self.shape_zyx)

    def planes(self, low: int, high: int) -> NDArray[Any]:
        """Planes low … high − 1, as they are kept."""
        if not self.resampled:
            return np.asarray(self.array[:, low:high])
        values = Resampled(self.array, self.shape_zyx)[:, low:high]
        return np.rint(values).astype(np.uint8) if self.array.dtype == np.uint8 else values.astype(self.array.dtype)


@dataclass(frozen=True)
class Labelling:
    """The second half of a prediction. source: folder with its probabilities."""

    workspace: Workspace
    store: Store
    run: RunRow
    row: VolumeRow
    job: Job
    source: Path

    @property
    def starts(self) -> list[int]:
        """The first plane of each slab, and the end."""
        return slab_starts(self.job.volume.shape_zyx, AT_ONCE // self.job.classes)

    @property
    def steps(self) -> int:
        """How many slabs are gone over in all."""
        return (len(self.starts) - 1) * (1 + passes(self.job.config.cleaning))

    def events(self, stop: Callable[[], bool], done: int, total: int) -> Generator[Event, None, bool]:
        """Makes the labels; whether it was stopped. done, total: pieces of work before, and in all."""

        def step() -> None:
            if stop():
                raise Stopped

        thresholds, count = thresholds_of(self.job), len(self.starts) - 1
        if not self.job.config.cleaning.thresholds:
            named = zip(self.job.models[0].names, thresholds, strict=True)
            said = ", ".join(f"{name} above {threshold:g}" for name, threshold in named)
            yield Note(f"Thresholds that were best on the validation part of the run: {said}.")
        yield Progress(done, total)
        trained = parse_run_config(get_run(self.store, self.job.config.run).config)
        comparison = find_comparison(self.store, self.row, self.job.volume, trained, self.job.models[0])
        with self.workspace.scratch() as scratch:
            try:
                slabs = cleaned(self._decided(thresholds), count, self.job.config.cleaning, step)
                for number in self._write(slabs, scratch, comparison):
                    yield Progress(total - count + number + 1, total)
                    step()
            except Stopped:
                return True
            self._place(scratch, thresholds)
        if comparison:
            made = open_labels(self.workspace.prediction(self.run.id) / "labels.zarr", PREDICTION)
            yield from comparison.measured(made, surfaces=self.job.config.surfaces)
            yield Note(f"Scores are over {comparison.extent}. {seen_in_training(self.store, self.row, trained)}")
        elif self.job.volume.labels is not None:
            yield Note("The labels of the volume have other classes than the run learned: nothing is measured.")
        return False

    def _layer(self, name: str) -> Layer:
        array = layer_group(self.source, name)["0"]
        assert isinstance(array, zarr.Array)
        return Layer(array, self.job.volume.shape_zyx)

    def _decided(self, thresholds: Sequence[float]) -> Slabs:
        probabilities, activation = self._layer(PROBABILITIES), self.job.ensemble.activation

        def slab(number: int) -> NDArray[np.uint8]:
            planes = probabilities.planes(self.starts[number], self.starts[number + 1])
            return decide(decoded(planes), activation, thresholds)

        return slab

    def _write(self, slabs: Slabs, scratch: Path, comparison: Comparison | None) -> Iterator[int]:
        """Writes the labels, and coarser copies of what is kept, slab by slab; the number of each when it is done."""
        volume, values = self.job.volume, self.job.models[0].values
        table = np.array([0, *values], fitting_uint(max(values)))
        levels = levels_of(volume.shape_zyx, volume.voxel_size_nm)
        group = label_group(scratch / f"{LABELS}.zarr", PREDICTION)
        group.attrs.update(labels_description(name=PREDICTION, scales=scales_of(levels, volume.voxel_size_nm)))
        with ExitStack() as stack:
            labels = stack.enter_context(layer_writer(group, levels, channels=0, dtype=table.dtype, average=False))
            kept = [(layer, stack.enter_context(self._coarser(name, layer, scratch))) for name, layer in self._kept()]
            for number, (low, high) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
                planes = table[slabs(number)]
                labels.write(planes)
                if comparison:
                    comparison.add(low, planes)
                for layer, writer in kept:
                    writer.write(layer.planes(low, high))
                yield number

    def _kept(self) -> list[tuple[str, Layer]]:
        """The layers that are kept beside the labels and are not in their place yet."""
        if self.source.name != UNFINISHED:
            return []
        names = [PROBABILITIES] * (self.job.config.keep != "classes")
        names += [UNCERTAINTY] * (self.job.config.ensemble.uncertainty != "none")
        return [(name, self._layer(name)) for name in names]

    def _coarser(self, name: str, layer: Layer, scratch: Path) -> AbstractContextManager[LayerWriter]:
        """Writes the coarser copies of a layer beside it, or all of it anew on the volume's grid."""
        volume, count = self.job.volume, int(layer.array.shape[0])
        levels, dtype = levels_of(volume.shape_zyx, volume.voxel_size_nm), layer.array.dtype
        if not layer.resampled:
            group = layer_group(self.source, name)
            for level in range(1, len(levels)):  # of an attempt that was cut off
                if str(level) in group:
                    del group[str(level)]
            return layer_writer(group, levels, channels=count, dtype=dtype, average=True, full=layer.array)
        names = self.job.models[0].names if name == PROBABILITIES else (UNCERTAINTY,)
        unfinished = Unfinished(scratch)
        group = unfinished.group(name, volume.shape_zyx, self.job.kind if name == PROBABILITIES else "uint8",
                                 volume.voxel_size_nm, names)  # fmt: skip
        return layer_writer(group, levels, channels=count, dtype=dtype, average=True)

    def _place(self, scratch: Path, thresholds: Sequence[float]) -> None:
        """Puts everything where it is looked for; labels that were there before go."""
        folder = self.workspace.prediction(self.run.id)
        for name, layer in self._kept():
            (folder / "result.json").unlink(missing_ok=True)
            made = (scratch if layer.resampled else self.source) / f"{name}.zarr"
            place(made, folder / made.name, scratch / "old")
        model = self.job.models[0]
        write_result(
            folder,
            Result(
                key=self.job.key,
                activation=self.job.ensemble.activation,
                names=model.names,
                values=model.values,
                thresholds=tuple(thresholds),
            ),
        )
        place(scratch / f"{LABELS}.zarr", folder / f"{LABELS}.zarr", scratch / "old")
        Unfinished(folder / UNFINISHED).remove()
