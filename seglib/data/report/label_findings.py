"""What labels of a data set tell: whether there are any, where they lie, how rare and how large things are."""

from collections.abc import Iterator, Sequence

import numpy as np

from seglib.config.labels import IGNORE
from seglib.data.report.finding import Finding, names_of, size_text
from seglib.data.report.measure import VolumeFacts
from seglib.data.splits import Shape

THIN = 3.0
RARE, SCARCE = 1e-4, 0.02
SPECKS = 0.05
AXES = "zyx"


def label_findings(
    volumes: Sequence[VolumeFacts], class_names: Sequence[str], patch: Shape | None
) -> Iterator[Finding]:
    """All that can be said of labels and their objects, for patches (z, y, x) of that size."""
    yield from _labels(volumes, class_names)
    yield from _objects(volumes, patch)


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
    full = names_of(
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
        if total and RARE * total <= count < SCARCE * total:
            yield Finding(
                "note",
                f"Only {100 * count / total:.2g} % of the voxels are {name}: centre many patches on what is labelled, "
                "and choose a loss with Dice in it.",
            )
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
            f"Objects are only {objects.thickness:.2g} voxel{'s' * (objects.thickness > 1)} thick (median of "
            f"{facts.name}), which is too little to tell their shape: take images of a finer "
            "resolution if there are any, and a network of little depth.",
            tuple(facts.name for facts, _ in thin),
        )
    specks = [(facts, objects) for facts, objects in measured if objects.specks > SPECKS * objects.count]
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
            f"Objects are larger than a patch of {size_text(patch)} (one in ten reaches {sides} voxels): a network "
            "that never sees a whole one finds it hard. Take larger patches, or images of half the resolution.",
            tuple(
                facts.name
                for facts, objects in measured
                if any(objects.extents[axis] > patch[axis] < facts.shape[axis] for axis in beyond)
            ),
        )


def _classes(facts: VolumeFacts) -> dict[int, int]:
    assert facts.labels is not None
    return {value: count for value, count in facts.labels.counts.items() if value != IGNORE}


def _annotated(facts: VolumeFacts) -> int:
    return sum(_classes(facts).values()) if facts.labels else 0
