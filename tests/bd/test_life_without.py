"""A brick with mapped files and no user/pybd: pyposix keeps off their bytes, and what checks bricks
finds nothing wrong there."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, inserted, read, refuses, write

PUT = inserted("put:Put")
UNOPENED = inserted("unopened:Unopened")
QUICK_READ: volfiles.Insert = "performance/quick-read", {}

keeps_off = pytest.mark.expect_log(
    r": [0-9a-f-]{36} is mapped to a block device, and no user/pybd is above: EIO"
)
told = pytest.mark.allow_log(
    r"errno=5", r"error=Input/output error", r"error: Input/output", r"create of .* failed"
)


@pytest.fixture
def mapped(brick: Brick, client: Client, backend: Path) -> Path:
    """A folder of a brick that had user/pybd, with a mapped file and a plain one."""
    write(client, "/f", b"precious")
    write(client, "/plain", b"plain")
    client.setxattr("/f", KEY, b"thin")
    client.close()
    brick.stop()
    return backend


@keeps_off
@told
def test_data_fops_are_refused(
    make_bd: Callable[..., Brick], make_brick: MakeBrick, connect: Connect, mapped: Path
) -> None:
    without = make_brick(mapped)
    there = connect(without, inserts=[QUICK_READ])
    assert read(there, "/plain") == b"plain"
    for call in (
        lambda: there.open("/f"),
        lambda: there.open("/f", os.O_RDWR | os.O_TRUNC),
        lambda: there.creat("/f"),
        lambda: there.truncate("/f", 0),
    ):
        refuses(errno.EIO, call)
    assert there.stat("/f").st_size == len(b"precious")
    there.rename("/f", "/g")
    assert without.log.read_text().count("is mapped to a block device") == 1
    there.close()
    without.stop()

    stock = make_brick(mapped, leaf="posix")  # serves zeros, and takes writes
    there = connect(stock)
    assert read(there, "/g") == bytes(len(b"precious"))
    write(there, "/g", b"lost")
    assert read(there, "/g")[:4] == b"lost"
    there.close()
    stock.stop()

    again = connect(make_bd(mapped))
    assert read(again, "/g") == b"precious"


@keeps_off
@told
def test_what_needs_no_open_is_refused(
    make_bd: Callable[..., Brick], make_brick: MakeBrick, connect: Connect, mapped: Path
) -> None:
    """Fops by anonymous fds; put; and no lookup has the content for quick-read to serve."""
    without = make_brick(mapped, inserts=[UNOPENED, PUT])
    there = connect(without, inserts=[QUICK_READ])
    with there.open("/plain") as file:
        file.discard(0, 2)
        assert file.pread(10, 0).value == bytes(2) + b"ain"
    with there.open("/f") as file:
        for call in (
            lambda: file.pread(8, 0),
            lambda: file.discard(0, 8),
            lambda: file.pwrite(b"lost", 0),
            lambda: file.zerofill(0, 8),
            lambda: file.fallocate(0, MIB),
            lambda: file.lseek(0, os.SEEK_DATA),
            lambda: there.setxattr("/", "user.put", f"f:{os.O_RDWR}:0=lost".encode()),
        ):
            refuses(errno.EIO, call)
    there.close()
    without.stop()
    assert not any((mapped / "f").read_bytes())
    assert read(connect(make_bd(mapped)), "/f") == b"precious"


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_check_finds_nothing(brick: Brick, client: Client, backend: Path, pool: Path) -> None:
    """Of files that are mapped, are snapshots, were merged or unmapped; of one without a name."""
    for name in "mapped", "kept", "merged", "unmapped", "unlinked":
        write(client, f"/{name}", b"data" * MIB)
        client.setxattr(f"/{name}", KEY, b"thin")
        if name in ("kept", "merged"):
            write(client, f"/{name}.snap", b"")
            gfid = os.getxattr(backend / f"{name}.snap", "trusted.gfid").hex()
            client.setxattr(f"/{name}", "snapshot", f"{gfid}:{5 * MIB}".encode())
            write(client, f"/{name}", b"changed")
    client.link("/mapped", "/linked")
    client.setxattr("/merged.snap", "merge", b"1")
    client.removexattr("/unmapped", KEY)
    client.unlink("/unlinked")
    wait_until(lambda: len(list(pool.iterdir())) == 4)
    assert findings(backend) == []
    client.close()
    brick.stop()
    assert findings(backend) == []
    (backend / "mapped").write_bytes(b"x")
    assert findings(backend) == ["mapped-data"]  # it does look


def findings(backend: Path) -> list[str]:
    command = [sys.executable, "-m", "glupy_tools", "brick", "check", "--json", str(backend)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [each["kind"] for each in json.loads(done.stdout)["findings"]]
