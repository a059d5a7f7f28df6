"""What an import would make, with a picture of it, before anything is stored."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Base64Bytes

from seglib.data import checks
from seglib.data.palette import PALETTE, palette_entries
from seglib.data.planning import ImportRequest, Layout, PlannedVolume, few_enough, plan_import
from seglib.data.readers import open_image
from seglib.data.readers.base import Member, SourceFile
from seglib.data.stacks import Stack
from seglib.data.volumes import VoxelSize, contrast_of
from seglib.errors import DataError
from seglib.ingest.staging import Watch, fingerprint

LOOKED_AT = 200
PICTURE_SIDE = 720
_OPACITY = 0.45
VOLUMES_TRIED, PLANES_TRIED = 3, (0.5, 0.25, 0.75, 0.12, 0.88)
MOST_VALUES = 300


@dataclass(frozen=True)
class StoredArray:
    """How a file stores its numbers. shape: slowest first; axes: a letter for each; known: the file says so itself."""

    name: str
    shape: tuple[int, ...]
    axes: str
    known: bool
    dtype: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class FutureVolume:
    """A volume as it would be imported. image_files, label_files: how many."""

    name: str
    group: str
    shape_czyx: tuple[int, int, int, int]
    dtype: str
    voxel_size_nm: VoxelSize
    image_files: int
    label_files: int


@dataclass(frozen=True)
class Preview:
    """What an import would make.

    volumes: of the items looked at, `looked_at` of `items`. layout: what `auto` came to.
    fingerprints: of the same volumes, to notice a second import.
    image, labels: how the first file of each stores its numbers; None where there is none or it cannot be read.
    picture: PNG of a plane of one volume, its labels laid over it, if it has any; empty where there is none.
    pictured: which plane that is; label_values: those met in it.
    """

    volumes: tuple[FutureVolume, ...]
    fingerprints: tuple[str, ...]
    layout: Layout
    looked_at: int
    items: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    image: StoredArray | None
    labels: StoredArray | None
    picture: Base64Bytes  # JSON has no bytes
    pictured: str = ""
    label_values: tuple[int, ...] = ()


def look(request: ImportRequest, watch: Watch) -> Preview:
    """Opens the headers of (some of) the files and reads one plane; nothing is stored."""
    watch.step(0, "Looking at the files")
    step = 1 if _may_be_sections(request) else max(1, -(-len(request.items) // LOOKED_AT))
    some = request.items[::step]
    plan = plan_import(replace(request, items=tuple(some)))
    problems = list(plan.problems)
    picture, pictured, values = b"", "", tuple[int, ...]()
    if plan.volumes:
        watch.step(0, "Drawing a plane")
        try:
            volume, z = _plane_to_show(plan.volumes)
            picture, values = _picture(volume, z)
            depth = volume.image.shape_czyx[1]
            pictured = volume.name if depth == 1 else f"{volume.name}, plane {z + 1} of {depth}"
        except DataError as error:
            problems.append(str(error))
    first = next(iter(request.items), None)
    return Preview(
        volumes=tuple(_future(volume) for volume in plan.volumes),
        fingerprints=tuple(fingerprint(volume.sources) for volume in plan.volumes),
        layout=plan.layout,
        looked_at=len(some),
        items=len(request.items),
        problems=tuple(problems),
        notes=plan.notes,
        image=_stored(first.images, request.member) if first else None,
        labels=_stored(_first_labels(request), request.label_member),
        picture=picture,
        pictured=pictured,
        label_values=values,
    )


def _may_be_sections(request: ImportRequest) -> bool:
    """Whether the items may be the sections of one volume, which are only understood together."""
    if request.layout != "auto" or len(request.items) <= LOOKED_AT:
        return request.layout == "sections"
    if not checks.is_series([item.images[0].name for item in request.items if item.images]):
        return False
    try:
        file = open_image(request.items[0].images[0])
    except (DataError, IndexError):  # the plan tells it
        return False
    return few_enough(len(request.items), max(file.shape))


def _future(volume: PlannedVolume) -> FutureVolume:
    return FutureVolume(
        name=volume.name,
        group=volume.group,
        shape_czyx=volume.image.shape_czyx,
        dtype=str(volume.image.dtype),
        voxel_size_nm=volume.voxel_size_nm,
        image_files=len(volume.image.files),
        label_files=len(volume.labels.files) if volume.labels else 0,
    )


def _first_labels(request: ImportRequest) -> tuple[SourceFile, ...]:
    """The label files of the first item that has some; the image files where labels are an array inside them."""
    for item in request.items:
        if item.labels or request.label_member:
            return item.labels or item.images
    return ()


def _stored(sources: tuple[SourceFile, ...], member: str) -> StoredArray | None:
    if not sources:
        return None
    try:
        file = open_image(replace(sources[0], member=sources[0].member or member))
    except DataError:  # the plan has told it
        return None
    name = sources[0].name
    return StoredArray(name, file.shape, file.axes, file.axes_known, str(file.dtype), file.members)


def _plane_to_show(volumes: Sequence[PlannedVolume]) -> tuple[PlannedVolume, int]:
    """A volume and a plane of it: of a few that are looked at the first that has labels, else the first middle one."""
    for volume in volumes[:VOLUMES_TRIED]:
        if volume.labels is None:
            continue
        depth = volume.image.shape_czyx[1]
        for share in PLANES_TRIED:
            z = min(depth - 1, int(share * depth))
            if _plane(volume.labels, z).any():
                return volume, z
    return volumes[0], volumes[0].image.shape_czyx[1] // 2


def _picture(volume: PlannedVolume, z: int) -> tuple[bytes, tuple[int, ...]]:
    """A plane as PNG, at most PICTURE_SIDE wide, and the label values in it, of which there may be very many."""
    rows, columns = volume.image.shape_czyx[2:]
    step = -(-max(rows, columns) // PICTURE_SIDE)
    plane_cyx = _plane(volume.image, z)[:, ::step, ::step]
    values: tuple[int, ...] = ()
    # Three 8-bit channels are colours as they are; of anything else the first channel is shown in grey.
    if len(plane_cyx) == 3 and plane_cyx.dtype == np.uint8:
        rgb = plane_cyx.transpose(1, 2, 0).astype(np.float64)
    else:
        low, high = contrast_of(plane_cyx[0])
        grey = np.clip((plane_cyx[0].astype(np.float64) - low) / (high - low), 0, 1)
        rgb = np.repeat(np.nan_to_num(grey)[..., None] * 255, 3, axis=2)
    if volume.labels is not None:
        labels = _plane(volume.labels, z)[:, ::step, ::step]
        painted = len(labels) == 3
        ids = checks.colour_labels(labels) if painted else checks.whole_labels(labels[0], volume.labels.sources[0].name)
        values = tuple(np.unique(ids)[:MOST_VALUES].tolist())
        coloured = (labels.transpose(1, 2, 0) if painted else PALETTE[palette_entries(ids)]).astype(np.float64)
        rgb = np.where((ids > 0)[..., None], (1 - _OPACITY) * rgb + _OPACITY * coloured, rgb)
    encoded = io.BytesIO()
    Image.fromarray(np.rint(rgb).astype(np.uint8)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue(), values


def _plane(stack: Stack, z: int) -> NDArray[Any]:
    with stack.opened() as read_planes:
        return read_planes(z, z + 1)[:, 0]
