"""Hypothesis strategies of glupy.testing, as a test of somebody else's draws from them."""

import os
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from glupy.testing import strategies
from glupy.testing.strategies import BOUNDARIES, MIB


def beside(boundaries: tuple[int, ...]) -> set[int]:
    """Boundaries, and what is a byte beside them; nothing is below 0."""
    return {max(0, boundary + more) for boundary in boundaries for more in (-1, 0, 1)}


def drawn(strategy: st.SearchStrategy[Any]) -> Counter[Any]:
    """All that there is: Hypothesis draws nothing in the same way twice, and ends then."""
    found: Counter[Any] = Counter()

    @settings(max_examples=1000, database=None)
    @given(strategy)
    def draw(value: Any) -> None:
        found[value] += 1

    draw()
    return found


@given(offset=strategies.offsets(), length=strategies.lengths(), size=strategies.sizes())
def test_each_is_near_a_boundary(offset: int, length: int, size: int) -> None:
    assert {offset, length, size} <= beside(BOUNDARIES)
    assert length > 0


@given(names=st.lists(strategies.names(2), min_size=3))
def test_names_meet_each_other(names: list[str]) -> None:
    assert set(names) <= {"a", "b"}
    assert len(set(names)) < len(names)


def test_all_of_them_are_drawn() -> None:
    assert set(drawn(strategies.offsets())) == beside(BOUNDARIES)
    assert set(drawn(strategies.sizes((0, 4 * MIB)))) == beside((0, 4 * MIB))
    assert set(drawn(strategies.names())) == {"a", "b", "c"}
    lengths = drawn(strategies.lengths((4096, 512)))
    assert set(lengths) == beside((512, 4096))
    assert lengths[4096] < lengths[512], "the longest is the rarest"
    assert set(drawn(strategies.lengths((0, 8)))) == {1, 7, 8, 9}


def test_all_flags_are_drawn() -> None:
    more = 0, os.O_APPEND, os.O_SYNC, os.O_DSYNC, os.O_DIRECT
    opened = {access | each for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR) for each in more}
    assert set(drawn(strategies.open_flags)) == opened
    created = {os.O_RDWR | each | how for how in (0, os.O_EXCL, os.O_TRUNC) for each in more}
    assert set(drawn(strategies.create_flags)) == created
    assert set(drawn(strategies.xattr_flags)) == {0, os.XATTR_CREATE, os.XATTR_REPLACE}
    assert {len(value) for value in drawn(strategies.xattr_values)} == {0, 1, 300}
