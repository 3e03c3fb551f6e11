"""A brick gets a file with a gfid that it had before: by heal, or by a rebalance that goes back."""

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client, File
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY
from .mapped import LEAVES, SLOW, devices, read, write
from .test_races import HEAL

BEFORE = b"before" * 100

pytestmark = [
    pytest.mark.parametrize("leaf", LEAVES),
    pytest.mark.allow_log(r"is not mapped to thin: File exists"),
]


def ways(*bounded: tuple[str, str]) -> pytest.MarkDecorator:
    """The fop that makes the file, and what maps it; all but `bounded` are long."""
    all_of_them = [(by, mapped) for by in ("mknod", "create") for mapped in ("by-xattr", "by-name")]
    params = [
        pytest.param(*way, marks=[] if way in bounded else pytest.mark.long) for way in all_of_them
    ]
    return pytest.mark.parametrize(("by", "mapped"), params)


@pytest.fixture
def make(
    make_brick: Callable[..., Brick], pool: Path, backend: Path, rules: dict[str, str]
) -> Callable[[], Brick]:
    inserts = [("user/pybd", {"pool": f"loop:{pool}", **rules}), HEAL]
    return lambda: make_brick(backend, inserts=inserts)


def opened(client: Client, rules: dict[str, str]) -> File:
    """A mapped file that is open."""
    file = client.creat("/f")
    file.pwrite(BEFORE, 0)
    if not rules:
        file.fsetxattr(KEY, b"thin")
    return file


def make_again(client: Client, gfid: str, by: str) -> str:
    """Make a file with that gfid, and say that it is mapped."""
    path = f"/again-{gfid}"
    if by == "mknod":
        client.mknod(path, stat.S_IFREG | 0o644)
    else:
        client.creat(path).close()
    with contextlib.suppress(FileExistsError):  # by its name, or it is the one that there was
        client.setxattr(path, KEY, b"thin")
    return path


def check_again(
    make: Callable[[], Brick], connect: Connect, client: Client, brick: Brick, path: str
) -> Client:
    """A file that was made again has its bytes, and keeps them."""
    write(client, path, b"again")
    expected = read(client, path)
    assert expected[:5] == b"again"
    client.close()
    brick.stop()
    client = connect(make())
    assert read(client, path) == expected
    return client


@ways(("mknod", "by-xattr"), ("create", "by-xattr"))
def test_while_what_was_removed_is_open(
    make: Callable[[], Brick],
    connect: Connect,
    backend: Path,
    pool: Path,
    rules: dict[str, str],
    by: str,
    mapped: str,
) -> None:
    """By mknod posix gives it a name again; by create there is another file."""
    brick = make()
    client = connect(brick)
    file = opened(client, rules)
    gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
    client.unlink("/f")
    path = make_again(client, gfid, by)
    assert client.stat(path).st_size == (len(BEFORE) if by == "mknod" else 0)
    assert read(client, path) == (BEFORE if by == "mknod" else b"")
    file.close()
    time.sleep(0.5)
    client = check_again(make, connect, client, brick, path)
    assert len(devices(pool)) == 1
    client.unlink(path)
    wait_until(lambda: not devices(pool))


def test_while_its_last_name_goes(
    make_brick: Callable[..., Brick],
    connect: Connect,
    backend: Path,
    pool: Path,
) -> None:
    """Heal in one folder makes the name that heal in another one removes."""
    slow = "features/glupy", {"module": SLOW, "fops": "mknod", "milliseconds": "500"}
    brick = make_brick(backend, inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"}), HEAL])
    client, other = connect(brick), connect(brick)
    with opened(client, {}) as file:
        gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
        with ThreadPoolExecutor() as threads:
            making = threads.submit(make_again, other, gfid, "mknod")
            time.sleep(0.2)
            client.unlink("/f")
            path = making.result()
        assert file.pread(6, 0).value == b"before"
    time.sleep(1)
    assert read(client, path) == BEFORE
    assert len(devices(pool)) == 1


@pytest.mark.parametrize("lost", [True, False])
@ways(("mknod", "by-name"))
def test_after_it_was_taken_off_the_brick(
    make: Callable[[], Brick],
    connect: Connect,
    backend: Path,
    pool: Path,
    rules: dict[str, str],
    by: str,
    mapped: str,
    lost: bool,
) -> None:
    """docs/pybd.md, of a device that was lost; it may also be there still."""
    brick = make()
    client = connect(brick)
    with opened(client, rules):
        gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
        (backend / "f").unlink()
        (backend / ".glusterfs" / gfid[:2] / gfid[2:4] / str(uuid.UUID(gfid))).unlink()
        if lost:
            (device,) = devices(pool)
            device.unlink()
        path = make_again(client, gfid, by)
        assert read(client, path) == b""
    check_again(make, connect, client, brick, path)
    assert len(devices(pool)) == 1
