"""Deciding without torch: equal to a loop over voxels, and the classes of two sides matched by their names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seglib.config.labels import IGNORE
from seglib.inference.deciding import class_table, decide


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_voxel_is_its_likeliest_class_where_that_is_likely_enough(activation):
    random = np.random.default_rng(3)
    every = random.dirichlet(np.ones(4), 200).T.astype(np.float32)
    probabilities, limits = every[1:], (0.3, 0.5, 0.7)
    wanted = []
    for background, *classes in every.T.astype(float):
        best = int(np.argmax(classes))
        sure = classes[best] if activation == "sigmoid" else classes[best] / (classes[best] + background)
        wanted.append(best + 1 if sure > limits[best] else 0)
    np.testing.assert_array_equal(decide(probabilities, activation, limits), wanted)


def test_classes_are_matched_by_their_names_and_unknown_ones_are_background():
    table = class_table(("wall", "axon", "glia"), ("axon", "wall"))
    assert list(table[:4]) == [0, 2, 1, 0]
    assert table[IGNORE] == IGNORE
    assert not table[4:IGNORE].any()


def test_one_class_on_both_sides_is_the_same_whatever_it_is_called():
    assert list(class_table(("cell",), ("foreground",))[:3]) == [0, 1, 0]


def test_nothing_of_it_needs_torch():
    code = "import sys, seglib.inference.deciding; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
