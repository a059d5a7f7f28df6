"""The report of a data set is made once, kept, forgotten when the data change, and read by the pages and commands."""

import json

import numpy as np
import pytest

import seglib.report
from seglib.__main__ import main
from seglib.config import VolumeSplitConfig
from seglib.config.labels import LabelClass, LabelScheme
from seglib.errors import WorkCancelled
from seglib.report import class_name, findings_of, make_report, part_shares, split_of, stored_report
from seglib.store.datasets import get_dataset, set_labels
from tests.conftest import import_two_classes, small_config


@pytest.fixture
def row(store, dataset):
    return get_dataset(store, dataset)


def test_a_report_is_kept_and_read_again(workspace, row):
    assert stored_report(workspace, row) is None
    said = []
    report = make_report(workspace, row, progress=lambda *news: said.append(news))
    assert stored_report(workspace, row) == report
    assert [facts.name for facts in report.volumes] == ["leaf1", "leaf2"]
    assert {news[1] for news in said} == {2 * 2 * 8}
    assert max(news[0] for news in said) == 32


def test_it_is_forgotten_when_labels_are_read_in_another_way_or_it_is_damaged(workspace, store, row):
    make_report(workspace, row)
    scheme = LabelScheme(kind="classes", classes=(LabelClass(name="all", values=(1, 2)),))
    set_labels(store, row.id, scheme)
    assert stored_report(workspace, get_dataset(store, row.id)) is None
    workspace.report(row.id).write_text('{"key": 3}')
    assert stored_report(workspace, row) is None


def test_a_report_that_is_stopped_is_not_kept(workspace, row):
    with pytest.raises(WorkCancelled):
        make_report(workspace, row, cancelled=lambda: True)
    assert stored_report(workspace, row) is None


def test_parts_have_the_shares_that_their_voxels_have(workspace, row, dataset):
    report = make_report(workspace, row)
    config = small_config(dataset, split=VolumeSplitConfig())
    split = split_of(row, config)
    shares = part_shares(report, split)
    for part in ("training", "validation"):
        (region,) = getattr(split, part)
        counts = report.volumes[region.volume].labels.counts
        total = sum(counts.values())
        assert shares[part] == {value: pytest.approx(count / total) for value, count in counts.items()}
    assert class_name(row.labels, 0) == "background"
    assert class_name(row.labels, 1) == row.labels.classes[0].name


def test_volumes_without_labels_do_not_move_the_split(workspace, store, row, monkeypatch):
    """Regions are counted among labelled volumes, facts among all."""
    from dataclasses import replace

    bare = replace(row.volumes[0], has_labels=False)
    mixed = replace(row, volumes=(bare, *row.volumes))
    split = split_of(mixed, small_config(row.id, split=VolumeSplitConfig()))
    assert {region.volume for part in (split.training, split.validation) for region in part} == {1, 2}
    assert split_of(replace(row, volumes=row.volumes[:1]), small_config(row.id, split=VolumeSplitConfig())) is None


def test_data_without_labels_have_a_report_too(workspace, store, tmp_path):
    bare = get_dataset(store, import_two_classes(workspace, store, tmp_path / "bare", labelled=False))
    report = make_report(workspace, bare)
    assert all(facts.labels is None for facts in report.volumes)
    assert isinstance(findings_of(report, bare), list)


def test_the_command_prints_it_and_makes_it_once(workspace, row, capsys, monkeypatch):
    command = ["--workspace", str(workspace.root), "check", str(row.id)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "Leaves, 2 volumes" in text
    assert "leaf1: 8 × 32 × 32 uint8, 1 channel(s), voxels 40 × 10 × 10 nm" in text
    assert "4 times as deep as wide" in text

    def never(*_, **__):
        raise AssertionError("It was measured before.")

    monkeypatch.setattr(seglib.report, "measure_volume", never)
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [volume["name"] for volume in told["volumes"]] == ["leaf1", "leaf2"]
    assert np.sum(told["volumes"][0]["grey"][0]["counts"]) == 8 * 32 * 32
    assert {finding["kind"] for finding in told["findings"]} <= {"warning", "note"}
    with pytest.raises(AssertionError, match="measured before"):
        main([*command, "--again"])
    assert main(["--workspace", str(workspace.root), "check", "99"]) == 2
