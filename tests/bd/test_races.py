"""Fops on a file while it is mapped or unmapped, and discards beside what changes its size."""

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import ONE_LEAF, PATIENCE, SLOW, devices, inserted, read, write

HEAL = inserted("again:Again")

pytestmark = pytest.mark.parametrize("leaf", ONE_LEAF)


def late(*fops: str) -> volfiles.Insert:
    return inserted("late:Late", fops=",".join(fops))


def making(client: Client) -> threading.Thread:
    thread = threading.Thread(target=client.mknod, args=("/f", stat.S_IFREG | 0o644))
    thread.start()
    return thread


def test_a_lookup_before_the_mapping(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """GlusterFS keeps the inode of whoever comes first."""
    options = {"pool": f"loop:{pool}", "map": "*=thin"}
    brick = make_brick(inserts=[late("mknod"), ("user/pybd", options)])
    maker, other = connect(brick), connect(brick)
    maker_at_work = making(maker)
    time.sleep(0.4)
    with other.open("/f", os.O_RDWR) as file:
        maker_at_work.join()
        file.pwrite(b"x" * MIB, 0)
        file.fsync()
        (device,) = devices(pool)
        assert device.stat().st_blocks >= MIB // 512
    assert read(maker, "/f") == b"x" * MIB


def test_a_write_before_the_mapping(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """A lookup's reply passes pybd before the mapping, and is with its client during it."""
    options = {"pool": f"loop:{pool}", "map": "*=thin"}
    brick = make_brick(inserts=[late("mknod", "setxattr"), ("user/pybd", options), late("lookup")])
    maker, other = connect(brick), connect(brick)
    maker_at_work = making(maker)  # mknod until 1 s, and its mapping until 2 s
    time.sleep(0.5)
    with other.open("/f", os.O_RDWR) as file:  # looked up from 0.5 to 1.5 s
        assert maker_at_work.is_alive()
        file.pwrite(b"x" * MIB, 0)
        file.fsync()
    maker_at_work.join()
    assert read(maker, "/f") == b"x" * MIB
    (device,) = devices(pool)
    assert device.stat().st_blocks >= MIB // 512


def test_attributes_while_a_file_is_mapped(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    slow = "features/glupy", {"module": SLOW, "fops": "truncate", "milliseconds": "1000"}
    brick = make_brick(inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"})])
    client, other = connect(brick), connect(brick)
    write(client, "/f", b"data")
    mapper = threading.Thread(target=client.setxattr, args=("/f", KEY, b"thin:3MB"))
    mapper.start()
    time.sleep(0.5)
    assert other.stat("/f").st_size == 4
    other.chmod("/f", 0o600)
    mapper.join()
    assert other.stat("/f").st_size == 3 * MIB
    assert read(other, "/f") == b"data" + bytes(3 * MIB - 4)


def test_what_is_written_while_an_empty_file_is_mapped(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """It passed pybd when the file was plain."""
    slow = "features/glupy", {"module": SLOW, "fops": "writev", "milliseconds": "15"}
    brick = make_brick(inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"})])
    client, other = connect(brick), connect(brick)
    write(client, "/f", b"")
    with other.open("/f", os.O_RDWR) as file:
        for _ in range(10):
            writer = threading.Thread(target=file.pwrite, args=(b"x" * MIB, 4 * MIB))
            writer.start()
            client.setxattr("/f", KEY, b"thin")
            writer.join()
            assert read(client, "/f") == bytes(4 * MIB) + b"x" * MIB
            client.removexattr("/f", KEY)
            file.ftruncate(0)


@pytest.mark.expect_log("is not mapped: ", "mapped files cannot be used")
def test_who_waited_for_a_mapping_that_fails(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    options = {"pool": f"loop:{pool}/gone", "map": "*=thin"}
    brick = make_brick(inserts=[late("mknod"), ("user/pybd", options)])
    maker, other = connect(brick), connect(brick)
    maker_at_work = making(maker)
    time.sleep(0.4)
    other.chmod("/f", 0o600)
    with other.open("/f", os.O_RDWR) as file:
        file.pwrite(b"data", 0)
        maker_at_work.join()
        assert file.fstat().st_size == 4
    other.rename("/f", "/g")
    other.chmod("/g", 0o640)
    other.setxattr("/g", "user.name", b"value")
    for client in maker, other:
        assert client.stat("/g").st_size == 4
        assert read(client, "/g") == b"data"
    assert other.stat("/g").st_mode & 0o777 == 0o640


def test_a_write_that_waits_for_a_merge(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """The file has another device when it is its turn."""
    slow = "features/glupy", {"module": SLOW, "fops": "ftruncate", "milliseconds": "1000"}
    brick = make_brick(inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"})])
    client = connect(brick)
    write(client, "/f", b"old")
    client.setxattr("/f", KEY, b"thin")
    write(client, "/copy", b"")
    (leaf, *_) = brick.graph
    gfid = os.getxattr(Path(leaf.options["directory"]) / "copy", "trusted.gfid").hex()
    client.setxattr("/f", "snapshot", gfid.encode())
    with client.open("/f", os.O_RDWR) as file, client.open("/copy", os.O_RDWR) as copy:
        file.pwrite(b"new", 0)
        copy.pwrite(b"the", 0)
        grows = threading.Thread(target=copy.pwrite, args=(b" copy", 3))
        merges = threading.Thread(target=client.setxattr, args=("/copy", "merge", b"1"))
        for thread in grows, merges:  # each waits for the one before
            thread.start()
            time.sleep(0.3)
        file.pwrite(b", and more", 8)
        merges.join()
        grows.join()
        assert file.pread(MIB, 0).value == b"the copy, and more"


def test_an_append_beside_discards_up_to_the_end(client: Client) -> None:
    """Those take the whole of the last block of the pool, but not what was appended to it."""
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f", os.O_RDWR) as file, client.open("/f", os.O_RDWR) as other:
        for _ in range(300):
            file.ftruncate(0)
            file.pwrite(b"x" * 10_000, 0)
            discards = [other.discard_async(100, 9_900) for _ in range(8)]
            file.pwrite(b"kept", 10_000)
            for each in discards:
                each.result(PATIENCE)
            assert file.pread(8, 9_998).value == bytes(2) + b"kept"


@pytest.mark.allow_log("Input/output error", "errno=5")
def test_a_write_behind_the_end_that_fails_takes_nothing_along(
    make_bd: Callable[..., Brick], connect: Connect, tmp_path: Path
) -> None:
    """What others write meanwhile, where it would have made the file reach, stays."""
    hold = tmp_path / "hold"
    lost = inserted("lost_write:LostWrite", hold=str(hold))
    brick = make_bd(above=[lost])
    client, other = connect(brick), connect(brick)
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin")
    hold.touch()
    hold.with_suffix(".come").touch()
    with client.open("/f", os.O_RDWR) as failing, other.open("/f", os.O_RDWR) as file:
        fails = failing.pwrite_async(b"this is lost" + bytes(MIB), 0)
        wait_until(hold.with_suffix(".met").exists)
        writes = [file.pwrite_async(b"kept", at) for at in range(4096, 9 * 4096, 4096)]
        wait_until(lambda: hold.with_suffix(".come").stat().st_size == len(writes))
        time.sleep(0.5)
        hold.unlink()
        for each in writes:
            assert each.result(PATIENCE).value == 4
        with pytest.raises(OSError, match="Input/output error"):
            fails.result(PATIENCE)
        assert file.fstat().st_size == 8 * 4096 + 4
        data = file.pread(MIB, 0).value
    assert data == bytes(4096) + (b"kept" + bytes(4092)) * 7 + b"kept"


def test_a_discard_beside_truncates_still_frees(client: Client, pool: Path) -> None:
    """It must not meet a device that has just become shorter than it was told."""
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f", os.O_RDWR) as file, client.open("/f", os.O_RDWR) as other:
        for _ in range(100):
            file.ftruncate(64 * MIB)
            discards = [other.discard_async(MIB, 63 * MIB) for _ in range(4)]
            file.ftruncate(4096)
            for each in discards:
                each.result(PATIENCE)
        file.pwrite(b"x" * MIB, 0)
        file.fsync()
        (device,) = devices(pool)
        assert device.stat().st_blocks >= MIB // 512
        file.discard(0, MIB)
        file.fsync()
        assert device.stat().st_blocks <= 16


def test_a_lookup_that_is_late_beside_an_unmapping(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """What it tells was true once."""
    brick = make_brick(inserts=[late("lookup"), ("user/pybd", {"pool": f"loop:{pool}"})])
    client, other = connect(brick), connect(brick)
    with client.creat("/f") as file:
        file.pwrite(b"data", 0)
        file.fsetxattr(KEY, b"thin")
        looking = threading.Thread(target=other.stat, args=("/f",))
        looking.start()
        time.sleep(0.5)
        file.fremovexattr(KEY)
        looking.join()
        with other.open("/f", os.O_RDWR) as again:
            again.pwrite(b"more", 4)
            again.fsync()
        assert file.pread(100, 0).value == b"datamore"
    assert devices(pool) == []


def test_a_stat_while_heal_makes_one_more_name(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect, backend: Path
) -> None:
    options = {"pool": f"loop:{pool}", "map": "*=thin"}

    def start() -> Brick:
        return make_brick(backend, inserts=[late("mknod"), ("user/pybd", options), HEAL])

    brick = start()
    client = connect(brick)
    write(client, "/f", b"data")
    gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
    client.close()
    brick.stop()
    brick = start()
    healer, other = connect(brick), connect(brick)
    healing = threading.Thread(target=healer.mknod, args=(f"/again-{gfid}", stat.S_IFREG | 0o644))
    healing.start()
    time.sleep(0.4)
    with other.open("/f", os.O_RDWR) as file:
        healing.join()
        other.stat("/f")
        file.pwrite(b"DA", 0)
    assert read(healer, "/f") == b"DAta"


@pytest.mark.parametrize("remembered", [True, False])
def test_heal_makes_one_more_name(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect, backend: Path, remembered: bool
) -> None:
    options = {"pool": f"loop:{pool}", "map": "*=thin"}

    def start() -> Brick:
        return make_brick(backend, inserts=[("user/pybd", options), HEAL])

    brick = start()
    client = connect(brick)
    write(client, "/f", b"data")
    gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
    if not remembered:
        client.close()
        brick.stop()
        client = connect(start())
    client.mknod(f"/again-{gfid}", stat.S_IFREG | 0o644)
    write(client, f"/again-{gfid}", b"DA")
    assert read(client, "/f") == b"DAta"
    assert len(devices(pool)) == 1
    assert (backend / "f").stat().st_nlink == 3


def test_an_append_that_waits_for_an_unmapping(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect, brick_dir: Path
) -> None:
    """When it came the file was mapped; a clone of it was being made, which both waited for."""
    backend = brick_dir / "brick"
    backend.mkdir()
    slow = "features/glupy", {"module": SLOW, "fops": "setxattr", "milliseconds": "400"}
    brick = make_brick(backend, inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"})])
    cloner, unmapper, client = (connect(brick) for _ in range(3))
    write(client, "/copy", b"")
    with client.creat("/f") as file:
        file.pwrite(b"data", 0)
        file.fsetxattr(KEY, b"thin")
        gfid = os.getxattr(backend / "copy", "trusted.gfid").hex().encode()
        unmapper.stat("/f")
        cloning = threading.Thread(target=cloner.setxattr, args=("/f", "clone", gfid))
        unmapping = threading.Thread(target=unmapper.removexattr, args=("/f", KEY))
        cloning.start()
        time.sleep(0.2)
        unmapping.start()
        time.sleep(0.1)
        file.pwrite(b"more", 4)
        unmapping.join()
        cloning.join()
        assert file.pread(100, 0).value == b"datamore"
    assert read(client, "/copy") == b"data"
