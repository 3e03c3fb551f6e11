"""What the boots share: a disk that lives on, and on it a glusterd with a volume of two bricks."""

import subprocess
import sys
import time
from pathlib import Path

from glupy import stores
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from glupy_tools import volume_state
from glupy_tools.volume_state import Stack

DISK = Path("/dev/vdb")
FOLDER = Path("/kept")
NAME = "kept"
HELLO = Path(__file__).parents[3] / "xlators" / "examples" / "hello.py"
WANTED = Stack("storage/pyposix", ["features/glupy"])
PATIENCE = 600.0  # the processors are emulated

glusterd = Glusterd(FOLDER / "glusterd")
volume = Volume(glusterd, NAME, [FOLDER / "bricks" / str(number) for number in range(2)])
names = list(map(glusterd.brick, volume.bricks))


def switch_on() -> None:
    """Mount the disk, and start glusterd, which runs until the power is cut."""
    FOLDER.mkdir()
    stores.run("mount", DISK, FOLDER)
    glusterd.start()


def glupy(*words: str) -> subprocess.CompletedProcess[str]:
    """What the command says, however it ends."""
    command = [sys.executable, "-m", "glupy_tools", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    print(f"{time.monotonic():.0f} s: glupy {' '.join(words)}: status {done.returncode}")
    print(done.stdout + done.stderr, flush=True)
    return done


def done(*words: str) -> str:
    result = glupy(*words)
    assert result.returncode == 0, result
    return result.stdout


def status() -> list[str]:
    """The lines of `glupy volume status` but the table's."""
    lines = done("volume", "status", NAME).splitlines()
    start = lines.index(f"{NAME} (started)")
    return lines[:start] + lines[start + 2 + len(names) :]


def stacks() -> list[tuple[Stack, Stack | None, Stack | None]]:
    """Of each brick what is asked for, what its volfile has, and what runs."""
    (state,) = volume_state.states(NAME)
    return [(brick.asked, brick.volfile, brick.running) for brick in state.bricks]


def assert_well(mount_point: Path, new: str, *old: str) -> None:
    """All is as it was set, without a problem; files are there, and a new one can be written."""
    wait_until(lambda: not status(), "a status without a problem", PATIENCE)
    assert stacks() == [(WANTED, WANTED, WANTED)] * 2
    with volume.mounted(mount_point) as mnt:
        assert {path.name: path.read_text() for path in mnt.iterdir()} == {
            name: f"of {name}" for name in old
        }
        (mnt / new).write_text(f"of {new}")
    for brick in volume.bricks:
        assert (brick / new).read_text() == f"of {new}"
        assert f"hello, user 0: /{new} is yours" in volume.log(brick).read_text()
