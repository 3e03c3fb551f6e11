"""The machine makes all calls that there are, with all that they can have, and they succeed."""

import dataclasses
import errno
import itertools
from collections.abc import Iterator
from inspect import isabstract

import pytest

from glupy.testing.fuzz import Runner, Search, open_target, steps
from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.steps import OnHandle, Step
from glupy.testing.fuzz.steps.base import flag_names

EXAMPLES = 60
SEEDS = range(1, 6)
"""Of as many searches, one after the other, until all is met."""
BY_FAULT = {"io": {"Inject"}, "full": {"AsInternal"}, "kill": {"Kill", "Start"}}
CALLS = {
    name
    for name, value in vars(steps).items()
    if isinstance(value, type) and issubclass(value, Step) and not isabstract(value)
}.difference(*BY_FAULT.values())
LATER = {f"{call} later" for call in ("Write", "Read", "Discard", "Zerofill", "Truncate", "Sync")}
FLAGS = {f"Write O_{flag}" for flag in ("APPEND", "SYNC", "DSYNC", "DIRECT")}
PIECES = {f"{call} in pieces{when}" for call in ("Write", "Read") for when in ("", " later")}
KINDS = {"Fallocate keep_size", "Fallocate not keep_size", "Seek hole", "Seek not hole"}
NAMELESS = {f"{call} without a name" for call in ("Write", "Read", "Discard", "Fstat", "Sync")}
AGAIN = {"Open", "Create of an old file", "Rename of an old file"}
TOGETHER = {f"Together {fop}" for fop in ("write", "read", "discard", "zerofill")}
ALL = CALLS | LATER | FLAGS | PIECES | KINDS | NAMELESS | AGAIN | TOGETHER
OVER_RPC = {"Together by two"}
READ_ONLY = {"Open", "Close", "Fstat", "Stat", "Read", "Seek", "Sync", "Getxattr", "Flistxattr"}


def facets(step: Step, volume: VolumeModel) -> Iterator[str]:
    """What a call is, what it has, and on what it is."""
    call = type(step).__name__
    yield call
    for field in dataclasses.fields(step):  # type: ignore[arg-type]
        value = getattr(step, field.name)
        if isinstance(value, bool):
            yield f"{call} {field.name}" if value else f"{call} not {field.name}"
    if getattr(step, "pieces", 1) > 1:
        yield f"{call} in pieces" + (" later" if getattr(step, "later", False) else "")
    if isinstance(step, OnHandle):
        opened = volume.handles[step.handle]
        yield from (f"{call} {flag}" for flag in flag_names(opened.flags).split("|"))
        if not opened.file.links:
            yield f"{call} without a name"
    if isinstance(step, steps.Rename | steps.Create):
        name = step.new if isinstance(step, steps.Rename) else step.name
        yield f"{call} of {'an old' if name in volume.names else 'a new'} file"
    if isinstance(step, steps.Together):
        yield from (f"{call} {part.fop}" for part in step.calls)
        yield f"{call} by {'two' if len({part.handle % 2 for part in step.calls}) == 2 else 'one'}"


def met(runner: Runner) -> set[str]:
    """The facets of what has succeeded in a sequence."""
    found: set[str] = set()
    volume = VolumeModel(runner.promises, runner.ground.block_size)
    volume.names.update(runner.ground.kept)
    for step, outcome in runner.done:
        if outcome is not None and not outcome.errno:
            found.update(facets(step, volume))
            step.plan(volume).change()
    return found


def missed(
    target: str,
    expected: set[str],
    *faults: str,
    over_rpc: bool = False,
    examples: int = EXAMPLES,
) -> set[str]:
    """What of that was not met."""
    left = set(expected)
    with open_target(target, faults=faults, over_rpc=over_rpc) as ground:
        search = Search(ground, progress=lambda search: left.difference_update(met(search.last)))
        for seed in SEEDS:
            assert search.run(examples=examples, seed=seed) is None, search.finding
            if not left:
                break
    return left


def test_all_calls_are_met() -> None:
    assert missed("pyposix", ALL) == set()


def test_two_clients_call_at_once() -> None:
    assert missed("pyposix", OVER_RPC, over_rpc=True, examples=30) == set()


@pytest.mark.parametrize("target", ["shard:pyposix", "disperse:2+1:pyposix"])
def test_ranges_begin_and_end_where_shards_and_stripes_do(target: str) -> None:
    """And a byte before and behind."""
    found: set[int] = set()

    def note(search: Search) -> None:
        for step, _ in search.last.done:
            if isinstance(step, steps.Write | steps.Read | steps.Discard):
                found.update((step.offset, step.offset + step.length))

    with open_target(target) as ground:
        wanted = {at + more for at in ground.boundaries if at for more in (-1, 0, 1)}
        search = Search(ground, progress=note)
        for seed in SEEDS:
            assert search.run(examples=EXAMPLES // 3, seed=seed) is None, search.finding
            if wanted <= found:
                break
    assert wanted - found == set()


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["pyposix", "posix"])
def test_all_calls_are_met_over_rpc(leaf: str) -> None:
    """And some of two clients at once."""
    assert missed(leaf, ALL | OVER_RPC, over_rpc=True) == set()


def test_a_fop_that_fails_is_often_what_the_next_call_is() -> None:
    """Not any that it does not send: 60 sequences with those alone met two to seven."""
    failed: list[str] = []

    def note(search: Search) -> None:
        done = search.last.done
        for (before, _), (step, outcome) in itertools.pairwise(done):
            if isinstance(before, steps.Inject) and outcome and outcome.errno == errno.EIO:
                failed.append(step.fop)

    with open_target("pyposix", faults=["io"]) as ground:
        assert Search(ground, progress=note).run(examples=EXAMPLES, seed=1) is None
    assert len(failed) >= 20
    assert len(set(failed)) >= 8


@pytest.mark.long
@pytest.mark.parametrize("fault", ["io", "full", "kill"])
def test_all_calls_are_met_under_a_fault(fault: str) -> None:
    """But none of two at once in a full store, where either may be refused, and no copy: it has a
    thread of its own, which is nobody of GlusterFS's."""
    unmet = {"Copy", "Together", *TOGETHER} if fault == "full" else set()
    assert missed("pyposix", ALL - unmet | BY_FAULT[fault], fault) == set()


@pytest.mark.long
def test_all_that_changes_nothing_is_met_on_a_store_that_is_read_only() -> None:
    assert missed("pyposix", READ_ONLY, "readonly") == set()
