"""`config` on the command line: JSON that can be read again on stdout, reasons on stderr."""

import json

import pytest

from seglib.__main__ import main
from seglib.config import parse_run_config
from seglib.report import stored_report
from seglib.store.datasets import get_dataset
from seglib.training.advice import config_for, recipe_for, suggestion_for


@pytest.fixture
def settings(capsys):
    """Runs `config`; gives exit status, the settings printed, and the lines on stderr."""

    def go(*arguments):
        status = main(["config", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, parse_run_config(json.loads(out)), err.splitlines()

    return go


def test_plain_settings_have_no_reasons(settings, store, dataset):
    assert settings(dataset) == (0, config_for(get_dataset(store, dataset)), [])


def test_suggested_settings_measure_the_data_first(settings, workspace, store, dataset):
    row = get_dataset(store, dataset)
    assert stored_report(workspace, row) is None
    status, config, lines = settings(dataset, "--suggest")
    report = stored_report(workspace, row)
    found = suggestion_for(row, report.volumes)
    assert (status, config.model) == (0, found.config.model)
    assert len(lines) == len(found.reasons)
    assert lines[0].startswith("data.task: The labels tell 2 classes apart")


def test_a_recipe_is_fitted_to_the_data(settings, store, dataset):
    found = recipe_for(get_dataset(store, dataset), "fly-brain")
    status, config, lines = settings(dataset, "--recipe", "fly-brain")
    assert (status, config) == (0, found.config)
    assert lines == [f"{reason.field}: {reason.text}" for reason in found.reasons]


def test_it_is_one_or_the_other(dataset, capsys):
    with pytest.raises(SystemExit):
        main(["config", str(dataset), "--suggest", "--recipe", "fly-brain"])
    assert "not allowed with" in capsys.readouterr().err
