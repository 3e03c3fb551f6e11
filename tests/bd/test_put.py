"""The fop put makes a file with its data, or writes into the one that is there: where its bytes
are, whatever that is."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, SLOW, devices, inserted, read, refuses, write

PUT = inserted("put:Put")

pytestmark = [
    pytest.mark.parametrize("leaf", LEAVES),
    # C posix, whose put writes before the inode is linked
    pytest.mark.allow_log("_fill_writev_xdata"),
]


def put(client: Client, name: str, data: bytes, offset: int = 0, flags: int = 0) -> None:
    order = f"{name}:{flags | os.O_RDWR}:{offset}="
    client.setxattr("/", "user.put", order.encode() + data)
    assert client.getxattr("/", "user.size") == str(client.stat(f"/{name}").st_size).encode()


@pytest.fixture
def client(make_bd: Callable[..., Brick], connect: Connect) -> Client:
    return connect(make_bd(above=[PUT]))


@pytest.fixture
def stub(brick_dir: Path) -> Path:
    return brick_dir / "brick-0" / "f"


@pytest.mark.allow_log(r"error-xlator: .*errno=17", r"File exists", r"create of .* failed")
def test_over_a_mapped_file(client: Client, pool: Path, stub: Path) -> None:
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin")
    (device,) = devices(pool)
    put(client, "f", b"in it", 100)
    data = b"x" * 100 + b"in it" + b"x" * (MIB - 105)
    assert read(client, "/f") == data
    put(client, "f", b"behind its end", MIB + 10)
    assert read(client, "/f") == data + bytes(10) + b"behind its end"
    put(client, "f", b"appended", 0, os.O_APPEND)
    assert read(client, "/f") == data + bytes(10) + b"behind its endappended"
    with client.open("/f") as file:
        put(client, "f", b"anew", 8192, os.O_TRUNC)
        assert file.pread(MIB, 0).value == bytes(8192) + b"anew"
    refuses(errno.EEXIST, lambda: put(client, "f", b"another", 0, os.O_EXCL))
    # what was cut off is not seen again
    client.truncate("/f", MIB)
    assert read(client, "/f") == bytes(8192) + b"anew" + bytes(MIB - 8196)
    assert devices(pool) == [device]
    assert stub.stat().st_size == MIB
    assert not any(stub.read_bytes())
    client.unlink("/f")
    wait_until(lambda: devices(pool) == [])


def test_a_discard_up_to_the_end_beside_it(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """It takes the whole of the last block, but not what is put behind it."""
    slow = "features/glupy", {"module": SLOW, "fops": "truncate", "milliseconds": "3000"}
    client = connect(make_brick(inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"}), PUT]))
    write(client, "/f", b"x" * 100)
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f") as file, ThreadPoolExecutor() as threads:
        putting = threads.submit(put, client, "f", b"behind" * 1000, 0, os.O_APPEND)
        time.sleep(1)
        file.discard(0, 100)
        assert not putting.done()
        putting.result()
        assert file.pread(MIB, 0).value == bytes(100) + b"behind" * 1000


@pytest.mark.parametrize("bd_options", [{"map": "*=thin"}])
@pytest.mark.allow_log(r"is not mapped: there is no directory", r"mapped files cannot be used")
def test_a_file_that_is_not_mapped_has_its_data(client: Client, pool: Path, stub: Path) -> None:
    """The pool is away; then it is back, and the file is there already."""
    pool.rename(pool.with_suffix(".away"))
    put(client, "f", b"plain", 3, os.O_EXCL)
    assert read(client, "/f") == stub.read_bytes() == bytes(3) + b"plain"
    pool.with_suffix(".away").rename(pool)
    put(client, "f", b"P", 3)
    assert read(client, "/f") == stub.read_bytes() == bytes(3) + b"Plain"
    put(client, "g", b"mapped", 3)
    assert read(client, "/g") == bytes(3) + b"mapped"
    assert not any(stub.with_name("g").read_bytes())
    assert len(devices(pool)) == 1


@pytest.mark.parametrize("bd_options", [{"map": "*.img=thin"}])
@pytest.mark.allow_log(r"error-xlator: .*errno=22", r"Invalid argument")
def test_with_the_key_of_mapped_files(client: Client, stub: Path) -> None:
    """As an xattr that comes with the file it maps nothing, and it must not look so."""
    for name in "keyed", "keyed.img":
        refuses(errno.EINVAL, partial(put, client, name, b"data"))
        assert not stub.with_name(name).exists()
