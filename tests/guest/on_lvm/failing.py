"""Volumes whose disks fail while files on them are open, and come back."""

import contextlib
import errno
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client, File
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick

from .volumes import (
    FAILS,
    GROUP,
    KEY,
    KIB,
    MIB,
    NOT_FREED,
    REFUSED,
    THIN,
    command,
    device,
    forgotten,
    held,
    read,
    refuses,
    write,
)

pytestmark = pytest.mark.allow_log(*REFUSED, FAILS, r"lvchange --refresh")


@contextlib.contextmanager
def failing(volume: Path, target: str = "error") -> Iterator[None]:
    """The volume's table is another one as long as the block runs; or it is `removed`, by force."""
    forgotten(volume)
    if target == "removed":
        remove(volume)
    else:
        command("dmsetup", "suspend", volume)
        size = int(command("blockdev", "--getsz", volume))
        command("dmsetup", "load", volume, "--table", target_of(volume, target, size))
        command("dmsetup", "resume", volume)
    try:
        yield
    finally:
        command("lvchange", "--refresh", f"{GROUP}/{volume.name}")


def remove(volume: Path) -> None:
    """LVM itself removes nothing that is open. dmsetup leaves a name, and a table that fails."""
    done = subprocess.run(
        ["dmsetup", "remove", "--force", volume], capture_output=True, check=False
    )
    assert b"busy" in done.stderr, done


def target_of(volume: Path, target: str, size: int) -> str:
    """The table that has only this target: `error`, or a feature of dm-flakey."""
    if target == "error":
        return f"0 {size} error"
    # START LENGTH linear DEVICE OFFSET
    disk, offset = command("dmsetup", "table", volume).split()[3:]
    return f"0 {size} flakey {disk} {offset} 0 60 1 {target}"


def lines(brick: Brick, pattern: str) -> int:
    return len(re.findall(pattern, brick.log.read_text()))


def serving(make: MakeBrick, connect: Connect, folder: Path) -> tuple[Brick, Client]:
    folder.mkdir(exist_ok=True)
    brick = make(folder, inserts=[("user/pybd", {"pool": THIN})])
    return brick, connect(brick)


def make(client: Client, name: str, kind: str) -> None:
    write(client, name, name[:2].encode() * MIB)
    client.setxattr(name, KEY, kind.encode())


def fails(file: File, *, reads: bool) -> None:
    """Whatever needs the disk is EIO to the client."""
    if reads:
        refuses(errno.EIO, lambda: file.pread(MIB, MIB))
        refuses(errno.EIO, lambda: file.discard(10, 100))
    refuses(errno.EIO, lambda: file.discard(MIB, MIB))
    refuses(errno.EIO, lambda: file.zerofill(MIB, MIB))
    file.pwrite(b"lost" * KIB, 8 * KIB)  # whole pages, so that nothing has to be read
    refuses(errno.EIO, file.fsync)


def works(file: File, data: bytes) -> None:
    assert file.pread(4 * KIB, MIB).value == data * 2 * KIB
    file.pwrite(b"again", 0)
    file.fsync()
    assert file.pread(5, 0).value == b"again"


def test_a_device_that_fails(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """EIO to who uses that file, and one line; the brick lives, and other files do. Once the device
    is back, so is the file, and what is discarded is freed again. One goes while it is open.
    """
    folder = brick_dir / "brick"
    brick, client = serving(make_brick, connect, folder)
    for name, kind in ("/k", "lv"), ("/n", "thin"), ("/other", "thin"):
        make(client, name, kind)
    with client.open("/other") as other:
        for told, (name, target) in enumerate([("/k", "error"), ("/n", "removed")], 1):
            volume = device(folder / name[1:])
            with client.open(name) as file, client.open(name) as last:
                assert file.pread(2, 0).value == name.encode()
                file.fsync()
                with failing(volume, target):
                    last.pwrite(b"lost" * KIB, 16 * KIB)
                    fails(file, reads=True)
                    other.pwrite(b"still", 0)
                    other.fsync()
                    assert other.pread(7, 0).value == b"stillo/"
                    assert lines(brick, FAILS) == told
                refuses(errno.EIO, last.fsync)  # the kernel has told us already
                last.fsync()
                works(file, name.encode())
                before = held(volume) if name == "/n" else 0
                file.discard(MIB, MIB)
                if name == "/n":
                    assert held(volume) == before - MIB // 512
                assert file.pread(2 * MIB, 0).value[MIB:] == bytes(MIB)
    assert lines(brick, NOT_FREED) == 0
    client.close()
    brick.stop()


@pytest.mark.long
def test_a_disk_that_takes_no_writes(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """What is read is right meanwhile."""
    command("modprobe", "dm-flakey")
    folder = brick_dir / "brick"
    brick, client = serving(make_brick, connect, folder)
    make(client, "/f", "lv")
    with client.open("/f") as file:
        file.fsync()
        with failing(device(folder / "f"), "error_writes"):
            assert file.pread(4 * KIB, MIB).value == b"/f" * 2 * KIB
            fails(file, reads=False)
            assert lines(brick, FAILS) == 1
        works(file, b"/f")
    client.close()
    brick.stop()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["thin", "lv"])
def test_a_volume_that_is_removed_by_force(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path, kind: str
) -> None:
    """What is left of it is no volume to a brick that starts then."""
    folder = brick_dir / "brick"
    brick, client = serving(make_brick, connect, folder)
    make(client, "/f", kind)
    make(client, "/other", "thin")
    volume = device(folder / "f")
    for words in ("lvremove", "--force", "--yes"), ("lvchange", "--activate", "n"):
        done = subprocess.run([*words, f"{GROUP}/{volume.name}"], capture_output=True, check=False)
        assert b"in use" in done.stderr
    forgotten(volume)
    remove(volume)
    with client.open("/f") as file:
        fails(file, reads=True)
    client.close()
    brick.stop()
    brick, client = serving(make_brick, connect, folder)
    for _ in range(2):
        refuses(errno.EIO, lambda: read(client, "/f"))
    assert read(client, "/other") == b"/o" * MIB
    assert lines(brick, rf"device {volume.name}: .*lvchange --refresh") == 1
    command("lvchange", "--refresh", f"{GROUP}/{volume.name}")
    with client.open("/f") as file:
        works(file, b"/f")
        file.discard(MIB, MIB)
    if kind == "thin":
        assert held(volume) == MIB // 512
    assert lines(brick, NOT_FREED) == 0
    client.close()
    brick.stop()
