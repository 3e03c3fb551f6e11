"""What the gfapi client does by handle, and what it sets: on C posix and on pyposix."""

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client, Object
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

# A client that is closed does not wait for the answers to its last closes.
pytestmark = pytest.mark.allow_log(r"forced unwinding .*\(RELEASE")

NS = 10**9


@pytest.fixture(params=["posix", "pyposix"])
def leaf(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(client: Client) -> Object:
    return client.find("/")


@pytest.mark.allow_log(r"(SETATTR|setattr|chmod).*Operation not permitted")
@pytest.mark.parametrize("how", ["path", "fd", "object"])
def test_any_of_the_attributes_is_set(client: Client, backend: Path, how: str) -> None:
    real = backend / "file"
    with client.creat("/file") as file, client.find("/file") as found:
        ways: dict[str, Callable[..., None]] = {
            "path": partial(client.setattr, "/file"),
            "fd": file.fsetattr,
            "object": found.setattr,
        }
        setattr = ways[how]
        setattr(atime=5 * NS + 1, mtime=6 * NS + 2)
        setattr(mtime=7 * NS + 3)
        assert (real.stat().st_atime_ns, real.stat().st_mtime_ns) == (5 * NS + 1, 7 * NS + 3)
        setattr(atime=8 * NS, mode=0o604, gid=12)
        now = real.stat()
        assert (now.st_atime_ns, now.st_mtime_ns) == (8 * NS, 7 * NS + 3)
        assert (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (0o604, 0, 12)
        setattr(uid=11)
        assert (real.stat().st_uid, real.stat().st_gid) == (11, 12)
        before = real.stat()
        time.sleep(0.02)  # a file system's clock ticks
        setattr()
        now = real.stat()
        assert now[:-1] == before[:-1] and now.st_ctime_ns > before.st_ctime_ns
        subprocess.run(["chattr", "+i", real], check=True)
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
                setattr(mode=0o777)
        finally:
            subprocess.run(["chattr", "-i", real], check=True)


def test_a_link_itself_has_attributes(client: Client, backend: Path) -> None:
    client.creat("/file").close()
    client.symlink("file", "/soft")
    client.setattr("/soft", mtime=5 * NS)
    client.setattr("/soft", mtime=6 * NS, follow=False)
    assert (backend / "file").stat().st_mtime_ns == 5 * NS
    assert (backend / "soft").lstat().st_mtime_ns == 6 * NS


def test_entries_with_their_objects(client: Client, root: Object, backend: Path) -> None:
    with root.create("file") as file:
        file.write(b"contents", 5000)
    root.mkdir("folder").close()
    root.symlink("file", "soft").close()
    listed = {entry.name: (entry, found) for entry, found in root.readdir()}
    assert [listed.pop(name)[1] for name in (".", "..")] == [None, None]
    assert set(listed) == {"file", "folder", "soft"}
    for name, (entry, found) in listed.items():
        assert found is not None and entry.stat is not None
        assert found.gfid == os.getxattr(backend / name, "trusted.gfid", follow_symlinks=False)
        now = client.lstat(f"/{name}")
        assert entry.stat == now and entry.stat.st_mtime_ns == now.st_mtime_ns
        assert entry.stat.st_blocks == now.st_blocks and entry.ino == now.st_ino
        assert found.stat() == now
    old, folder = listed["file"][1], listed["folder"][1]
    assert old is not None and old.read(100, 5000) == b"contents"
    with pytest.raises(NotADirectoryError):
        list(old.readdir())
    assert folder is not None and {entry.name for entry, _ in folder.readdir()} == {".", ".."}


def test_going_on_in_a_directory(client: Client) -> None:
    for n in range(200):
        client.mknod(f"/{n:0250}", stat.S_IFREG | 0o600)
    with client.opendir("/") as opened, client.opendir("/") as other:
        entries = list(opened.readdir())
        assert len({entry.name for entry in entries}) == len(entries) >= 202
        assert opened.tell() == entries[-1].offset
        for n in (150, 3):
            opened.seek(entries[n].offset)
            assert list(opened.readdir()) == entries[n + 1 :]
        other.seek(entries[100].offset)  # it has nothing read
        assert [entry.name for entry in other.readdir(plus=True)] == [
            entry.name for entry in entries[101:]
        ]
        opened.seek(0)
        assert list(opened.readdir()) == entries


def test_relative_paths(client: Client) -> None:
    client.mkdir("/one")
    client.mkdir("/one/two")
    client.creat("/one/two/file").close()
    client.symlink("one/two", "/soft")
    assert client.realpath("/soft/file") == "/one/two/file"
    client.chdir("/soft")
    assert client.stat("file") == client.stat("/one/two/file")
    with client.opendir("/one") as opened:
        opened.fchdir()
    assert client.stat("two/file") == client.stat("/one/two/file")
    with pytest.raises(NotADirectoryError):
        client.chdir("/soft/file")
    for call in client.chdir, client.realpath:
        with pytest.raises(FileNotFoundError):
            call("/soft/none")


@pytest.mark.allow_log(r"write failed.*Bad file", r"WRITE info.*Bad file")
def test_a_file_is_made_open(root: Object, backend: Path) -> None:
    made, opened = root.create_open("file", os.O_RDWR | os.O_EXCL, 0o640)
    with opened:
        opened.pwrite(b"0123", 0)
    assert made.read(10, 0) == b"0123" == (backend / "file").read_bytes()
    assert stat.S_IMODE((backend / "file").stat().st_mode) == 0o640
    again, opened = root.create_open("file", os.O_RDONLY)
    assert again.gfid == made.gfid
    with opened, pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        opened.pwrite(b"4", 4)
    with pytest.raises(FileExistsError):
        root.create_open("file", os.O_RDWR | os.O_EXCL)


ACL = "u::rw-,u:7:r--,g::r--,m::r--,o::---"


def test_acls(client: Client, root: Object, backend: Path) -> None:
    with root.create("file", 0o640) as file, root.symlink("file", "soft") as soft:
        assert file.acl() == "u::rw-,g::r--,o::---"
        file.set_acl(ACL)
        assert file.acl() == ACL == soft.acl()
        assert "system.posix_acl_access" in os.listxattr(backend / "file")
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            file.set_acl("u::rw-")
        with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
            file.set_acl(ACL, default=True)
    root.set_acl(ACL, default=True)
    assert root.acl(default=True) == ACL
    with root.create("heir", 0o666) as heir:
        assert heir.acl() == "u::rw-,u:7:r--,g::r--,m::r--,o::---"


@pytest.mark.allow_log(r"No such file or directory", r"Stale file handle")
def test_what_is_gone(root: Object, brick: Brick, connect: Connect, backend: Path) -> None:
    file = root.create("file")
    here, there = file.statvfs(), os.statvfs(backend)
    assert (here.f_blocks, here.f_namemax) == (there.f_blocks, there.f_namemax)
    connect(brick).unlink("/file")
    for call in (
        *(file.stat, file.look, file.statvfs, file.open, file.acl, file.listxattr),
        *(partial(file.setattr, mode=0o600), partial(file.set_acl, ACL)),
        *(partial(file.read, 1, 0), partial(file.write, b"1", 0), partial(file.truncate, 0)),
    ):
        # ESTALE: protocol/server does not know it any more
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno in (errno.ENOENT, errno.ESTALE), call


@pytest.mark.allow_log(r"posix_ipc.*not handled")
def test_a_fop_between_translators(client: Client) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        client.ipc(1)
