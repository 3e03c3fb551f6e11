"""Volumes whose disks fail while files on them are open, and come back."""

import contextlib
import errno
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client, File
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick

from .volumes import (
    CHUNK,
    FAILS,
    GROUP,
    KEY,
    KIB,
    MIB,
    NOT_FREED,
    REFUSED,
    THIN,
    THIN_POOL,
    THIN_POOL_SIZE,
    command,
    device,
    forgotten,
    held,
    read,
    refuses,
    used_of_pool,
    volumes,
    write,
)

ROOM_SECONDS = 5.1
"""As often as pybd looks at its pool, and a bit."""

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


class Neighbour:
    """A thin volume that takes what its pool has."""

    def __init__(self) -> None:
        size = ("--virtualsize", f"{THIN_POOL_SIZE}b")
        command("lvcreate", "--name", "neighbour", *size, "--thinpool", f"{GROUP}/{THIN_POOL}")
        self._chunks = 0

    def take_all_but(self, left: int) -> None:
        chunks = (THIN_POOL_SIZE - used_of_pool()) // CHUNK - left
        where = (f"of=/dev/{GROUP}/neighbour", f"seek={self._chunks}", f"count={chunks}")
        command("dd", "if=/dev/zero", *where, f"bs={CHUNK}", "oflag=direct")
        self._chunks += chunks

    def go(self) -> None:
        command("lvremove", "--yes", f"{GROUP}/neighbour")


def fill(file: File) -> Neighbour:
    """The pool is full, and pybd does not know: it has looked just before."""
    neighbour = Neighbour()
    neighbour.take_all_but(20)  # more than the reserve
    time.sleep(ROOM_SECONDS)
    file.pwrite(b"look", 0)
    neighbour.take_all_but(0)
    return neighbour


@pytest.fixture(params=[True, False], ids=["at-once", "held"])
def tells_at_once(request: pytest.FixtureRequest, group: str) -> Iterator[bool]:
    """Whether a thin pool that is full tells whoever writes at once, or holds that first."""
    at_once: bool = request.param
    pool = f"{group}/{THIN_POOL}"
    if at_once:
        command("lvchange", "--errorwhenfull", "y", pool)
    yield at_once
    if at_once:
        command("lvchange", "--errorwhenfull", "n", pool)


@pytest.mark.long
@pytest.mark.expect_log(r"the pool is full")
def test_a_thin_pool_that_is_full(
    tells_at_once: bool, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """EIO to who has written, after a minute at most, and one line. What takes no more of the pool
    is served meanwhile, and all is once there is room again.
    """
    brick, client = serving(make_brick, connect, brick_dir / "brick")
    for name, kind in ("/f", "thin:50MB"), ("/thin", "thin"), ("/lv", "lv"):
        make(client, name, kind)
    write(client, "/plain", b"plain")
    with (
        client.open("/f") as file,
        client.open("/thin") as thin,
        client.open("/lv") as thick,
        ThreadPoolExecutor() as threads,
    ):
        neighbour = fill(file)
        file.pwrite(b"lost", 20 * MIB)
        begun = time.monotonic()
        syncing = threads.submit(file.fsync)
        time.sleep(1)
        # Two: io-threads has one thread yet, which is held, and starts another one for the second.
        assert [each.value for each in threads.map(thin.pread, [2, 2], [0, 0])] == [b"/t"] * 2
        thin.discard(0, CHUNK)
        thick.pwrite(b"again", 0)
        thick.fsync()
        assert read(client, "/plain") == b"plain"
        assert syncing.done() == tells_at_once
        refuses(errno.EIO, syncing.result)
        assert time.monotonic() - begun < (20 if tells_at_once else 80)
        assert lines(brick, FAILS) == 1
        for each in file, thin:
            refuses(errno.ENOSPC, partial(each.pwrite, b"new", MIB))
        refuses(errno.ENOSPC, lambda: client.setxattr("/plain", KEY, b"thin"))
        assert len(volumes()) == 4
        thick.pwrite(b"new", MIB)
        thick.fsync()
        thin.discard(0, MIB)
        assert thin.pread(2 * MIB, 0).value[:MIB] == bytes(MIB)
        neighbour.go()
        time.sleep(ROOM_SECONDS)
        file.pwrite(b"found", 20 * MIB)
        file.fsync()
        forgotten(device(brick_dir / "brick" / "f"))
        assert file.pread(5, 20 * MIB).value == b"found"
        assert thick.pread(3, MIB).value == b"new"
    assert lines(brick, FAILS) == lines(brick, "the pool is full") == 1
    client.close()
    brick.stop()


@pytest.mark.long
def test_a_thin_pool_that_is_full_for_a_while(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """What was held is written once there is room."""
    brick, client = serving(make_brick, connect, brick_dir / "brick")
    make(client, "/f", "thin:50MB")
    with client.open("/f") as file, ThreadPoolExecutor() as threads:
        neighbour = fill(file)
        file.pwrite(b"kept", 20 * MIB)
        syncing = threads.submit(file.fsync)
        time.sleep(1)
        assert not syncing.done()
        neighbour.go()
        syncing.result()
        forgotten(device(brick_dir / "brick" / "f"))
        assert file.pread(4, 20 * MIB).value == b"kept"
    assert lines(brick, FAILS) == 0
    client.close()
    brick.stop()
