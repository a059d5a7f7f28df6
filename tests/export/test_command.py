"""`python -m seglib export-prediction`: the file where it was asked for, or one line that says why not."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from seglib.__main__ import EXIT_BAD_INPUT, main
from seglib.data.volumes import open_labels


def test_a_prediction_is_written_where_it_is_asked_for(trained, tmp_path, capsys):
    path = tmp_path / "labels.ome.tif"
    assert main(["export-prediction", "2", "--layer", "labels", "--format", "ome-tiff", "--output", str(path)]) == 0
    assert f"Written: {path}" in capsys.readouterr().out
    labels = open_labels(trained.prediction(2) / "labels.zarr", "prediction")[:]
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    left = sorted(one.name for one in trained.prediction(2).iterdir())
    assert left == ["labels.zarr", "probabilities.zarr", "result.json"]


def test_a_movie_takes_its_rate_from_the_options(trained, tmp_path):
    path = tmp_path / "a.gif"
    assert main(["export-prediction", "2", "--format", "gif", "--fps", "4", "--filled", "--output", str(path)]) == 0
    with Image.open(path) as movie:
        assert (movie.n_frames, movie.info["duration"]) == (8, 250)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1"], "Run 1 is a training"),
        (["99"], "99"),
        (["2", "--layer", "uncertainty"], "has no uncertainty"),
        (["2", "--layer", "uncertainty", "--format", "mp4"], "only be made of labels"),
        (["2", "--format", "png", "--plane", "8"], "planes 0 to 7"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(trained, tmp_path, capsys, arguments, said):
    assert main(["export-prediction", *arguments, "--output", str(tmp_path / "out")]) == EXIT_BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_said(trained, tmp_path, capsys):
    assert main(["export-prediction", "2", "--output", str(tmp_path / "no" / "a.tif")]) == EXIT_BAD_INPUT
    assert "make it first" in capsys.readouterr().err
