"""Curves, logs and previews: written in batches, read from a cursor."""

import math

import pytest

from seglib.store.metrics import (
    Point,
    Progress,
    add_batch,
    add_preview,
    forget_after,
    last_values,
    list_previews,
    log_tail,
    points_since,
)
from seglib.store.runs import create_run, get_run


@pytest.fixture
def run(store) -> int:
    return create_run(store, "train", name="n", config={}, device="cpu")


def points(*steps: int, name: str = "loss") -> list[Point]:
    return [Point(step, step // 2, name, step / 4, float(step)) for step in steps]


def test_a_cursor_sees_each_point_once_and_in_order(store, run):
    other = create_run(store, "train", name="other", config={}, device="cpu")
    add_batch(store, run, points=points(1, 2))
    first, cursor = points_since(store, run)
    add_batch(store, other, points=points(7))
    nothing, same = points_since(store, run, cursor)
    add_batch(store, run, points=points(3))
    second, last = points_since(store, run, cursor)
    assert (first, nothing, second) == (points(1, 2), [], points(3))
    assert same == cursor < last


def test_a_value_that_is_no_number_is_stored_as_null(store, run):
    """SQLite itself turns NaN into NULL; infinity is the recorder's to turn."""
    add_batch(store, run, points=[Point(1, 1, "loss", math.nan, 0.0), Point(2, 1, "loss", None, 0.0)])
    with store.reading() as db:
        types = [row["type"] for row in db.query("SELECT typeof(value) AS type FROM metrics")]
    assert types == ["null", "null"]
    assert [point.value for point in points_since(store, run)[0]] == [None, None]


def test_a_batch_is_written_whole_or_not_at_all(store, run):
    with pytest.raises(Exception, match="NOT NULL"):
        add_batch(store, run, points=[*points(1), Point(2, 1, None, 0.0, 0.0)], lines=[(0.0, "line")])
    assert points_since(store, run) == ([], 0)
    assert log_tail(store, run) == []


def test_progress_is_on_the_run(store, run):
    add_batch(store, run, progress=Progress(done=3, total=9, epoch=2, patches_per_s=4.5, seconds_left=None))
    row = get_run(store, run)
    assert (row.done, row.total, row.epoch, row.patches_per_s, row.seconds_left) == (3, 9, 2, 4.5, None)
    assert row.progressed_at is not None


def test_the_newest_value_of_each_curve(store, run):
    add_batch(store, run, points=points(1, 2, 3))
    add_batch(store, run, points=[Point(2, 1, "dice", None, 0.0), *points(9, name="iou")])
    assert last_values(store, run) == {"loss": 0.75, "dice": None, "iou": 2.25}


def test_the_tail_of_a_log_is_its_last_lines_oldest_first(store, run):
    lines = [(float(n), f"line {n} '; DROP TABLE log; --\x00 ü") for n in range(5)]
    add_batch(store, run, lines=lines)
    assert log_tail(store, run, 2) == lines[3:]
    assert len(log_tail(store, run)) == 5


def test_a_second_preview_of_a_layer_takes_the_place_of_the_first(store, run):
    for step, layer in ((4, "b"), (2, "a"), (6, "b")):
        add_preview(store, run, step=step, epoch=1, layer=layer)
    assert [(row.step, row.layer) for row in list_previews(store, run)] == [(2, "a"), (6, "b")]


def test_forgetting_drops_only_what_is_later_and_only_of_that_run(store, run):
    other = create_run(store, "train", name="other", config={}, device="cpu")
    for each in (run, other):
        add_batch(store, each, points=points(1, 2, 3), lines=[(0.0, "stays")])
        for step in (2, 3):
            add_preview(store, each, step=step, epoch=1, layer=f"step-{step}")
    forget_after(store, run, 2)
    assert points_since(store, run)[0] == points(1, 2)
    assert [row.step for row in list_previews(store, run)] == [2]
    assert log_tail(store, run) == [(0.0, "stays")]
    assert points_since(store, other)[0] == points(1, 2, 3)
    assert len(list_previews(store, other)) == 2
