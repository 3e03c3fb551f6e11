"""`glupy demo` as an operator runs it."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIDST = {
    "store": ("mkfs.ext4", 1),
    "brick": ("glusterfsd", 1),
    "image": ("truncate", 1),
    "mkfs": ("mkfs.ext4", 2),
    "write": ("dd", 1),
    "rm": ("rm", 1),
    "fstrim": ("fstrim", 1),
}
"""Each step, a command that runs in the midst of it, and which call of that command it is."""
STEPS = list(MIDST)
LONG = pytest.mark.long
ENDINGS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
EACH_ONCE = list(zip(STEPS, itertools.cycle(ENDINGS), strict=False))
ROW = re.compile(r"^(\w+) +([\d,]+) +([\d,]+) +\w", re.MULTILINE)
SHARES = re.compile(r"^ +([\d.]+%) +([\d.]+%) +came back after (\w+)", re.MULTILINE)


@contextmanager
def demo(folder: Path, *arguments: str, path: str = "") -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "glupy_tools", "demo", "--dir", str(folder), *arguments]
    environment = os.environ | ({"PATH": path} if path else {})
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def path_where(command: str, number: int, does: str, folder: Path) -> str:
    """A PATH on which that call of a command does something else first, in shell."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    calls, script = folder / f"{command}-calls", folder / "bin" / command
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        f"echo >>{calls}\n"
        f'[ "$(wc -l <{calls})" != {number} ] || {{ {does}; }}\n'
        f'exec {shutil.which(command, path=path)} "$@"\n'
    )
    script.chmod(0o755)
    return f"{script.parent}:{path}"


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


@pytest.mark.parametrize("comes_back", [pytest.param(True, marks=LONG), False])
def test_people_see_both_figures_of_each_step_and_what_is_wrong(
    comes_back: bool, tmp_path: Path
) -> None:
    # The store is not mounted as it was asked to be, and keeps what it has.
    nodiscard = 'shift 2; set -- --options nodiscard "$@"'
    path = "" if comes_back else path_where("mount", 1, nodiscard, tmp_path)
    with demo(tmp_path / "demo", path=path) as process:
        output, errors = process.communicate(timeout=180)
    assert output.startswith("Blocks of 512 bytes in use, storage/pyposix")
    rows = {
        name: [int(each.replace(",", "")) for each in row] for name, *row in ROW.findall(output)
    }
    assert list(rows) == STEPS
    shares = {name: found for *found, name in SHARES.findall(output)}
    assert list(shares) == ["rm", "fstrim"]
    for name, (image, store) in shares.items():
        figures = zip(rows["mkfs"], rows["write"], rows[name], strict=True)
        came = [(peak - after) / (peak - before) for before, peak, after in figures]
        assert [image, store] == [f"{min(max(share, 0), 1):.1%}" for share in came]
        assert came[0] >= 0.95
        assert came[1] >= 0.95 if comes_back else came[1] <= 0.05
    wrong = f"glupy: only {shares['rm'][1]} of the written blocks came back to the store\n"
    assert (process.returncode, errors) == ((0, "") if comes_back else (1, wrong))
    assert_nothing_left(tmp_path / "demo")


@pytest.mark.parametrize(
    ("step", "ending", "options"),
    [
        pytest.param(
            step,
            ending,
            options,
            id=" ".join([step, ending.name, *options]),
            marks=() if (step, ending) in EACH_ONCE[:5] and not options else LONG,
        )
        for options in ([], ["--leaf", "posix"], ["--bd"])
        for step, ending in (EACH_ONCE if options else itertools.product(STEPS, ENDINGS))
    ],
)
def test_a_signal_in_the_midst_of_a_step_leaves_nothing(
    step: str, ending: signal.Signals, options: list[str], tmp_path: Path
) -> None:
    reached, folder = tmp_path / "reached", tmp_path / "demo"
    path = path_where(*MIDST[step], f": >{reached}", tmp_path)
    with demo(folder, *options, path=path) as process:
        wait_for(tmp_path, "reached")
        deadline = time.monotonic() + 60
        while process.poll() is None:  # again and again, as the impatient do
            assert time.monotonic() < deadline
            process.send_signal(ending)
            time.sleep(0.1)
        output, errors = process.communicate()
    assert (process.returncode, errors) == (128 + ending, "")
    assert [name for name, *_ in ROW.findall(output)] == STEPS[: STEPS.index(step)]
    assert_nothing_left(folder)


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=() if step in ("brick", "mkfs") else LONG) for step in STEPS],
)
def test_a_command_that_fails_is_one_line_and_leaves_nothing(step: str, tmp_path: Path) -> None:
    command, _ = MIDST[step]
    folder = tmp_path / "demo"
    path = path_where(*MIDST[step], f"echo {command}: broken >&2; exit 3", tmp_path)
    with demo(folder, path=path) as process:
        output, errors = process.communicate(timeout=180)
    assert process.returncode == 1
    assert re.fullmatch(f"glupy: (.*: )?{command}: broken\n", errors)  # no line break in it
    assert [name for name, *_ in ROW.findall(output)] == STEPS[: STEPS.index(step)]
    assert_nothing_left(folder)


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
