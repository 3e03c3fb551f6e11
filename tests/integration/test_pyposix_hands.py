"""A brick changes hands between C's storage/posix and pyposix, and nothing is lost.

In each turn one of the two serves the brick's directory to a FUSE mount, over RPC, with
features/utime, so that the times are those that clients have set. The tree is read wholly, changed,
and read again; what the next leaf's client then sees must be the same in everything. Each change is
also made to a plain folder on the same file system, which says what the tree must be like.
"""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH115, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import random
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.linux import fallocate
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.pytest_plugin import MakeBrick
from pyposix.check import Ground, Kind, Scan

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40
LEAVES = "posix", "pyposix"
CROWD = 10_000
OPEN = 5
KEEP_SIZE, PUNCH_HOLE = 1, 2  # <linux/falloc.h>
ACL = "system.posix_acl_access", "system.posix_acl_default"
MDATA = "trusted.glusterfs.mdata"


# ---- what a client sees ----


class Seen(NamedTuple):
    """A file as a client sees it."""

    attributes: tuple[int, ...]
    """Mode, uid, gid, device, size."""
    links: int
    target: bytes = b""
    data: str = ""
    extents: tuple[tuple[int, int], ...] = ()
    """Where it has data: the rest is holes."""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    times: tuple[int, int, int] = 0, 0, 0
    """Access, modification and change, in nanoseconds."""
    blocks: int = 0
    ino: int = 0
    gfid: bytes = b""
    listing: tuple[tuple[bytes, int], ...] = ()
    """A directory's entries in their order, each with its inode."""


Tree = dict[bytes, Seen]


def read(root: bytes) -> Tree:
    """Read all there is. Of the crowd's files only one in 25 is looked up and read: of the others
    there is what the listing has with each name (readdirp)."""
    tree: Tree = {}
    folders = [b""]
    while folders:
        folder = folders.pop()
        number = os.open(root + folder, os.O_RDONLY)
        try:
            here = b"/proc/self/fd/%d" % number  # else a mount looks up each name on the way
            with os.scandir(here) as scan:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in scan]
            listing = tuple((name, status.st_ino) for name, status in found)
            tree[folder] = look(root + folder)._replace(listing=listing)
            for name, status in found:
                path = folder + b"/" + name
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                elif folder == b"/crowd" and zlib.crc32(name) % 25:
                    tree[path] = seen(status)
                else:
                    tree[path] = look(here + b"/" + name)
        finally:
            os.close(number)
    return tree


def look(path: bytes) -> Seen:
    status = os.lstat(path)
    target, data, gfid = b"", "", b""
    extents: list[tuple[int, int]] = []
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        data, extents = contents(path)
    with contextlib.suppress(OSError):  # the plain folder's files have none
        gfid = os.getxattr(path, "glusterfs.gfid.string", follow_symlinks=False)
    return seen(status)._replace(
        target=target,
        data=data,
        extents=tuple(extents),
        xattrs=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        gfid=gfid,
    )


def seen(status: os.stat_result) -> Seen:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return Seen(
        (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, size),
        status.st_nlink,
        times=(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns),
        blocks=status.st_blocks,
        ino=status.st_ino,
    )


def contents(path: bytes) -> tuple[str, list[tuple[int, int]]]:
    """A file's data as a hash, and where they are.

    A small file is read before: of what is allocated and not written yet, the kernel counts as
    data what somebody has read."""
    digest = hashlib.blake2b(digest_size=8)
    extents: list[tuple[int, int]] = []
    number = os.open(path, os.O_RDONLY)
    try:
        size, end = os.fstat(number).st_size, 0
        if size <= 4 * MIB:
            digest_data(digest, 0, os.pread(number, size, 0))
        while True:
            try:
                start = os.lseek(number, end, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO  # no more data
                break
            end = os.lseek(number, start, os.SEEK_HOLE)
            extents.append((start, end))
            digest_data(digest, start, os.pread(number, end - start, start))
    finally:
        os.close(number)
    return digest.hexdigest(), extents


def digest_data(digest: hashlib.blake2b, offset: int, data: bytes) -> None:
    """Zeros are the same as a hole."""
    for at in range(0, len(data), 4096):
        block = data[at : at + 4096]
        if any(block):
            digest.update(b"%d" % (offset + at) + block)


def differences(before: Tree, after: Tree) -> list[str]:
    """What differs, a line each."""
    found = [f"{path!r} is gone" for path in before.keys() - after.keys()]
    found += [f"{path!r} has appeared" for path in after.keys() - before.keys()]
    for path in before.keys() & after.keys():
        for field, old, new in zip(Seen._fields, before[path], after[path], strict=True):
            if old != new:
                found.append(f"{path!r}: {field}: {old!r} is now {new!r}")
    return found


def plain(tree: Tree, holes: bool) -> Tree:
    """What a plain folder has as well: no times, gfids, nor room for xattrs.

    A brick's root has .glusterfs, too. Not ``holes``: xfs gives a file that grows some blocks more,
    as its writes come."""
    return {
        path: seen._replace(
            links=seen.links if path else 0,
            xattrs=tuple(
                (name, value) for name, value in seen.xattrs if not name.startswith("trusted.gl")
            ),
            times=(0, 0, 0),
            extents=seen.extents if holes else (),
            blocks=0,
            ino=0,
            gfid=b"",
            listing=tuple((name, 0) for name, _ in sorted(seen.listing)),
        )
        for path, seen in tree.items()
    }


def stored_times(tree: Tree, brick: bytes) -> Tree:
    """The tree with the times that trusted.glusterfs.mdata has for each of its files."""
    stored = {}
    for path, seen in tree.items():
        value = os.getxattr(brick + path, MDATA, follow_symlinks=False)
        version, flags, cs, cn, ms, mn, as_, an = struct.unpack(">B7Q", value)
        assert (version, flags) == (1, 0)
        times = as_ * 10**9 + an, ms * 10**9 + mn, cs * 10**9 + cn
        stored[path] = seen._replace(times=times)
    return stored


def missing(tree: Tree) -> list[str]:
    """Which of the things that are to change hands are not in a tree."""
    names = [path.rpartition(b"/")[2] for path in tree]
    regular = [seen for seen in tree.values() if stat.S_ISREG(seen.attributes[0])]
    is_there = {
        "every kind of file": len({stat.S_IFMT(s.attributes[0]) for s in tree.values()}) == 7,
        "hard links": any(seen.links > 1 for seen in regular),
        "sparse files": any(len(seen.extents) > 2 for seen in regular),
        "ACLs": {n for seen in tree.values() for n, _ in seen.xattrs}.issuperset(ACL),
        "long names": any(len(name) == 255 for name in names),
        "names not in UTF-8": any(b"\xff" in name for name in names),
        "a crowd": len(tree[b"/crowd"].listing) == CROWD,
        "deep directories": any(path.count(b"/") > 10 for path in tree),
    }
    return [what for what, there in is_there.items() if not there]


# ---- what changes it ----


class Hands:
    """Changes a tree on a mount and, in the same way, a plain folder, at random."""

    def __init__(self, mount: bytes, model: bytes, turn: int) -> None:
        self.mount, self.model, self.turn = mount, model, turn
        self.random = random.Random(turn)
        self._numbers = itertools.count()

    def both(self, call: Callable[..., object], *paths: bytes, **named: object) -> None:
        """Make a call with paths to the model and to the mount."""
        for root in self.model, self.mount:
            call(*(root + path for path in paths), **named)

    def name(self) -> bytes:
        """A new name of one of the kinds that cause trouble, or of a simple one."""
        unique = b"%d-%d" % (self.turn, next(self._numbers))
        return self.random.choice(
            [
                unique,
                unique + b"-" + b"n" * (254 - len(unique)),
                unique + b"-\xff\xfe\x80not UTF-8",
                unique + b"-\\ \n\t\"'*?;:%s",
                unique + "-é-ü-中文".encode(),
            ]
        )

    def files(self, kind: int = stat.S_IFREG) -> list[bytes]:
        return self._paths(kind, b"/tree")

    def folders(self) -> list[bytes]:
        return [b"/tree", *self._paths(stat.S_IFDIR, b"/tree")]

    def _paths(self, kind: int, below: bytes) -> list[bytes]:
        found = []
        for folder, folders, files in os.walk(self.model + below):
            for name in folders + files:
                path = folder + b"/" + name
                if stat.S_IFMT(os.lstat(path).st_mode) == kind:
                    found.append(path[len(self.model) :])
        return sorted(found)

    def somewhere(self) -> bytes:
        """A path that is free, in one of the directories that are not too deep."""
        folders = [folder for folder in self.folders() if len(folder) < 2000]
        return self.random.choice(folders) + b"/" + self.name()

    def some(self, paths: list[bytes], number: int) -> list[bytes]:
        return self.random.sample(paths, min(number, len(paths)))

    # Each of these is a kind of change.

    def make_folders(self, number: int) -> None:
        for _ in range(number):
            path = self.somewhere()
            self.both(os.mkdir, path, mode=self.random.choice([0o755, 0o2775, 0o1777, 0o700]))

    def make_files(self, number: int) -> None:
        for _ in range(number):
            path = self.somewhere()
            mode = self.random.choice([0o644, 0o600, 0o755, 0o000])
            os.close(os.open(self.model + path, os.O_CREAT | os.O_EXCL, mode))
            os.close(os.open(self.mount + path, os.O_CREAT | os.O_EXCL, mode))
            self.change_data(path)

    def change_data(self, path: bytes) -> None:
        """Write, punch, allocate, truncate: files are sparse in every way."""
        calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        for _ in range(self.random.randint(1, 4)):
            offset = self.random.randrange(512 * KIB)
            length = self.random.randrange(1, 64 * KIB)
            calls += self.random.choices(
                [
                    (os.pwrite, (self.random.randbytes(length), offset)),
                    (fallocate, (KEEP_SIZE | PUNCH_HOLE, offset, length)),
                    (fallocate, (KEEP_SIZE, offset, length)),
                    (fallocate, (0, offset, length)),
                    (os.ftruncate, (offset,)),
                ],
                [2, 1, 1, 1, 1],
            )
        for root in self.model, self.mount:
            number = os.open(root + path, os.O_RDWR)
            for call, arguments in calls:
                call(number, *arguments)
            os.close(number)

    def overwrite(self, number: int) -> None:
        for path in self.some(self.files(), number):
            self.change_data(path)

    def link(self, number: int) -> None:
        kinds = stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR
        for path in self.some([path for kind in kinds for path in self.files(kind)], number):
            self.both(os.link, path, self.somewhere(), follow_symlinks=False)

    def make_symlinks(self, number: int) -> None:
        for _ in range(number):
            target = self.random.choice([b"nowhere/\xff", b"../tree", b"t" * 1023])
            path = self.somewhere()
            for root in self.model, self.mount:
                os.symlink(target, root + path)

    def make_devices(self) -> None:
        for kind in stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK:
            # as many as xfs has
            device = os.makedev(self.random.randrange(1 << 9), self.random.randrange(1 << 18))
            if kind not in (stat.S_IFCHR, stat.S_IFBLK):
                device = 0
            self.both(os.mknod, self.somewhere(), mode=kind | 0o640, device=device)

    def set_xattrs(self, number: int) -> None:
        every = self.files() + self.folders() + self.files(stat.S_IFLNK) + self.files(stat.S_IFBLK)
        for path in self.some(every, number):
            mode = os.lstat(self.model + path).st_mode
            user = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            prefix = self.random.choice(["user", "trusted"]) if user else "trusted"
            name = f"{prefix}.{self.random.choice(['one', 'two', 'drei-é'])}"
            if name in os.listxattr(self.model + path, follow_symlinks=False):
                self.both(
                    lambda path, name=name: os.removexattr(path, name, follow_symlinks=False), path
                )
            else:
                value = self.random.randbytes(self.random.choice([0, 1, 40, 700]))
                self.both(
                    lambda path, name=name, value=value: os.setxattr(
                        path, name, value, follow_symlinks=False
                    ),
                    path,
                )

    def set_acls(self, number: int) -> None:
        for name, paths in zip(ACL, (self.files() + self.folders(), self.folders()), strict=True):
            for path in self.some(paths, number):
                value = acl(self.random)
                self.both(lambda path, name=name, value=value: os.setxattr(path, name, value), path)

    def set_attributes(self, number: int) -> None:
        for path in self.some(self.files() + self.folders(), number):
            self.both(os.chmod, path, mode=self.random.randrange(0o1000))
        for path in self.some(self.files() + self.files(stat.S_IFLNK), number):
            uid, gid = self.random.randrange(1 << 16), self.random.randrange(1 << 16)
            self.both(os.chown, path, uid=uid, gid=gid, follow_symlinks=False)
        for path in self.some(self.files() + self.folders(), number):
            times = self.random.randrange(1 << 62), self.random.randrange(1 << 62)
            self.both(os.utime, path, ns=times)

    def rename_files(self, number: int, *, over_links: bool) -> None:
        for path in self.some(self.files() + self.files(stat.S_IFLNK), number):
            if self.random.random() < 0.5:
                self.both(os.rename, path, self.somewhere())
                continue
            victim = self.random.choice(self.files())
            if not over_links and os.lstat(self.model + victim).st_nlink > 1:
                continue
            self.both(os.rename, path, victim)

    def rename_folders(self, number: int) -> None:
        """With all that is in them; now and then over another that is empty."""
        for _ in range(number):
            path = self.random.choice(self.folders()[1:])
            new = self.somewhere()
            if not new.startswith(path + b"/"):
                if self.random.random() < 0.3:
                    self.both(os.mkdir, new)
                self.both(os.rename, path, new)

    def rename_deep(self) -> None:
        """A chain of directories moves as a whole, and one in its middle."""
        (top,) = (name for name in os.listdir(self.model) if name.startswith(b"deep"))
        old, new = b"/" + top, b"/deep-%d" % self.turn
        self.both(os.rename, old, new)
        self.both(os.rename, new + b"/1/2/3", new + b"/moved")
        self.both(os.rename, new + b"/moved", new + b"/1/2/3")
        self.both(os.rename, new + b"/1/2/3/4/5/6/7/8/9/10/file", new + b"/1/2/file")
        self.both(os.rename, new + b"/1/2/file", new + b"/1/2/3/4/5/6/7/8/9/10/file")

    def remove(self, number: int) -> None:
        kinds = stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK
        for path in self.some([path for kind in kinds for path in self.files(kind)], number):
            self.both(os.unlink, path)
        for path in self.folders()[1:]:
            if not os.listdir(self.model + path) and self.random.random() < 0.2:
                self.both(os.rmdir, path)

    def crowd(self, number: int) -> None:
        """Of the directory with 10,000 entries, some go, some come, some are renamed."""
        names = sorted(os.listdir(self.model + b"/crowd"))
        chosen = self.random.sample(names, 3 * number)
        for name in chosen[:number]:
            self.both(os.unlink, b"/crowd/" + name)
            self.fill(b"/crowd/" + self.name())
        for name in chosen[number : 2 * number]:
            self.both(os.rename, b"/crowd/" + name, b"/crowd/" + self.name())
        for name in chosen[2 * number :]:
            self.fill(b"/crowd/" + name)

    def fill(self, path: bytes) -> None:
        """A file with a few bytes."""
        data = self.random.randbytes(20)
        for root in self.model, self.mount:
            number = os.open(root + path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(number, data)
            os.close(number)

    @contextlib.contextmanager
    def left_open(self, number: int) -> Iterator[None]:
        """Unlink some files that stay open on the mount, for as long as the block runs."""
        single = [p for p in self.files() if os.lstat(self.model + p).st_nlink == 1]
        chosen = self.random.sample(single, number)
        opened: list[int] = []
        try:
            for path in chosen:
                opened.append(os.open(self.mount + path, os.O_RDWR))
                self.both(os.unlink, path)
                os.pwrite(opened[-1], b"nobody's", 0)
            yield
        finally:
            for fd in opened:
                with contextlib.suppress(OSError):  # the brick has gone
                    os.close(fd)

    def plant(self) -> None:
        """What is there at first."""
        for folder in b"/tree", b"/crowd":
            self.both(os.mkdir, folder)
        self.both(os.makedirs, b"/deep/" + b"/".join(b"%d" % n for n in range(1, 11)))
        self.fill(b"/deep/1/2/3/4/5/6/7/8/9/10/file")
        for number in range(CROWD):
            self.both(os.mknod, b"/crowd/%d" % number)
        self.fill(b"/huge")
        for root in self.model, self.mount:
            with open(root + b"/huge", "r+b") as file:
                for offset in 0, 5 * MIB + 1, TIB:
                    file.seek(offset)
                    file.write(b"far")

    def change(self, *, over_links: bool) -> None:
        """A turn's changes, but for the open files."""
        self.make_folders(8)
        self.make_files(15)
        self.make_symlinks(3)
        self.link(12)
        self.overwrite(8)
        self.set_acls(5)
        self.set_xattrs(20)
        self.rename_folders(5)
        self.rename_files(10, over_links=over_links)
        self.rename_deep()
        self.remove(10)
        self.make_devices()
        self.set_attributes(8)
        self.crowd(25)


def acl(random: random.Random) -> bytes:
    """An ACL as the kernel takes it (<linux/posix_acl_xattr.h>): for a user and a group, too."""
    user, group, nobody = random.randrange(1 << 16), random.randrange(1 << 16), 0xFFFFFFFF
    entries = [(1, nobody), (2, user), (4, nobody), (8, group), (16, nobody), (32, nobody)]
    packed = (struct.pack("<HHI", tag, random.randrange(8), of) for tag, of in entries)
    return struct.pack("<I", 2) + b"".join(packed)


# ---- hands change ----


class Mounts:
    """FUSE mounts of bricks, each on a folder of its own."""

    def __init__(self, scratch: Path, logs: LogChecker) -> None:
        self._scratch, self._logs = scratch, logs
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def __call__(self, brick: Brick) -> Iterator[bytes]:
        """The root of a new mount, which goes at once afterwards, without a word to the brick."""
        folder = self._scratch / f"mount-{next(self._numbers)}"
        mountpoint = folder / "root"
        mountpoint.mkdir(parents=True)
        mount = FuseMount(brick.client_graph(), mountpoint, folder, arguments=["--acl"])
        self._logs.watch(mount.log, mount.output)
        with mount:
            try:
                yield os.fsencode(mountpoint)
            finally:
                mount.kill()

    def read(self, brick: Brick, folder: Path) -> Tree:
        """What a client sees that has seen nothing before. What is to be written back is, so that
        no blocks come later."""
        stores.run("sync", "--file-system", folder)
        with self(brick) as root:
            return read(root)


def findings(folder: Path) -> list[tuple[Kind, str]]:
    """What `glupy brick check` says of a brick that has stopped."""
    ground = Ground(os.fsencode(folder))
    try:
        return [(f.kind, str((f.path, f.detail))) for f in Scan(ground, live=False).findings()]
    finally:
        ground.close()


# The mount goes without waiting for the answers to its last closes.
@pytest.mark.allow_log(
    "failed to submit message .* Proc: 4[12]\\)",
    "Reply submission failed",
    "forced unwinding .*RELEASE",
)
@pytest.mark.parametrize("changes", [2, pytest.param(10, marks=pytest.mark.long)])
def test_hands_change(
    place: Path, changes: int, make_brick: MakeBrick, tmp_path: Path, logs: LogChecker
) -> None:
    """C's own rename over one of several links keeps that name's record (docs/brick-check.md),
    so only pyposix makes one. Its other such defect, a rename from one link of a file to another,
    cannot be had here: the kernel does not pass such a rename on to a mount."""
    folder, model = place / "brick", place / "model"
    folder.mkdir()
    model.mkdir()
    mounts = Mounts(tmp_path, logs)
    mount = stores.mount_of(place)
    holes = mount is not None and mount.type != "xfs"
    last: Tree | None = None
    for turn in range(changes + 1):
        leaf = LEAVES[turn % 2]
        brick = make_brick(folder, leaf=leaf, ctime=True)
        assert not list((folder / ".glusterfs" / "unlink").iterdir())
        if last is not None:
            assert differences(last, mounts.read(brick, folder)) == []
        with mounts(brick) as root:
            hands = Hands(root, os.fsencode(model), turn)
            if last is None:
                hands.plant()
            hands.change(over_links=leaf == "pyposix")
            with hands.left_open(OPEN):
                last = mounts.read(brick, folder)
                assert missing(last) == []
                alike = plain(read(os.fsencode(model)), holes), plain(last, holes)
                assert differences(*alike) == []
                assert differences(stored_times(last, os.fsencode(folder)), last) == []
                brick.stop()
        found = findings(folder)
        assert [kind for kind, _ in found] == [Kind.UNLINK_LEFTOVER] * OPEN, found
