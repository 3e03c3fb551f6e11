"""`glupy fuzz` finds faults that it knows nothing of, and none where there are none."""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis.stateful import RULE_MARKER

from glupy.testing import profiles
from glupy.testing.fuzz import (
    DataRules,
    Ground,
    Mismatch,
    Runner,
    Search,
    TargetError,
    open_target,
    replay,
    steps,
)
from glupy.testing.fuzz.fault_rules import FAULT_RULES
from glupy.testing.fuzz.ground import names_of
from glupy.testing.fuzz.outcome import Outcome
from glupy.testing.fuzz.rules import RULES
from glupy.testing.fuzz.script import main
from glupy.testing.fuzz.steps import (
    AsInternal,
    Chown,
    Close,
    Create,
    Discard,
    Fallocate,
    Fstat,
    Inject,
    Kill,
    Read,
    Rename,
    Seek,
    Start,
    Stat,
    Step,
    Sync,
    Unlink,
    Write,
    Zerofill,
)
from glupy.testing.fuzz.targets import STORE_SIZE, open_targets, roomy
from glupy.testing.fuzz.trouble import Trouble
from glupy_tools import bench_fuzz

from .searching import above, searched

LONG = pytest.mark.long
# features/shard takes for granted that a truncate frees blocks; it may take one.
ASSERTION = pytest.mark.allow_log(r"shard_truncate_last_shard_cbk\] .*: Assertion failed: ")
# An open failed in one brick: AFR asks that one for its locks before it tries again.
REOPENED = pytest.mark.allow_log(r"afr_is_reopen_allowed_cbk\] .*: Failed getlk for .* bad state")
# What disperse notes after a write that all bricks have refused, and by whose handle.
REFUSED = pytest.mark.allow_log(
    r"Insufficient available children .* FOP : '(F?XATTROP|FLUSH)' failed"
    r"|Failed to update version and size|Failing (FLUSH|FSYNC) on "
)
SIZE = 131_072
"""Bytes of the file of two targets."""


@pytest.fixture(scope="module")
def against() -> Iterator[Ground]:
    with open_target("pyposix") as ground:
        yield ground


def test_a_sequence_is_left_with_what_it_needs() -> None:
    """Where offsets are counted from those before, Hypothesis leaves most of it."""
    needed: list[Step] = [Create(0, "a"), Write(0, 0, 9000, 1), Discard(0, 10, 5000)]
    needless: list[Step] = [
        Fstat(0),
        Create(1, "b"),
        Write(1, 0, 5000, 3),
        Sync(0),
        Stat(0, "a"),
        Close(1),
    ]
    with open_target("pyposix", inserts=[above("DiscardEndsAByteLate")]) as ground:
        search = Search(ground)
        search.shorten([*needed[:2], *needless, *needed[2:], *[Fstat(0)] * 20])
        assert search.finding is not None
        assert search.finding.steps == needed
        assert "byte 5010" in search.finding.wrong


@pytest.mark.parametrize(
    ("target", "faults", "examples"),
    [
        ("pyposix", [], 30),
        ("pyposix", ["full"], 30),
        ("pyposix", ["io"], 30),
        ("pyposix", ["readonly"], 30),
        ("pyposix", ["kill"], 10),
        pytest.param("pyposix", ["io", "kill"], 3, marks=LONG),
        ("posix", [], 30),
        ("pybd:loop", [], 15),
        ("pybd:loop", ["io"], 15),
        pytest.param("replicate:3:pyposix", ["io"], 10, marks=REOPENED),
        ("disperse:2+1:pyposix", [], 5),
        ("distribute:2:pyposix", [], 5),
        pytest.param("shard:pyposix", [], 5, marks=ASSERTION),
        pytest.param("pybd:loop", ["kill"], 20, marks=LONG),
        pytest.param("replicate:3:pyposix", ["kill"], 20, marks=[LONG, REOPENED]),
        pytest.param("disperse:4+2:pyposix", ["io"], 30, marks=LONG),
        pytest.param("disperse:2+1:pyposix", ["kill"], 20, marks=LONG),
        pytest.param("distribute:2:pyposix", ["kill"], 20, marks=LONG),
        pytest.param("distribute:2:pyposix", ["io"], 20, marks=LONG),
        pytest.param("pybd:loop", ["full"], 10, marks=LONG),
        pytest.param("replicate:3:pyposix", ["readonly"], 5, marks=LONG),
        pytest.param("disperse:2+1:pyposix", ["readonly"], 5, marks=[LONG, REFUSED]),
        pytest.param("distribute:2:pyposix", [], 30, marks=LONG),
        pytest.param("shard:pyposix", [], 30, marks=[LONG, ASSERTION]),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(
    fuzz: Callable[..., None],
    target: str,
    faults: list[str],
    examples: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened = set()

    def note(fault: str, make: Callable[..., None]) -> Callable[..., None]:
        def noted(*given: Any) -> None:
            happened.add(fault)
            make(*given)

        return noted

    monkeypatch.setattr(Trouble, "kill", note("kill", Trouble.kill))
    monkeypatch.setattr(Trouble, "inject", note("io", Trouble.inject))
    fuzz(target, faults=faults, examples=examples, seed=1)
    assert happened == set(faults) & {"kill", "io"}


@LONG
def test_fops_fail_below_features_utime() -> None:
    """Times are not looked at: it does not know of a discard (docs/upstream-defects.md)."""
    with open_target("ctime:pyposix", faults=["io"]) as ground:
        ground.promises = replace(ground.promises, times=frozenset())
        assert Search(ground).run(examples=20, seed=1) is None


def test_a_fault_happens(capsys: pytest.CaptureFixture[str]) -> None:
    """The same calls fail where they should: each fault is there."""
    write = [Create(0, "e"), Write(0, 0, 4096, 1)]
    for fault, sequence, expected in (
        ("full", write, errno.ENOSPC),
        ("full", [AsInternal(True), *write], 0),
        ("full", [AsInternal(True), *write, Fallocate(0, 0, 4 << 20)], errno.ENOSPC),
        ("readonly", [Create(0, "e")], errno.EROFS),
        ("readonly", [Unlink(0, "a")], errno.EROFS),
        ("io", [*write, Inject("writev"), Write(0, 0, 1, 1)], errno.EIO),
        ("io", [*write, Inject("writev"), Read(0, 0, 1)], 0),
    ):
        with open_target("pyposix", faults=[fault]) as ground:
            runner = Runner(ground)
            outcomes: list[Outcome] = []
            for step in sequence:
                if not outcomes or not outcomes[-1].errno:
                    outcomes.append(runner.perform(step))
            assert outcomes[-1].errno == expected, (fault, sequence)
            runner.verify()
            runner.clean()
    with open_target("pyposix", faults=["io", "kill"]) as ground:  # both at once
        (pid,) = [brick.pid for brick in ground.trouble.bricks]
        killed = [Kill(), Start(), Read(0, 0, 4096), Write(0, 1, 1, 1)]
        failing = [Inject("writev"), Write(0, 0, 1, 2)]
        done = replay(ground, [*write, *failing, *killed, *failing]).done
        numbers = [outcome and outcome.errno for _, outcome in done]
        assert numbers == [0, 0, 0, errno.EIO, 0, 0, 0, 0, 0, errno.EIO]
        assert [brick.pid for brick in ground.trouble.bricks] != [pid]


def test_c_posix_refuses_a_discard_when_its_reserve_is_used_up() -> None:
    # What the next test is about may be found first.
    search = searched("posix", faults=["full"], examples=300, seed=2)
    assert search.finding is not None
    assert search.finding.steps[-1].fop == "discard"
    assert search.finding.wrong.startswith("ENOSPC, where")


@LONG
def test_what_fails_in_c_posix_for_want_of_space_leaves_something_behind() -> None:
    """The search finds a fallocate; zerofill and create are no better."""
    for seed in range(20):
        with open_target("posix", faults=["full"]) as ground:
            ground.promises = replace(ground.promises, refused_when_full=frozenset({"discard"}))
            found = Search(ground, rules=[DataRules]).run(examples=100, seed=seed)
        done = found.done if found is not None else ()
        refused = [step for step, outcome in done if outcome and outcome.errno == errno.ENOSPC]
        if found is not None and any(isinstance(step, Fallocate) for step in refused):
            break
    else:
        pytest.fail("not found")
    assert re.search(r"size \d+, not|blocks of 512 bytes, not|bytes from 0 on, not", found.wrong)


@pytest.mark.parametrize(("keep_size", "wrong"), [(False, r"size \d{7}, not 0"), (True, "blocks")])
def test_a_fallocate_that_fails_half_way(keep_size: bool, wrong: str) -> None:
    """What is allocated past the end of a file shows on the brick alone."""
    too_much = Fallocate(0, 0, 64 << 20, keep_size)
    sequence = [AsInternal(on=True), Create(0, "a"), too_much, Fstat(0)]
    with open_target("posix", faults=["full"]) as ground, pytest.raises(Mismatch, match=wrong):
        replay(ground, sequence)
    with open_target("pyposix", faults=["full"]) as ground:
        _, outcome = replay(ground, sequence).done[2]
        assert outcome is not None and outcome.errno == errno.ENOSPC


def test_what_pyposix_refuses_for_want_of_space_has_not_happened() -> None:
    too_much = 64 << 20
    with open_target("pyposix", faults=["full"]) as ground:
        zeroed = [Create(0, "a"), Write(0, 0, 4096, 1), Zerofill(0, 0, too_much), Stat(0, "a")]
        filled = [Fallocate(0, size, size) for size in (1 << n for n in range(20, 11, -1))]
        made = [Create(0, "a"), *filled, *filled, Create(1, "b"), Stat(0, "b")]
        for sequence in zeroed, made:
            done = replay(ground, [AsInternal(on=True), *sequence]).done
            assert [outcome and outcome.errno for _, outcome in done[-2:]] == [
                errno.ENOSPC,
                0 if sequence is zeroed else errno.ENOENT,
            ]


@pytest.mark.parametrize("change", [Write(0, 0, 512, 2), Zerofill(0, 0, 512)])
def test_what_a_mapped_file_cannot_grow_for_has_not_happened(change: steps.Step) -> None:
    with open_target("pybd:loop", faults=["io"]) as ground:
        replay(ground, [Create(0, "a"), Write(0, 0, 1, 1), Inject("ftruncate"), change])


def test_a_folder_of_ext4_is_the_control(brick_dir: Path) -> None:
    search = searched(f"dir:{brick_dir}", examples=100)
    assert search.finding is None, search.finding
    assert list(brick_dir.iterdir()) == []


# ---- what is known of the stock translators ----


def test_c_posix_loses_a_handle_by_a_rename_to_the_same_name() -> None:
    sequence = [Create(0, "a"), Rename(0, "a", "a"), Write(0, 0, 1, 1)]
    with open_target("posix") as ground, pytest.raises(Mismatch, match="0 links, not 1"):
        replay(ground, sequence)
    with open_target("pyposix") as ground:
        replay(ground, sequence)


def test_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = above("DiscardTakesItsTime", "slow.py")
    monkeypatch.setattr(steps.base, "PATIENCE", 0.5)
    sequence = [Create(0, "a"), Discard(0, 0, 4096, later=True)]
    with open_target("pyposix", inserts=[slow]) as ground:
        with pytest.raises(Mismatch, match="no answer within"):
            replay(ground, sequence)
        monkeypatch.setattr(steps.base, "PATIENCE", 10)
        replay(ground, sequence)


def test_a_brick_that_crashes_is_found() -> None:
    inserts = [above("DiscardCrashes", "crashing.py")]
    crash = (
        r"brick-0 ended by itself: signal SIGSEGV in xlator/(features/glupy|storage/pyposix)\.so"
    )
    with open_target("pyposix", inserts=inserts, over_rpc=True) as ground:
        for _ in range(2):  # it was started again
            with pytest.raises(Mismatch, match=crash):
                replay(ground, [Create(0, "a"), Unlink(0, "a"), Discard(0, 0, 1)])
        replay(ground, [Create(0, "a"), Write(0, 0, 4096, 1)])


def test_a_brick_that_crashes_while_it_is_emptied_is_found() -> None:
    """What cannot be removed by fops goes from below, mapped files' devices too."""
    inserts = [above("UnlinkCrashes", "crashing.py")]
    with open_target("pybd:loop", inserts=inserts, over_rpc=True) as ground:
        for _ in range(2):
            with pytest.raises(Mismatch, match="brick-0 ended by itself: signal SIGSEGV"):
                replay(ground, [Create(0, "a"), Write(0, 0, 4096, 1)])
        assert names_of(ground.clients[0]) == set()


def test_the_fixture_fails_a_test(fuzz: Callable[..., None]) -> None:
    with pytest.raises(pytest.fail.Exception, match="wrong: "):
        fuzz("pyposix", inserts=[above("WritesTellTheirSizeBefore")], examples=50, seed=1)


def test_an_error_in_a_log_fails_a_test(fuzz: Callable[..., None]) -> None:
    """What it does is right; over RPC what C refuses is in the log, too."""
    for target in "pyposix", "replicate:2:pyposix":
        with pytest.raises(pytest.fail.Exception, match="sync is not what it was"):
            fuzz(target, inserts=[above("SyncComplains", "broken.py")], examples=10, seed=1)


def test_profiles_are_there() -> None:
    """Hypothesis has them from its entry point, whoever imports it."""
    for name, examples in profiles.EXAMPLES.items():
        assert hypothesis.settings.get_profile(name).max_examples == examples


def test_its_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """`glupy bench fuzz`, short: that it measures, not what."""
    monkeypatch.setattr(bench_fuzz, "RECORDED", 2)
    monkeypatch.setattr(bench_fuzz, "MADE_UP", 1)
    done = CliRunner().invoke(bench_fuzz.fuzz, ["--json", "--seed", "1"], catch_exceptions=False)
    rows = json.loads(done.output)["rows"]
    replayed = ["replay in-process", "replay over RPC"]
    assert [row["what"] for row in rows] == [*replayed, "Hypothesis", "Hypothesis and a bare stat"]
    for row in rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert min(row["ours"], row["theirs"]) > 0


def test_against_another_target() -> None:
    """The same calls on two: a translator that truncates wrongly, and one that does not."""
    search = searched("pyposix", fault="TruncateIsAByteOff", against="pyposix", examples=100)
    assert search.finding is not None
    assert "the other" in search.finding.wrong
    assert searched("pyposix", against="pyposix", examples=20).finding is None


@pytest.mark.parametrize(
    ("fault", "sequence", "wrong"),
    [
        ("DiscardAcceptsNothing", [Discard(0, 0, 0)], "^ok, the other: EINVAL$"),
        ("SeekIsABlockOff", [Seek(0, 0, hole=True)], "^135168, the other: 131072: 135168 is not"),
        ("WritesLoseTheirLastByte", [Read(0, 0, SIZE)], "^byte 131071 is 0x00, not 0x"),
        ("ChownKeepsTheGroup", [Chown(0, "a", 0, 9), Fstat(0)], "^after: st_gid is 0, .*: 9$"),
        ("RenameKeepsTheOldName", [Rename(0, "a", "b"), Fstat(0)], "^after: st_nlink is 2, .*: 1$"),
        (
            "DiscardOnlyWritesZeros",
            [Discard(0, 0, SIZE, later=True)],
            "st_blocks is 256, .*: 8$",
        ),
    ],
)
def test_what_differs_from_another_target(
    fault: str, sequence: list[Step], wrong: str, against: Ground
) -> None:
    sequence = [Create(0, "a"), Write(0, 0, SIZE, 1), *sequence]
    with (
        open_target("pyposix", inserts=[above(fault)]) as ground,
        pytest.raises(Mismatch, match=wrong),
    ):
        replay(ground, sequence, against)


def test_what_differs_on_a_store_that_is_read_only() -> None:
    """A defect of C posix, which says that such an unlink was done."""
    with (
        open_targets("posix", "pyposix", faults=["readonly"]) as (ground, against),
        pytest.raises(Mismatch, match=r"^ok, the other: EROFS$"),
    ):
        replay(ground, [Unlink(0, "c")], against)


def test_a_replica_that_differs() -> None:
    """Clients see another one, most often: the bricks are looked at."""
    with open_target("replicate:3:pyposix") as ground:
        runner = Runner(ground)
        for step in Create(0, "a"), Write(0, 0, 9000, 1):
            runner.perform(step)
        runner.verify()
        wrong = []
        for backend in ground.backends:  # one of them is that which a client sees
            data = (backend / "a").read_bytes()
            (backend / "a").write_bytes(b"\0" + data[1:])
            with pytest.raises(Mismatch) as caught:
                runner.verify()
            wrong.append(str(caught.value))
            (backend / "a").write_bytes(data)
        seen = [f"a: on {backend.name}: byte 0 is 0x00, not 0x02" for backend in ground.backends]
        assert len(set(wrong) & set(seen)) >= 2, wrong
        runner.verify()
        runner.clean()


def test_a_folder_is_compared_with_what_is_over_rpc(brick_dir: Path) -> None:
    """It has no bricks."""
    sequence = [Create(0, "a"), Write(0, 0, 9000, 1), Discard(0, 0, 5000), Read(0, 0, 9000)]
    against = f"dir:{brick_dir}"
    assert main(sequence, ["pyposix"], against=against, over_rpc=True) == 0
    above_it = [above("DiscardEndsAByteLate")]
    assert main(sequence, ["pyposix"], against=against, over_rpc=True, inserts=above_it) == 1


@pytest.mark.parametrize(
    ("target", "other", "faults"),
    [
        ("posix", "pyposix", []),
        pytest.param("posix", "pyposix", ["kill"], marks=LONG),
        ("ctime:pyposix", "pyposix", ["readonly"]),
        pytest.param("replicate:3:pyposix", "replicate:2:pyposix", ["readonly"], marks=LONG),
        ("replicate:3:pyposix", "pyposix", []),
        pytest.param("replicate:3:posix", "replicate:3:pyposix", ["kill"], marks=LONG),
        pytest.param("disperse:2+1:pyposix", "pyposix", [], marks=LONG),
        pytest.param("shard:pyposix", "pyposix", [], marks=LONG),
        ("pybd:loop", "pyposix", []),
    ],
)
def test_two_targets_are_alike(target: str, other: str, faults: list[str]) -> None:
    """As far as both promise it."""
    with open_targets(target, other, faults=faults) as (ground, against):
        assert Search(ground, against).run(examples=20, seed=1) is None


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("nothing", "there is no type storage/nothing"),
        ("dir:/nothing", "there is no folder /nothing"),
        ("dir:/usr", "/usr is not empty"),
        ("replicate:pyposix", "a number is missing"),
        ("pybd:tape", "pybd:loop is the one pool"),
        ("/nothing.vol", "No such file"),
        ("two words", "is no target"),
    ],
)
def test_what_is_no_target(target: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint), open_target(target):
        pass


@pytest.mark.parametrize(("blocks", "place"), [(1 << 18, "/dev/shm"), ((1 << 18) - 1, "/var/tmp")])
def test_stores_are_in_memory_if_there_is_room(
    blocks: int, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(f_bavail=blocks, f_frsize=STORE_SIZE >> 18)
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    assert roomy() == Path(place)


def test_a_brick_that_does_not_start_again() -> None:
    once = above("StartsOnce", "broken.py")
    with open_target("pyposix", inserts=[once], faults=["kill"]) as ground:
        with pytest.raises(Mismatch, match=r"does not start again: .*once is enough"):
            replay(ground, [Create(0, "a"), Kill(), Start()])
        assert ground.spoiled


@pytest.mark.parametrize(
    ("faults", "refused"),
    [
        ([], 0),
        (["full"], errno.ENOSPC),
        (["io"], 0),
        (["readonly"], errno.EROFS),
        pytest.param(["kill"], 0, marks=LONG),
    ],
)
def test_a_seed_makes_the_same_sequences(faults: list[str], refused: int) -> None:
    """And the same calls fail."""
    made: list[list[list[tuple[Step, int]]]] = []

    def note(search: Search) -> None:
        done = [(step, outcome.errno) for step, outcome in search.last.done if outcome]
        made[-1].append(done)

    for seed in (5, 5) if faults else (5, 5, 6):
        made.append([])
        with open_target("pyposix", faults=faults) as ground:
            assert Search(ground, progress=note).run(examples=5, seed=seed) is None
    assert made[0] == made[1]
    assert faults or made[0] != made[2]
    assert refused in {number for done in made[0] for _, number in done}


def test_rules_are_left_out_one_by_one() -> None:
    """Hypothesis knows them by the names of their functions."""
    names = [
        getattr(value, RULE_MARKER).function.__name__
        for each in (*RULES, *FAULT_RULES.values())
        for value in vars(each).values()
        if hasattr(value, RULE_MARKER)
    ]
    assert len(names) == len(set(names)) > 20
