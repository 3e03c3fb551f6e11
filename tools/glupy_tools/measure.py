"""Two things measured against each other, in pairs: which is faster, and how sure that is."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

Call = Callable[[int], object]
"""Does one operation; given its number, from 0. StopIteration: it can do no more of them."""

LEAST_PAIRS = 20


class Interval(NamedTuple):
    """A median and the interval in which the true one lies with at least 95 % confidence."""

    median: float
    low: float
    high: float


class Load(NamedTuple):
    """What came of some callers in some time."""

    done: int
    seconds: float

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.done / self.seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the median of the pairs' ratios, ours to theirs, and its interval."""
    return median([a / b for a, b in zip(ours, theirs, strict=True)])


def median(values: Sequence[float]) -> Interval:
    """Return the median and its 95 % interval by order statistics.

    How many values lie below the true median is binomial (n, 1/2), whatever their distribution.
    So the k-th smallest and k-th largest enclose it with confidence 1 - 2 P(X < k), and k is the
    largest that gives 95 %: for 20 values the 6th from either end (95.9 %). Below 6 values no k
    does.
    """
    n = len(values)
    k, below = 0, 0.0
    while (below := below + math.comb(n, k) / 2**n) <= 0.025:
        k += 1
    if k == 0:
        raise ValueError("fewer than 6 values have no 95 % interval")
    ordered = sorted(values)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[-k])


def load(calls: Sequence[Call], seconds: float, pool: Executor) -> Load:
    """Have some callers repeat their calls at once, one thread of the pool each."""
    start = time.perf_counter()
    done = sum(pool.map(lambda call: _repeat(call, start + seconds), calls))
    return Load(done, time.perf_counter() - start)


def processor_seconds(pid: int) -> float:
    """Return the processor time that all threads of a process have used (proc(5), schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _repeat(call: Call, end: float) -> int:
    number = 0
    with contextlib.suppress(StopIteration):
        while not number or time.perf_counter() < end:  # once, however late this thread comes
            call(number)
            number += 1
    return number


def pairs(ours: Callable[[], T], theirs: Callable[[], T], count: int) -> Iterator[tuple[T, T]]:
    """Measure both sides `count` times, alternately, and yield the pairs.

    Which side comes first alternates too, so that a drift of the machine favours neither. Both
    are measured once before that, to warm up.
    """
    ours()
    theirs()
    for number in range(count):
        if number % 2:
            of_them = theirs()
            yield ours(), of_them
        else:
            of_us = ours()
            yield of_us, theirs()
