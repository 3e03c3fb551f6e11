"""Names that two fops make, move and take at once, each between two system calls of the other."""

import contextlib
import os
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

WINDOW = Path(__file__).parent / "translators" / "window.py"


class Held:
    """A brick in which whoever comes to a method waits, while there is the file `hold`."""

    def __init__(self, brick: Brick, client: Client, other: Client, hold: Path) -> None:
        self.brick, self.client, self.other = brick, client, other
        self._hold = hold

    @contextlib.contextmanager
    def begun(self, call: Callable[..., Any], *given: Any) -> Iterator[Future[Any]]:
        """Inside, this call waits there; afterwards it has ended."""
        self._hold.touch()
        with ThreadPoolExecutor(8) as threads:
            try:
                future = threads.submit(call, *given)
                wait_until(self._hold.with_suffix(".met").exists)
                # io-threads starts a thread when more fops wait than there are threads.
                for _ in range(4):
                    threads.submit(self.other.stat, "/")
                yield future
            finally:
                self._hold.unlink()
                with contextlib.suppress(OSError):
                    future.result()


@pytest.fixture
def held(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path, tmp_path: Path, method: str
) -> Held:
    hold = tmp_path / "hold"
    insert = "features/glupy", {"module": f"{WINDOW}:Window", "method": method, "hold": str(hold)}
    brick = make_brick(brick_dir, leaf="pyposix", inserts=[insert])
    return Held(brick, connect(brick), connect(brick), hold)


def in_front_of(method: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", [f"pyposix.{method}"])


def write(client: Client, path: str, data: bytes) -> None:
    with client.creat(path) as file:
        file.pwrite(data, 0)


def read(client: Client, path: str) -> bytes:
    with client.open(path, os.O_RDONLY) as file:
        return file.pread(100, 0).value


def handle(brick_dir: Path, gfid: bytes) -> Path:
    name = str(uuid.UUID(bytes=gfid))
    return brick_dir / ".glusterfs" / name[:2] / name[2:4] / name


def gfid_of(path: Path) -> bytes:
    return os.getxattr(path, "trusted.gfid", follow_symlinks=False)


def handles(brick_dir: Path) -> list[Path]:
    """Of files."""
    found = (brick_dir / ".glusterfs").glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*")
    return [path for path in found if not path.is_symlink()]


@in_front_of("making.Making._admit")
@pytest.mark.parametrize("make", ["creat", "mknod"])
def test_two_who_make_a_file(held: Held, brick_dir: Path, make: str) -> None:
    """The second finds what the first has made, and gives it a gfid; both have that file."""
    client = held.client
    call = client.mknod if make == "mknod" else client.creat
    given = [stat.S_IFREG | 0o644] if make == "mknod" else []
    with held.begun(call, "/f", *given) as first, held.other.creat("/f") as file:
        file.pwrite(b"second", 0)
    made = first.result()
    assert read(client, "/f") == b"second"
    if make == "creat":
        assert made.pread(6, 0).value == b"second"
        made.close()
    assert handles(brick_dir) == [handle(brick_dir, gfid_of(brick_dir / "f"))]
    assert (brick_dir / "f").stat().st_nlink == 2


@in_front_of("making.Making._admit")
@pytest.mark.parametrize("make", ["creat", "mknod", "mkfifo"])
def test_a_file_that_is_moved_onto_one_that_is_being_made(
    held: Held, brick_dir: Path, make: str
) -> None:
    client, other = held.client, held.other
    write(other, "/whole", b"whole")
    kind = stat.S_IFIFO if make == "mkfifo" else stat.S_IFREG
    call: Callable[..., Any] = client.creat if make == "creat" else client.mknod
    given = [] if make == "creat" else [kind | 0o600]
    with held.begun(call, "/f", *given):
        other.rename("/whole", "/f")
    assert read(client, "/f") == b"whole"
    found = (brick_dir / "f").stat()
    assert (found.st_nlink, stat.S_IMODE(found.st_mode)) == (2, 0o644)
    assert handles(brick_dir) == [handle(brick_dir, gfid_of(brick_dir / "f"))]


@pytest.mark.allow_log(r"saved_frames_unwind\] ")
@in_front_of("lookup.Lookup._heal")
def test_a_file_that_is_moved_onto_one_that_is_looked_up(held: Held, brick_dir: Path) -> None:
    """Whose handle goes with it, after the look."""
    client, other = held.client, held.other
    write(client, "/f", b"first")
    write(client, "/whole", b"whole")
    held.brick.kill()
    held.brick.start()
    wait_until(lambda: _answers(other))
    with held.begun(client.stat, "/f"):
        handle(brick_dir, gfid_of(brick_dir / "f")).unlink()
        (brick_dir / "whole").rename(brick_dir / "f")
    assert (brick_dir / "f").stat().st_nlink == 2
    assert handles(brick_dir) == [handle(brick_dir, gfid_of(brick_dir / "f"))]


def _answers(client: Client) -> bool:
    try:
        return bool(client.stat("/").st_mode)
    except OSError:
        return False


@in_front_of("lookup.Lookup._heal")
def test_a_handle_that_is_lost_while_the_file_is_known(held: Held, brick_dir: Path) -> None:
    """Who takes a name for the last one takes the handle, too."""
    write(held.client, "/f", b"data")
    (found,) = handles(brick_dir)
    found.unlink()
    held.client.stat("/f")
    assert handles(brick_dir) == [found]
    assert read(held.other, "/f") == b"data"


@pytest.mark.allow_log(r"error=Operation not permitted")
@in_front_of("lookup.Lookup._heal")
def test_an_unlink_that_is_refused_leaves_what_is_recorded(held: Held, brick_dir: Path) -> None:
    client = held.client
    client.mkdir("/d")
    write(client, "/d/f", b"data")
    client.link("/d/f", "/g")
    records = sorted(name for name in os.listxattr(brick_dir / "g") if "gfid2path" in name)
    assert len(records) == 2
    for path, links in ("/d/f", 3), ("/d/f", 2):
        subprocess.run(["chattr", "+i", brick_dir / "d"], check=True)
        try:
            with pytest.raises(PermissionError):
                client.unlink(path)
        finally:
            subprocess.run(["chattr", "-i", brick_dir / "d"], check=True)
        assert (brick_dir / "d" / "f").stat().st_nlink == links
        assert handles(brick_dir) == [handle(brick_dir, gfid_of(brick_dir / "d" / "f"))]
        left = [name for name in os.listxattr(brick_dir / "d" / "f") if "gfid2path" in name]
        assert len(left) == links - 1
        with contextlib.suppress(FileNotFoundError):
            client.unlink("/g")


@pytest.mark.parametrize("leaf", ["pyposix"])
def test_a_folder_that_is_synced(brick: Brick, mount: FuseMount) -> None:
    """What fsync(2) of a directory is for: its names are on the disk."""
    (mount.mountpoint / "f").touch()
    number = os.open(mount.mountpoint, os.O_RDONLY)
    try:
        with brick.strace(["fsync", "fdatasync"]) as trace:
            os.fsync(number)
        assert "fsync(" in trace.read_text()
    finally:
        os.close(number)
