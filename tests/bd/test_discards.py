"""How a discard of a mapped file is done, and what it gives back."""

import re
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, held, write

pytestmark = pytest.mark.parametrize("leaf", LEAVES)


def test_it_is_one_ioctl(brick: Brick, client: Client, pool: Path) -> None:
    """Of the whole sectors, however many; and nothing is asked or tried first."""
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin:20MB")
    with client.open("/f") as file:
        file.pwrite(b"x" * 9 * MIB, 0)
        with brick.strace(["ioctl", "fallocate"]) as trace:
            file.discard(100, 8 * MIB)
            file.discard(10 * MIB, 1000)
        assert file.pread(9 * MIB, 0).value == b"x" * 100 + bytes(8 * MIB) + b"x" * (MIB - 100)
    calls = re.findall(r"(ioctl|fallocate)\(\d+, ([^)]*)\) += (\d+)", trace.read_text())
    ranges = [(512, 8 * MIB - 512), (10 * MIB, 512)]
    assert calls == [("ioctl", f"BLKDISCARD, [{at}, {length}]", "0") for at, length in ranges]


@pytest.mark.parametrize("bd_options", [{"map": "*=thin"}])
def test_what_fstrim_discards_the_pool_has_again(
    mount: FuseMount, pool: Path, tmp_path: Path
) -> None:
    """Of a file system that does not discard by itself; it is on a loop device on a mapped file."""
    inner, size = tmp_path / "inner", 20 * MIB
    little = 2 * MIB  # what a removed file leaves in the journal and the tables

    def used() -> int:
        stores.run("sync", "--file-system", inner)
        return held(pool)

    with stores.store(mount.mountpoint / "image", 64 * MIB, inner, options=["nodiscard"]):
        empty = used()
        (inner / "file").write_bytes(b"x" * size)
        assert used() - empty >= size
        (inner / "file").unlink()
        assert used() - empty >= size
        stores.run("fstrim", inner)
        wait_until(lambda: used() - empty <= little)
