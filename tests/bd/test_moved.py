"""A file that a rebalance moves to a brick, and what one that was killed has left of it there."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glupy import keys
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import LEAVES, inserted, read, write

DATA = b"d" * MIB
FILLING = inserted("filling:Filling")


@pytest.fixture
def client(make_bd: Callable[..., Brick], backend: Path, connect: Connect) -> Iterator[Client]:
    """A mapped file is on its way here."""
    client = connect(make_bd(backend, above=[FILLING]))
    write(client, "/f", DATA)
    client.setxattr("/f", KEY, b"thin")
    client.be_internal(keys.PID_REBALANCE)
    client.setxattr("/f", keys.DHT_LINKTO, b"somewhere\0")
    client.chmod("/f", stat.S_ISVTX)
    yield client
    client.be_internal(0)


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_was_left_of_it_does_not_show(client: Client, backend: Path) -> None:
    client.stat("/f")
    assert (backend / "f").stat().st_size == MIB, "pybd knows its size"
    client.setxattr("/f", KEY, b"thin")
    assert read(client, "/f") == bytes(MIB)
    assert client.stat("/f").st_blocks == 0


@pytest.mark.parametrize("leaf", LEAVES)
def test_one_that_has_come_keeps_its_bytes(client: Client) -> None:
    """To map it again changes nothing: heal and a rebalance copy all xattrs."""
    client.chmod("/f", 0o644)
    client.removexattr("/f", keys.DHT_LINKTO)
    client.setxattr("/f", KEY, b"thin")
    assert read(client, "/f") == DATA
