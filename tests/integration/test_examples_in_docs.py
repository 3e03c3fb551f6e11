"""What docs/writing-translators.md and docs/fuzz.md show, run as it stands there."""

import errno
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import credentials
from glupy.testing.logs import LogChecker
from glupy.testing.pytest_plugin import Connect, MakeBrick

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "writing-translators.md"
FUZZ = ROOT / "docs" / "fuzz.md"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


BLOCKS = blocks(PAGE)
MODULES = {
    code.splitlines()[0].removeprefix("# "): code for kind, code in BLOCKS if kind == "python"
}
COMMANDS = [code for kind, code in BLOCKS if kind == "sh"]


Shown = Callable[..., volfiles.Insert]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """`shown("Tidy", option=…)`: a class of the page, as one more translator of a brick."""

    def shown(name: str, **options: str) -> volfiles.Insert:
        file = tmp_path / f"{name.lower()}.py"
        file.write_text(MODULES[file.name])
        return "features/glupy", {"module": f"{file}:{name}", **options}

    return shown


@pytest.fixture
def leaf() -> str:
    return "storage/posix"


@contextmanager
def running(command: list[str], folder: Path, mountpoint: Path) -> Iterator[Path]:
    """Run a command until the mount is there; at the end press Ctrl-C. Gives its output's path."""
    output = folder / "output"
    program = Path(sys.executable).with_name(command[0])
    with output.open("wb") as out:
        process = subprocess.Popen(
            [program, *command[1:]], cwd=folder, stdout=out, stderr=out, process_group=0
        )
    try:
        deadline = time.monotonic() + 30
        while not mountpoint.is_mount():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        yield output
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def test_each_block_of_code_has_its_test() -> None:
    tests = {"test_tidy.py", "test_space.py", "test_ranges.py"}
    assert set(MODULES) == {"tidy.py", "ledger.py", "guard.py", *tests}
    assert len(COMMANDS) == 1
    assert len(BLOCKS) == len(MODULES) + len(COMMANDS)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert targets
    for target in targets:
        assert (PAGE.parent / target).exists(), target


@pytest.mark.allow_log(r"\{errno=122\}")
def test_tidy(make_brick: MakeBrick, connect: Connect, shown: Shown, logs: LogChecker) -> None:
    logs.expect("user 1234 removes /file.tmp$")
    client = connect(make_brick(inserts=[shown("Tidy", suffix=".bak")]))
    client.chmod("/", 0o777)
    with pytest.raises(OSError) as caught:
        client.creat("/file.bak")
    assert caught.value.errno == errno.EDQUOT
    with credentials(1234, 1234):
        client.creat("/file.tmp").close()
        client.unlink("/file.tmp")


def said_of_tests(folder: Path, *words: str) -> str:
    """What pytest says of the tests in a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    command += ["--rootdir", str(folder), "--basetemp", str(folder / "base"), str(folder)]
    run = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    return run.stdout + run.stderr


def test_tests_are_run_as_shown(tmp_path: Path) -> None:
    for name in "tidy.py", "test_tidy.py", "test_space.py", "test_ranges.py":
        (tmp_path / name).write_text(MODULES[name])
    assert "\n3 passed in" in (said := said_of_tests(tmp_path)), said


def test_searches_are_run_as_shown(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from glupy import Translator\n\n\nclass Mine(Translator):\n    pass\n")
    shown = "\n\n".join(code for kind, code in blocks(FUZZ) if kind == "python")
    for there, here, count in ("/root/mine.py", str(mine), 2), ("examples=100", "examples=10", 1):
        assert shown.count(there) == count
        shown = shown.replace(there, here)
    (tmp_path / "test_mine.py").write_text(shown)
    said = said_of_tests(tmp_path, "--hypothesis-profile", "glupy-dev")
    assert "\n2 passed in" in said, said


def test_tidy_runs_as_shown(tmp_path: Path) -> None:
    data, mountpoint = tmp_path / "data", tmp_path / "mnt"
    data.mkdir()
    mountpoint.mkdir()
    (tmp_path / "tidy.py").write_text(MODULES["tidy.py"])
    command = COMMANDS[0].replace("/srv/data", str(data)).replace("/mnt", str(mountpoint), 1)
    with running(shlex.split(command), tmp_path, mountpoint) as output:
        (mountpoint / "file.tmp").write_text("data")
        assert (data / "file.tmp").read_text() == "data"
        with pytest.raises(OSError) as caught:
            (mountpoint / "file.bak").touch()
        assert caught.value.errno == errno.EDQUOT
        (mountpoint / "file.tmp").unlink()
    assert "user 0 removes /file.tmp" in output.read_text()
    assert not mountpoint.is_mount()


def test_ledger(make_brick: MakeBrick, connect: Connect, shown: Shown) -> None:
    client = connect(make_brick(inserts=[shown("Ledger")]))
    client.chmod("/", 0o777)
    with client.creat("/file", mode=0o666) as file:
        file.pwrite(b"12345", 0)
        file.pwrite(b"678", 5)
        with credentials(1234, 1234):
            file.pwrite(b"9", 8)
    assert client.getxattr("/file", "user.ledger") == b"0: 8, 1234: 1"
    client.setxattr("/file", "user.other", b"value")
    assert client.getxattr("/file", "user.other") == b"value"
    with client.creat("/empty"):
        assert client.getxattr("/empty", "user.ledger") == b""


def test_guard(make_brick: MakeBrick, connect: Connect, shown: Shown) -> None:
    brick = make_brick(inserts=[shown("Guard", full="0", interval="0.2")])
    client = connect(brick)
    client.creat("/file").close()
    start = time.monotonic()
    client.unlink("/file")
    assert time.monotonic() - start >= 0.1
    with pytest.raises(FileNotFoundError):
        client.unlink("/file")
    deadline = time.monotonic() + 10
    while len(re.findall(r" W .* 0-brick-glupy: \d+ % of the", brick.log_text())) < 3:
        assert time.monotonic() < deadline, brick.log_text()
        time.sleep(0.1)
