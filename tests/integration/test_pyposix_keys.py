"""The keys of xattrs and xdata that are on no disk: pyposix beside C posix, key by key."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glupy import _entry
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.waiting import wait_until
from glupy.views import Dict

LEAVES = "posix", "pyposix"
# Where they are to differ, as docs/differences.md says, a test is of each leaf by itself.
POSIX = pytest.param("posix", marks=pytest.mark.of_10_3)
EACH = pytest.mark.parametrize("leaf", [POSIX, "pyposix"])
ASKING = Path(__file__).parent / "translators" / "asking.py"
ASKS = "features/glupy", {"module": f"{ASKING}:Asking"}
ANCESTRY = "glusterfs.ancestry.path"
ACL, DEFAULT_ACL = "glusterfs.posix.acl", "glusterfs.posix.default_acl"
SIGNATURE = "trusted.glusterfs.get-signature"

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = pytest.mark.allow_log(r".*")

MakeBrick = Callable[..., Brick]
Connect = Callable[..., Client]


def failure(call: Callable[..., Any], *arguments: Any) -> int | None:
    """Return the errno that a call fails with; None if it does not fail."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or 0
    return None


class Side:
    """One brick, its client, what was asked there and what came back."""

    def __init__(self, folder: Path, client: Client) -> None:
        self.folder = folder
        self.client = client
        self.outcomes: list[tuple[str, Any]] = []
        # An earlier client's may still be on its way out: the last one is ours.
        instances: list[Any] = list(_entry._instances.values())
        self.asking = [each for each in instances if type(each).__name__ == "Asking"][-1]

    def do(self, label: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call; keep what it returned, or the errno it failed with."""
        try:
            value = call(*arguments)
        except OSError as error:
            self.outcomes.append((label, errno.errorcode.get(error.errno or 0, error.errno)))
            return None
        self.outcomes.append((label, self.shown(value)))
        return value

    def ask(self, keys: dict[str, Any] | Callable[[Dict], None], call: Callable[..., Any]) -> None:
        """Call with these keys in the xdata of all fops; keep the dicts of their replies."""
        asking = self.asking
        asking.answers, asking.replies = [], []
        asking.fill = keys if callable(keys) else lambda xdata: xdata.update(keys)
        try:
            self.do(f"with {keys}" if isinstance(keys, dict) else "call", call)
        finally:
            asking.fill = None
        for fop, dicts in asking.answers:
            # An empty dict and none are the same to whoever reads it.
            answers = {name: answer for name, answer in dicts.items() if answer}
            self.outcomes.append((fop, self.shown(answers)))

    def shown(self, value: Any) -> Any:
        """A result without what differs from brick to brick: its folder, and gfids."""
        if isinstance(value, dict):
            return {key: self.shown(each) for key, each in value.items() if key != "gfid-req"}
        if isinstance(value, (tuple, list)):
            return [self.shown(each) for each in value]
        if isinstance(value, bytes):
            return value.replace(os.fsencode(self.folder), b"BRICK")
        return "open" if hasattr(value, "close") else value

    def xattrs(self, path: str) -> dict[str, bytes]:
        """What is stored of a file, but for gfids, their hashes, and times."""
        found = {}
        real = self.folder / path.lstrip("/")
        for name in os.listxattr(real, follow_symlinks=False):
            if not re.search(r"gfid$|gfid2path|mdata|volume-id", name):
                value = os.getxattr(real, name, follow_symlinks=False)
                found[self.without_gfids(name)] = value
        return found

    def without_gfids(self, text: str) -> str:
        """Replace the gfids of directories by their paths."""
        for folder in [self.folder, *self.folder.rglob("*/")]:
            if folder.is_dir() and ".glusterfs" not in folder.parts:
                text = text.replace(gfid_of(folder), "/" + str(folder.relative_to(self.folder)))
        return text

    def keep_xattrs(self, path: str) -> None:
        self.outcomes.append((f"on the disk: {path}", sorted(self.xattrs(path).items())))


@pytest.fixture
def sides(make_brick: MakeBrick, connect: Connect, brick_dir: Path) -> Iterator[Any]:
    """`sides(scenario, **brick)`: run it on a C brick and on ours; both outcomes are the same."""

    def run(scenario: Callable[[Side], None], **recipe: Any) -> None:
        found = {}
        for leaf in LEAVES:
            folder = brick_dir / leaf
            folder.mkdir()
            client = connect(make_brick(folder, leaf=leaf, **recipe), inserts=[ASKS])
            side = Side(folder, client)
            scenario(side)
            client.close()
            found[leaf] = side.outcomes
        pairs = itertools.zip_longest(found["posix"], found["pyposix"])
        assert not [pair for pair in pairs if pair[0] != pair[1]], "C posix's answer, and ours"

    yield run


# ---- ACLs as text ----


def acls(side: Side) -> None:
    client, do = side.client, side.do
    client.mkdir("/d", 0o750)
    client.creat("/f", mode=0o640).close()
    for path in "/d", "/f":
        for key in ACL, DEFAULT_ACL:
            do(f"get {key} {path}", client.getxattr, path, key)
        do("set", client.setxattr, path, ACL, b"u::rw,u:7:r,g::r,m::rwx,o::-")
        do("get", client.getxattr, path, ACL)
        do("get the stored", client.getxattr, path, "system.posix_acl_access")
        do("set default", client.setxattr, path, DEFAULT_ACL, b"u::rwx,g:8:rx,g::r,m::rx,o::r")
        do("get default", client.getxattr, path, DEFAULT_ACL)
        do("set names", client.setxattr, path, ACL, b"user::rw-\nuser:root:r--,g::r,m::r,o::-\0x")
        do("get names", client.getxattr, path, ACL)
        do("set without a mask", client.setxattr, path, ACL, b"u::rw,u:7:r,g::r,o::-")
        do("mode", lambda path=path: stat.filemode(client.stat(path).st_mode))
        side.keep_xattrs(path)
        for call in client.stat, client.lstat:
            side.ask({ACL: 1, DEFAULT_ACL: 1}, lambda call=call, path=path: call(path).st_size)
        side.ask({}, lambda path=path: client.setxattr(path, ACL, b"u::rw,u:9:r,g::r,m::r,o::-"))
    with client.open("/f") as file:
        do("set of an fd", file.fsetxattr, ACL, b"u::rw,g::r,o::-")
        do("get of an fd", file.fgetxattr, ACL)
        side.ask({ACL: 1}, lambda: file.fstat().st_size)


def test_acls(sides: Any) -> None:
    sides(acls)


@EACH
def test_an_acl_that_is_none(client: Client, leaf: str) -> None:
    client.creat("/f").close()
    wrong = errno.EPERM if leaf == "posix" else errno.EINVAL
    assert failure(client.setxattr, "/f", ACL, b"nonsense") == wrong


@EACH
def test_acls_of_symbolic_links(client: Client, leaf: str, brick_dir: Path) -> None:
    """C posix takes them for those of what they lead to, which may be anywhere on the server."""
    outside = brick_dir / "outside"
    outside.touch()
    client.symlink(str(outside), "/s")
    acl = b"u::rw,u:7:r,g::r,m::r,o::-"
    found = {
        "set": failure(lambda: client.setxattr("/s", ACL, acl, follow=False)),
        "get": failure(lambda: client.getxattr("/s", ACL, follow=False)),
        "outside": os.listxattr(outside),
    }
    if leaf == "posix":
        assert found == {"set": None, "get": None, "outside": ["system.posix_acl_access"]}
    else:
        refused = errno.EOPNOTSUPP
        assert found == {"set": refused, "get": refused, "outside": []}


# ---- what leads out of the brick ----


@EACH
def test_a_symbolic_link_is_made_before_a_file(
    make_brick: MakeBrick, connect: Connect, leaf: str, brick_dir: Path
) -> None:
    """C posix makes what it leads to, anywhere on the server."""
    outside, directory = brick_dir / "outside", brick_dir / "brick"
    directory.mkdir()
    module, place = f"{ASKING}:LinksFirst", str(directory / "f")
    faster = "features/glupy", {"module": module, "outside": str(outside), "place": place}
    client = connect(make_brick(directory, leaf=leaf, inserts=[faster]))
    wrong = failure(lambda: client.creat("/f").close())
    assert wrong == (errno.ENOENT if leaf == "posix" else errno.ELOOP)
    assert outside.exists() == (leaf == "posix")


@EACH
def test_a_symbolic_link_is_truncated(client: Client, leaf: str, brick_dir: Path) -> None:
    """C posix cuts off what it leads to."""
    outside = brick_dir / "outside"
    outside.write_bytes(b"123")
    client.symlink(str(outside), "/s")
    with client.find("/s") as link:
        wrong = failure(link.truncate, 1)
    assert wrong == (None if leaf == "posix" else errno.EINVAL)
    assert outside.read_bytes() == (b"1" if leaf == "posix" else b"123")


# ---- names ----


@EACH
def test_a_link_that_was_recorded_before(client: Client, leaf: str, backend: Path) -> None:
    """A rename over it has left the record there, or a crash."""
    client.creat("/f").close()
    client.link("/f", "/g")
    file = backend / "f"
    before = {key: os.getxattr(file, key) for key in os.listxattr(file) if "gfid2path" in key}
    assert len(before) == 2
    client.unlink("/g")
    for key, value in before.items():
        os.setxattr(file, key, value)
    wrong = failure(client.link, "/f", "/g")
    assert wrong == (errno.EEXIST if leaf == "posix" else None)
    if leaf == "posix":  # it takes the name away once it has answered
        wait_until(lambda: not (backend / "g").exists(), "the name that goes")
    else:
        assert (backend / "g").exists()


def filenames(side: Side) -> None:
    client, do = side.client, side.do
    client.mkdir("/Dir")
    client.creat("/Dir/Füße").close()
    client.creat("/Dir/.hidden").close()
    for path, name in [
        ("/", "DIR"),
        ("/", "."),
        ("/", ".GLUSTERFS"),
        ("/Dir", "füße"),
        ("/Dir", "FÜSSE"),
        ("/Dir", "fÜße"),
        ("/Dir", ".HIDDEN"),
        ("/Dir", ".."),
        ("/Dir", ""),
        ("/Dir/.hidden", "x"),
    ]:
        do(f"{name} in {path}", client.getxattr, path, f"glusterfs.get_real_filename:{name}")


def test_real_filenames(sides: Any) -> None:
    sides(filenames)


def pathinfo(side: Side) -> None:
    client, do = side.client, side.do
    client.mkdir("/d")
    client.creat("/d/f").close()
    for key in "trusted.glusterfs.pathinfo", "glusterfs.pathinfo", "trusted.glusterfs.node-uuid":
        do(key, client.getxattr, "/d/f", key)


@pytest.mark.parametrize("named", [False, True])
def test_pathinfo(sides: Any, named: bool) -> None:
    given = {"glusterd-uuid": "12345678-1234-1234-1234-123456789abc"} if named else {}
    sides(pathinfo, options={"node-uuid-pathinfo": "on", "hostname": "me", **given})


# ---- counts ----


def counts(side: Side) -> None:
    client = side.client
    file = client.creat("/f")
    keys = {"glusterfs.open-fd-count": 1, "glusterfs.open-active-fd-count": 1}
    side.ask(keys, lambda: file.fstat().st_size)
    side.ask({}, lambda: client.getxattr("/f", "glusterfs.open-fd-count"))
    side.ask({}, lambda: file.fgetxattr("glusterfs.open-fd-count"))
    client.link("/f", "/g")
    client.link("/f", "/h")
    asked = {"get-link-count": 1, "gf_request_link_count": 1, "gf_get_file_block_count": 1}
    side.ask(asked, lambda: client.unlink("/g"))
    client.creat("/over").close()
    side.ask(asked, lambda: client.rename("/over", "/h"))
    side.ask(asked, lambda: client.rename("/h", "/new"))
    side.ask({"gf_request_link_count": 1}, lambda: client.stat("/f").st_size)
    file.close()


def test_counts(sides: Any) -> None:
    sides(counts)


# ---- bit-rot, quota, DHT ----


def signatures(side: Side) -> None:
    client = side.client
    file = client.creat("/f")
    for step in range(3):
        for name, at in ("trusted.bit-rot.version", 1), ("trusted.bit-rot.signature", 2):
            if step >= at:
                client.setxattr("/f", name, b"s" * (10**step))
        for name in SIGNATURE, SIGNATURE + ".more":
            side.ask({}, lambda name=name: client.getxattr("/f", name))
            side.ask({}, lambda name=name: file.fgetxattr(name))
    file.close()


def test_signatures(sides: Any) -> None:
    sides(signatures)


@EACH
def test_a_signature_that_cannot_be_read(brick: Brick, client: Client, leaf: str) -> None:
    with client.creat("/f") as file, brick.strace(["fgetxattr"], error="EIO"):
        found = failure(file.fgetxattr, SIGNATURE)
    assert found == (errno.EINVAL if leaf == "posix" else errno.EIO)


def contributions(side: Side) -> None:
    client = side.client
    client.creat("/f").close()
    names = [f"trusted.glusterfs.quota.{uuid.UUID(int=n)}.contri" for n in (1, 2)]
    for number, name in enumerate(names):
        client.setxattr("/f", name, b"%d" % number)
    client.setxattr("/f", "trusted.glusterfs.quota.size", b"5")
    for key in "trusted.glusterfs.quota.contri", names[0], "trusted.*.contri", "list-xattr":
        side.ask({key: 1}, lambda: client.stat("/f").st_size)


def test_contributions(sides: Any) -> None:
    sides(contributions)


def healing(side: Side) -> None:
    client = side.client
    client.mkdir("/d")
    for name in "user.old", "user.both", "trusted.mine", "trusted.glusterfs.quota.limit-set":
        client.setxattr("/d", name, b"old")
    client.setxattr("/d", ACL, b"u::rwx,u:7:r,g::r,m::r,o::-")

    def fill(xdata: Dict) -> None:
        xdata.set_int("sync_backend_xattrs", 1, 8)

    side.ask(fill, lambda: client.setxattr("/d", "user.both", b"new"))
    side.keep_xattrs("/d")


def test_healing(sides: Any) -> None:
    sides(healing)


@EACH
def test_healing_keeps_what_was_given(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path, leaf: str
) -> None:
    """C posix removes even that first, and the times for good."""
    brick = make_brick(brick_dir, ctime=True)
    client = connect(brick, inserts=[ASKS])
    side = Side(brick_dir, client)
    client.mkdir("/d")
    for name in "user.old", "user.both":
        client.setxattr("/d", name, b"old")
    times = "trusted.glusterfs.mdata"
    assert times in os.listxattr(brick_dir / "d")

    def fill(xdata: Dict) -> None:
        xdata.set_int("sync_backend_xattrs", 1, 8)

    with brick.strace(["lremovexattr", "removexattr"]) as trace:
        side.ask(fill, lambda: client.setxattr("/d", "user.both", b"new"))
    removed = set(re.findall(r'"([\w.]+)"\) += 0$', trace.read_text(), re.M))
    if leaf == "posix":
        assert removed == {"user.old", "user.both", times}
    else:
        assert removed == {"user.old"}
    assert (times in os.listxattr(brick_dir / "d")) == (leaf == "pyposix")
    assert os.getxattr(brick_dir / "d", "user.both") == b"new"


def linkto(side: Side) -> None:
    client = side.client
    client.mknod("/t", stat.S_IFREG | stat.S_ISVTX)
    for name in ACL, "system.posix_acl_access":
        side.do(f"set {name}", client.setxattr, "/t", name, b"u::rw,u:7:r,g::r,m::r,o::-")
    side.do("mode", lambda: stat.filemode(client.stat("/t").st_mode))
    side.keep_xattrs("/t")


def test_a_link_file_of_dht_has_no_acl(sides: Any) -> None:
    sides(linkto)


# ---- ancestry ----


def names_and_parents(side: Side) -> None:
    client, do = side.client, side.do
    client.mkdir("/a")
    client.mkdir("/a/b")
    file = client.creat("/a/f")
    client.symlink("f", "/a/s")
    client.mknod("/a/p", stat.S_IFIFO | 0o600)
    client.link("/a/f", "/a/g")
    client.link("/a/f", "/a/b/f")
    client.link("/a/f", "/top")
    side.keep_xattrs("/a/f")
    client.unlink("/a/g")
    side.keep_xattrs("/a/f")
    client.rename("/top", "/a/b/renamed")
    side.keep_xattrs("/a/f")
    client.creat("/a/over").close()
    client.rename("/a/over", "/a/b/f")
    side.keep_xattrs("/a/b/f")
    client.rename("/a/b", "/c")
    for path in "/a/s", "/a/p", "/c/f":
        side.keep_xattrs(path)
    for path in "/", "/a", "/c", "/c/f", "/a/s", "/a/p":
        do(path, lambda path=path: client.getxattr(path, ANCESTRY, follow=False))
        if path != "/":
            side.ask({ANCESTRY: 1}, lambda path=path: client.lstat(path).st_size)
    folder = client.opendir("/c")
    do("directories above", folder.fgetxattr, "ask.ancestry")
    folder.close()
    # Parents come in the order of xattrs, which is that of hashes.
    do("entries above", lambda: sorted(re.findall(rb"/(?:,\w+)+", file.fgetxattr("ask.ancestry"))))
    file.close()


def test_names_are_counted(sides: Any) -> None:
    sides(names_and_parents, options={"update-link-count-parent": "on"})


@EACH
def test_a_name_that_is_replaced_is_counted_no_more(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path, leaf: str
) -> None:
    client = connect(make_brick(brick_dir, options={"update-link-count-parent": "on"}))
    client.mkdir("/d")
    client.creat("/d/f").close()
    client.link("/d/f", "/d/g")
    client.creat("/other").close()
    client.rename("/other", "/d/g")
    count = os.getxattr(brick_dir / "d" / "f", "trusted.pgfid." + gfid_of(brick_dir / "d"))
    assert int.from_bytes(count) == (2 if leaf == "posix" else 1)


@EACH
def test_names_from_before_they_were_counted(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path, leaf: str
) -> None:
    """A file gets its count when it is looked up, and no fop of ours on it fails for want of one.

    A client looks up first: here the counts go again before each fop.
    """
    brick = make_brick(brick_dir)
    client = connect(brick)
    client.mkdir("/d")
    for name in "/d/a", "/d/b":
        client.creat(name).close()
    client.link("/d/a", "/d/link")
    client.close()
    brick.stop()
    brick = make_brick(brick_dir, options={"update-link-count-parent": "on"})
    client = connect(brick, inserts=[ASKS])
    side = Side(brick_dir, client)
    folder = brick_dir / "d"
    key = "trusted.pgfid." + gfid_of(folder)
    assert key not in os.listxattr(folder / "b")
    client.lstat("/d/b")
    assert os.getxattr(folder / "b", key) == bytes([0, 0, 0, 1])
    side.ask(lambda _: uncount(folder), lambda: client.rename("/d/b", "/d/c"))
    side.ask(lambda _: uncount(folder), lambda: client.unlink("/d/link"))
    assert not (folder / "link").exists()
    renamed, *_ = [outcome for label, outcome in side.outcomes if label == "call"]
    if leaf == "posix":
        assert renamed == "ENODATA"
        assert (folder / "b").exists() and not (folder / "c").exists()
    else:
        assert renamed is None
        assert client.getxattr("/d/c", ANCESTRY) == b"/d/c\0"
        assert os.getxattr(folder / "c", key) == bytes([0, 0, 0, 1])


def uncount(folder: Path) -> None:
    """As if none of its files had been made, or looked up, since names are counted."""
    for path in folder.iterdir():
        for name in os.listxattr(path):
            if name.startswith("trusted.pgfid."):
                os.removexattr(path, name)


@pytest.mark.parametrize("option", ["off", "on"])
@EACH
def test_no_ancestry_of_files_that_are_not_counted(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path, leaf: str, option: str
) -> None:
    brick = make_brick(brick_dir, options={"update-link-count-parent": option})
    client = connect(brick, inserts=[ASKS])
    side = Side(brick_dir, client)
    client.mkdir("/d")
    client.creat("/d/f").close()
    side.ask(lambda _: uncount(brick_dir / "d"), lambda: client.getxattr("/d/f", ANCESTRY))
    fop, reply = side.asking.replies[-1]
    assert fop == "getxattr"
    if leaf == "posix" and option == "on":  # what has failed is told as done
        assert (reply["op_ret"], reply["dict"]) == (0, {})
        assert reply["op_errno"] == errno.ENOMEM
    else:
        assert (reply["op_ret"], reply["op_errno"]) == (-1, errno.ENODATA)


def gfid_of(path: Path) -> str:
    return str(uuid.UUID(bytes=os.getxattr(path, "trusted.gfid")))


# ---- cloudsync ----

CLOUD = "trusted.glusterfs.cs."


def clouds(side: Side) -> None:
    client, do = side.client, side.do
    status = {CLOUD + "status": 1}
    client.mkdir("/d")
    file = client.creat("/d/f")
    file.pwrite(b"x" * 10000, 0)

    def all_fops() -> None:
        side.ask(status, lambda: client.stat("/d/f").st_size)
        side.ask(status, lambda: file.fstat().st_size)
        side.ask(status, lambda: file.pread(10, 0).value)
        side.ask(status, lambda: file.pwrite(b"y", 0).value)
        side.ask(status, lambda: file.fallocate(0, 4096))
        side.ask(status, lambda: file.discard(0, 4096))
        side.ask(status, lambda: file.zerofill(0, 4096))
        side.ask({CLOUD + "repair": 1}, lambda: client.stat("/d/f").st_size)
        side.ask({CLOUD + "repair": 1}, lambda: file.fstat().st_size)

    all_fops()
    complete = "trusted.glusterfs.csou.complete"
    do("changed since", client.setxattr, "/d/f", complete, b"1000000000")
    later = str(client.stat("/d/f").st_mtime_ns // 10**9).encode()
    side.ask({}, lambda: client.setxattr("/d/f", complete, later))
    side.keep_xattrs("/d/f")
    all_fops()
    client.setxattr("/d/f", CLOUD + "downloading", b"1")
    all_fops()
    client.removexattr("/d/f", CLOUD + "remote")
    client.setxattr("/d/f", CLOUD + "downloading", b"1")
    all_fops()
    file.close()


def test_files_in_a_cloud(sides: Any) -> None:
    sides(clouds)


def test_no_fop_takes_an_empty_file_for_its_data(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    client = connect(make_brick(brick_dir), inserts=[ASKS])
    side = Side(brick_dir, client)
    file = client.creat("/f")
    client.setxattr("/f", CLOUD + "remote", b"f")
    calls: list[Callable[[], Any]] = [
        lambda: file.pread(1, 0),
        lambda: file.pwrite(b"x", 0),
        lambda: file.ftruncate(0),
        lambda: client.truncate("/f", 0),
        lambda: file.fallocate(0, 1),
        lambda: file.discard(0, 1),
        lambda: file.zerofill(0, 1),
        lambda: file.lseek(0, os.SEEK_HOLE),
    ]
    for call in calls:
        side.ask({CLOUD + "status": 1}, call)
    refused = [value for label, value in side.outcomes if label.startswith("with")]
    assert refused == ["EIO"] * len(calls)
    states = [value["xdata"] for _, value in side.outcomes if isinstance(value, dict) and value]
    assert len(states) >= len(calls)  # truncate looks the file up first
    assert all(state == {CLOUD + "remote": "f", CLOUD + "status": 2} for state in states)
    file.close()
