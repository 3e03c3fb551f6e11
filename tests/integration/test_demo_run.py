"""`glupy run`: a translator's file, mounted by one command."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glupy.stores import mount_of

SHOUT = """
from glupy import PASS, Option, Translator

class Shout(Translator):
    options = [Option("word", str, default="made")]

    def mkdir(self, frame, loc, mode, umask, xdata):
        self.log.warning("%s %s", self.option("word"), loc.path)
        return PASS
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "shout.py").write_text(SHOUT)
    for name in ("data", "mount"):
        (tmp_path / name).mkdir()
    folders = [str(tmp_path / "data"), str(tmp_path / "mount")]
    return [sys.executable, "-m", "glupy_tools", "run", str(tmp_path / "shout.py"), *folders]


@pytest.mark.parametrize(
    ("ending", "leaf"), [(signal.SIGINT, []), (signal.SIGTERM, ["--leaf", "posix"])]
)
def test_run_mounts_and_a_signal_undoes_it(
    ending: signal.Signals, leaf: list[str], command: list[str], tmp_path: Path
) -> None:
    command[4] += ":Shout"
    command += leaf
    with subprocess.Popen(
        [*command, "-o", "word=new:"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while mount_of(tmp_path / "mount") is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert process.stderr is not None
            assert process.stderr.readline().endswith("Ctrl-C ends it\n")
            (tmp_path / "mount" / "folder").mkdir()
        finally:
            process.send_signal(ending)
            output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + ending, "")
    assert "new: /folder" in output
    assert "Final graph" not in output
    assert mount_of(tmp_path / "mount") is None
    assert (tmp_path / "data" / "folder").is_dir()
    assert_no_process_names(tmp_path)


def test_a_class_that_is_not_there_is_one_line(command: list[str], tmp_path: Path) -> None:
    command[4] += ":Nothing"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no translator class Nothing" in done.stderr
    assert mount_of(tmp_path / "mount") is None
    assert_no_process_names(tmp_path)


def test_a_mountpoint_in_use_is_left_alone(command: list[str]) -> None:
    command[4] += ":Shout"
    command[-1] = "/proc"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "glupy: /proc: something is mounted there already\n"
    assert mount_of(Path("/proc")) is not None


def assert_no_process_names(folder: Path) -> None:
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        if b"gluster" in (words := line.read_bytes()):
            assert bytes(folder) not in words
