"""Which reader a file's name asks for."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from seglib.data.readers import READERS, SourceFile, ending_of, is_image, is_supported, open_image, stem_of
from seglib.errors import DataError


@pytest.mark.parametrize(
    ("name", "ending", "stem"),
    [
        ("a.TIF", ".tif", "a"),
        ("x/y.z/a.b.ome.tif", ".ome.tif", "a.b"),
        ("a.nii.gz", ".nii.gz", "a"),
        ("a.nii", ".nii", "a"),
        ("cells.ome.zarr", ".ome.zarr", "cells"),
        ("cells.zarr", ".zarr", "cells"),
        ("list.json", ".json", "list"),
        ("a.gz", "", "a.gz"),
        ("tif", "", "tif"),
        ("a.tif/b", "", "b"),
        ("a.tif\n", "", "a.tif\n"),
        (".tif", ".tif", ".tif"),
        ("", "", ""),
    ],
)
def test_the_longest_known_ending_counts_whatever_its_case(name, ending, stem):
    assert (ending_of(name), stem_of(name)) == (ending, stem)
    assert is_supported(name) == bool(ending)
    assert is_image(name) == (ending not in ("", ".json"))


@pytest.mark.parametrize("ending", READERS)
def test_every_ending_has_a_reader_that_refuses_what_is_missing(tmp_path, ending):
    module, function = READERS[ending]
    assert callable(getattr(import_module(f"seglib.data.readers.{module}"), function))
    with pytest.raises(DataError, match="missing"):
        open_image(SourceFile(tmp_path / f"missing{ending}", f"missing{ending}"))


def test_an_unknown_ending_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"a\.doc cannot be imported.*\.tif.*\.nii"):
        open_image(SourceFile(Path("a.doc"), "a.doc"))


def test_no_reader_is_loaded_before_it_is_needed():
    heavy = {"tifffile", "h5py", "zarr", "nibabel", "nrrd", "PIL"}
    code = f"import sys, seglib.data.readers; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(DataError, match="pipe or a device"):
        open_image(SourceFile(tmp_path / "a.tif", "a.tif"))
