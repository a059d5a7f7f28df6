"""Series of numbered files, such as the sections of a stack: what is missing, what is there twice, what is odd."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from seglib.data.conventions import folders_of, some
from seglib.data.readers import stem_of
from seglib.data.readers.base import SourceFile

FEWEST = 3
_MOST_NOTES = 20
# Numbers of 19 digits and more are no counts of anything; in pieces they stay quick to compare.
_NUMBERS = re.compile("([0-9]{1,18})")

Folder = tuple[str, ...]


@dataclass(frozen=True)
class _File:
    source: SourceFile
    words: tuple[str, ...]
    numbers: tuple[int, ...]


def series_folders(sources: Sequence[SourceFile]) -> set[Folder]:
    """Folders (as in the files' names) with at least three files whose names differ in one number only."""
    found = set()
    for folder, files in _by_folder(sources).items():
        if len(files) >= FEWEST and len({file.words for file in files}) == 1 and len(_changing(files)) == 1:
            found.add(folder)
    return found


def series_notes(sources: Sequence[SourceFile]) -> list[str]:
    """What a person should know of numbered files, folder by folder: gaps, numbers twice, names that do not fit.

    sources: in natural order. Numbers that are mostly not there, as those of samples, are no series.
    """
    notes: list[str] = []
    for files in _by_folder(sources).values():
        by_words: dict[tuple[str, ...], list[_File]] = defaultdict(list)
        for file in files:
            by_words[file.words].append(file)
        for alike in by_words.values():
            notes += _twice(alike)
            for run in _runs(alike):
                notes += _gaps(run)
        notes += _odd_ones(list(by_words.values()))
    more = len(notes) - _MOST_NOTES
    return [*notes[:_MOST_NOTES], f"… and {more:,} more such notes."] if more > 0 else notes


def _by_folder(sources: Sequence[SourceFile]) -> dict[Folder, list[_File]]:
    folders: dict[Folder, list[_File]] = defaultdict(list)
    for source in sources:
        parts = _NUMBERS.split(stem_of(source.name).casefold())
        folders[folders_of(source.name)].append(_File(source, tuple(parts[::2]), tuple(map(int, parts[1::2]))))
    return folders


def _changing(files: Sequence[_File]) -> list[int]:
    """Which of the numbers in the names differ between the files; all have equally many."""
    columns = zip(*(file.numbers for file in files), strict=True)
    return [place for place, values in enumerate(columns) if len(set(values)) > 1]


def _runs(files: Sequence[_File]) -> list[list[tuple[int, SourceFile]]]:
    """Files that differ in the last changing number only, each run ordered by it, without repetitions."""
    changing = _changing(files)
    if not changing:
        return []
    place = changing[-1]
    runs: dict[tuple[int, ...], dict[int, SourceFile]] = defaultdict(dict)
    for file in files:
        rest = file.numbers[:place] + file.numbers[place + 1 :]
        runs[rest].setdefault(file.numbers[place], file.source)
    return [sorted(run.items(), key=lambda item: item[0]) for run in runs.values() if len(run) >= FEWEST]


def _gaps(run: Sequence[tuple[int, SourceFile]]) -> list[str]:
    numbers = [number for number, _ in run]
    step = math.gcd(*(b - a for a, b in itertools.pairwise(numbers)))
    count = (numbers[-1] - numbers[0]) // step + 1 - len(numbers)
    if not 0 < count <= len(numbers):
        return []
    missing = [
        str(number) for a, b in itertools.pairwise(numbers) if b - a > step for number in range(a + step, b, step)
    ]
    what = "section" if count == 1 else "sections"
    verb = "is" if count == 1 else "are"
    return [
        f"{run[0][1].name} … {run[-1][1].name}: {what} {some(missing)} {verb} missing "
        f"({len(numbers):,} files, numbered {numbers[0]} to {numbers[-1]})."
    ]


def _twice(files: Sequence[_File]) -> list[str]:
    by_number: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for file in files:
        by_number[file.numbers].append(file.source.name)
    same = [" and ".join(names) for names in by_number.values() if len(names) > 1]
    return [f"The same number or name twice: {some(same)}. Leave one of them out."] if same else []


def _odd_ones(kinds: Sequence[Sequence[_File]]) -> list[str]:
    largest = max(kinds, key=len)
    odd = [file.source.name for kind in kinds if kind is not largest for file in kind]
    if len(largest) < FEWEST or not odd or len(odd) * FEWEST > len(largest):
        return []
    first, last = largest[0].source.name, largest[-1].source.name
    return [f"Not named like the others in their folder ({first} … {last}): {some(odd)}. Check whether they belong."]
