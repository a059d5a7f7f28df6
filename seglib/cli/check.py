"""`python -m seglib check`: the report of a data set as text."""

import argparse
import json
from dataclasses import asdict

import numpy as np

from seglib.config.labels import IGNORE, LabelScheme
from seglib.data.report.measure import VolumeFacts
from seglib.data.splits import describe
from seglib.data.volumes import voxel_text
from seglib.errors import ConfigError
from seglib.report import DatasetReport, Progress, class_name, findings_of, make_report, split_of, stored_report
from seglib.store import Store
from seglib.store.datasets import DatasetRow, get_dataset
from seglib.training.advice import config_for
from seglib.workspace import Workspace

BLOCKS = " ▁▂▃▄▅▆▇█"
LISTED = 50


def add_check(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("dataset", type=int, help="id of the data set")
    command.add_argument("--json", action="store_true", help="everything that was measured, for another program")
    command.add_argument("--again", action="store_true", help="measure anew, though it was done before")


def check(parsed: argparse.Namespace, workspace: Workspace, store: Store, progress: Progress) -> str:
    """The report, measured first where it is not there. Raises SeglibError where it cannot be made."""
    dataset = get_dataset(store, parsed.dataset)
    report = None if parsed.again else stored_report(workspace, dataset)
    report = report or make_report(workspace, dataset, progress=progress)
    if parsed.json:
        found = [asdict(finding) for finding in findings_of(report, dataset)]
        return json.dumps({"findings": found, "volumes": [asdict(facts) for facts in report.volumes]})
    return "\n".join(_lines(report, dataset))


def _lines(report: DatasetReport, dataset: DatasetRow) -> list[str]:
    lines = [f"Data set {dataset.id}: {dataset.name}, {len(report.volumes):,} volumes"]
    for facts in report.volumes[:LISTED]:
        lines += _volume_lines(facts, dataset.labels)
    if len(report.volumes) > LISTED:
        lines.append(f"… and {len(report.volumes) - LISTED:,} more")
    lines.append(_parts(dataset))
    found = findings_of(report, dataset)
    for finding in found:
        names = ", ".join(finding.volumes[:5]) + (" …" if len(finding.volumes) > 5 else "")
        lines.append(f"{finding.kind}: {finding.text}" + (f" ({names})" if names else ""))
    if not found:
        lines.append("Nothing stands out.")
    return lines


def _parts(dataset: DatasetRow) -> str:
    """Which volumes would train and judge, by the settings that are suggested."""
    try:
        split = split_of(dataset, config_for(dataset))
    except ConfigError:
        return "Without labels there is nothing to train on."
    if split is None:
        return "The data cannot be divided into training and validation."
    parts = []
    for word, regions in (("would train", split.training), ("would judge", split.validation)):
        named = [
            f"{dataset.volumes[region.volume].name} ({describe(region, dataset.volumes[region.volume].shape_zyx)})"
            for region in regions
        ]
        more = f" and {len(named) - 5:,} more" if len(named) > 5 else ""
        parts.append(f"{word}: {', '.join(named[:5])}{more}")
    return f"By the suggested split, {'; '.join(parts)}"


def _volume_lines(facts: VolumeFacts, labels: LabelScheme) -> list[str]:
    voxel = voxel_text(facts.voxel_size_nm, " × ")
    shape = " × ".join(map(str, facts.shape))
    lines = [f"{facts.name}: {shape} {facts.dtype}, {facts.channels} channel(s), voxels {voxel} nm (z × y × x)"]
    for grey in facts.grey:
        stuck = f", stuck {100 * grey.black:.2g} % black and {100 * grey.white:.2g} % white"
        lines.append(f"  grey {grey.low:g} to {grey.high:g}, mean {grey.mean:.4g}{stuck}  {_bars(grey.counts)}")
    if facts.labels is None:
        return [*lines, "  no labels"]
    annotated = sum(count for value, count in facts.labels.counts.items() if value != IGNORE)
    shares = [
        f"{class_name(labels, value)} {100 * count / annotated:.3g} %"
        for value, count in sorted(facts.labels.counts.items())
        if value != IGNORE and annotated
    ]
    lines.append(f"  {', '.join(shares)}  by plane {_bars(facts.labels.planes)}")
    objects = facts.labels.objects
    if objects and objects.count:
        five, half, most = objects.diameters_nm
        lines.append(
            f"  {objects.count:,} objects, diameter {half:.4g} nm (90 % between {five:.4g} and {most:.4g})  "
            f"{_bars(objects.counts)}"
        )
    return lines


def _bars(values: tuple[float, ...], width: int = 32) -> str:
    """Numbers as a row of bars, the largest as high as a line."""
    sums = [float(np.sum(part)) for part in np.array_split(np.array(values, float), min(width, max(1, len(values))))]
    most = max(sums, default=0.0)
    return "".join(BLOCKS[int(np.ceil(value / most * (len(BLOCKS) - 1)))] if most else " " for value in sums)
