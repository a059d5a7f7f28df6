"""What was measured, put into words: what will hurt, of which volumes, and what to do about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.data.report.measure import PIECES, VolumeFacts
from seglib.data.splits import Region, Shape, Split

CLIPPED = 0.01
TWINS = 0.97
TWIN_ROWS = 2000
THIN = 3.0
RARE = 1e-4
FEW_OBJECTS = 5
AXES = "zyx"


@dataclass(frozen=True)
class Finding:
    """One sentence or two, of some volumes, by name. kind: a `warning` is to be acted upon, a `note` to be known."""

    kind: Literal["warning", "note"]
    text: str
    volumes: tuple[str, ...] = ()


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
        *_sizes(volumes),
        *_grey_values(volumes),
        *_edges(volumes),
        *_labels(volumes, class_names),
        *_objects(volumes, patch),
    ]
    if split is not None:
        found += [*_parts(volumes, class_names, split), *_twins(volumes, split)]
    else:
        found += _twins(volumes, None)
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


def _sizes(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    shapes = sorted({facts.shape for facts in volumes})
    if len(shapes) > 1:
        small, large = min(shapes, key=np.prod), max(shapes, key=np.prod)
        yield Finding(
            "note",
            f"Volumes differ in size, from {_text(small)} to {_text(large)} voxels (z × y × x). That is fine: patches "
            "are drawn from each, and where one is smaller than a patch its edges are mirrored.",
        )
    sizes = sorted({facts.voxel_size_nm for facts in volumes})
    if len(sizes) > 1:
        ratio = max(max(s[axis] for s in sizes) / min(s[axis] for s in sizes) for axis in range(3))
        yield Finding(
            "warning" if ratio > 1.2 else "note",
            f"Voxel sizes differ, up to {ratio:.3g} times: the same object has other sizes in voxels. Keep what was "
            "taken at another resolution in a data set of its own, or resample it before the import.",
            _names(volumes, lambda facts: facts.voxel_size_nm != volumes[0].voxel_size_nm),
        )
    channels = {facts.channels for facts in volumes}
    if len(channels) > 1:
        yield Finding(
            "warning",
            "Volumes differ in their number of channels, and a network takes one number: import them as several data "
            "sets.",
            _names(volumes, lambda facts: facts.channels != volumes[0].channels),
        )
    deep = max((facts.anisotropy for facts in volumes if facts.shape[0] > 1), default=1.0)
    if deep > 1.5:
        yield Finding(
            "note",
            f"Voxels are {deep:.3g} times as deep as wide: patches of fewer planes than rows are suggested, and "
            "augmentation turns them in the plane only.",
        )


def _grey_values(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    for end, word in (("white", "bright"), ("black", "dark")):
        clipped = [facts for facts in volumes if max(getattr(grey, end) for grey in facts.grey) > CLIPPED]
        if clipped:
            most = max(getattr(grey, end) for facts in clipped for grey in facts.grey)
            yield Finding(
                "warning",
                f"Up to {100 * most:.2g} % of the voxels are stuck at the {word}est value: the detector was saturated "
                "or contrast was cut off, and what was there is lost. Expose less, or export without stretching.",
                tuple(facts.name for facts in clipped),
            )
    flat = _names(volumes, lambda facts: any(grey.low == grey.high for grey in facts.grey))
    if flat:
        yield Finding("warning", "An image of a single grey value shows nothing: leave it out.", flat)
    broken = _names(volumes, lambda facts: any(grey.broken for grey in facts.grey))
    if broken:
        yield Finding(
            "warning",
            "There are values that are no finite numbers (NaN or infinity). They are taken as black; export them anew "
            "if they are many.",
            broken,
        )
    for sign in sorted({facts.signs.dtype for facts in volumes} - {""}):
        harmless = "no harm" in sign
        yield Finding(
            "note" if harmless else "warning",
            f"The image {sign}.{'' if harmless else ' Export it anew, or import the right file.'}",
            _names(volumes, lambda facts, sign=sign: facts.signs.dtype == sign),  # type: ignore[misc]
        )


def _edges(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    writing = _names(volumes, lambda facts: any(not bar.constant for bar in facts.signs.bars))
    if writing:
        yield Finding(
            "warning",
            f"There seems to be an instrument bar{_where(volumes, constant=False)}. Crop it off before the import, "
            "else it is learned from and judged as if it were image.",
            writing,
        )
    constant = _names(volumes, lambda facts: any(bar.constant for bar in facts.signs.bars))
    if constant:
        yield Finding(
            "warning",
            f"There is an empty border{_where(volumes, constant=True)}. Crop it off, or label it as a value that is "
            "not annotated, so that it does not count.",
            constant,
        )


def _where(volumes: Sequence[VolumeFacts], *, constant: bool) -> str:
    """“, 60 rows at the bottom”, where all have the same."""
    places = {(bar.width, bar.edge) for facts in volumes for bar in facts.signs.bars if bar.constant == constant}
    if len(places) > 4:
        return ""
    words = [
        f"{width} {'rows at the' if edge in ('top', 'bottom') else 'columns on the'} {edge}" for width, edge in places
    ]
    return ", " + " and ".join(sorted(words))


def _labels(volumes: Sequence[VolumeFacts], class_names: Sequence[str]) -> Iterator[Finding]:
    labelled = [facts for facts in volumes if facts.labels is not None]
    empty = tuple(facts.name for facts in labelled if facts.labels and not facts.labels.labelled)
    if empty:
        yield Finding(
            "warning",
            "The labels hold background only. If there is nothing to see this teaches what background is; otherwise "
            "the wrong file was paired.",
            empty,
        )
    full = _names(
        labelled, lambda f: f.labels is not None and _annotated(f) > 0 and max(_classes(f).values()) == _annotated(f)
    )
    full = tuple(name for name in full if name not in empty)
    if full:
        yield Finding(
            "warning",
            "Every voxel has the same label, so that nothing can be told apart: look at how values are read under "
            "Labels.",
            full,
        )
    shifted = [facts for facts in labelled if facts.signs.shift]
    if shifted:
        z, y, x = shifted[0].signs.shift or (0, 0, 0)
        yield Finding(
            "warning",
            f"Labels seem to lie beside the image: outlines would fall on edges if labels moved by z {z:+d}, y {y:+d}, "
            f"x {x:+d} voxels (of {shifted[0].name}). Look at them in the viewer, and export both at the same place.",
            tuple(facts.name for facts in shifted),
        )
    total = sum(_annotated(facts) for facts in labelled)
    for value, name in enumerate(class_names, 1):
        count = sum(facts.labels.counts.get(value, 0) for facts in labelled if facts.labels)
        if total and 0 < count < RARE * total:
            yield Finding(
                "warning",
                f"The class {name} has only {count:,} voxels, {100 * count / total:.2g} % of all: draw patches by "
                "class, or it is hardly ever met.",
            )


def _objects(volumes: Sequence[VolumeFacts], patch: Shape | None) -> Iterator[Finding]:
    measured = [
        (facts, facts.labels.objects)
        for facts in volumes
        if facts.labels and facts.labels.objects and facts.labels.objects.count
    ]
    thin = [(facts, objects) for facts, objects in measured if objects.thickness < THIN]
    if thin:
        facts, objects = min(thin, key=lambda pair: pair[1].thickness)
        yield Finding(
            "warning",
            f"Objects are only {objects.thickness:.2g} voxels thick (median of {facts.name}), which is too little to "
            "tell their shape: take images of a finer resolution if there are any, and a network of little depth.",
            tuple(facts.name for facts, _ in thin),
        )
    specks = [(facts, objects) for facts, objects in measured if objects.specks > 0.05 * objects.count]
    if specks:
        count = sum(objects.specks for _, objects in specks)
        yield Finding(
            "warning",
            f"{count:,} objects have fewer than four voxels: most likely left-overs of the annotation. Remove them in "
            "the labels, as each counts as much as a real one.",
            tuple(facts.name for facts, _ in specks),
        )
    if patch is None or not measured:
        return
    extents = np.max([objects.extents for _, objects in measured], axis=0)
    room = np.max([facts.shape for facts, _ in measured], axis=0)
    beyond = [axis for axis in range(3) if extents[axis] > patch[axis] < room[axis]]
    if beyond:
        sides = ", ".join(f"{AXES[axis]} {extents[axis]}" for axis in beyond)
        yield Finding(
            "warning",
            f"Objects are larger than a patch of {_text(patch)} (one in ten reaches {sides} voxels): a network that "
            "never sees a whole one finds it hard. Take larger patches, or images of half the resolution.",
        )


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
            yield Finding("warning", f"What the run {word} holds nothing labelled: divide the data in another way.")
        elif missing:
            yield Finding(
                "warning",
                f"What the run {word} holds nothing of {', '.join(missing)}, so that {what}: divide the data in "
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
    more = f" and {len(pairs) - 1:,} more pairs" if len(pairs) > 1 else ""
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
    pairs = []
    for first in range(0, len(normal), TWIN_ROWS):
        likeness = normal[first : first + TWIN_ROWS] @ normal.T
        for row, column in np.argwhere(likeness > TWINS).tolist():
            if first + row < column:
                pairs.append((chosen[first + row], chosen[column]))
    return pairs


def _classes(facts: VolumeFacts) -> dict[int, int]:
    assert facts.labels is not None
    return {value: count for value, count in facts.labels.counts.items() if value != IGNORE}


def _annotated(facts: VolumeFacts) -> int:
    return sum(_classes(facts).values()) if facts.labels else 0


def _names(volumes: Sequence[VolumeFacts], test: Callable[[VolumeFacts], bool]) -> tuple[str, ...]:
    return tuple(facts.name for facts in volumes if test(facts))


def _text(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
