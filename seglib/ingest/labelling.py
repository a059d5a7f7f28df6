"""How the labels of a new data set are read, decided from what they hold and what the person said."""

from collections import Counter
from collections.abc import Mapping, Sequence

from seglib.config.labels import LabelClass, LabelKind, LabelScheme
from seglib.data import checks
from seglib.data.planning import ImportRequest
from seglib.errors import DataError
from seglib.ingest.staging import MOST_COUNTED, LabelFacts

_OFTEN_IGNORED = 255


def read_labels(
    request: ImportRequest, facts: Sequence[LabelFacts]
) -> tuple[LabelScheme, dict[int, int] | None, tuple[str, ...]]:
    """The scheme of a data set, voxels of each label value in all volumes (None for too many values), and notes.

    facts: of the volumes that have labels.
    Raises DataError where there is nothing to learn, or too many values for the classes asked for.
    """
    if not facts:
        return LabelScheme(kind="none"), None, ()
    counts = _total(facts)
    different = max(f.objects for f in facts) if counts is None else len(counts.keys() - {0})
    if counts is not None and len(counts) == 1:
        raise DataError(
            f"Every label has the value {next(iter(counts))}, so there is nothing to learn. Mark something and leave "
            "the rest at 0 (background), or import without labels."
        )
    kind, notes = _kind(request, facts, different)
    ignore = _ignored(request, facts)
    notes += [
        f"Labels stored as {dtype} were converted to whole numbers."
        for dtype in sorted({f.dtype for f in facts})
        if dtype[0] != "u"
    ]
    if kind == "instances":
        return LabelScheme(kind="instances", ignore=ignore), counts, (*notes, *_instance_notes(facts, counts))
    if counts is None:
        raise _too_many(different)
    colours = {value: colour for f in facts for value, colour in f.colours.items()}
    scheme, more = _classes(counts, request.class_names, ignore, colours)
    return scheme, counts, (*notes, *more)


def _total(facts: Sequence[LabelFacts]) -> dict[int, int] | None:
    total: Counter[int] = Counter()
    for found in facts:
        if found.counts is None:
            return None
        total.update(found.counts)
    return dict(sorted(total.items())) if len(total) <= MOST_COUNTED else None


def _kind(request: ImportRequest, facts: Sequence[LabelFacts], different: int) -> tuple[LabelKind, list[str]]:
    """The kind asked for, else a guess and why."""
    if request.label_kind == "auto" and request.class_names:
        return "classes", []
    if request.label_kind == "auto":
        seen, compact = sum(f.seen for f in facts), sum(f.compact for f in facts)
        kind, why = checks.guess_label_kind(different, seen=seen, compact=compact)
        return kind, [f"The labels were taken as {kind}: {why}. If that is wrong, change it under Labels."]
    if request.label_kind == "classes" and different > checks.MAX_CLASSES:
        raise _too_many(different)
    return request.label_kind, []


def _too_many(different: int) -> DataError:
    return DataError(
        f"The labels have {different:,} different values, but there can be {checks.MAX_CLASSES} classes. "
        "Choose instances if each object has its own number."
    )


def _ignored(request: ImportRequest, facts: Sequence[LabelFacts]) -> tuple[int, ...]:
    marked = {f.not_annotated for f in facts if f.not_annotated is not None}
    return tuple(sorted({*request.ignore, *marked} - set(request.class_names)))


def _instance_notes(facts: Sequence[LabelFacts], counts: Mapping[int, int] | None) -> list[str]:
    notes = []
    if max(f.objects for f in facts) == 1:
        notes.append("No volume has more than one object. If the labels are a mask, change them to classes.")
    if counts is not None and 0 not in counts:
        notes.append(
            "No voxel has the value 0 (background), so every voxel belongs to an object. If one value is background, "
            "say so under Labels."
        )
    return notes


def _classes(
    counts: Mapping[int, int], names: Mapping[int, str], ignore: tuple[int, ...], colours: Mapping[int, str]
) -> tuple[LabelScheme, list[str]]:
    values = [value for value in counts if value not in ignore]
    notes = []
    background = 0
    if 0 not in values and not names and len(values) > 1:
        background = values[0]
        notes.append(
            f"No voxel has the value 0, so the lowest, {background}, was taken as background. If it is a class, or "
            "means not annotated, say so under Labels."
        )
    if not names and _looks_ignored(values):
        ignore = (*ignore, _OFTEN_IGNORED)
        notes.append(
            f"The value {_OFTEN_IGNORED} was taken as not annotated: the others are 0 to {values[-2]}. If it is a "
            "class, say so under Labels."
        )
    wanted = [value for value in values if value != background and value not in ignore]
    # A class that is named but does not occur here may occur in the next data set.
    wanted += [value for value in names if value not in counts and value != background]
    if len(wanted) > checks.MAX_CLASSES:
        raise _too_many(len(wanted))
    single = len(wanted) == 1
    classes, used = [], set()
    for value in sorted(wanted):
        name = names.get(value) or _class_name(value, single=single)
        name = name if name not in used else f"{name} ({value})"
        used.add(name)
        colour = checks.colour_code(value) or colours.get(value, "")
        classes.append(LabelClass(name=name[:80], colour=colour, values=(value,)))
    return LabelScheme(kind="classes", classes=tuple(classes), ignore=ignore), notes


def _looks_ignored(values: Sequence[int]) -> bool:
    """Whether 255 stands apart from values counted from 0, as in label maps that mark the unknown with it."""
    return len(values) > 2 and values[-1] == _OFTEN_IGNORED and list(values[:-1]) == list(range(len(values) - 1))


def _class_name(value: int, *, single: bool) -> str:
    if colour := checks.colour_code(value):
        return f"colour {colour}"
    return "foreground" if single else f"class {value}"
