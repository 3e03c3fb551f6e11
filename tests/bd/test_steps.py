"""What takes several steps: whichever fails, a file is mapped or not mapped, and has its data."""

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from glupy.testing import failing
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import ONE_LEAF, REFUSED, devices, read, refuses, write

pytestmark = [
    pytest.mark.parametrize("leaf", ONE_LEAF),
    pytest.mark.allow_log(*REFUSED, r"is not unmapped", r"errno=5\b", r"Input/output error"),
    pytest.mark.allow_log(r"forced unwinding .*\(RELEASE"),  # of a close, as the brick ends
]
Check = Callable[[bytes], None]
DATA = b"begin" * 10_000 + bytes(2 * MIB) + b"end" * 10_000


@pytest.fixture
def client(over_failing: Brick, connect: Connect) -> Client:
    return connect(over_failing)


@pytest.fixture
def backend(over_failing: Brick, brick_dir: Path) -> Path:
    return brick_dir / "brick"


@pytest.fixture
def mapped(client: Client) -> Client:
    """With a mapped file, of which all is known."""
    write(client, "/f", DATA)
    client.setxattr("/f", KEY, b"thin")
    assert read(client, "/f") == DATA
    return client


def is_mapped(file: Path) -> bool:
    return KEY in os.listxattr(file)


@pytest.fixture
def check_restarted(over_failing: Brick, connect: Connect) -> Check:
    """The file has that data, whoever serves it."""

    def check(data: bytes) -> None:
        over_failing.stop()
        over_failing.start()
        assert read(connect(over_failing), "/f") == data

    return check


@pytest.mark.parametrize(
    ("fop", "after"),
    [
        ("stat", 0),
        ("readv", 0),
        ("readv", 1),
        ("stat", 1),
        ("setxattr", 0),
    ],
)
def test_a_mapping(
    client: Client, backend: Path, pool: Path, orders: Path, fop: str, after: int
) -> None:
    write(client, "/f", DATA)
    client.utimens("/f", 10**18, 10**18)
    failing.order(orders, fop, errno.EIO, after=after)
    refuses(errno.EIO, partial(client.setxattr, "/f", KEY, b"thin:10MB"))
    assert not (orders / fop).exists()
    assert (is_mapped(backend / "f"), devices(pool)) == (False, [])
    now = client.stat("/f")
    assert (now.st_size, now.st_mtime_ns) == (len(DATA), 10**18)
    assert read(client, "/f") == DATA
    client.setxattr("/f", KEY, b"thin:10MB")
    assert read(client, "/f", len(DATA)) == DATA


@pytest.mark.parametrize(("fop", "after"), [("discard", 0), ("setattr", 0), ("stat", 2)])
def test_a_mapping_whose_end_fails(
    client: Client, backend: Path, pool: Path, orders: Path, fop: str, after: int
) -> None:
    """It is mapped, and who asked is told so."""
    write(client, "/f", DATA)
    failing.order(orders, fop, errno.EIO, after=after)
    client.setxattr("/f", KEY, b"thin:10MB")
    assert not (orders / fop).exists()
    assert (is_mapped(backend / "f"), len(devices(pool))) == (True, 1)
    assert client.stat("/f").st_size == 10 * MIB
    assert read(client, "/f", len(DATA)) == DATA


def test_a_mapping_that_fails_though_it_was_said(
    client: Client, backend: Path, pool: Path, orders: Path
) -> None:
    """The xattr is taken back before the device goes."""
    write(client, "/f", DATA)
    failing.order(orders, "setxattr", errno.EIO, done=True)
    refuses(errno.EIO, partial(client.setxattr, "/f", KEY, b"thin"))
    assert (is_mapped(backend / "f"), devices(pool)) == (False, [])
    assert read(client, "/f") == DATA


def test_a_mapping_that_cannot_be_taken_back(
    check_restarted: Check, client: Client, backend: Path, pool: Path, orders: Path
) -> None:
    """The xattr says that it is mapped: its device stays, and has what is written from then on."""
    write(client, "/f", DATA)
    failing.order(orders, "setxattr", errno.EIO, done=True)
    failing.order(orders, "removexattr", errno.EIO)
    refuses(errno.EIO, partial(client.setxattr, "/f", KEY, b"thin"))
    assert (is_mapped(backend / "f"), len(devices(pool))) == (True, 1)
    assert read(client, "/f") == DATA
    with client.open("/f") as file:
        file.pwrite(b"later", 0)
        file.fsync()
    check_restarted(b"later" + DATA[5:])
    assert len(devices(pool)) == 1


@pytest.mark.parametrize("fop", ["writev", "fsync", "removexattr"])
def test_an_unmapping(mapped: Client, backend: Path, pool: Path, orders: Path, fop: str) -> None:
    failing.order(orders, fop, errno.EIO)
    refuses(errno.EIO, partial(mapped.removexattr, "/f", KEY))
    assert (is_mapped(backend / "f"), len(devices(pool))) == (True, 1)
    assert not any((backend / "f").read_bytes())
    assert read(mapped, "/f") == DATA
    mapped.removexattr("/f", KEY)
    assert (backend / "f").read_bytes() == read(mapped, "/f") == DATA
    wait_until(lambda: not devices(pool))


def test_an_unmapping_that_fails_though_it_was_said(
    check_restarted: Check,
    mapped: Client,
    backend: Path,
    pool: Path,
    orders: Path,
) -> None:
    """It is plain, whatever the reply was: what is written then is in the file."""
    failing.order(orders, "removexattr", errno.EIO, done=True)
    mapped.removexattr("/f", KEY)
    assert not is_mapped(backend / "f")
    with mapped.open("/f") as file:
        file.pwrite(b"later", 0)
    wait_until(lambda: not devices(pool))
    check_restarted(b"later" + DATA[5:])


@pytest.mark.parametrize("is_done", [False, True])
def test_an_unmapping_of_which_nobody_knows(
    check_restarted: Check,
    mapped: Client,
    backend: Path,
    pool: Path,
    orders: Path,
    is_done: bool,
) -> None:
    """What the xattr says to who looks next is right: file and device have the same then."""
    failing.order(orders, "removexattr", errno.EIO, done=is_done)
    failing.order(orders, "getxattr", errno.EIO)
    refuses(errno.EIO, partial(mapped.removexattr, "/f", KEY))
    assert not (orders / "getxattr").exists()
    assert is_mapped(backend / "f") != is_done
    with mapped.open("/f") as file:
        file.pwrite(b"later", 0)
        file.fsync()
    check_restarted(b"later" + DATA[5:])
    wait_until(lambda: len(devices(pool)) == (not is_done))


def test_an_unmapping_after_one_that_was_killed(mapped: Client, backend: Path, pool: Path) -> None:
    """What that has left of a device is in nobody's way."""
    (device,) = devices(pool)
    half = shutil.copy(device, f"{device}.half")
    for key in os.listxattr(device):
        os.setxattr(half, key, os.getxattr(device, key))
    mapped.removexattr("/f", KEY)
    assert (backend / "f").read_bytes() == DATA
    wait_until(lambda: not devices(pool))


@pytest.mark.parametrize(
    ("fop", "after"), [("stat", 0), ("stat", 1), ("truncate", 0), ("setxattr", 0)]
)
def test_a_clone(
    mapped: Client, backend: Path, pool: Path, orders: Path, fop: str, after: int
) -> None:
    mapped.creat("/copy").close()
    gfid = os.getxattr(backend / "copy", "trusted.gfid").hex().encode()
    failing.order(orders, fop, errno.EIO, after=after)
    refuses(errno.EIO, partial(mapped.setxattr, "/f", "clone", gfid))
    assert not (orders / fop).exists()
    assert (is_mapped(backend / "copy"), len(devices(pool))) == (False, 1)
    assert mapped.stat("/copy").st_size == 0
    with mapped.open("/f") as file:
        file.pwrite(b"later", 0)
    write(mapped, "/copy", b"plain")
    assert (backend / "copy").read_bytes() == b"plain"


@pytest.mark.parametrize("fop", ["truncate", "ftruncate"])
@pytest.mark.parametrize("size", [5, 5 * MIB])
def test_a_new_size(mapped: Client, pool: Path, orders: Path, fop: str, size: int) -> None:
    failing.order(orders, fop, errno.EIO)
    with mapped.open("/f") as file:
        call = partial(mapped.truncate, "/f") if fop == "truncate" else file.ftruncate
        refuses(errno.EIO, partial(call, size))
        assert file.fstat().st_size == len(DATA)
        assert read(mapped, "/f") == DATA
        call(5 * MIB)
        assert read(mapped, "/f") == DATA + bytes(5 * MIB - len(DATA))


def test_a_write_past_the_end(mapped: Client, orders: Path) -> None:
    """Nothing of it is written."""
    failing.order(orders, "ftruncate", errno.EIO)
    with mapped.open("/f") as file:
        refuses(errno.EIO, partial(file.pwrite, b"late" * MIB, len(DATA) - MIB))
    assert read(mapped, "/f") == DATA


def test_a_file_that_an_open_has_cut(check_restarted: Check, mapped: Client, orders: Path) -> None:
    """What fails then makes it no longer again: what is written is there after a restart."""
    failing.order(orders, "fstat", errno.EIO)
    with mapped.open("/f") as file:
        refuses(errno.EIO, partial(mapped.open, "/f", os.O_RDWR | os.O_TRUNC))
        assert not (orders / "fstat").exists()
        file.pwrite(b"new", 2)
        file.fsync()
        assert file.fstat().st_size == 5
    check_restarted(b"\0\0new")


def test_a_file_that_a_create_has_cut(
    check_restarted: Check, mapped: Client, backend: Path, orders: Path
) -> None:
    """Also if the create fails then."""
    with mapped.open("/f", os.O_RDONLY) as file:
        for fop in "create", "open":  # libgfapi sends the one or the other
            failing.order(orders, fop, errno.EIO, done=True)
        refuses(errno.EIO, partial(mapped.creat, "/f", os.O_RDWR | os.O_TRUNC))
        size = (backend / "f").stat().st_size
        failing.clear(orders)
        assert file.fstat().st_size == size
        assert read(mapped, "/f") == DATA[:size]
    check_restarted(DATA[:size])


def test_a_merge_whose_end_fails(mapped: Client, backend: Path, pool: Path, orders: Path) -> None:
    """It is ended before the next size is set, and not after it."""
    mapped.creat("/snap").close()
    gfid = os.getxattr(backend / "snap", "trusted.gfid").hex().encode()
    mapped.setxattr("/f", "snapshot", gfid)
    with mapped.open("/f") as file:
        file.pwrite(b"changed", 0)
        failing.order(orders, "setxattr", errno.EIO, after=1)
        refuses(errno.EIO, partial(mapped.setxattr, "/snap", "merge", b"1"))
        assert not (orders / "setxattr").exists()
        file.ftruncate(4 * MIB)
        file.pwrite(b"end", 4 * MIB - 3)
    assert read(mapped, "/f") == DATA + bytes(4 * MIB - 3 - len(DATA)) + b"end"
    wait_until(lambda: len(devices(pool)) == 1)
