"""`glupy demo --guest` as an operator runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from glupy.testing.waiting import wait_until

STEPS = ["store", "brick", "image", "mkfs", "write", "rm", "fstrim"]
WRITTEN = 400 << 20
PATIENCE = 300.0


@contextmanager
def demo(
    folder: Path, *arguments: str, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "glupy_tools", "demo", "--dir", str(folder), *arguments]
    with subprocess.Popen(
        [*prefix, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()  # unmakes everything, if the test did not get to its end


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
    ("arguments", "image_comes_back", "store_comes_back"),
    [
        ([], True, True),
        pytest.param(["--bd", "--disk", "virtio-blk"], True, True, marks=pytest.mark.long),
        pytest.param(["--discard", "ignore"], False, False, marks=pytest.mark.long),
        pytest.param(
            ["--discard", "ignore", "--bd", "--disk", "virtio-blk"],
            False,
            False,
            marks=pytest.mark.long,
        ),
        pytest.param(["--store", "nodiscard"], True, False, marks=pytest.mark.long),
        pytest.param(["--disk", "virtio-blk"], True, True, marks=pytest.mark.long),
        pytest.param(["--bd"], True, True, marks=pytest.mark.long),
        pytest.param(["--leaf", "posix"], True, True, marks=pytest.mark.long),
        pytest.param(["--leaf", "posix", "--bd"], True, True, marks=pytest.mark.long),
    ],
    ids=lambda value: " ".join(value) or "plain" if isinstance(value, list) else None,
)
def test_blocks_come_back_when_a_guest_removes_a_file(
    arguments: list[str], image_comes_back: bool, store_comes_back: bool, tmp_path: Path
) -> None:
    with demo(tmp_path, "--guest", "--json", *arguments) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    report = json.loads(output)
    assert list(report) == ["leaf", "steps", "image_reclaimed", "store_reclaimed"]
    assert report["leaf"] == f"storage/{'posix' if 'posix' in arguments else 'pyposix'}"
    steps = {step["name"]: step for step in report["steps"]}
    assert list(steps) == STEPS
    for figure, comes_back in (
        ("image", image_comes_back),
        ("store", store_comes_back),
    ):
        before, full, removed = (steps[name][f"{figure}_blocks"] for name in STEPS[3:6])
        assert (full - before) * 512 >= WRITTEN * 0.95
        trimmed = steps["fstrim"][f"{figure}_blocks"]
        for now in removed, trimmed:
            left = (now - before) / (full - before)
            assert left <= 0.05 if comes_back else left >= 0.95
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    "ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_a_signal_while_the_guest_starts_leaves_nothing(
    ending: signal.Signals, tmp_path: Path
) -> None:
    with demo(tmp_path, "--guest", "--leaf", "posix") as process:
        wait_until(lambda: list(tmp_path.glob("*/guest/gluster.log")), seconds=PATIENCE)
        process.send_signal(ending)
        process.send_signal(ending)
        process.communicate(timeout=60)
    assert process.returncode == 128 + ending
    assert_nothing_left(tmp_path)


@pytest.mark.long
def test_a_qemu_without_its_gluster_driver_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    hide = """
        mount --bind /dev/null "$(find /usr/lib -name block-gluster.so)"
        exec "$@"
    """
    prefix = ["unshare", "--mount", "--propagation=slave", "sh", "-ec", hide, "sh"]
    with demo(tmp_path, "--guest", "--leaf", "posix", prefix=prefix) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    needed = "glupy: QEMU has no gluster driver (apt-get install qemu-block-extra)\n"
    assert errors == needed
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("arguments", [[], pytest.param(["--guest"], marks=pytest.mark.long)])
def test_what_is_kept_can_be_looked_at(arguments: list[str], tmp_path: Path) -> None:
    with demo(tmp_path, "--keep", "--leaf", "posix", *arguments) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        while process.stderr.readline() != "Ctrl-C ends it\n":
            assert process.poll() is None
        (image,) = tmp_path.glob("*/mount/image")
        assert image.stat().st_size == 450 << 20
        if arguments:
            process.stdin.write("ls /mnt; echo $((6 * 7))\n")
            process.stdin.close()
            while "lost+found" not in (line := process.stdout.readline()):
                assert line
            assert process.stdout.readline() == "42\n"
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 128 + signal.SIGINT
    assert_nothing_left(tmp_path)
