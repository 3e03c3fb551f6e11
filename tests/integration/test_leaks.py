"""Nothing is left over: memory, and what GlusterFS counts, after many fops of many kinds."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glupy.testing import stock
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick

UNRULY = Path(__file__).parent / "translators" / "unruly.py"
COUNTING = "features/glupy", {"module": f"{UNRULY}:Counting"}
GROWTH = 5_000_000
# What GlusterFS counts of what fops carry; the root, its fd and the caches keep some.
POOLS = {"fd_t", "inode_t", "dict_t", "data_t", "call_frame_t", "call_stack_t"}
ALLOCATED = {"iobref": "gf_common_mt_iobref", "iobuf": "gf_common_mt_iobuf"}
if usage := stock.inode_usage():
    POOLS.remove("inode_t")
    ALLOCATED["inode_t"] = usage


def a_round(client: Client, numbers: Iterator[int]) -> None:
    """Some fifty fops of more than twenty kinds; every tenth fails."""
    n = next(numbers)
    folder, a, b, c, d = (f"/{kind}-{n}" for kind in ("folder", "a", "b", "c", "d"))

    def fails(call: object, *arguments: object) -> None:
        with contextlib.suppress(OSError):
            call(*arguments)  # type: ignore[operator]
            raise AssertionError("that should have failed")

    client.mkdir(folder)
    client.symlink("/target", c)
    client.readlink(c)
    client.mknod(d, stat.S_IFREG | 0o600)
    with client.creat(a) as file:
        file.pwrite(b"x" * 10000, 0)
        file.pread(10000, 0)
        file.discard(0, 4096)
        file.fallocate(20000, 4096)
        file.zerofill(4096, 4096)
        file.ftruncate(8192)
        file.fsync()
        file.fstat()
        with contextlib.suppress(OSError):
            file.lseek(0, os.SEEK_HOLE)
        fails(file.discard, 0, 0)
        fails(file.fallocate, 0, 0)
    client.setxattr(a, "user.one", b"1" * 100)
    client.getxattr(a, "user.one")
    client.listxattr(a)
    client.removexattr(a, "user.one")
    client.chmod(a, 0o600)
    client.access(a, os.R_OK)
    client.stat(a)
    client.statvfs("/")
    client.link(a, b)
    client.rename(b, f"{folder}/b")
    client.truncate(a, 100)
    client.readdir(folder, plus=True)
    fails(client.stat, "/missing")
    fails(client.getxattr, a, "user.missing")
    fails(client.rmdir, folder)
    fails(client.mkdir, folder)
    client.unlink(f"{folder}/b")
    client.unlink(a)
    client.unlink(c)
    client.unlink(d)
    client.rmdir(folder)


def entered(brick: Brick, section: str = "features/glupy.brick-glupy") -> int:
    return int(brick.statedump()[section]["fops-entered"])


def counts(brick: Brick) -> dict[str, int]:
    """How many there are of POOLS, and of what is allocated one by one."""
    dump = brick.statedump()
    found = {kind: 0 for _, kind in dump.pools if kind in POOLS}
    assert found.keys() == POOLS
    for (_, kind), number in dump.pools.items():
        if kind in found:
            found[kind] += number
    found |= dict.fromkeys(ALLOCATED, 0)
    for section in dump.sections:
        for kind, usage in ALLOCATED.items():
            if section.name.endswith(f" - usage-type {usage} memusage"):
                found[kind] += int(dict(section.pairs)["num_allocs"])
        # Large ones are taken from arenas, which are allocated in one piece.
        found["iobuf"] += sum(int(n) for key, n in section.pairs if key.endswith(".active_cnt"))
    return found


def soon(brick: Brick, expected: dict[str, int]) -> None:
    """Fail unless there are as many in the end: a call is let go of after its reply has left."""
    deadline = time.monotonic() + 10
    while (found := counts(brick)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == expected


def settled(brick: Brick) -> dict[str, int]:
    """How many there are once no call is under way any more."""
    before: dict[str, int] = {}
    now = counts(brick)
    while before != now:
        time.sleep(0.2)
        before, now = now, counts(brick)
    return now


def unseen(before: dict[str, int], during: dict[str, int]) -> list[str]:
    """Of iobufs there are to be two more: one of an arena, one that is not."""
    more = dict.fromkeys(before, 1) | {"iobuf": 2}
    return [kind for kind, number in before.items() if during[kind] < number + more[kind]]


def test_what_is_counted_is_seen(make_brick: MakeBrick, connect: Connect) -> None:
    """Of all that is counted here there is more while fops are under way, and not afterwards."""
    slow = f"{Path(__file__).parents[2]}/xlators/examples/slow.py:Slow"
    options = {"module": slow, "fops": "writev,setxattr", "milliseconds": "2000"}
    brick = make_brick(inserts=[("features/glupy", options)])
    client = connect(brick)
    client.mkdir("/folder")  # what comes with the first fops is there
    before = settled(brick)
    during = before
    with client.creat("/folder/file") as file, ThreadPoolExecutor() as pool:
        waiting: list[Future[Any]] = [
            pool.submit(file.pwrite, b"x" * 10_000, 0),
            pool.submit(file.pwrite, b"x" * 300_000, 0),
            pool.submit(client.setxattr, "/folder/file", "user.x", b"x"),
        ]
        while unseen(before, during) and not any(each.done() for each in waiting):
            time.sleep(0.1)
            during = counts(brick)
        for each in waiting:
            each.result(10)
    assert unseen(before, during) == []
    client.unlink("/folder/file")
    soon(brick, before)


@pytest.mark.parametrize(
    "fops", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)], ids=["bounded", "million"]
)
@pytest.mark.allow_log("server-rpc-fops", "remote operation failed", "posix")
def test_fops_leave_nothing_behind(make_brick: MakeBrick, connect: Connect, fops: int) -> None:
    brick = make_brick(inserts=[COUNTING])
    client = connect(brick)
    numbers = itertools.count()
    for _ in range(max(20, fops // 5000)):
        a_round(client, numbers)
    time.sleep(1)  # the server lets go of a call only after its reply has left
    before, memory, start = counts(brick), brick.rss(), entered(brick)
    while entered(brick) - start < fops:
        for _ in range(50):
            a_round(client, numbers)
    time.sleep(1)
    dump = brick.statedump()
    assert dump.pending_calls == 0
    section = dump["features/glupy.brick-glupy"]
    done, kinds, failed = (int(section[k]) for k in ("fops-unwound", "kinds", "failed"))
    assert int(section["fops-entered"]) == done
    assert kinds >= 20
    assert failed >= done / 10
    grown = brick.rss() - memory
    print(f"{done - start} fops of {kinds} kinds, {failed} failed: {grown / 1024:.0f} KiB more")
    assert grown < GROWTH, f"{grown >> 10} KiB"
    soon(brick, before)


CALLERS = 8


@pytest.mark.parametrize(
    "fops",
    [20_000, pytest.param(5_000_000, marks=pytest.mark.long)],
    ids=["bounded", "five million"],
)
@pytest.mark.allow_log("server-rpc-fops", "remote operation failed")
def test_a_long_life_of_pyposix(make_brick: MakeBrick, connect: Connect, fops: int) -> None:
    """Several callers at once: memory and open files stay as they were, and no handle is left."""
    brick = make_brick()
    below = Path(next(iter(brick.graph)).options["directory"], ".glusterfs")
    client = connect(brick)
    numbers = itertools.count()
    leaf = next(
        section.name
        for section in brick.statedump().sections
        if section.name.startswith("storage/pyposix.") and "fops-entered" in dict(section.pairs)
    )
    handles = len(list(below.glob("??/??/*")))
    with ThreadPoolExecutor(CALLERS) as pool:

        def rounds(count: int) -> None:
            list(pool.map(lambda _: a_round(client, numbers), range(count)))

        def open_files() -> int:
            time.sleep(1)  # a client tells of a closed file after the close
            return sum(1 for _ in Path(f"/proc/{brick.pid}/fd").iterdir())

        rounds(max(20, fops // 5000))
        before, memory, start = open_files(), brick.rss(), entered(brick, leaf)
        while (done := entered(brick, leaf) - start) < fops:
            rounds(min(5000, max(1, (fops - done) // 40)))
        grown = brick.rss() - memory
        print(f"{done} fops of {CALLERS} callers: {grown / 1024:.0f} KiB more")
        assert open_files() == before
    assert grown < GROWTH, f"{grown >> 10} KiB"
    assert len(list(below.glob("??/??/*"))) == handles
    assert list(below.glob("unlink/*")) == []
