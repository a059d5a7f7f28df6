"""Making batches ahead of the step that needs them, in threads, a bounded number at a time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Hands out `make(first)`, `make(first + 1)`, … in order, each made ahead of time.

    make: safe to call from several threads; its errors are raised where its item is asked for.
    last: items from this number on are not made.
    threads: how many are made at the same time; ahead: how many lie ready or are under way at most.
    """

    def __init__(self, make: Callable[[int], T], *, first: int, last: int, threads: int, ahead: int) -> None:
        self._make = make
        self._next = first
        self._last = last
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        self._waiting: deque[Future[T]] = deque()
        self._fill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self) -> T:
        """The next item, waited for where it is not ready. Raises IndexError after the last one."""
        if not self._waiting:
            raise IndexError("All items have been taken.")
        item = self._waiting.popleft().result()
        self._fill()
        return item

    def _fill(self) -> None:
        while len(self._waiting) < self._ahead and self._next < self._last:
            self._waiting.append(self._pool.submit(self._make, self._next))
            self._next += 1
