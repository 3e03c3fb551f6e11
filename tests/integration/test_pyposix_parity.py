"""pyposix beside C posix: the same calls, the same answers, the same things on the disk."""

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glupy.testing import stock
from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi import Client, Entry, credentials
from glupy.testing.processes import Brick

LEAVES = "posix", "pyposix"
BLOCK = 4096

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = pytest.mark.allow_log(r".*")

Outcome = tuple[str, Any]


def shown(value: Any) -> Any:
    """A result without what differs from brick to brick: times, inode numbers, gfids."""
    if isinstance(value, os.stat_result):
        owner = value.st_uid, value.st_gid
        return stat.filemode(value.st_mode), value.st_nlink, owner, value.st_size, value.st_blocks
    if isinstance(value, Entry):  # its number and its place come from a gfid, but for the root's
        return value.name, value.type, shown(value.stat)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return tuple(shown(each) for each in value)
    if isinstance(value, list):
        return sorted(map(shown, value))
    return value


class Recorder:
    """Makes calls and keeps what each returned, or the errno it failed with."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, label: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            value = call(*arguments, **named)
        except OSError as error:
            self.outcomes.append((label, errno.errorcode.get(error.errno or 0, error.errno)))
            return None
        handle = hasattr(value, "close")
        self.outcomes.append((label, "open" if handle else shown(value)))
        return value


def names(client: Client, do: Recorder) -> None:
    do("mkdir", client.mkdir, "/d", 0o2755)
    do("mkdir again", client.mkdir, "/d")
    do("mkdir hidden", client.mkdir, "/.glusterfs")
    do("rmdir hidden", client.rmdir, "/.glusterfs")
    do("stat hidden", client.lstat, "/.glusterfs")
    do("mkdir in nothing", client.mkdir, "/no/d")
    file = do("create", client.creat, "/d/f", os.O_RDWR | os.O_EXCL, 0o640)
    do("create again", client.creat, "/d/f", os.O_RDWR | os.O_EXCL)
    do("create open", client.creat, "/d/f", os.O_RDWR)
    do("create in file", client.creat, "/d/f/g")
    do("long name", client.creat, "/d/" + "n" * 256)
    do("open directory", client.open, "/d", os.O_RDWR)
    do("fstat", file.fstat)
    do("link", client.link, "/d/f", "/d/g")
    do("link to directory", client.link, "/d", "/e")
    do("link over", client.link, "/d/f", "/d/g")
    do("stat linked", client.stat, "/d/f")
    do("symlink", client.symlink, "f", "/d/s")
    do("symlink over", client.symlink, "f", "/d/s")
    do("lstat symlink", client.lstat, "/d/s")
    do("readlink", client.readlink, "/d/s")
    do("readlink file", client.readlink, "/d/f")
    do("mknod file", client.mknod, "/m", stat.S_IFREG | 0o600)
    do("mknod device", client.mknod, "/c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    do("mknod fifo", client.mknod, "/p", stat.S_IFIFO | 0o600)
    do("stat device", client.stat, "/c")
    do("readdir", client.readdir, "/d", plus=True)
    do("readdir root", client.readdir, "/")
    do("rmdir full", client.rmdir, "/d")
    do("rmdir file", client.rmdir, "/d/f")
    do("unlink directory", client.unlink, "/d")
    do("unlink nothing", client.unlink, "/d/nothing")
    do("rename", client.rename, "/d/g", "/h")
    do("stat renamed", client.stat, "/h")
    do("rename nothing", client.rename, "/d/nothing", "/x")
    do("rename over file", client.rename, "/m", "/h")
    do("mkdir victim", client.mkdir, "/v")
    do("rename over directory", client.rename, "/d", "/v")
    do("mkdir full", client.mkdir, "/w")
    do("rename over full", client.rename, "/w", "/v")
    do("rename file over directory", client.rename, "/h", "/v")
    do("rename directory over file", client.rename, "/v", "/h")
    do("rename into itself", client.rename, "/v", "/v/x")
    do("stat after", client.stat, "/v/f")
    do("unlink open", client.unlink, "/v/f")
    do("write unlinked", file.pwrite, b"x", 0)
    do("fstat unlinked", file.fstat)
    do("close", file.close)
    do("stat gone", client.stat, "/v/f")


def attributes(client: Client, do: Recorder) -> None:
    do("create", client.creat, "/f", os.O_RDWR, 0o644)
    do("mkdir", client.mkdir, "/d", 0o755)
    for path in "/f", "/d":
        do("chmod", client.chmod, path, 0o6751)
        do("chown", client.chown, path, 7, 8)
        do("chown uid", client.chown, path, 9, 0xFFFFFFFF)
        do("stat", client.stat, path)
        do("utimens", client.utimens, path, 1_000_000_007, 2_000_000_009)
        do("access", client.access, path, os.R_OK | os.X_OK)
        do("access nothing", client.access, "/nothing", os.R_OK)
    do("symlink", client.symlink, "nowhere", "/s")
    do("chown symlink", client.chown, "/s", 5, 6, follow=False)
    do("lstat", client.lstat, "/s")
    with credentials(1000, 1001):
        do("chmod root's", client.chmod, "/d", 0o777)
        do("mkdir as other", client.mkdir, "/o")
    do("stat other", client.stat, "/o")


def data(client: Client, do: Recorder) -> None:
    file = do("create", client.creat, "/f", os.O_RDWR, 0o644)
    do("read empty", file.pread, 10, 0)
    do("write", file.pwrite, b"a" * 10000, 0)
    do("write far", file.pwrite, b"b" * 10, 100_000)
    do("read", file.pread, 20, 9990)
    do("read across end", file.pread, 200, 99_990)
    do("read past end", file.pread, 10, 200_000)
    do("read nothing", file.pread, 0, 0)
    do("ftruncate", file.ftruncate, 5000)
    do("truncate", client.truncate, "/f", 6000)
    do("ftruncate negative", file.ftruncate, -1)
    do("truncate directory", client.truncate, "/", 1)
    do("fsync", file.fsync)
    do("fdatasync", file.fdatasync)
    do("stat", client.stat, "/f")
    reader = do("open to read", client.open, "/f", os.O_RDONLY)
    do("write to reader", reader.pwrite, b"x", 0)
    do("ftruncate reader", reader.ftruncate, 1)
    other = do("create other", client.creat, "/o", os.O_RDWR)
    do("copy", file.copy_file_range, 100, other, 0, 1000)
    do("appended", client.open, "/f", os.O_RDWR | os.O_APPEND)


def space(client: Client, do: Recorder) -> None:
    file = do("create", client.creat, "/f", os.O_RDWR, 0o644)
    do("write", file.pwrite, b"a" * 16 * BLOCK, 0)
    for offset, length in [
        (0, 0),
        (0, 1),
        (1, BLOCK),
        (BLOCK, BLOCK),
        (20 * BLOCK, BLOCK),
        (15 * BLOCK, 2 * BLOCK),
        (0, 1 << 62),
    ]:
        for name in "discard", "zerofill", "fallocate":
            if length > 1 << 40 and name != "discard":
                continue
            do(f"{name} {offset} {length}", getattr(file, name), offset, length)
            do("fstat", file.fstat)
    do("discard later", lambda: file.discard_async(0, BLOCK).result(10))
    do("fstat", file.fstat)
    do("zerofill later", lambda: file.zerofill_async(0, BLOCK).result(10))
    do("discard nothing later", lambda: file.discard_async(0, 0).result(10))
    do("fallocate keep", file.fallocate, 40 * BLOCK, BLOCK, keep_size=True)
    do("fstat", file.fstat)
    reader = do("open to read", client.open, "/f", os.O_RDONLY)
    for name in "discard", "zerofill", "fallocate":
        do(f"{name} reader", getattr(reader, name), 0, BLOCK)
    sparse = do("create sparse", client.creat, "/s", os.O_RDWR)
    do("make it sparse", sparse.ftruncate, 100 * BLOCK)
    do("data", sparse.pwrite, b"d" * BLOCK, 50 * BLOCK)
    for offset in 0, 50 * BLOCK, 60 * BLOCK, 100 * BLOCK, 200 * BLOCK:
        for whence in os.SEEK_DATA, os.SEEK_HOLE:
            do(f"seek {offset} {whence}", sparse.lseek, offset, whence)
    folder = do("opendir", client.opendir, "/")
    for name in "discard", "zerofill":
        call = getattr(lib, f"glfs_{name}")
        do(f"{name} directory", checked, call, folder._handle, 0, BLOCK)
    do("fallocate directory", checked, lib.glfs_fallocate, folder._handle, 0, 0, BLOCK)


def completed(outcomes: list[Outcome]) -> list[Outcome]:
    """What C posix did, with the attributes that its version leaves out: the fstat's before."""
    whole = outcomes.copy()
    for fop in stock.without_pre() & {"discard", "zerofill"}:
        place = [label for label, _ in outcomes].index(f"{fop} later")
        (_, before), (label, (value, pre, post)) = outcomes[place - 1 : place + 1]
        assert pre is None
        whole[place] = label, (value, before, post)
    return whole


def checked(call: Callable[..., int], *arguments: Any) -> None:
    """Make a call of libgfapi that its Python side does not have: for a directory."""
    if call(*arguments) < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def xattrs(client: Client, do: Recorder) -> None:
    do("create", client.creat, "/f", os.O_RDWR, 0o644)
    do("mkdir", client.mkdir, "/d")
    for path in "/f", "/d":
        do("set", client.setxattr, path, "user.a", b"1")
        do("set create", client.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
        do("set replace", client.setxattr, path, "user.b", b"2", os.XATTR_REPLACE)
        do("set empty", client.setxattr, path, "user.e", b"")
        do("set large", client.setxattr, path, "trusted.l", b"l" * 3000)
        do("set nowhere", client.setxattr, path, "nowhere.a", b"1")
        do("get", client.getxattr, path, "user.a")
        do("get large", client.getxattr, path, "trusted.l")
        do("get none", client.getxattr, path, "user.none")
        do("list", client.listxattr, path)
        for name in "trusted.gfid", "trusted.glusterfs.volume-id", "trusted.gfid2path.0":
            do(f"set {name}", client.setxattr, path, name, b"0123456789abcdef")
            do(f"remove {name}", client.removexattr, path, name)
        do("get gfid2path", client.getxattr, path, "trusted.gfid2path.0")
        do("get mdata", client.getxattr, path, "trusted.glusterfs.mdata")
        do("get stime", client.getxattr, path, "trusted.glusterfs.x.stime")
        do("get path", client.getxattr, path, "glusterfs.gfidtopath")
        do("set pathinfo", client.setxattr, path, "trusted.glusterfs.pathinfo", b"1")
        do("remove", client.removexattr, path, "user.a")
        do("remove again", client.removexattr, path, "user.a")
    do("filename", client.getxattr, "/", "glusterfs.get_real_filename:F")
    do("no filename", client.getxattr, "/", "glusterfs.get_real_filename:nothing")


SCENARIOS = [names, attributes, data, space, xattrs]


def on_disk(folder: Path) -> Iterator[tuple[str, Any]]:
    """What a brick has on its disk, without the chance in it: gfids and the hashes of names."""
    for path in _served(folder):
        status = path.lstat()
        stored = sorted(
            (name.rpartition(".")[0] if "gfid2path" in name else name, len(value))
            for name, value in _xattrs(path).items()
        )
        links = None if stat.S_ISDIR(status.st_mode) else status.st_nlink
        owner = status.st_uid, status.st_gid
        where = str(path.relative_to(folder))
        yield where, (stat.filemode(status.st_mode), links, owner, stored)


def check_handles(folder: Path) -> None:
    """Every file has its handle, and every handle its file."""
    inodes = set()
    for path in _served(folder):
        inodes.add(path.lstat().st_ino)
        gfid = str(uuid.UUID(bytes=_xattrs(path)["trusted.gfid"]))
        handle = folder / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid
        if path.is_dir() and not path.is_symlink():
            assert handle.is_symlink() and handle.samefile(path), path
        else:
            assert handle.lstat().st_ino == path.lstat().st_ino, path
    for handle in folder.glob(".glusterfs/??/??/*-*"):
        if handle.name.endswith("-000000000001"):
            continue
        is_directory = handle.is_symlink() and handle.lstat().st_nlink == 1
        assert (handle.stat() if is_directory else handle.lstat()).st_ino in inodes, handle


def _served(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] != ".glusterfs":
            yield path


def _xattrs(path: Path) -> dict[str, bytes]:
    found = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in found}


@pytest.mark.parametrize("ctime", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_same_as_c(
    scenario: Callable[[Client, Recorder], None],
    ctime: bool,
    make_brick: Callable[..., Brick],
    connect: Callable[..., Client],
    brick_dir: Path,
) -> None:
    found = {}
    for leaf in LEAVES:
        folder = brick_dir / leaf
        folder.mkdir()
        client = connect(make_brick(folder, leaf=leaf, ctime=ctime))
        do = Recorder()
        scenario(client, do)
        client.close()
        outcomes = completed(do.outcomes) if leaf == "posix" and scenario is space else do.outcomes
        found[leaf] = [*outcomes, *on_disk(folder)]
    assert found["pyposix"] == found["posix"]
    check_handles(brick_dir / "pyposix")  # C loses that of a directory when a rename fails


def test_either_serves_what_the_other_made(
    make_brick: Callable[..., Brick], connect: Callable[..., Client], brick_dir: Path
) -> None:
    """A brick goes from one to the other and back; files keep their gfids and times."""
    seen: dict[str, Any] = {}
    for turn, leaf in enumerate([*LEAVES, *LEAVES]):
        brick = make_brick(brick_dir, leaf=leaf, ctime=True)
        client = connect(brick)
        for path, status in seen.items():
            now = client.lstat(path)
            assert (now.st_ino, now.st_size, now.st_nlink) == status[:3]
            assert (now.st_mtime_ns, now.st_ctime_ns) == status[3:]
        client.mkdir(f"/d{turn}")
        with client.creat(f"/d{turn}/f") as file:
            file.pwrite(b"x" * 100 * (turn + 1), 0)
            file.discard(0, 10)
        client.link(f"/d{turn}/f", f"/h{turn}")
        client.rename(f"/d{turn}", f"/r{turn}")
        client.symlink("nowhere", f"/s{turn}")
        seen.clear()
        for entry in client.readdir("/"):
            if entry.name not in (".", ".."):
                for path in f"/{entry.name}", f"/{entry.name}/f":
                    try:
                        got = client.lstat(path)
                    except OSError:
                        continue
                    seen[path] = (
                        got.st_ino,
                        got.st_size,
                        got.st_nlink,
                        got.st_mtime_ns,
                        got.st_ctime_ns,
                    )
        client.close()
        brick.stop()
    assert len(seen) == 16
    check_handles(brick_dir)
