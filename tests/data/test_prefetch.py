"""Batches made ahead: in order, a bounded number at a time, errors where they belong."""

import threading

import pytest

from seglib.data.prefetch import Prefetcher


@pytest.mark.parametrize("threads", [1, 4])
def test_items_come_in_order_until_the_last(threads):
    with Prefetcher(lambda n: n * n, first=3, last=40, threads=threads, ahead=5) as items:
        assert [items.take() for _ in range(37)] == [n * n for n in range(3, 40)]
        with pytest.raises(IndexError, match="have been taken"):
            items.take()


def test_no_more_is_made_ahead_than_is_asked_for():
    made, enough = [], threading.Event()

    def make(number):
        made.append(number)
        if len(made) >= 4:
            enough.set()
        return number

    with Prefetcher(make, first=0, last=100, threads=4, ahead=3) as items:
        items.take()
        assert enough.wait(10)
        # One was taken and three lie ready: nothing is left to do until the next is taken.
        assert sorted(made) == [0, 1, 2, 3]


def test_several_are_made_at_the_same_time():
    together = threading.Barrier(3, timeout=10)  # breaks, and fails the test, unless three wait at once

    def make(number):
        together.wait()
        return number

    with Prefetcher(make, first=0, last=3, threads=3, ahead=3) as items:
        assert [items.take() for _ in range(3)] == [0, 1, 2]


def test_an_error_is_raised_where_its_item_is_asked_for():
    def make(number):
        if number == 2:
            raise OSError("the disk is gone")
        return number

    with Prefetcher(make, first=0, last=9, threads=2, ahead=4) as items:
        assert [items.take(), items.take()] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            items.take()


def test_leaving_early_ends_its_threads():
    with Prefetcher(lambda n: n, first=0, last=10**6, threads=2, ahead=3) as items:
        items.take()
        assert [thread for thread in threading.enumerate() if thread.name.startswith("patches")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patches")]
