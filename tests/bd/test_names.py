"""Names of mapped files that another file gets, and that come and go at once."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, devices, read, write

INTEGRATION = Path(__file__).parents[1] / "integration"
WINDOW = f"{INTEGRATION / 'translators' / 'window.py'}:Window"


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_plain_file_whose_name_a_mapped_one_has_taken(
    make_brick: Callable[..., Brick], pool: Path, backend: Path, connect: Connect
) -> None:
    """GlusterFS looks a name up with the inode that it had, if that is in memory."""
    client = connect(make_brick(backend, inserts=[("user/pybd", {"pool": f"loop:{pool}"})]))
    write(client, "/mapped", b"mapped" * MIB)
    client.setxattr("/mapped", KEY, b"thin")
    with client.creat("/f") as file:
        file.pwrite(b"plain", 0)
        (backend / "mapped").rename(backend / "f")
        assert client.stat("/f").st_size == 6 * MIB
        assert file.pread(10, 0).value == b"plain"
        file.pwrite(b"more", 5)
        assert file.fstat().st_size == 9
        assert file.pread(10, 0).value == b"plainmore"
    client.close()


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_mapped_file_whose_name_a_plain_one_has_taken(
    make_brick: Callable[..., Brick], pool: Path, backend: Path, connect: Connect
) -> None:
    client = connect(make_brick(backend, inserts=[("user/pybd", {"pool": f"loop:{pool}"})]))
    write(client, "/plain", b"plain")
    with client.creat("/f") as file:
        file.pwrite(b"mapped" * MIB, 0)
        client.setxattr("/f", KEY, b"thin")
        (backend / "plain").rename(backend / "f")
        assert client.stat("/f").st_size == 5
        assert file.fstat().st_size == 6 * MIB
        assert file.pread(6, 0).value == b"mapped"
        file.pwrite(b"M", 0)
        assert file.pread(6, 0).value == b"Mapped"
    assert (backend / "f").read_bytes() == b"plain"


@pytest.mark.parametrize("leaf", ["pyposix"])
def test_a_name_that_comes_as_the_last_one_goes(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect, tmp_path: Path
) -> None:
    """posix has counted the names; no other comes before that one has gone."""
    hold, method = tmp_path / "hold", "pyposix.removing.Removing._check_unlink"
    window = "features/glupy", {"module": WINDOW, "method": method, "hold": str(hold)}
    inserts = [window, ("user/pybd", {"pool": f"loop:{pool}"})]
    brick = make_brick(inserts=inserts)
    client, other = connect(brick), connect(brick)
    write(client, "/f", b"bytes")
    client.setxattr("/f", KEY, b"thin")
    hold.touch()
    with ThreadPoolExecutor(8) as threads:
        removed = threads.submit(client.unlink, "/f")
        wait_until(hold.with_suffix(".met").exists)
        linked = threads.submit(other.link, "/f", "/g")
        # io-threads starts a thread when more fops wait than there are threads, at work or not.
        looked = [threads.submit(other.stat, "/") for _ in range(4)]
        for each in looked:
            each.result()
        time.sleep(0.3)
        hold.unlink()
        removed.result()
        with contextlib.suppress(FileNotFoundError):
            linked.result()
    time.sleep(0.5)  # a device would go now
    names = {entry.name for entry in client.readdir("/")}
    assert len(devices(pool)) == len(names & {"g"})
    if "g" in names:
        assert read(client, "/g") == b"bytes"
