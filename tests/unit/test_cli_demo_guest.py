"""`glupy demo --guest`: mistakes, what is missing, and the verdict on the negative control."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glupy_tools.demo import WRITTEN, Report, Step

BLOCKS = WRITTEN // 512
NAMES = "mkfs", "write", "rm", "fstrim"


def demo(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", "demo", *arguments]
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--disk", "virtio-blk"], "glupy demo: --disk and --discard are for --guest"),
        (["--discard", "ignore"], "glupy demo: --disk and --discard are for --guest"),
        (["--guest", "--disk", "ide"], "glupy demo: Invalid value for '--disk': 'ide' is not one"),
        (["--keep", "--json"], "glupy demo: --keep is for looking around, --json for programs"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    done = demo(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_what_is_missing_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    done = demo("--guest", "--dir", str(tmp_path), path=str(path))
    missing = "glupy: a guest needs qemu-system-x86_64 (apt-get install qemu-system-x86)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", missing)
    assert list(tmp_path.iterdir()) == [path]


def report(after_rm: int, after_fstrim: int) -> Report:
    figures = 100, 100 + BLOCKS, 100 + after_rm, 100 + after_fstrim
    return Report("storage/x", [Step(name, n, n) for name, n in zip(NAMES, figures, strict=True)])


@pytest.mark.parametrize(
    ("after_rm", "after_fstrim", "wrong"),
    [
        (BLOCKS, BLOCKS, None),
        (BLOCKS, BLOCKS // 2, "50.0% of the written blocks came back without discards"),
        (0, 0, "100.0% of the written blocks came back without discards"),
    ],
)
def test_discards_that_are_ignored_free_nothing(
    after_rm: int, after_fstrim: int, wrong: str | None
) -> None:
    assert report(after_rm, after_fstrim).wrong(discard=True, ignored=True) == wrong
