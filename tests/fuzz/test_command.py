"""`glupy fuzz`: what it says, how it ends, what it leaves, and the scripts that it writes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self, cast

import click
import pytest
from click.testing import CliRunner

from glupy.testing.fuzz import Finding, Search, report
from glupy.testing.fuzz.steps import (
    AsInternal,
    Create,
    Discard,
    Fallocate,
    Step,
    Truncate,
    Wait,
    Write,
)
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.pytest_plugin import REFUSALS, MakeBrick
from glupy_tools.failures import CommandError
from glupy_tools.fuzz import AT_ONCE, _run, fuzz

from .searching import GLUPY, TRANSLATORS, above, environment, glupy_fuzz

LONG = pytest.mark.long


def inserted(name: str, file: str = "faults.py") -> list[str]:
    """The words that put a translator of the folder above each leaf."""
    type_, options = above(name, file)
    return ["--insert", f"{type_},module={options['module']}"]


WRONG = inserted("TruncateIsAByteOff")


def fops(shown: str) -> list[str]:
    """Those of the table that is shown."""
    return [line.split()[1] for line in shown.splitlines() if line[:1].isdigit()][1:]


def run(*words: Path | str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, capture_output=True, text=True, check=False, env=os.environ | environment
    )


# ---- scripts ----


def script_of(folder: Path, *steps: Step) -> Path:
    finding = Finding(tuple((step, None) for step in steps), "mtime was not set")
    return report.write(folder, report.script(finding, "repro.py", "ctime:pyposix"))


@pytest.fixture
def without_hypothesis(tmp_path: Path) -> dict[str, str]:
    """An environment in which it cannot be imported."""
    (tmp_path / "hypothesis.py").write_text('raise ImportError("there is no Hypothesis")')
    return {"PYTHONPATH": str(tmp_path)}


def test_a_script_shows_it_again(tmp_path: Path, without_hypothesis: dict[str, str]) -> None:
    script = script_of(
        tmp_path, Create(0, "a"), Fallocate(0, 0, 1), Wait(), Discard(0, 0, 1, later=True)
    )
    for target, status in ([], 1), (["pyposix"], 0), (["nothing"], 2), (["two", "targets"], 2):
        done = run(sys.executable, script, *target, **without_hypothesis)
        assert done.returncode == status, done.stdout + done.stderr
    assert report.write(tmp_path, "") != script


def test_a_script_that_cannot_run(tmp_path: Path) -> None:
    """Python's own exit status of what is raised is 1: something would be wrong with the target."""
    script = script_of(tmp_path, Create(0, "a"), Truncate(0, 1 << 64))
    done = run(sys.executable, script)
    assert (done.returncode, "OverflowError" in done.stderr) == (2, True), done
    done = run("/usr/bin/python3", "-S", script)
    assert (done.returncode, "No module named" in done.stderr) == (2, True), done


def test_a_script_of_what_a_fault_shows(tmp_path: Path) -> None:
    """The fault is there again."""
    steps = AsInternal(True), Create(0, "a"), Write(0, 0, 4096, 1), AsInternal(False)
    finding = Finding(tuple((step, None) for step in (*steps, Discard(0, 0, 4096))), "ENOSPC")
    text = report.script(finding, "repro.py", "posix", faults=["full"])
    script = report.write(tmp_path, text)
    for target, status, last in ([], 1, "ENOSPC, where success"), (["pyposix"], 0, "nothing is"):
        done = run(sys.executable, script, *target)
        assert done.returncode == status, done
        assert done.stdout.splitlines()[-1].startswith(last)


# ---- how it ends ----


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nothing"], 2, "there is no type storage/nothing"),
        (["pyposix", "--faults", "flood"], 2, "'flood' is no fault"),
        (["pyposix", "--faults", "full,readonly"], 2, "what is read-only cannot be full, too"),
        (
            ["replicate:3:pyposix", "--against", "pyposix", "--faults", "io"],
            2,
            "io is not the same in two targets: compare them without",
        ),
        (
            ["replicate:3:pyposix", "--against", "pyposix", "--faults", "kill"],
            2,
            "kill: one of the two has bricks to spare, the other has not",
        ),
        (["pybd:loop", "--faults", "readonly"], 2, "loop devices keep their store from that"),
        (["replicate:3:pyposix", "--faults", "full"], 2, "full: of bricks in one store one has "),
        (["dir:/usr", "--faults", "full"], 2, "dir:/usr: faults are for recipes only"),
        (["pyposix", "--faults", "io", "--examples", "3"], 0, "\n3 sequences, "),
        (["pyposix", "--faults", "kill", "--examples", "2"], 0, "\n2 sequences, "),
        (["pyposix", "--faults", "readonly", "--examples", "3"], 0, "\n3 sequences, "),
        (["pybd:loop", "--examples", "2"], 0, "\n2 sequences, "),
        (["replicate:3:pyposix", "--examples", "2"], 0, "\n2 sequences, "),
        (["disperse:2+1:pyposix", "--examples", "2"], 0, "\n2 sequences, "),
        (["distribute:2:pyposix", "--examples", "2"], 0, "\n2 sequences, "),
        (["shard:pyposix", "--examples", "2"], 0, "\n2 sequences, "),
    ],
)
def test_how_it_ends(words: list[str], status: int, said: str, tmp_path: Path, place: Path) -> None:
    done = glupy_fuzz(tmp_path, *words, "--dir", place)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done
    assert done.stdout.endswith("nothing found\n") == (status == 0)
    assert ("\nnot asserted: copy_errnos: syncop" in done.stdout) == (status == 0)
    assert len(done.stderr.splitlines()) == (status == 2)


def test_how_long_a_sequence_is() -> None:
    """Of 50 steps, unless told otherwise."""
    (steps,) = (option for option in fuzz.params if option.name == "steps")
    assert steps.get_default(click.Context(fuzz)) == 50


def test_who_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set up."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(CommandError, match="needs root: it makes stores and bricks") as told:
        CliRunner().invoke(fuzz, ["pyposix"], standalone_mode=False, catch_exceptions=False)
    assert told.value.status == 2


def test_there_is_no_hypothesis(tmp_path: Path, without_hypothesis: dict[str, str]) -> None:
    done = run(GLUPY, "fuzz", "pyposix", HOME=str(tmp_path), **without_hypothesis)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "glupy: fuzz needs Hypothesis: pip install 'glupy[testing]'\n"


def test_a_seed_is_that_of_a_search() -> None:
    """What a test has found by `Search.run` the command finds, too, as it begins with that."""

    class Sought:
        finding = None
        examples = 0
        seeds: ClassVar[list[int]] = []

        def run(self, *, examples: int, seed: int, steps: int) -> None:
            self.examples += examples
            self.seeds.append(seed)

    _run(cast("Search", Sought()), None, 3 * AT_ONCE, 50, 7)
    assert Sought.seeds[0] == 7
    assert len(set(Sought.seeds)) == len(Sought.seeds) == 3


def test_two_targets(tmp_path: Path, place: Path) -> None:
    """What either of them does not promise is said, and each reason once."""
    words = "posix", "--against", "pyposix", "--examples", "5", "--dir", place
    done = glupy_fuzz(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^5 sequences, .*\nnothing found$", done.stdout, re.M), done
    said = re.findall(r"^not asserted: (\w+): (.+)$", done.stdout, re.M)
    assert len(said) == len(set(said)), done
    ours, the_others, both = "same_names", "clients", "copy_errnos"
    assert {what for what, _ in said} >= {ours, the_others, both}


def test_what_differs_from_another_target(tmp_path: Path, place: Path) -> None:
    wrong = inserted("WritesTellTheirSizeBefore")
    words = "pyposix", *wrong, "--against", "pyposix", "--seed", "1"
    done = glupy_fuzz(tmp_path, *words, "--out", tmp_path, "--dir", place)
    assert done.returncode == 1, done
    assert re.search(r"^wrong: before: st_size is \d+, the other: 0$", done.stdout, re.M)
    again = run(tmp_path / "repro.py")
    assert (again.returncode, "the other: " in again.stdout) == (1, True), again


@pytest.mark.allow_log(*REFUSALS)
def test_a_volfile(brick: Brick, tmp_path: Path, place: Path) -> None:
    """A client's, of what somebody else serves."""
    for inserts, status, said in (
        ([], 0, "\nnothing found\n"),
        ([above("WritesTellTheirSizeBefore")], 1, "\nwrong: "),
    ):
        volfile = tmp_path / f"client-{status}.vol"
        brick.client_graph(inserts=inserts).write(volfile)
        words = "--examples", "20", "--seed", "1", "--dir", place
        done = glupy_fuzz(tmp_path, volfile, *words)
        assert (done.returncode, said in done.stdout) == (status, True), done


def test_a_folder_of_ext4(brick_dir: Path, tmp_path: Path, place: Path) -> None:
    done = glupy_fuzz(tmp_path, f"dir:{brick_dir}", "--examples", "5", "--dir", place)
    assert (done.returncode, "\nnothing found\n" in done.stdout) == (0, True), done
    assert list(brick_dir.iterdir()) == []


@pytest.mark.allow_log(*REFUSALS)
def test_a_mount(make_brick: MakeBrick, tmp_path: Path, place: Path) -> None:
    """And its script, which shows it there again, and finds nothing where it is not."""
    made = make_brick(inserts=[above("TruncateIsAByteOff")])
    (mountpoint := tmp_path / "mount").mkdir()
    (sound := tmp_path / "sound").mkdir()
    with FuseMount(made.client_graph(), mountpoint, tmp_path / "fuse"):
        words = "--seed", "1", "--examples", "50", "--out", tmp_path, "--dir", place
        done = glupy_fuzz(tmp_path, f"dir:{mountpoint}", *words)
        assert (done.returncode, "\nwrong: " in done.stdout) == (1, True), done
        for status, target in (1, []), (0, [f"dir:{sound}"]):
            again = run(tmp_path / "repro.py", *target)
            assert again.returncode == status, again


def test_what_is_found(tmp_path: Path, place: Path) -> None:
    """features/utime knows no discard: a defect of GlusterFS's. What failed before comes first."""
    out = tmp_path / "out"
    words = "ctime:pyposix", "--dir", place
    found = glupy_fuzz(tmp_path, *words, "--seed", "1", "--out", out)
    assert found.returncode == 1, found.stderr
    assert "mtime was not set" in found.stdout
    shown = fops(found.stdout)
    assert len(shown) == 4 and "discard" in found.stdout
    assert shown[-1] in ("discard", "together")
    assert shown[-2] in ("age", "wait")
    assert "O_RDWR" in found.stdout
    for status, target in (1, []), (0, ["pyposix"]):
        again = run(out / "repro.py", *target)
        assert again.returncode == status, again
    once = *words, "--seed", "2", "--examples", "1"
    assert glupy_fuzz(tmp_path, *once).returncode == 1
    (other := tmp_path / "other").mkdir()
    assert glupy_fuzz(other, *once).returncode == 0


def test_errors_are_shown_by_name(tmp_path: Path, place: Path) -> None:
    """C posix refuses a discard when its reserve is used up."""
    words = "posix", "--faults", "full", "--seed", "1", "--dir", place
    found = glupy_fuzz(tmp_path, *words)
    assert found.returncode == 1, found.stderr
    assert re.search(r"^ *\d+ +discard .* ENOSPC *$", found.stdout, re.M), found.stdout


def test_a_seed_and_a_number_of_steps(tmp_path: Path, place: Path) -> None:
    """The same sequences are made up, whoever asks, and what is found is made as short."""
    told = []
    for number, seed in enumerate("112"):
        (home := tmp_path / str(number)).mkdir()
        words = "--seed", seed, "--steps", "5", "--dir", place
        done = glupy_fuzz(home, "pyposix", *WRONG, *words)
        assert done.returncode == 1, done
        told.append(done.stdout.partition("\n")[2])
    assert told[0] == told[1] != told[2]
    made = re.search(r"^([\d,]+) sequences, ([\d,]+) calls$", told[0], re.M)
    assert made is not None, told[0]
    sequences, calls = (int(number.replace(",", "")) for number in made.groups())
    assert calls < 10 * sequences  # of 50 steps it would be 40


# ---- in a terminal ----


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, home: Path, *words: Path | str) -> None:
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", GLUPY, "fuzz", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=home,
            env=environment(home) | {"TERM": "xterm"},
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)  # it hangs up
        self._process.wait(30)

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self._ours, b"\x03")

    def terminate(self) -> None:
        """SIGTERM, for it alone."""
        self._process.terminate()

    def shown(self, until: str = "(?!)") -> str:
        """What it shows until there is something, or else to its end."""
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody is at the other end any more
            while not re.search(until.encode(), shown):
                shown += os.read(self._ours, 4096)
        return re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown.decode()).replace("\r", "\n")

    def status(self) -> int:
        return self._process.wait(30)


def test_a_time_and_how_far_it_is(tmp_path: Path, place: Path) -> None:
    with Terminal(tmp_path, "pyposix", "--time", "3", "--dir", place) as command:
        shown = command.shown()
        assert command.status() == 0, shown
    assert "\nnothing found\n" in shown
    told = re.findall(r"([\d,]+) sequences, ([\d,]+) calls +0:00:(\d\d)", shown)
    seconds = [int(each[-1]) for each in told]
    assert 2 <= seconds[-1] < 10, told
    assert len(set(told)) > 5, told


def test_how_far_it_is_without_a_terminal(tmp_path: Path, place: Path) -> None:
    """A line every half second, rather than each minute."""
    sooner = "import glupy_tools, glupy_tools.fuzz as it; it.BETWEEN_LINES = .5; glupy_tools.main()"
    words = "fuzz", "pyposix", "--time", "1.6", "--dir", place
    done = run(sys.executable, "-c", sooner, *words, **environment(tmp_path))
    assert (done.returncode, done.stdout[-14:]) == (0, "nothing found\n"), done
    told = re.findall(r"^([\d,]+) sequences, [\d,]+ calls 0:0\d:\d\d$", done.stderr, re.M)
    assert len(told) == len(done.stderr.splitlines()) >= 2, done
    made = [int(number.replace(",", "")) for number in told]
    assert made == sorted(set(made))


@pytest.mark.parametrize(
    ("end", "number"),
    [(Terminal.interrupt, signal.SIGINT), (Terminal.terminate, signal.SIGTERM)],
)
def test_an_interrupt(
    end: Callable[[Terminal], None], number: signal.Signals, tmp_path: Path, place: Path
) -> None:
    """It ends at once, and has found nothing."""
    with Terminal(tmp_path, "pyposix", "--dir", place) as command:
        command.shown(until=r"[1-9] calls")
        end(command)
        shown = command.shown()
        assert command.status() == 128 + number, shown
    assert "\ninterrupted\n" in shown
    assert shown.endswith("\nnothing found\n\n")


def test_an_interrupt_when_something_was_found(tmp_path: Path, place: Path) -> None:
    """It is told as it is, and would be shorter if there had been time."""
    words = "pyposix", *WRONG, "--over-rpc", "--seed", "1"
    with Terminal(tmp_path, *words, "--out", tmp_path, "--dir", place) as command:
        command.shown(until="; found one of ")
        command.interrupt()
        shown = command.shown()
        assert command.status() == 1, shown
    assert "\ninterrupted\n" in shown
    assert fops(shown)
    assert re.search(r"\nwrong: .*size \d+, not \d+\n", shown)
    assert f"again: {tmp_path}/repro.py" in shown
    assert run(tmp_path / "repro.py").returncode == 1
    assert str(place) not in run("ps", "-eo", "args").stdout


# ---- what crashes, and what does not work ----


@pytest.mark.allow_log(*REFUSALS)
def test_a_client_that_crashes_is_found(brick: Brick, tmp_path: Path, place: Path) -> None:
    """Its calls are told by the process that has outlived it."""
    volfile, out = tmp_path / "client.vol", tmp_path / "out"
    brick.client_graph(inserts=[above("DiscardCrashes", "crashing.py")]).write(volfile)
    found = glupy_fuzz(tmp_path, volfile, "--seed", "1", "--out", out, "--dir", place)
    assert (found.returncode, found.stderr) == (1, "")
    shown = found.stdout.splitlines()
    wrong = shown.index("wrong: the client crashed: SIGSEGV")
    assert shown[wrong - 1].split()[1] == "discard"
    assert (out / "repro.py").exists()


@LONG  # a client needs three seconds to find a brick that was started again
def test_a_crash_of_the_search_itself_goes_on_over_rpc(tmp_path: Path, place: Path) -> None:
    """What it had made is taken away, and the script that comes of it exits as others do."""
    insert, out = inserted("DiscardCrashes", "crashing.py"), tmp_path / "out"
    words = "--seed", "1", "--examples", "20", "--out", out, "--dir", place
    found = glupy_fuzz(tmp_path, "pyposix", *insert, *words, timeout=700)
    assert (found.returncode, found.stderr) == (1, "")
    assert "SIGSEGV in the process of the search; once more, over RPC" in found.stdout
    assert "wrong: brick-0 ended by itself: signal SIGSEGV" in found.stdout
    again = run(out / "repro.py")
    assert again.returncode == 1
    assert again.stdout.splitlines()[-1].startswith("brick-0 ended by itself: signal SIGSEGV")


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
    out = tmp_path / "out"
    insert = inserted(name, "broken.py")
    told = glupy_fuzz(tmp_path, *words, *insert, "--seed", "1", "--dir", place, "--out", out)
    shown = told.stdout + told.stderr
    assert told.returncode == status, shown
    assert said.format(file=TRANSLATORS / "broken.py") in shown
    if status == 2:
        assert len(told.stderr.splitlines()) == 1
    elif name == "ReleaseRaises":
        assert "wrong: there is a traceback, though no call shows it" in shown
    else:
        assert fops(told.stdout)
        assert list((out / "logs").glob("*/*.log"))
        if name == "Raises":
            assert run(out / "repro.py").returncode == 1


@LONG
def test_a_call_that_is_not_answered_is_made_shorter(tmp_path: Path, place: Path) -> None:
    """Over RPC it comes back when its brick has ended."""
    words = "--over-rpc", "--patience", "2", "--seed", "1", "--dir", place
    insert = inserted("NeverAnswers", "broken.py")
    told = glupy_fuzz(tmp_path, "pyposix", *words, *insert, timeout=400)
    assert told.returncode == 1, told.stderr
    assert "wrong: no answer" in told.stdout
    assert len(fops(told.stdout)) <= 3
