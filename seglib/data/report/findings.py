"""What was measured, put into words: what will hurt, of which volumes, and what to do about it."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.data.report.finding import Finding
from seglib.data.report.image_findings import image_findings
from seglib.data.report.label_findings import label_findings
from seglib.data.report.measure import PIECES, VolumeFacts
from seglib.data.report.signs import THUMBNAIL
from seglib.data.splits import Region, Shape, Split

TWINS = 0.97
TWIN_ROWS = 2000
# Beyond so many volumes, twins are looked for as they stand only, not turned.
TURNED_MOST = 3000


def find_problems(
    volumes: Sequence[VolumeFacts],
    class_names: Sequence[str],
    *,
    patch: Shape | None = None,
    split: Split | None = None,
) -> list[Finding]:
    """All that is worth saying about a data set.

    class_names: of the classes 1 … K. patch: (z, y, x) that will be drawn. split: regions by index into `volumes`.
    """
    found = [
        *image_findings(volumes),
        *label_findings(volumes, class_names, patch),
        *(_parts(volumes, class_names, split) if split else ()),
        *_twins(volumes, split),
    ]
    return sorted(found, key=lambda finding: finding.kind != "warning")


def class_shares(volumes: Sequence[VolumeFacts], regions: Sequence[Region]) -> dict[int, float]:
    """Class id -> share (0 … 1) of the annotated voxels of some regions; a part of a volume to 1/32 of its length."""
    counts: dict[int, float] = {}
    for region in regions:
        for value, count in _counts_in(volumes[region.volume], region).items():
            counts[value] = counts.get(value, 0.0) + count
    annotated = sum(count for value, count in counts.items() if value != IGNORE)
    return {value: count / annotated for value, count in counts.items() if value != IGNORE and annotated}


def _counts_in(facts: VolumeFacts, region: Region) -> dict[int, float]:
    """Voxels of each class in a region that is all of a volume, or a block along one axis of it."""
    if facts.labels is None:
        return {}
    cut = [axis for axis in range(3) if region.shape[axis] != facts.shape[axis]]
    if not cut:
        return {value: float(count) for value, count in facts.labels.counts.items()}
    axis = cut[0]
    edges = np.linspace(0, facts.shape[axis], PIECES + 1)
    inside = np.clip(np.minimum(edges[1:], region.stop[axis]) - np.maximum(edges[:-1], region.start[axis]), 0, None)
    shares = inside / np.diff(edges)
    return {value: float(np.dot(pieces[axis], shares)) for value, pieces in facts.labels.pieces.items()}


def _parts(volumes: Sequence[VolumeFacts], class_names: Sequence[str], split: Split) -> Iterator[Finding]:
    for regions, word, what in (
        (split.training, "learns from", "it cannot be learned"),
        (split.validation, "is judged on", "it cannot be judged"),
    ):
        shares = class_shares(volumes, regions)
        if not shares:
            continue
        names = class_names or ("foreground",)
        missing = [name for value, name in enumerate(names, 1) if not shares.get(value)]
        everywhere = {value for facts in volumes if facts.labels for value in facts.labels.counts}
        missing = [name for name in missing if names.index(name) + 1 in everywhere]
        if len(missing) == len(names):
            yield Finding("warning", f"What a run {word} holds nothing labelled: divide the data in another way.")
        elif missing:
            yield Finding(
                "warning",
                f"What a run {word} holds nothing of {', '.join(missing)}, so that {what}: divide the data in "
                "another way.",
            )


def _twins(volumes: Sequence[VolumeFacts], split: Split | None) -> Iterator[Finding]:
    """Volumes that look alike; across the split where there is one."""
    part = _part_of(len(volumes), split)
    sizes = {len(facts.signs.thumbnail) for facts in volumes} - {0}
    pairs: list[tuple[int, int]] = []
    for size in sizes:
        chosen = [index for index, facts in enumerate(volumes) if len(facts.signs.thumbnail) == size]
        pairs += _alike(np.array([volumes[index].signs.thumbnail for index in chosen], np.float32), chosen)
    if split is not None:
        pairs = [(a, b) for a, b in pairs if part[a] != part[b]]
    if not pairs:
        return
    a, b = pairs[0]
    more = f" (and {len(pairs) - 1:,} more {'pair' if len(pairs) == 2 else 'pairs'})" if len(pairs) > 1 else ""
    names = tuple(dict.fromkeys(volumes[index].name for pair in pairs for index in pair))
    if split is None:
        yield Finding("note", f"{volumes[a].name} and {volumes[b].name} look the same{more}.", names)
        return
    yield Finding(
        "warning",
        f"{volumes[a].name} ({part[a]}) and {volumes[b].name} ({part[b]}) look the same{more}: scores would be too "
        "good to be true. Put twins into one group, or remove them.",
        names,
    )


def _part_of(count: int, split: Split | None) -> list[str]:
    part = ["training"] * count
    if split:
        for name in ("training", "validation", "test"):
            for region in getattr(split, name):
                part[region.volume] = name
    return part


def _alike(thumbnails: NDArray[np.float32], chosen: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs whose thumbnails correlate; some rows at a time, as there may be very many."""
    normal = thumbnails - thumbnails.mean(1, keepdims=True)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    pairs: set[tuple[int, int]] = set()
    for turned in _turned(normal) if len(normal) <= TURNED_MOST else (normal,):
        for first in range(0, len(normal), TWIN_ROWS):
            likeness = turned[first : first + TWIN_ROWS] @ normal.T
            found = np.argwhere(likeness > TWINS)
            pairs |= {(chosen[first + row], chosen[column]) for row, column in found.tolist() if first + row < column}
    return sorted(pairs)


def _turned(thumbnails: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """The thumbnails as they would be of volumes that are mirrored or turned."""
    planes = thumbnails.reshape(len(thumbnails), -1, THUMBNAIL, THUMBNAIL)
    for quarter in range(4):
        turned = np.rot90(planes, quarter, axes=(2, 3))
        for mirrored in (turned, turned[..., ::-1]):
            for ordered in (mirrored, mirrored[:, ::-1])[: 1 if planes.shape[1] == 1 else 2]:
                yield ordered.reshape(len(thumbnails), -1)
