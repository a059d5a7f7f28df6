"""Which labels belong to which images, by their names: in linear time, and the same for any order of the files."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from seglib.data.conventions import Roles, Unit, plain_stem, some

_NUMBER = re.compile("[0-9]+")
Key = Callable[[Unit], Hashable | None]


@dataclass(frozen=True)
class Match:
    """Images and labels that belong together: one of each, several of one kind with one of the other, or no labels."""

    images: tuple[Unit, ...]
    labels: tuple[Unit, ...]


@dataclass
class _Bucket:
    """What is still to be matched, each in natural order, and what was."""

    images: list[Unit] = field(default_factory=list)
    labels: list[Unit] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)


def match(roles: Roles) -> tuple[list[Match], list[Unit], list[str]]:
    """Images with their labels, the labels that are left over, and what a person should check.

    roles: units in natural order. By the same name in the same folder, then by names without words such as _mask;
    unless only names count, also one with many, by the numbers in names, and at last by order where equally many.
    """
    buckets: dict[str, _Bucket] = defaultdict(_Bucket)
    for unit in roles.images:
        buckets[unit.bucket].images.append(unit)
    for unit in roles.labels:
        buckets[unit.bucket].labels.append(unit)
    by_number: list[Match] = []
    by_order: list[Match] = []
    stacked: list[Match] = []
    for bucket in buckets.values():
        _by_names(bucket)
        if not roles.by_name_only and bucket.images and bucket.labels:
            if not bucket.matches and not roles.separate:
                stacked += _one_with_many(bucket)
            by_number += _by_numbers(bucket)
            by_order += _by_order(bucket)
    matches = [found for bucket in buckets.values() for found in bucket.matches]
    matches += [Match((unit,), ()) for bucket in buckets.values() for unit in bucket.images]
    unused = [unit for bucket in buckets.values() for unit in bucket.labels]
    return matches, unused, [*map(_stack_note, stacked), *_notes(by_number, by_order)]


def _by_names(bucket: _Bucket) -> None:
    _take(bucket, lambda unit: (unit.inner, unit.stem), several=True)
    _take(bucket, lambda unit: (unit.inner, plain_stem(unit.stem)))
    if not _comparable(bucket):
        _take(bucket, lambda unit: plain_stem(unit.stem))


def _one_with_many(bucket: _Bucket) -> list[Match]:
    """The sections of one side belong to the stack of the other, where all lie in one folder."""
    many = max(bucket.images, bucket.labels, key=len)
    if min(len(bucket.images), len(bucket.labels)) == 1 < len(many) and len({unit.inner for unit in many}) == 1:
        bucket.matches.append(Match(tuple(bucket.images), tuple(bucket.labels)))
        bucket.images, bucket.labels = [], []
    return bucket.matches[:]


def _by_numbers(bucket: _Bucket) -> list[Match]:
    before = len(bucket.matches)
    _take(bucket, lambda unit: (unit.inner, found) if (found := _numbers(unit)) else None)
    _take(bucket, lambda unit: (unit.inner, found[-1]) if (found := _numbers(unit)) else None)
    if not _comparable(bucket):
        _take(bucket, lambda unit: found[-1] if (found := _numbers(unit)) else None)
    return bucket.matches[before:]


def _by_order(bucket: _Bucket) -> list[Match]:
    # Where some names match, those that do not are rather odd ones than pairs.
    if bucket.matches or len(bucket.images) != len(bucket.labels):
        return []
    pairs = [Match((image,), (label,)) for image, label in zip(bucket.images, bucket.labels, strict=True)]
    bucket.matches, bucket.images, bucket.labels = pairs, [], []
    return pairs if len(pairs) > 1 else []  # one of each leaves no doubt


def _take(bucket: _Bucket, key: Key, *, several: bool = False) -> None:
    """Moves pairs whose keys are the same, and no other's, to the matches; None is no key.

    several: also pair what has the same key more than once, in order.
    """
    if not bucket.images or not bucket.labels:
        return
    images, labels = _keyed(bucket.images, key), _keyed(bucket.labels, key)
    taken: set[int] = set()
    for found, units in images.items():
        partners = labels.get(found, [])
        if several or len(units) == len(partners) == 1:
            for image, label in zip(units, partners, strict=False):
                bucket.matches.append(Match((image,), (label,)))
                taken |= {id(image), id(label)}
    bucket.images = [unit for unit in bucket.images if id(unit) not in taken]
    bucket.labels = [unit for unit in bucket.labels if id(unit) not in taken]


def _keyed(units: Sequence[Unit], key: Key) -> dict[Hashable, list[Unit]]:
    keyed: dict[Hashable, list[Unit]] = defaultdict(list)
    for unit in units:
        if (found := key(unit)) is not None:
            keyed[found].append(unit)
    return keyed


def _comparable(bucket: _Bucket) -> bool:
    """Whether folders of images and of labels have the same names, so that a file of another folder is another's."""
    matched = [(found.images[0].inner, found.labels[0].inner) for found in bucket.matches]
    images = {unit.inner for unit in bucket.images} | {image for image, _ in matched}
    labels = {unit.inner for unit in bucket.labels} | {label for _, label in matched}
    return bool(images & labels)


def _numbers(unit: Unit) -> tuple[str, ...]:
    # As text without leading zeros: int() refuses very long numbers.
    return tuple(number.lstrip("0") for number in _NUMBER.findall(unit.stem))


def _stack_note(found: Match) -> str:
    many, one = sorted((found.images, found.labels), key=len, reverse=True)
    first, last = many[0].sources[0].name, many[-1].sources[0].name
    return f"{first} … {last} ({len(many):,} files) were taken as sections that belong to {one[0].sources[0].name}."


def _notes(by_number: Sequence[Match], by_order: Sequence[Match]) -> list[str]:
    notes = []
    if by_number:
        notes.append(f"Paired by the numbers in their names: {_example(by_number[0])}. Check the pairs.")
    if by_order:
        notes.append(
            f"Paired in the order of their names, which do not match: {_example(by_order[0])}. Check the pairs."
        )
    contradicting = [
        _example(found)
        for found in by_order
        if (a := set(_numbers(found.images[0]))) and (b := set(_numbers(found.labels[0]))) and not a & b
    ]
    if contradicting:
        notes.append(f"The numbers in the names contradict each other: {some(contradicting)}.")
    return notes


def _example(found: Match) -> str:
    return f"{found.images[0].sources[0].name} with {found.labels[0].sources[0].name}"
