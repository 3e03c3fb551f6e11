"""`glupy fuzz` finds faults that it knows nothing of, and none where there are none."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis.stateful import RULE_MARKER

import pybd.device
from glupy.testing import strategies
from glupy.testing.fuzz import (
    Finding,
    Mismatch,
    Runner,
    Search,
    TargetError,
    open_target,
    replay,
    report,
    steps,
)
from glupy.testing.fuzz.machine import FAULT_RULES, RULES
from glupy.testing.fuzz.runner import Outcome, names_of
from glupy.testing.fuzz.steps import (
    AsInternal,
    Close,
    Create,
    Discard,
    Fallocate,
    Fstat,
    Inject,
    Kill,
    Read,
    Rename,
    Start,
    Stat,
    Step,
    Sync,
    Unlink,
    Wait,
    Write,
    Zerofill,
)
from glupy.testing.processes import Brick
from glupy_tools import bench_fuzz
from pybd.ranges import Plan, plan

FAULTS_FILE = Path(__file__).parent / "translators" / "faults.py"
FAULTS = [
    line.removeprefix("class ").partition("(")[0]
    for line in FAULTS_FILE.read_text().splitlines()
    if line.startswith("class ")
]
WHERE: dict[str, dict[str, Any]] = {
    "RefusedWriteLeavesBlocks": {"faults": ["full"]},
    "SecondClientReadsStale": {"over_rpc": True},
}
"""What a fault needs to show."""
EXAMPLES = 400  # of 50 steps: 20,000
CHOSEN = random.sample(FAULTS, 5)
GLUPY = Path(sys.executable).with_name("glupy")


def searched(
    target: str,
    *,
    fault: str | None = None,
    examples: int = EXAMPLES,
    faults: Sequence[str] = (),
    over_rpc: bool = False,
    against: str | None = None,
    seed: int = 1,
    shrink: bool = True,
) -> Search:
    inserts = [("features/glupy", {"module": f"{FAULTS_FILE}:{fault}"})] if fault else []
    with open_target(target, inserts=inserts, faults=faults, over_rpc=over_rpc) as ground:
        if against is None:
            search = Search(ground)
            search.run(examples=examples, seed=seed, shrink=shrink)
            return search
        with open_target(against) as other:
            search = Search(ground, other)
            search.run(examples=examples, seed=seed, shrink=shrink)
            return search


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
    fault = "features/glupy", {"module": f"{FAULTS_FILE}:DiscardEndsAByteLate"}
    with open_target("pyposix", inserts=[fault]) as ground:
        search = Search(ground)
        search.shorten([*needed[:2], *needless, *needed[2:], *[Fstat(0)] * 20])
        assert search.finding is not None
        assert search.finding.steps == needed
        assert "byte 5010" in search.finding.wrong


@pytest.mark.parametrize(
    "fault", [f if f in CHOSEN else pytest.param(f, marks=pytest.mark.long) for f in FAULTS]
)
def test_a_fault_is_found(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    search = searched("pyposix", fault=fault, shrink=False, **WHERE.get(fault, {}))
    assert search.finding is not None
    assert search.calls_to_find <= 20_000
    assert "EIO" not in search.finding.wrong  # that would be a bug of the fault's
    with capsys.disabled():
        print(f"\n{fault}: {search.calls_to_find} calls: {search.finding.wrong}")


@pytest.mark.parametrize("edge", ["head", "tail"])
def test_a_wrong_edge_of_pybd_is_found(edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is zeroed beside a discard is zeroed on the wrong side of where that begins or ends."""

    def wrong(*arguments: int) -> Plan:
        right = plan(*arguments)
        if right.discard is None:
            return right
        first, behind = right.discard
        edges = [
            (first, first + (end - start))
            if edge == "head" and end == first
            else (behind - (end - start), behind)
            if edge == "tail" and start == behind
            else (start, end)
            for start, end in right.edges
        ]
        return Plan(right.discard, tuple(edges))

    monkeypatch.setattr(pybd.device, "plan", wrong)
    assert searched("pybd:loop", shrink=False).finding is not None


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("target", "faults"),
    [
        ("pyposix", []),
        ("pyposix", ["full"]),
        ("pyposix", ["io"]),
        ("pyposix", ["readonly"]),
        ("pyposix", ["kill"]),
        ("posix", []),
        ("pybd:loop", []),
        ("pybd:loop", ["io"]),
        ("replicate:3:pyposix", ["io"]),
        pytest.param("pybd:loop", ["kill"], marks=LONG),
        pytest.param("replicate:3:pyposix", ["kill"], marks=LONG),
        pytest.param("disperse:4+2:pyposix", ["io"], marks=LONG),
        pytest.param("distribute:2:pyposix", [], marks=LONG),
        pytest.param("shard:pyposix", [], marks=LONG),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(
    fuzz: Callable[..., None], target: str, faults: list[str]
) -> None:
    fuzz(target, faults=faults, examples=3 if "kill" in faults else 30)


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
    with open_target("pyposix", faults=["kill"]) as ground:
        (pid,) = [brick.pid for brick in ground.trouble.bricks]
        replay(ground, [*write, Kill(), Start(), Read(0, 0, 4096), Write(0, 1, 1, 1)])
        assert [brick.pid for brick in ground.trouble.bricks] != [pid]


def test_c_posix_refuses_a_discard_when_its_reserve_is_used_up() -> None:
    # What the next test is about may be found first.
    search = searched("posix", faults=["full"], examples=300, seed=2, shrink=False)
    assert search.finding is not None
    assert search.finding.steps[-1].fop == "discard"
    assert search.finding.wrong.startswith("ENOSPC, where")


@LONG
def test_what_fails_in_c_posix_for_want_of_space_leaves_something_behind() -> None:
    too_much = Fallocate(0, 0, 64 << 20)
    with open_target("posix", faults=["full"]) as ground:
        ground.promises = replace(ground.promises, refused_when_full=frozenset({"discard"}))
        assert Search(ground).run(examples=400, seed=1, shrink=False) is not None
    with open_target("posix", faults=["full"]) as ground, pytest.raises(Mismatch, match="size"):
        replay(ground, [AsInternal(on=True), Create(0, "a"), too_much, Fstat(0)])


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
    slow = "features/glupy", {"module": f"{FAULTS_FILE.with_name('slow.py')}:DiscardTakesItsTime"}
    monkeypatch.setattr(steps.base, "PATIENCE", 0.5)
    sequence = [Create(0, "a"), Discard(0, 0, 4096, later=True)]
    with open_target("pyposix", inserts=[slow]) as ground:
        with pytest.raises(Mismatch, match="no answer within"):
            replay(ground, sequence)
        monkeypatch.setattr(steps.base, "PATIENCE", 10)
        replay(ground, sequence)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "COLUMNS": "200"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for stores; nothing is in it afterwards. The path of a brick's socket is short."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []


def crashing(fop: str) -> str:
    return f"{FAULTS_FILE.with_name('crashing.py')}:{fop}Crashes"


def test_a_brick_that_crashes_is_found() -> None:
    inserts = [("features/glupy", {"module": crashing("Discard")})]
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
    inserts = [("features/glupy", {"module": crashing("Unlink")})]
    with open_target("pybd:loop", inserts=inserts, over_rpc=True) as ground:
        for _ in range(2):
            with pytest.raises(Mismatch, match="brick-0 ended by itself: signal SIGSEGV"):
                replay(ground, [Create(0, "a"), Write(0, 0, 4096, 1)])
        assert names_of(ground.clients[0]) == set()


@pytest.mark.long  # a client needs three seconds to find a brick that was started again
def test_a_crash_of_the_search_itself_goes_on_over_rpc(tmp_path: Path, place: Path) -> None:
    """What it had made is taken away, and the script that comes of it exits as others do."""
    words = "pyposix", "--insert", f"features/glupy,module={crashing('Discard')}", "--seed", "1"
    found = subprocess.run(
        [GLUPY, "fuzz", *words, "--examples", "20", "--out", tmp_path / "out", "--dir", place],
        cwd=tmp_path,  # its core goes there
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
    )
    assert (found.returncode, found.stderr) == (1, "")
    assert "SIGSEGV in the process of the search; once more, over RPC" in found.stdout
    assert "wrong: brick-0 ended by itself: signal SIGSEGV" in found.stdout
    script = [sys.executable, str(tmp_path / "out" / "repro.py")]
    again = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 1
    assert again.stdout.splitlines()[-1].startswith("brick-0 ended by itself: signal SIGSEGV")


def test_a_client_that_crashes_is_found(brick: Brick, tmp_path: Path, place: Path) -> None:
    """Its calls are told by the process that has outlived it."""
    module = {"module": crashing("Discard")}
    volfile = tmp_path / "client.vol"
    brick.client_graph(inserts=[("features/glupy", module)]).write(volfile)
    found = subprocess.run(
        [GLUPY, "fuzz", volfile, "--seed", "1", "--out", tmp_path / "out", "--dir", place],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
    )
    assert (found.returncode, found.stderr) == (1, "")
    shown = found.stdout.splitlines()
    wrong = shown.index("wrong: the client crashed: SIGSEGV")
    assert shown[wrong - 1].split()[1] == "discard"
    assert (tmp_path / "out" / "repro.py").exists()


def test_the_fixture_fails_a_test(fuzz: Callable[..., None]) -> None:
    fault = "features/glupy", {"module": f"{FAULTS_FILE}:TruncateIsAByteOff"}
    with pytest.raises(pytest.fail.Exception, match="wrong: "):
        fuzz("pyposix", inserts=[fault], examples=50, seed=1)


def test_profiles_are_there() -> None:
    """Hypothesis has them from its entry point, whoever imports it."""
    for name, examples in strategies.PROFILES.items():
        assert hypothesis.settings.get_profile(name).max_examples == examples


def test_its_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """`glupy bench fuzz`, short: that it measures, not what."""
    monkeypatch.setattr(bench_fuzz, "RECORDED", 2)
    monkeypatch.setattr(bench_fuzz, "MADE_UP", 1)
    done = CliRunner().invoke(bench_fuzz.fuzz, ["--json", "--seed", "1"], catch_exceptions=False)
    rows = json.loads(done.output)["rows"]
    assert [row["what"] for row in rows] == ["replay in-process", "replay over RPC", "Hypothesis"]
    for row in rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert min(row["ours"], row["theirs"]) > 0


def test_against_another_target() -> None:
    """The same calls on two: a translator that truncates wrongly, and one that does not."""
    fault = "TruncateIsAByteOff"
    search = searched("pyposix", fault=fault, against="pyposix", examples=100, shrink=False)
    assert search.finding is not None
    assert "the other" in search.finding.wrong
    assert searched("pyposix", against="pyposix", examples=20).finding is None


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


@pytest.mark.parametrize(
    ("target", "other"),
    [
        ("posix", "pyposix"),
        ("replicate:3:pyposix", "pyposix"),
        pytest.param("disperse:2+1:pyposix", "pyposix", marks=LONG),
        pytest.param("shard:pyposix", "pyposix", marks=LONG),
        ("pybd:loop", "pyposix"),
    ],
)
def test_two_targets_are_alike(target: str, other: str) -> None:
    """As far as both promise it."""
    seed = random.randrange(1 << 32)
    with open_target(target) as ground, open_target(other) as against:
        finding = Search(ground, against).run(examples=20, seed=seed)
    assert finding is None, f"seed {seed}: {finding}"


# ---- scripts, and the command ----


def test_a_script_shows_it_again(tmp_path: Path) -> None:
    steps = Create(0, "a"), Fallocate(0, 0, 1), Wait(), Discard(0, 0, 1, later=True)
    finding = Finding(tuple((step, None) for step in steps), "mtime was not set")
    script = report.write(tmp_path, report.script(finding, "repro.py", "ctime:pyposix"))
    for target, status in ([], 1), (["pyposix"], 0), (["nothing"], 2):
        done = subprocess.run(
            [sys.executable, script, *target], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "hypothesis" not in done.stdout + done.stderr
    assert report.write(tmp_path, "") != script


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


def test_the_command(tmp_path: Path) -> None:
    def glupy(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [GLUPY, "fuzz", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment(tmp_path),
        )

    found = glupy("ctime:pyposix", "--seed", "1", "--out", str(tmp_path / "out"))
    assert found.returncode == 1, found.stderr
    # features/utime knows no discard: a defect of GlusterFS's.
    assert "mtime was not set" in found.stdout
    fops = [line.split()[1] for line in found.stdout.splitlines() if line[:1].isdigit()][1:]
    assert (len(fops), fops[-1]) == (4, "discard")
    assert fops[-2] in ("age", "wait")
    assert (tmp_path / "out" / "repro.py").exists()
    again = glupy("ctime:pyposix", "--seed", "2", "--examples", "1")  # what failed comes first
    assert again.returncode == 1, again.stdout
    sound = glupy("pyposix", "--seed", "1", "--time", "1")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "nothing found" in sound.stdout
    assert glupy("nothing").returncode == 2
    assert glupy("pyposix", "--faults", "flood").returncode == 2


BROKEN = FAULTS_FILE.with_name("broken.py")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["pyposix", "Nothing"], 2, "does not start: {file} has no translator class Nothing"),
        (
            ["pyposix", "--over-rpc", "Nothing"],
            2,
            "does not start: {file} has no translator class Nothing",
        ),
        (["dir:/nowhere", "Raises"], 2, "dir:/nowhere: inserts are for recipes only"),
        pytest.param(["pyposix", "Raises"], 1, "ZeroDivisionError: in setxattr", marks=LONG),
        (["pyposix", "--over-rpc", "Raises"], 1, "ZeroDivisionError: in setxattr"),
        (["pyposix", "--examples", "20", "ReleaseRaises"], 1, "ZeroDivisionError: in release"),
        (["pyposix", "RemovesNothing"], 1, "not made shorter: what is left there cannot be"),
        (["pyposix", "--patience", "2", "NeverAnswers"], 1, "wrong: no answer within 2 s"),
    ],
)
def test_a_translator_that_does_not_work(
    words: list[str], status: int, said: str, tmp_path: Path, place: Path
) -> None:
    *words, name = words
    insert = f"features/glupy,module={BROKEN}:{name}"
    out = tmp_path / "out"
    told = subprocess.run(
        [GLUPY, "fuzz", *words, "--insert", insert, "--seed", "1", "--dir", place, "--out", out],
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
        timeout=100,
    )
    shown = told.stdout + told.stderr
    assert told.returncode == status, shown
    assert said.format(file=BROKEN) in shown
    if status == 2:
        assert len(told.stderr.splitlines()) == 1
    elif name == "ReleaseRaises":
        assert "wrong: there is a traceback, though no call shows it" in shown
    else:
        rows = [line for line in told.stdout.splitlines() if line[:1].isdigit()][1:]
        assert rows
        assert list((out / "logs").glob("*/*.log"))
        if name == "Raises":
            assert (
                subprocess.run([out / "repro.py"], check=False, capture_output=True).returncode == 1
            )


@pytest.mark.long
def test_a_call_that_is_not_answered_is_made_shorter(tmp_path: Path, place: Path) -> None:
    """Over RPC it comes back when its brick has ended."""
    insert = f"features/glupy,module={BROKEN}:NeverAnswers"
    words = "pyposix", "--over-rpc", "--patience", "2", "--insert", insert, "--seed", "1"
    told = subprocess.run(
        [GLUPY, "fuzz", *words, "--dir", place],
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
    )
    assert told.returncode == 1, told.stderr
    assert "wrong: no answer" in told.stdout
    assert len([line for line in told.stdout.splitlines() if line[:1].isdigit()]) <= 4


def test_a_brick_that_does_not_start_again() -> None:
    once = "features/glupy", {"module": f"{BROKEN}:StartsOnce"}
    with open_target("pyposix", inserts=[once], faults=["kill"]) as ground:
        with pytest.raises(Mismatch, match=r"does not start again: .*once is enough"):
            replay(ground, [Create(0, "a"), Kill(), Start()])
        assert ground.spoiled


def test_a_seed_makes_the_same_sequences() -> None:
    made: list[list[list[Step]]] = []
    for seed in 5, 5, 6:
        made.append([])
        with open_target("pyposix") as ground:
            Search(
                ground,
                progress=lambda search: made[-1].append([step for step, _ in search.last.done]),
            ).run(examples=8, seed=seed)
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_rules_are_left_out_one_by_one() -> None:
    """Hypothesis knows them by the names of their functions."""
    names = [
        getattr(value, RULE_MARKER).function.__name__
        for each in (*RULES, *FAULT_RULES.values())
        for value in vars(each).values()
        if hasattr(value, RULE_MARKER)
    ]
    assert len(names) == len(set(names)) > 20


def test_an_interrupt(tmp_path: Path, place: Path) -> None:
    """It ends at once, with what was found."""
    command = subprocess.Popen(
        [GLUPY, "fuzz", "pyposix", "--dir", place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    time.sleep(5)
    command.send_signal(signal.SIGINT)
    shown, complaints = command.communicate(timeout=30)
    assert (command.returncode, complaints) == (128 + signal.SIGINT, "")
    assert shown.splitlines()[-3] == "interrupted"
    assert shown.splitlines()[-1] == "nothing found"
