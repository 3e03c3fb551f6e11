"""What runs in the guest: what its kernel can do that the host's cannot, and bricks on it."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glupy import stores
from glupy.stores.loops import loop_device
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick

MIB = 1 << 20
CHUNK = 64 << 10


def command(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def loop(folder: Path) -> Iterator[Path]:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    with loop_device(image) as device:
        yield device


@contextmanager
def scsi(_: Path) -> Iterator[Path]:
    yield Path("/dev/sda")  # the guest's own disk is none of SCSI


@pytest.fixture(params=[loop, scsi])
def thin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A volume of 200 MiB in a thin pool on a device."""
    with request.param(tmp_path) as device:
        command("vgcreate", "group", device)
        size = ("--extents", "90%FREE", "--chunksize", f"{CHUNK}b")
        command("lvcreate", "--type", "thin-pool", *size, "--name", "pool", "group")
        command("lvcreate", "--virtualsize", "200m", "--thinpool", "group/pool", "--name", "thin")
        yield Path("/dev/group/thin")
        command("vgremove", "--force", "group")


def mapped(volume: Path) -> int:
    """Bytes that a thin volume has of its pool."""
    status = command("dmsetup", "status", volume)  # START LENGTH thin MAPPED HIGHEST
    return int(status.split()[3]) * 512


def test_a_discard_gives_chunks_back(thin: Path) -> None:
    assert "thin-pool" in re.findall(r"^\S+", command("dmsetup", "targets"), re.MULTILINE)
    command("dd", "if=/dev/urandom", f"of={thin}", "bs=1M", "count=20", "oflag=direct")
    assert mapped(thin) == 20 * MIB
    command("/usr/sbin/blkdiscard", "--offset", "4M", "--length", "8M", thin)
    assert mapped(thin) == 12 * MIB


def test_a_discard_of_a_file_on_a_brick_reaches_the_pool(
    thin: Path, tmp_path: Path, make_brick: Callable[..., Brick], connect: Callable[..., Client]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    stores.make_file_system(thin)
    with stores.mounted(thin, folder, ["discard"]):
        brick = make_brick(folder)
        with connect(brick) as client, client.creat("/file") as file:
            file.pwrite(os.urandom(16 * MIB), 0)
            file.fsync()
            full = mapped(thin)
            file.discard(0, 16 * MIB)
            os.sync()
            assert stores.settled(lambda: mapped(thin), folder) <= full - 15 * MIB
        brick.stop()
