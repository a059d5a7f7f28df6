"""What runs have to show side by side."""

import numpy as np
import pytest

from seglib.data.volumes import TRUTH, create_labels, create_volume
from seglib.errors import DataError
from seglib.previews import differing, flatten, preview_facts

VOXEL = (40.0, 8.0, 8.0)


def preview(workspace, run: int, *, grey: int = 7, label: int = 1) -> None:
    path = workspace.preview(run)
    create_volume(path, name="preview", shape_czyx=(1, 2, 3, 4), dtype=np.uint8, voxel_size_nm=VOXEL)[:] = grey
    create_labels(path, TRUTH, shape_zyx=(2, 3, 4), dtype=np.uint8, voxel_size_nm=VOXEL)[:] = label


def test_previews_of_the_same_voxels_have_the_same_version(workspace):
    preview(workspace, 1)
    preview(workspace, 2)
    facts = preview_facts(workspace, 1)
    assert (facts.shape_zyx, facts.voxel_size_nm) == ((2, 3, 4), VOXEL)
    assert preview_facts(workspace, 2) == facts


@pytest.mark.parametrize("changes", [{"grey": 8}, {"label": 2}])
def test_other_voxels_or_labels_are_another_version(workspace, changes):
    preview(workspace, 1)
    preview(workspace, 2, **changes)
    assert preview_facts(workspace, 1).version != preview_facts(workspace, 2).version


def test_further_layers_do_not_change_the_version(workspace):
    preview(workspace, 1)
    before = preview_facts(workspace, 1)
    create_labels(workspace.preview(1), "step-1", shape_zyx=(2, 3, 4), dtype=np.uint8, voxel_size_nm=VOXEL)
    assert preview_facts(workspace, 1) == before


def test_a_run_without_a_preview_is_said(workspace):
    with pytest.raises(DataError, match="not in the workspace"):
        preview_facts(workspace, 3)


def test_a_nested_config_becomes_one_level():
    assert flatten({"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}) == {"a": 1, "b.c": [2], "b.d.e": None}


def test_only_settings_that_are_not_the_same_everywhere_differ():
    configs = [
        {"same": 1, "changed": 1, "nested": {"same": [1], "changed": [1]}},
        {"same": 1, "changed": 2, "nested": {"same": [1], "changed": [2]}, "only here": 0},
        {"same": 1, "changed": 1, "nested": {"same": [1], "changed": [1]}},
    ]
    assert differing(configs) == {"changed", "nested.changed", "only here"}
    assert differing(configs[:1]) == differing([]) == set()


def test_one_and_true_differ():
    assert differing([{"a": 1}, {"a": True}]) == {"a"}
