"""Files on thin volumes."""

import errno
import os
import random
import time
from functools import partial
from pathlib import Path

import pytest

from glupy.testing.fuzz import giving_back
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until
from pybd.pools.lvm import LvmPool

from .volumes import (
    CHUNK,
    GROUP,
    KEY,
    MIB,
    NOT_FREED,
    ON_THIN,
    REFUSED,
    THIN,
    THIN_POOL,
    THIN_POOL_SIZE,
    Open,
    command,
    device,
    gfid_of,
    held,
    near,
    of_pool,
    read,
    refuses,
    search,
    used_of_pool,
    volumes,
    write,
)


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22")
def test_machine_on_a_thin_volume(thin: Client, times: int) -> None:
    before = used_of_pool()
    search(thin, b"thin", ON_THIN, 6 * times, giving_back(used_of_pool, CHUNK))
    with thin.open("/a") as file:  # where its chunks are, it cannot tell
        file.ftruncate(5000)
        assert file.lseek(1000, os.SEEK_DATA) == 1000
        assert file.lseek(1000, os.SEEK_HOLE) == 5000
        for whence in os.SEEK_DATA, os.SEEK_HOLE:
            refuses(errno.ENXIO, partial(file.lseek, 5000, whence))
    thin.unlink("/a")
    wait_until(lambda: not volumes())
    assert used_of_pool() == before


def check_statfs(client: Client, without: Client) -> None:
    """The pool's size, and what it has free less the reserve of 1 %."""
    room = THIN_POOL_SIZE * 99 // 100 - used_of_pool()
    size, free = of_pool(client, without)
    assert size == THIN_POOL_SIZE
    assert near(free, room)


def test_thin_space_comes_back(thin: Client, in_process: Client, brick_dir: Path) -> None:
    before = used_of_pool()
    data = random.Random(0).randbytes(3 * MIB)
    for name in "/f", "/g":
        write(thin, name, b"first")
        thin.setxattr(name, KEY, b"thin")
        write(thin, name, data, 1000)
    write(thin, "/g", b"far", 21 * MIB)
    for name in "f", "g":
        mapped = held(device(brick_dir / name))
        assert thin.stat(f"/{name}").st_blocks == min(mapped, (3 * MIB + 1000 + 511) // 512) or (
            name == "g" and thin.stat("/g").st_blocks == mapped
        )
    assert used_of_pool() >= before + 6 * MIB
    check_statfs(thin, in_process)
    with thin.open("/f") as file:
        file.discard(MIB + 100, MIB)
        assert file.fstat().st_blocks == held(device(brick_dir / "f"))
        assert file.pread(4 * MIB, 0).value == (
            b"first" + bytes(995) + data[: MIB - 900] + bytes(MIB) + data[2 * MIB - 900 :]
        )
    for name in "/f", "/g":
        with thin.open(name) as file:
            file.discard(0, 32 * MIB)
            file.fsync()
            assert file.pread(32 * MIB, 0).value == bytes(file.fstat().st_size)
    assert used_of_pool() <= before + 2 * CHUNK
    check_statfs(thin, in_process)
    for name in "/f", "/g":
        thin.unlink(name)
    wait_until(lambda: not volumes())
    assert used_of_pool() == before


@pytest.mark.long
def test_thin_volumes_over_c_posix(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    brick = make_brick(brick_dir, leaf="posix", inserts=[("user/pybd", {"pool": THIN})])
    client = connect(brick)
    before = used_of_pool()
    data = random.Random(6).randbytes(2 * MIB)
    for name in "/f", "/g":
        write(client, name, data)
        client.setxattr(name, KEY, b"thin")
    write(client, "/f", b"new")
    volume = device(brick_dir / "f")
    with client.open("/f") as file:
        assert file.fstat().st_blocks == held(volume) == 2 * MIB // 512
        file.discard(100, MIB)
        assert file.fstat().st_blocks == held(volume) == (MIB + CHUNK) // 512
    changed = b"new" + data[3:100] + bytes(MIB) + data[100 + MIB :]
    assert read(client, "/f") == changed
    client.removexattr("/f", KEY)
    assert read(client, "/f") == (brick_dir / "f").read_bytes() == changed
    client.unlink("/g")
    wait_until(lambda: used_of_pool() == before)
    client.close()
    brick.stop()


@pytest.mark.long
@pytest.mark.expect_log(NOT_FREED)
def test_a_thin_pool_that_ignores_discards(
    group: str, in_this_process: Open, logs: LogChecker
) -> None:
    whole = f"{group}/{THIN_POOL}"
    command("lvchange", "--activate", "n", group)
    command("lvchange", "--discards", "ignore", whole)
    command("lvchange", "--activate", "y", group)
    try:
        client = in_this_process(THIN)
        write(client, "/f", b"x" * MIB)
        client.setxattr("/f", KEY, b"thin")
        with client.open("/f") as file:
            for _ in range(2):
                file.discard(100, MIB)
            assert file.pread(MIB, 0).value == b"x" * 100 + bytes(MIB - 100)
        client.unlink("/f")
        wait_until(lambda: not volumes())
    finally:
        command("lvchange", "--activate", "n", group)
        command("lvchange", "--discards", "passdown", whole)
        command("lvchange", "--activate", "y", group)


@pytest.mark.long
@pytest.mark.expect_log(r"the pool is full")
@pytest.mark.allow_log(*REFUSED)
def test_a_thin_pool_without_space(thin: Client) -> None:
    write(thin, "/f", b"x" * 2 * MIB)
    thin.setxattr("/f", KEY, b"thin:50MB")
    free = THIN_POOL_SIZE - used_of_pool()
    volume = ("--virtualsize", f"{THIN_POOL_SIZE}b", "--thinpool", f"{GROUP}/{THIN_POOL}")
    command("lvcreate", "--yes", "--name", "ballast", *volume)
    chunks = free // CHUNK - 4
    ballast = f"of=/dev/{GROUP}/ballast"
    command("dd", "if=/dev/zero", ballast, f"bs={CHUNK}", f"count={chunks}", "oflag=direct")
    time.sleep(5.1)  # as often as the pool is looked at
    with thin.open("/f") as file:
        refuses(errno.ENOSPC, lambda: file.pwrite(b"new", 20 * MIB))
        file.discard(0, MIB)
        assert file.pread(2 * MIB, 0).value == bytes(MIB) + b"x" * MIB
        time.sleep(5.1)
        file.pwrite(b"new", 20 * MIB)
        file.fsync()
        assert file.pread(3, 20 * MIB).value == b"new"


def test_clone_snapshot_and_merge(thin: Client, brick_dir: Path) -> None:
    first = random.Random(2).randbytes(2 * MIB)
    write(thin, "/f", first)
    thin.setxattr("/f", KEY, b"thin:5MB")
    before = used_of_pool()
    thin.setxattr("/f", "clone", gfid_of(thin, brick_dir, "/clone"))
    thin.setxattr("/f", "snapshot", gfid_of(thin, brick_dir, "/snap") + b":9MB")
    assert used_of_pool() == before  # shared
    with thin.open("/f") as file:
        file.pwrite(b"changed", 0)
        file.fsync()
        file.discard(MIB, MIB)
    assert read(thin, "/f") == b"changed" + first[7:MIB] + bytes(4 * MIB)
    assert read(thin, "/clone") == first + bytes(3 * MIB)
    assert read(thin, "/snap") == first + bytes(7 * MIB)
    assert thin.stat("/snap").st_size == 9 * MIB
    with thin.open("/clone") as file:
        file.discard(0, MIB)
        assert file.pread(5 * MIB, 0).value == bytes(MIB) + first[MIB:] + bytes(3 * MIB)
    assert read(thin, "/snap") == first + bytes(7 * MIB)
    thin.setxattr("/snap", "merge", b"1")
    assert read(thin, "/f") == first + bytes(7 * MIB)
    refuses(errno.ENOENT, lambda: thin.stat("/snap"))
    wait_until(lambda: len(volumes()) == 2)
    assert int(thin.getxattr("/", "volume.caps")) == 1 | 2 | 4 | 8 | 0x20
    thin.removexattr("/f", KEY)
    assert read(thin, "/f") == (brick_dir / "f").read_bytes() == first + bytes(7 * MIB)
    assert len(volumes()) == 1
    assert read(thin, "/clone") == bytes(MIB) + first[MIB:] + bytes(3 * MIB)


@pytest.mark.long
def test_a_pool_that_gives_out_old_data_is_refused(group: str) -> None:
    whole = f"{group}/{THIN_POOL}"
    command("lvchange", "--zero", "n", whole)
    try:
        with pytest.raises(OSError, match=f"lvchange --zero y {whole}"):
            LvmPool(whole).check()
    finally:
        command("lvchange", "--zero", "y", whole)
    LvmPool(whole).check()
