"""A brick with mapped files and no user/pybd: pyposix keeps off their bytes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick

from .conftest import KEY
from .mapped import read, refuses, write


@pytest.mark.expect_log(r"is mapped to a block device, and no user/pybd is above: EIO")
@pytest.mark.allow_log(r"errno=5", r"error=Input/output error", r"error: Input/output")
def test_data_fops_are_refused(
    make_bd: Callable[..., Brick],
    make_brick: MakeBrick,
    connect: Connect,
    brick: Brick,
    client: Client,
    backend: Path,
) -> None:
    write(client, "/f", b"precious")
    write(client, "/plain", b"plain")
    client.setxattr("/f", KEY, b"thin")
    before = client.stat("/f")
    client.close()
    brick.stop()

    without = make_brick(backend)
    there = connect(without, inserts=[("performance/quick-read", {})])
    assert read(there, "/plain") == b"plain"
    for call in (
        lambda: there.open("/f"),
        lambda: there.open("/f", os.O_RDWR | os.O_TRUNC),
        lambda: there.creat("/f"),
        lambda: there.truncate("/f", 0),
    ):
        refuses(errno.EIO, call)
    assert there.stat("/f").st_size == before.st_size
    there.rename("/f", "/g")
    assert without.log.read_text().count("is mapped to a block device") == 1
    there.close()
    without.stop()

    stock = make_brick(backend, leaf="posix")  # serves zeros, and takes writes
    there = connect(stock)
    assert read(there, "/g") == bytes(len(b"precious"))
    write(there, "/g", b"lost")
    assert read(there, "/g")[:4] == b"lost"
    there.close()
    stock.stop()

    again = connect(make_bd(backend))
    assert read(again, "/g") == b"precious"
