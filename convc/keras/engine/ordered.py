"""Work done ahead by threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def ordered_map(
    function: Callable[[K], V], keys: Iterable[K], workers: int = 1, ahead: int = 2
) -> Iterator[V]:
    """`map(function, keys)`, computed by `workers` threads up to `ahead` results before they are asked for.

    The results, their order and errors are those of `map`, whatever the number of threads; without any (0) it is
    `map`. Closing the iterator drops what isn't begun.
    """
    if workers < 1:
        yield from map(function, keys)
        return
    source = iter(keys)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="convc-data")
    try:
        running: deque[Future[V]] = deque(
            executor.submit(function, key) for key in islice(source, max(ahead, 1))
        )
        while running:
            found = running.popleft().result()
            running.extend(executor.submit(function, key) for key in islice(source, 1))
            yield found
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
