"""The report of a data set: measured once in the background, kept in the workspace, put into words when asked."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from seglib.config import RunConfig
from seglib.config.labels import IGNORE, LabelScheme
from seglib.data.prefetch import Prefetcher
from seglib.data.report.finding import Finding
from seglib.data.report.findings import class_shares, find_problems
from seglib.data.report.measure import VolumeFacts, measure_volume, task_of
from seglib.data.splits import Member, Split, split_data
from seglib.data.volumes import open_volume
from seglib.errors import ConfigError, WorkCancelled
from seglib.store.datasets import DatasetRow
from seglib.training.advice import config_for, learned_volumes
from seglib.workspace import Workspace

VERSION = 1
MOST_THREADS = 4

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DatasetReport:
    """key: changes with the volumes and with how labels are read; volumes: in the order of the data set."""

    key: str
    volumes: tuple[VolumeFacts, ...]


_FORMAT = TypeAdapter(DatasetReport)


def make_report(
    workspace: Workspace,
    dataset: DatasetRow,
    *,
    progress: Progress = lambda done, total, text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DatasetReport:
    """Measures every volume, keeps the report and returns it. Raises WorkCancelled where that is asked for."""
    rows = dataset.volumes
    total = sum(row.shape_zyx[0] * (row.shape_czyx[0] + row.has_labels) for row in rows)
    done = 0

    def measured(index: int) -> VolumeFacts:
        nonlocal done

        def planes_done(planes: int) -> None:
            nonlocal done
            if cancelled():
                raise WorkCancelled("The report was cancelled.")
            done += planes
            progress(done, total, f"Measuring {rows[index].name}")

        volume = open_volume(workspace.volume(rows[index].id), group=rows[index].group)
        return measure_volume(volume, dataset.labels, planes_done=planes_done)

    threads = min(MOST_THREADS, os.cpu_count() or 1)
    with Prefetcher(measured, first=0, last=len(rows), threads=threads, ahead=2 * threads) as facts:
        report = DatasetReport(_key(dataset), tuple(facts.take() for _ in rows))
    _keep(workspace.report(dataset.id), report)
    return report


def stored_report(workspace: Workspace, dataset: DatasetRow) -> DatasetReport | None:
    """The report that was made before, or None where there is none of the data set as it is now."""
    try:
        report = _FORMAT.validate_json(workspace.report(dataset.id).read_bytes())
    except (OSError, ValidationError):  # it can be made again
        return None
    return report if report.key == _key(dataset) else None


def findings_of(report: DatasetReport, dataset: DatasetRow, config: RunConfig | None = None) -> list[Finding]:
    """What to say about a data set, for the settings given or for those that would be suggested."""
    if config is None:
        try:
            config = config_for(dataset)
        except ConfigError:
            return find_problems(report.volumes, _class_names(dataset.labels))
    split = split_of(dataset, config)
    return find_problems(report.volumes, _class_names(dataset.labels), patch=config.patches.shape, split=split)


def part_shares(report: DatasetReport, split: Split) -> dict[str, dict[int, float]]:
    """Part -> class id -> share (0 … 1) of the annotated voxels."""
    parts = {"training": split.training, "validation": split.validation, "test": split.test}
    return {name: class_shares(report.volumes, regions) for name, regions in parts.items() if regions}


def split_of(dataset: DatasetRow, config: RunConfig) -> Split | None:
    """The split of a run, with the numbers of the report's volumes; None where the data cannot be divided so."""
    used = learned_volumes(dataset, config)
    places = [index for index, row in enumerate(dataset.volumes) if row in used]
    members = [Member(row.name, row.shape_zyx, row.group) for row in used]
    try:
        split = split_data(members, config.split, config.length.seed)
    except (ConfigError, ValueError):
        return None
    parts = (split.training, split.validation, split.test)
    return Split(*(tuple(replace(region, volume=places[region.volume]) for region in part) for part in parts))


def class_name(labels: LabelScheme, value: int) -> str:
    """What a class id of the report stands for."""
    if value == IGNORE:
        return "not annotated"
    return ("background", *_class_names(labels))[value]


def _class_names(labels: LabelScheme) -> tuple[str, ...]:
    return labels.names(task_of(labels)) if labels.kind != "none" else ()


def _key(dataset: DatasetRow) -> str:
    facts = [VERSION, dataset.labels.model_dump(mode="json"), [(row.id, row.fingerprint) for row in dataset.volumes]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _keep(path: Path, report: DatasetReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(_FORMAT.dump_json(report))
    unfinished.replace(path)
