"""Who has a file for himself, and is told so: leases, mandatory locks, upcalls."""

import errno
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client, File, LeaseType, Object, Reason, Upcall, holding
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, free_port
from glupy.testing.pytest_plugin import Connect, MakeBrick

# A client that is closed does not wait for the answers to its last closes.
pytestmark = pytest.mark.allow_log(r"forced unwinding .*\(RELEASE")

MINE, THEIRS = b"mine", b"theirs"
NONE = b""  # 16 zeros: what a thread has whose id was taken away
AT_ONCE = os.O_RDWR | os.O_NONBLOCK
PATIENCE = 10.0
UP_SIZE, UP_RENAME = 0x8, 0x80  # glfs-handles.h: GFAPI_UP_SIZE, GFAPI_UP_RENAME


@pytest.fixture
def leasing(make_brick: MakeBrick) -> Brick:
    return make_brick(inserts=[("features/leases", {"leases": "on"})])


@pytest.mark.parametrize("of", ["file", "object"])
@pytest.mark.expect_log(r"lease.*Invalid argument|LEASE info")
def test_a_lease(leasing: Brick, connect: Connect, of: str) -> None:
    client, other = connect(leasing), connect(leasing)
    upcalls = client.listen()
    client.creat("/file").close()  # features/leases knows no fd of a create
    file = holding(MINE, lambda: client.open("/file"))
    held: File | Object = file if of == "file" else client.find("/file")
    assert held.lease() is LeaseType.NONE
    held.take_lease(LeaseType.WRITE, MINE)
    assert held.lease() is LeaseType.WRITE
    assert holding(MINE, lambda: file.pwrite(b"1", 0)).value == 1

    gfid = client.find("/file").gfid
    with ThreadPoolExecutor(1) as thread, other.find("/file") as theirs:
        waiting = thread.submit(other.truncate, "/file", 5)
        assert upcalls.get(timeout=PATIENCE) == Upcall(Reason.RECALL_LEASE, gfid, 0, None)
        with pytest.raises(PermissionError):
            theirs.take_lease(LeaseType.READ, THEIRS)
        assert not waiting.done()
        held.drop_lease(LeaseType.WRITE, MINE)
        waiting.result(PATIENCE)
    assert held.lease() is LeaseType.NONE
    assert client.stat("/file").st_size == 5
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        held.take_lease(LeaseType.READ, b"")


@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.expect_log(r"LEASE info.*Function not implemented", r"features/leases")
def test_a_leaf_has_no_leases(client: Client) -> None:
    with client.creat("/file") as file, pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        file.take_lease(LeaseType.READ, MINE)


def test_two_may_read(leasing: Brick, connect: Connect) -> None:
    """And whoever writes has none of it."""
    client, other = connect(leasing), connect(leasing)
    client.creat("/file").close()
    mine = holding(MINE, lambda: client.open("/file", os.O_RDONLY))
    theirs = holding(THEIRS, lambda: other.open("/file", os.O_RDONLY))
    mine.take_lease(LeaseType.READ, MINE)
    theirs.take_lease(LeaseType.READ, THEIRS)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):  # libgfapi: not open for it
        mine.take_lease(LeaseType.WRITE, MINE)
    mine.drop_lease(LeaseType.READ, MINE)
    assert mine.lease() is LeaseType.READ
    theirs.drop_lease(LeaseType.READ, THEIRS)
    assert mine.lease() is LeaseType.NONE


AS_STOCK = pytest.mark.parametrize("leaf", ["posix"])
"""A row of docs/upstream-defects.md."""


@AS_STOCK
@pytest.mark.expect_log(r"WRITE info.*Resource temporarily unavailable")
def test_who_has_no_id_may_write(leasing: Brick, connect: Connect) -> None:
    client, other = connect(leasing), connect(leasing)
    client.creat("/file").close()
    with client.find("/file") as held, other.open("/file", AT_ONCE) as theirs:
        held.take_lease(LeaseType.WRITE, MINE)  # though others may write
        holding(NONE, lambda: theirs.pwrite(b"1", 0))
        with pytest.raises(BlockingIOError):
            holding(THEIRS, lambda: theirs.pwrite(b"2", 0))
        held.drop_lease(LeaseType.WRITE, MINE)


@AS_STOCK
@pytest.mark.expect_log(r"Unable to get fd ctx", r"LEASE info")
def test_a_file_that_was_created_has_no_lease(leasing: Brick, connect: Connect) -> None:
    client = connect(leasing)
    with client.creat("/file") as created, pytest.raises(PermissionError):
        created.take_lease(LeaseType.WRITE, MINE)
    with client.find("/file") as held, pytest.raises(PermissionError):  # for it is still open
        held.take_lease(LeaseType.WRITE, MINE)


@pytest.fixture
def locking(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator[Brick]:
    """A brick whose locks may be mandatory."""
    graph = volfiles.brick(brick_dir, port=free_port())
    own = {"features/locks": {"mandatory-locking": "optimal"}}
    graph = volfiles.Graph([replace(x, options=own.get(x.type, x.options)) for x in graph])
    with Brick(graph, tmp_path / "brick") as brick:
        logs.watch(brick.log, brick.output)
        yield brick


@pytest.mark.expect_log(r"WRITE info.*Resource temporarily unavailable")
def test_a_mandatory_lock(locking: Brick, connect: Connect) -> None:
    with (
        connect(locking).creat("/file") as mine,
        connect(locking).open("/file", AT_ONCE) as theirs,
    ):
        mine.set_lk_owner(b"mine")
        theirs.set_lk_owner(b"theirs")
        mine.lock(fcntl.F_WRLCK, 0, 10)
        theirs.pwrite(b"advised", 0)
        mine.lock(fcntl.F_UNLCK, 0, 10)
        mine.lock(fcntl.F_WRLCK, 0, 10, mandatory=True)
        with pytest.raises(BlockingIOError):
            theirs.pwrite(b"refused", 0)
        with pytest.raises(BlockingIOError):
            theirs.lock(fcntl.F_RDLCK, 0, 1, mandatory=True)
        theirs.pwrite(b"beside", 10)
        mine.lock(fcntl.F_UNLCK, 0, 10)
        theirs.pwrite(b"granted", 0)


def test_upcalls(make_brick: MakeBrick, connect: Connect) -> None:
    """Who has looked at a file is told what others do to it."""
    brick = make_brick(inserts=[("features/upcall", {"cache-invalidation": "on"})])
    client, other = connect(brick), connect(brick)
    file = other.creat("/file")
    told, not_told = client.listen(), other.listen()
    with client.find("/file") as found:

        def next_of_file() -> Upcall:
            """Others are about its folder."""
            while (upcall := told.get(timeout=PATIENCE)).gfid != found.gfid:
                pass
            return upcall

        file.pwrite(b"1234", 0)
        reason, _, flags, now = next_of_file()
        assert (reason, flags & UP_SIZE) == (Reason.INVALIDATE, UP_SIZE)
        assert now is not None and (now.st_size, now.st_ino) == (4, found.stat().st_ino)
        other.rename("/file", "/new")
        assert next_of_file().flags & UP_RENAME
    assert not_told.empty()
    client.close()
    file.pwrite(b"5", 0)
