"""Groups of runs: queued together, judged together, gone with their last run."""

import numpy as np
import pytest

from seglib.errors import StoreError
from seglib.store import groups
from seglib.store.groups import combined, create_group, get_group, list_groups, list_members
from seglib.store.metrics import Point, add_batch
from seglib.store.runs import CheckpointRow, claim, create_run, delete_run, end_run, get_run, list_runs, set_checkpoint


def three(store, name: str = "Three") -> tuple[int, list[int]]:
    runs = [(f"{name} {fold}", {"fold": fold}) for fold in (1, 2, 3)]
    return create_group(store, name=name, runs=runs, device="cpu")


def judged(store, run: int, best: int, scores: dict[int, dict[str, float | None]]) -> None:
    """Validations of a run, step -> scores, of which that of step `best` has the best checkpoint."""
    points = [Point(step, step, f"val/{name}", value, 0.0) for step, found in scores.items()
              for name, value in found.items()]  # fmt: skip
    add_batch(store, run, points=[*points, Point(best, 1, "train/dice", 0.99, 0.0)])
    set_checkpoint(store, CheckpointRow(run, "best", best, best, 0.5, "0" * 64, 0.0))


def test_the_runs_of_a_group_are_queued_in_order_and_know_it(store):
    alone = create_run(store, "train", name="alone", config={}, device="cpu")
    group, runs = three(store)
    rows = [get_run(store, run) for run in runs]
    assert [(row.name, row.config, row.status, row.kind, row.group_id) for row in rows] == [
        (f"Three {fold}", {"fold": fold}, "queued", "train", group) for fold in (1, 2, 3)
    ]
    assert get_run(store, alone).group_id is None
    assert [member.run.id for member in list_members(store, group)] == runs
    assert [run.id for run in list_runs(store, group_id=group)] == runs[::-1]


def test_all_runs_of_a_group_are_queued_or_none(store, monkeypatch):
    insert, made = groups.insert_run, []

    def failing(*arguments, **more):
        made.append(insert(*arguments, **more))
        if len(made) == 2:
            raise OSError("the disk is full")
        return made[-1]

    monkeypatch.setattr(groups, "insert_run", failing)
    with pytest.raises(OSError, match="disk is full"):
        three(store)
    assert (list_runs(store), list_groups(store)) == ([], [])


def test_groups_are_listed_newest_first_with_how_many_runs_they_have(store):
    three(store, "older")
    three(store, "newer")
    assert [(group.id, group.name, group.runs) for group in list_groups(store)] == [(2, "newer", 3), (1, "older", 3)]
    assert get_group(store, 1).name == "older"
    with pytest.raises(StoreError, match="no group of runs 9"):
        get_group(store, 9)


def test_scores_are_those_of_the_best_checkpoint_and_their_spread_is_the_samples(store):
    group, runs = three(store)
    judged(store, runs[0], 4, {2: {"dice": 0.2, "loss": 0.9}, 4: {"dice": 0.8, "loss": 0.5}, 6: {"dice": 0.3}})
    judged(store, runs[1], 2, {2: {"dice": 0.6, "loss": 0.1, "dice/nerve": 0.25}, 4: {"dice": 0.1}})
    members = list_members(store, group)
    assert [dict(member.scores) for member in members] == [
        {"dice": 0.8, "loss": 0.5},
        {"dice": 0.6, "loss": 0.1, "dice/nerve": 0.25},
        {},
    ]
    assert members[2].best is None
    found = combined(members)
    assert (found["dice"].mean, found["dice"].count) == (pytest.approx(0.7), 2)
    assert found["dice"].deviation == pytest.approx(np.std([0.8, 0.6], ddof=1))
    assert found["loss"].mean == pytest.approx(0.3)
    assert (found["dice/nerve"].mean, found["dice/nerve"].deviation, found["dice/nerve"].count) == (0.25, None, 1)


def test_a_score_that_was_no_number_is_left_out(store):
    group, runs = three(store)
    judged(store, runs[0], 2, {2: {"dice": None, "loss": 0.5}})
    assert set(combined(list_members(store, group))) == {"loss"}


def test_a_group_goes_with_its_last_run_and_not_before(store):
    group, runs = three(store)
    other, _ = three(store, "other")
    for left, run in zip((2, 1, 0), runs, strict=True):
        claim(store, run, owner="me")
        end_run(store, run, "finished", owner="me")
        delete_run(store, run)
        assert [(row.id, row.runs) for row in list_groups(store)] == [(other, 3)] + [(group, left)] * (left > 0)
