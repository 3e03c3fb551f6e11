"""`glupy demo` as an operator runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STEPS = ["store", "brick", "image", "mkfs", "write", "rm", "fstrim"]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "glupy_tools", "demo", "--dir", str(folder), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()  # unmakes everything, if the test did not get to its end


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_nothing_left(folder: Path) -> None:
    """No file in the demo's folder, and no mount, loop device or process that names it."""
    assert list(folder.iterdir()) == []
    assert str(folder) not in Path("/proc/mounts").read_text()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        assert str(folder) not in backing.read_text()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        if command.parent.name != str(os.getpid()):
            assert str(folder) not in command.read_text(errors="replace")


@pytest.mark.parametrize(
    ("leaf", "store"), [("pyposix", "discard"), ("pyposix", "nodiscard"), ("posix", "discard")]
)
def test_blocks_come_back_as_far_as_the_store_lets_them(
    leaf: str, store: str, tmp_path: Path
) -> None:
    with demo(tmp_path, "--json", "--leaf", leaf, "--store", store) as process:
        output, errors = process.communicate(timeout=180)
    assert (process.returncode, errors) == (0, "")
    report = json.loads(output)
    assert set(report) == {"leaf", "steps", "image_reclaimed", "store_reclaimed"}
    assert report["leaf"] == f"storage/{leaf}"
    assert [step["name"] for step in report["steps"]] == STEPS
    assert all(set(step) == {"name", "image_blocks", "store_blocks"} for step in report["steps"])
    written = report["steps"][STEPS.index("write")]
    assert min(written["image_blocks"], written["store_blocks"]) * 512 >= 400 * 1024 * 1024
    assert report["image_reclaimed"] >= 0.95
    if store == "discard":
        assert report["store_reclaimed"] >= 0.95
    else:
        assert report["store_reclaimed"] <= 0.05
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0, 2, 4, 6])
def test_a_signal_at_any_step_leaves_nothing(
    seconds: float, ending: signal.Signals, tmp_path: Path
) -> None:
    with demo(tmp_path, "--leaf", "posix") as process:
        wait_for(tmp_path, "*")  # begun, however long Python took to start
        time.sleep(seconds)
        process.send_signal(ending)
        process.send_signal(ending)  # twice, as the impatient do
        process.communicate(timeout=60)
    assert process.returncode == 128 + ending
    assert_nothing_left(tmp_path)


def test_a_brick_that_dies_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--leaf", "posix") as process:
        wait_for(tmp_path, "*/mount/image")
        (pid_file,) = tmp_path.glob("*/brick/pid")
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert errors.startswith("glupy: the brick ended (signal 9)")
    assert_nothing_left(tmp_path)


def test_a_leaf_that_does_not_exist_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--leaf", "nonsense") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("glupy: the brick did not start")
    assert "storage/nonsense" in errors
    assert errors.count("\n") == 1
    assert_nothing_left(tmp_path)
