"""Files become a data set of the workspace: all of it, or nothing.

Everything is written to scratch first. Only when the last voxel is there are the volumes moved and the rows made,
in one transaction.
"""

import contextlib
import errno
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seglib.data import checks
from seglib.data.planning import ImportPlan, ImportRequest, PlannedVolume, Stack, clean_name, plan_import
from seglib.data.readers import SourceFile
from seglib.data.synthetic import demo_volumes
from seglib.data.volumes import (
    CHUNK_ZYX,
    TRUTH,
    VoxelSize,
    contrast_of,
    create_labels,
    create_volume,
    fitting_uint,
    set_contrast,
)
from seglib.errors import DataError
from seglib.store import Store
from seglib.store.datasets import LabelKind, NewVolume, add_dataset, find_fingerprint
from seglib.training.advice import DEMO_NAME
from seglib.workspace import Workspace

__all__ = [
    "ImportCancelled",
    "ImportPlan",
    "ImportRequest",
    "already_imported",
    "import_dataset",
    "make_demo",
    "plan_import",
]

_DEMO_VOXEL_NM = (400.0, 200.0, 200.0)
_SAMPLED_PLANES = 16
_SAMPLED_BYTES = 64 << 10
_SAMPLED_VOXELS = 1 << 16


class ImportCancelled(DataError):
    """The person stopped the import; nothing of it is left."""


def import_dataset(
    workspace: Workspace,
    store: Store,
    request: ImportRequest,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    note: Callable[[str], None] | None = None,
) -> int:
    """Imports files as a data set and returns its id.

    progress: called with (planes done, planes to do, what is being done).
    cancelled: asked between slabs; true ends the import with ImportCancelled.
    note: called with what a person should know about the result, such as how the kind of labels was guessed.
    Raises DataError, with every problem found, where the files cannot be used; nothing is left behind then.
    """
    plan = plan_import(request)
    _refuse(plan.problems)
    tell = note or (lambda text: None)
    watch = _Watch(_planes_to_do(plan), progress or (lambda done, total, text: None), cancelled or (lambda: False))
    facts = _scan_labels(plan, watch)
    kind = _label_kind(request, facts, tell)
    for text in (*plan.notes, *_value_notes(facts, kind)):
        tell(text)
    with workspace.scratch() as scratch, _disk_errors(workspace):
        rows = []
        for index, (volume, found) in enumerate(zip(plan.volumes, facts, strict=True)):
            path = scratch / f"{index}.zarr"
            contrast = _write(path, volume, found, request.voxel_size_nm, watch)
            rows.append(_row(volume, found, kind, request.voxel_size_nm, contrast))
        watch.step(0, "Finishing")
        names = {value: name for value, name in request.class_names.items() if kind == "classes"}
        return _commit(workspace, store, scratch, name=clean_name(request.name), kind=kind, names=names, rows=rows)


def already_imported(store: Store, plan: ImportPlan) -> str | None:
    """Name of a data set that was imported from one of the same files, or None."""
    return find_fingerprint(store, [_fingerprint(volume.sources) for volume in plan.volumes]) if plan.volumes else None


def make_demo(workspace: Workspace, store: Store, *, seed: int = 0) -> int:
    """Makes the data set “Demo cells” (four volumes with instances) and returns its id."""
    with workspace.scratch() as scratch, _disk_errors(workspace):
        rows = [
            _write_demo(scratch / f"{index}.zarr", f"{DEMO_NAME} {index + 1}", image_zyx, labels_zyx)
            for index, (image_zyx, labels_zyx) in enumerate(demo_volumes(seed=seed))
        ]
        return _commit(workspace, store, scratch, name=DEMO_NAME, kind="instances", names={}, rows=rows)


@dataclass
class _Watch:
    """Counts planes for the person waiting, and asks whether they still want to."""

    total: int
    progress: Callable[[int, int, str], None]
    cancelled: Callable[[], bool]
    done: int = 0

    def step(self, planes: int, text: str) -> None:
        if self.cancelled():
            raise ImportCancelled("The import was stopped; nothing was kept.")
        self.progress(self.done, self.total, text)
        self.done += planes


@dataclass(frozen=True)
class _LabelFacts:
    """What a volume's labels hold.

    counts: value -> voxels, background included.
    pieces: for some planes, in how many pieces each value lies.
    converted: the dtype in the files where it was not an unsigned integer, else "".
    """

    counts: dict[int, int]
    pieces: tuple[dict[int, int], ...]
    converted: str


def _scan_labels(plan: ImportPlan, watch: _Watch) -> list[_LabelFacts | None]:
    """Reads all labels once. Raises DataError with what is wrong, file by file."""
    problems: list[str] = []
    facts = [None if volume.labels is None else _scan_stack(volume.labels, watch, problems) for volume in plan.volumes]
    values = {value for found in facts if found is not None for value in found.counts}
    if len(values) == 1 and not problems:
        (value,) = values
        problems.append(
            f"Every label has the value {value}, so there is nothing to learn. Mark something and leave the rest "
            "at 0 (background), or import without labels."
        )
    _refuse(problems)
    return facts


def _scan_stack(stack: Stack, watch: _Watch, problems: list[str]) -> _LabelFacts:
    counts: Counter[int] = Counter()
    pieces = []
    depth, start = stack.shape_czyx[1], 0
    sampled = set(np.linspace(0, depth - 1, _SAMPLED_PLANES).astype(int).tolist())
    for file in stack.files:
        planes = file.shape_czyx[1]
        try:
            for z0, z1 in _slabs(planes):
                watch.step(z1 - z0, f"Checking {file.source.name}")
                labels_zyx = checks.whole_labels(file.read_planes(z0, z1)[0], file.source.name)
                values, voxels = checks.count_values(labels_zyx)
                counts.update(dict(zip(values.tolist(), voxels.tolist(), strict=True)))
                pieces += [checks.pieces_per_value(labels_zyx[z - z0]) for z in range(z0, z1) if z + start in sampled]
        except ImportCancelled:
            raise
        except DataError as error:
            problems.append(str(error))
        start += planes
    return _LabelFacts(dict(counts), tuple(pieces), "" if stack.dtype.kind == "u" else str(stack.dtype))


def _label_kind(request: ImportRequest, facts: Sequence[_LabelFacts | None], tell: Callable[[str], None]) -> LabelKind:
    """The kind asked for, else a guess. Raises DataError where there are too many values for classes."""
    known = [found for found in facts if found is not None]
    if not known:
        return "none"
    different = len({value for found in known for value in found.counts if value != 0})
    if request.label_kind == "auto":
        kind, why = checks.guess_label_kind(different, [plane for found in known for plane in found.pieces])
        tell(f"The labels were taken as {kind}: {why}. If that is wrong, import again and choose.")
        return kind
    if request.label_kind == "classes" and different > checks.MAX_CLASSES:
        raise DataError(
            f"The labels have {different:,} different values, but there can be {checks.MAX_CLASSES} classes. "
            "Choose instances if each object has its own number."
        )
    return request.label_kind


def _value_notes(facts: Sequence[_LabelFacts | None], kind: LabelKind) -> list[str]:
    known = [found for found in facts if found is not None]
    notes = [f"Labels stored as {text} were converted." for text in sorted({f.converted for f in known} - {""})]
    if kind == "instances" and max(_objects(found) for found in known) == 1:
        notes.append("No volume has more than one object. If the labels are a mask, import again as classes.")
    return notes


def _objects(found: _LabelFacts) -> int:
    return len(found.counts.keys() - {0})


def _write(
    path: Path, volume: PlannedVolume, found: _LabelFacts | None, voxel_size_nm: VoxelSize, watch: _Watch
) -> tuple[float, float]:
    """Writes a volume slab by slab and returns its contrast."""
    shape = volume.shape_czyx
    image = create_volume(path, name=volume.name, shape_czyx=shape, dtype=volume.dtype, voxel_size_nm=voxel_size_nm)
    samples = []
    every = max(1, shape[1] // (_SAMPLED_PLANES * CHUNK_ZYX[0]))
    for z0, z1 in _slabs(shape[1]):
        watch.step(z1 - z0, f"Importing {volume.name}")
        slab_czyx = volume.image.read_planes(z0, z1)
        image[:, z0:z1] = slab_czyx
        if (z0 // CHUNK_ZYX[0]) % every == 0:
            plane = slab_czyx[:, 0].ravel()
            samples.append(plane[:: max(1, plane.size // _SAMPLED_VOXELS)].copy())
    if volume.labels is not None and found is not None:
        _write_labels(path, volume.labels, max(found.counts), voxel_size_nm, watch)
    contrast = contrast_of(np.concatenate(samples))
    set_contrast(path, contrast)
    return contrast


def _write_labels(path: Path, labels: Stack, largest: int, voxel_size_nm: VoxelSize, watch: _Watch) -> None:
    dtype, shape_zyx = fitting_uint(largest), labels.shape_czyx[1:]
    array = create_labels(path, TRUTH, shape_zyx=shape_zyx, dtype=dtype, voxel_size_nm=voxel_size_nm)
    for z0, z1 in _slabs(shape_zyx[0]):
        watch.step(z1 - z0, "Importing labels")
        # The scan has shown that all values are whole and fit.
        array[z0:z1] = labels.read_planes(z0, z1)[0].astype(dtype)


def _write_demo(path: Path, name: str, image_zyx: NDArray[np.uint8], labels_zyx: NDArray[np.uint16]) -> NewVolume:
    z, y, x = image_zyx.shape
    cells = int(labels_zyx.max())
    shape = (1, z, y, x)
    image = create_volume(path, name=name, shape_czyx=shape, dtype=np.uint8, voxel_size_nm=_DEMO_VOXEL_NM)
    image[:] = image_zyx[None]
    labels = create_labels(path, TRUTH, shape_zyx=(z, y, x), dtype=fitting_uint(cells), voxel_size_nm=_DEMO_VOXEL_NM)
    labels[:] = labels_zyx.astype(labels.dtype)
    contrast = contrast_of(image_zyx)
    set_contrast(path, contrast)
    return NewVolume(
        name=name,
        group=name,
        shape_czyx=shape,
        dtype="uint8",
        voxel_size_nm=_DEMO_VOXEL_NM,
        has_labels=True,
        label_counts=None,
        objects=cells,
        contrast=contrast,
        fingerprint=hashlib.sha256(image_zyx.tobytes() + labels_zyx.tobytes()).hexdigest(),
    )


def _row(
    volume: PlannedVolume,
    found: _LabelFacts | None,
    kind: LabelKind,
    voxel_size_nm: VoxelSize,
    contrast: tuple[float, float],
) -> NewVolume:
    return NewVolume(
        name=volume.name,
        group=volume.name,
        shape_czyx=volume.shape_czyx,
        dtype=str(volume.dtype),
        voxel_size_nm=voxel_size_nm,
        has_labels=found is not None,
        label_counts=dict(sorted(found.counts.items())) if found is not None and kind == "classes" else None,
        objects=_objects(found) if found is not None and kind == "instances" else None,
        contrast=contrast,
        fingerprint=_fingerprint(volume.sources),
    )


def _commit(
    workspace: Workspace,
    store: Store,
    scratch: Path,
    *,
    name: str,
    kind: LabelKind,
    names: dict[int, str],
    rows: Sequence[NewVolume],
) -> int:
    """Moves the volumes of `scratch` to their places and makes the rows, or neither."""
    placed: list[Path] = []

    def place(index: int, volume_id: int) -> None:
        target = workspace.volume(volume_id)
        # The id is new, so what lies there was left by a process killed before its rows were committed.
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        (scratch / f"{index}.zarr").rename(target)
        placed.append(target)

    try:
        return add_dataset(store, name=name, label_kind=kind, class_names=names, volumes=rows, place=place)
    except BaseException:
        for path in placed:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _fingerprint(sources: Sequence[SourceFile]) -> str:
    """sha256 over the files' sizes and bytes at their start, middle and end, whatever they are called."""
    digest = hashlib.sha256()
    for source in sources:
        size = source.path.stat().st_size
        digest.update(f"{size}\0".encode())
        with source.path.open("rb") as file:
            for offset in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
                file.seek(offset)
                digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def _planes_to_do(plan: ImportPlan) -> int:
    # Labels are read twice: to check them, then to store them.
    return sum(volume.shape_czyx[1] * (1 if volume.labels is None else 3) for volume in plan.volumes)


def _slabs(planes: int) -> Iterator[tuple[int, int]]:
    for z0 in range(0, planes, CHUNK_ZYX[0]):
        yield z0, min(planes, z0 + CHUNK_ZYX[0])


def _refuse(problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError("\n".join(["Nothing was imported, because:", *(f"- {problem}" for problem in problems)]))


@contextlib.contextmanager
def _disk_errors(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"The disk of {workspace.root} is full. Free some space and import again.") from error
