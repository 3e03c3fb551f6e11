"""What `glupy bench` makes of its measurements."""

import math
import random
import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest

from glupy_tools.bench import OPS, Measured, _row
from glupy_tools.measure import load, median, pairs


def test_the_operations_are_those_that_the_figures_are_promised_for() -> None:
    assert list(OPS) == [
        "discard-4k",
        "write-4k",
        "read-4k",
        "fstat",
        "stat",
        "create-unlink",
        "write-1m",
        "read-1m",
        "lookup",
        "readdirp",
        "create",
        "unlink",
        "mkdir",
        "rename",
        "setxattr",
        "getxattr",
    ]


def test_the_interval_of_twenty_values_is_the_sixth_from_either_end() -> None:
    values = list(range(1, 21))
    random.Random(1).shuffle(values)
    assert median(values) == (10.5, 6, 15)


def test_fewer_than_six_values_have_no_interval() -> None:
    assert median([3, 1, 2, 6, 5, 4]) == (3.5, 1, 6)
    with pytest.raises(ValueError, match="fewer than 6"):
        median([1, 2, 3, 4, 5])


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    chance = random.Random(20)
    true = math.exp(0)  # of the log-normal distribution: skewed, as rates are
    rounds = 2000
    held = 0
    for _ in range(rounds):
        found = median([chance.lognormvariate(0, 1) for _ in range(20)])
        held += found.low <= true <= found.high
    assert 0.94 < held / rounds < 0.98  # 0.959 is right


def test_the_ratio_is_the_median_of_the_pairs_not_of_the_sides() -> None:
    theirs = [100.0 * 2**number for number in range(20)]  # the machine gets faster and faster
    ours = [value * 0.9 for value in theirs]
    found = [(Measured(a, 3.0), Measured(b, 2.0)) for a, b in zip(ours, theirs, strict=True)]
    row = _row("stat", 8, found)
    assert (row.ratio, row.low, row.high) == (0.9, 0.9, 0.9)
    assert (row.cpu_ratio, row.our_cpu, row.their_cpu) == (1.5, 3.0, 2.0)
    assert (row.op, row.parallel) == ("stat", 8)
    assert row.theirs == round(statistics.median(theirs), 1)


def test_pairs_alternate_after_a_warm_up() -> None:
    order = []

    def side(name: str, value: float) -> float:
        order.append(name)
        return value

    found = list(pairs(lambda: side("ours", 1.0), lambda: side("theirs", 2.0), 3))
    assert found == [(1.0, 2.0)] * 3
    assert order[:2] == ["ours", "theirs"]
    assert order[2:] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_the_rate_counts_the_calls_of_all_callers() -> None:
    numbers: list[list[int]] = [[], []]
    with ThreadPoolExecutor(2) as pool:
        found = load([numbers[0].append, numbers[1].append], 0.1, pool)
    assert numbers == [list(range(len(calls))) for calls in numbers]
    assert found.done == sum(map(len, numbers))
    assert found.rate == pytest.approx(found.done / 0.1, rel=0.3)


def test_a_call_that_fails_is_not_swallowed() -> None:
    def fail(_: int) -> None:
        raise OSError("no answer")

    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="no answer"):
        load([fail], 0.1, pool)
