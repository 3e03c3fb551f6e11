"""`glupy brick check`: damage made by hand on bricks that C posix and pyposix have written."""

import concurrent.futures
import contextlib
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import volfiles
from glupy import stores
from glupy.constants import xxh64
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, free_port
from pyposix.check import Finding, Ground, Kind, Outcome, Repair, Scan, servers

MakeBrick = Callable[..., Brick]
Connect = Callable[..., Client]

LEAVES = "posix", "pyposix"
ROOT = uuid.UUID(int=1)
VOLUME = uuid.uuid4()
LOAD_SECONDS = 5
ODD = os.fsdecode(b"not\xffUTF-8\\\n")

# A client that is closed does not wait for the answers to its last closes.
pytestmark = pytest.mark.allow_log(r"forced unwinding .*\(RELEASE")


def fill(client: Client) -> None:
    """A bit of everything that a brick can hold."""
    for folder in "/a", "/a/b", "/a/b/c", "/moved", f"/{ODD}":
        client.mkdir(folder)
    for path in "/file", "/a/file", "/a/b/c/file", f"/{ODD}/{ODD}", "/" + "n" * 255:
        with client.creat(path) as file:
            file.pwrite(path.encode("utf-8", "surrogateescape"), 0)
    client.link("/file", "/a/hard")
    client.link("/file", "/a/b/hard")
    client.symlink("../../elsewhere", "/a/link")
    client.symlink("../../00/00/x/y", "/a/like-a-handle")
    client.link("/a/link", "/a/b/link")
    client.mknod("/fifo", stat.S_IFIFO | 0o644)
    client.mknod("/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    client.rename("/moved", "/a/b/renamed")
    client.creat("/a/b/renamed/inside").close()
    client.rename("/a/b/renamed/inside", "/a/b/renamed/renamed")
    client.setxattr("/a/file", "user.key", b"value")
    for number in range(60):
        client.creat(f"/a/b/c/{number}").close()
    client.unlink("/a/b/c/0")
    client.mkdir("/gone")
    client.rmdir("/gone")


@pytest.fixture(scope="module", params=LEAVES)
def written(
    request: pytest.FixtureRequest,
    store: stores.Store,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A brick that was written and stopped; not to be changed."""
    folder = store.folder / f"written-{request.param}"
    folder.mkdir()
    os.setxattr(folder, "trusted.glusterfs.volume-id", VOLUME.bytes)
    scratch = tmp_path_factory.mktemp("written")
    options = {"volume-id": str(VOLUME)}
    graph = volfiles.brick(
        folder, leaf=request.param, port=free_port(), ctime=True, options=options
    )
    with (
        Brick(graph, scratch / "brick") as brick,
        Client(brick.client_graph(), log=scratch / "log", background_fini=True) as client,
    ):
        fill(client)
    yield folder
    shutil.rmtree(folder)


@dataclass
class Damaged:
    """A copy of a good brick, to be damaged by hand."""

    path: Path

    def __truediv__(self, name: str | bytes) -> Path:
        return self.path / os.fsdecode(name)

    def gfid(self, name: str) -> uuid.UUID:
        return uuid.UUID(bytes=os.getxattr(self / name, "trusted.gfid", follow_symlinks=False))

    def handle(self, of: str | uuid.UUID) -> Path:
        gfid = str(self.gfid(of) if isinstance(of, str) else of)
        return self.path / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.path))

    def records(self, name: str) -> dict[str, bytes]:
        path = self / name
        keys = [key for key in os.listxattr(path) if key.startswith("trusted.gfid2path.")]
        return {key: os.getxattr(path, key) for key in keys}

    def link_to(self, handle: Path, target: str) -> None:
        """Make a directory's handle lead elsewhere."""
        handle.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            handle.unlink()
        handle.symlink_to(target)

    def check(
        self, *, recorded: bool | None = None, volume_id: bytes | None = None
    ) -> list[Finding]:
        with ground(self.path) as opened:
            scan = Scan(opened, live=False, recorded=recorded, volume_id=volume_id)
            return list(scan.findings())

    def repair(self, volume_id: bytes | None = None) -> list[tuple[Finding, Outcome]]:
        with ground(self.path) as opened:
            repair = Repair(opened, volume_id=volume_id)
            found = Scan(opened, live=False, volume_id=volume_id).findings()
            return [(finding, repair.mend(finding)) for finding in found]


@contextlib.contextmanager
def ground(path: Path) -> Iterator[Ground]:
    opened = Ground(os.fsencode(path))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def brick_copy(written: Path, brick_dir: Path) -> Damaged:
    subprocess.run(["cp", "-a", f"{written}/.", brick_dir], check=True)
    return Damaged(brick_dir)


def glupy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", "brick", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def snapshot(folder: Path) -> dict[Path, tuple[object, ...]]:
    """All that a check could change but times of access, of every file there is."""
    found: dict[Path, tuple[object, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        if path.parent.name != "unlink":  # a brick that is served closes files
            status = path.lstat()
            keys = os.listxattr(path, follow_symlinks=False)
            values = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in keys]
            found[path] = (*status[:7], status.st_mtime_ns, status.st_ctime_ns, sorted(values))
    return found


# ---- bricks that are good ----


def test_a_good_brick_is_clean_and_stays_as_it_is(written: Path) -> None:
    before = snapshot(written)
    done = glupy(written)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"clean: \d+ files, 5 directories, \d+ handles\n", done.stdout)
    done = glupy(written, "--json", "--repair", "--volume-id", str(VOLUME), "--gfid2path")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["findings"] == [] and report["live"] is False
    assert report["checked"]["handles"] > 70
    assert snapshot(written) == before


def test_hash_directories_need_not_be_there(brick_copy: Damaged) -> None:
    for first in (brick_copy / ".glusterfs").glob("[0-9a-f][0-9a-f]"):
        for second in first.iterdir():
            with contextlib.suppress(OSError):
                second.rmdir()
        with contextlib.suppress(OSError):
            first.rmdir()
    assert len(list((brick_copy / ".glusterfs").glob("[0-9a-f][0-9a-f]"))) < 256
    assert brick_copy.check() == []


def test_what_others_keep_in_glusterfs_is_theirs(brick_copy: Damaged) -> None:
    hidden = brick_copy / ".glusterfs"
    for folder in "indices/xattrop", "changelogs", "quarantine", "snaps/x", "lost+found":
        (hidden / folder).mkdir(parents=True)
        (hidden / folder / "file").write_text("x")
    (hidden / "brick.db").write_text("x")
    (hidden / "health_check").write_text("x")
    (brick_copy / "lost+found").mkdir()
    before = snapshot(hidden)
    assert brick_copy.check() == []
    brick_copy.repair()
    assert snapshot(hidden) == before


@pytest.mark.parametrize("leaf", LEAVES)
def test_names_need_no_record_while_gfid2path_is_off(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    folder = brick_dir / "brick"
    folder.mkdir()
    brick = make_brick(folder, options={"gfid2path": "off"})
    fill(connect(brick))
    brick.stop()
    damaged = Damaged(folder)
    assert damaged.records("file") == {}
    assert damaged.check() == []
    assert {finding.kind for finding in damaged.check(recorded=True)} == {Kind.GFID2PATH_MISSING}


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_c_posix_leaves_behind(
    leaf: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """The docs tell of it: two records of names that a rename forgets."""
    folder = brick_dir / "brick"
    folder.mkdir()
    brick = make_brick(folder)
    client = connect(brick)
    fill(client)
    client.creat("/victim").close()
    client.link("/victim", "/other")
    client.rename("/a/file", "/victim")
    client.rename("/a/hard", "/file")
    brick.stop()
    damaged = Damaged(folder)
    left = {(Kind.GFID2PATH_STALE, b"other"), (Kind.GFID2PATH_MISSING, b"a/hard")}
    expected = left if leaf == "posix" else set()
    assert {(finding.kind, finding.path) for finding in damaged.check()} == expected
    assert damaged.check(recorded=False) == []
    damaged.repair()
    assert damaged.check() == []


def test_more_than_500_names(make_brick: MakeBrick, connect: Connect, brick_dir: Path) -> None:
    folder = brick_dir / "brick"
    folder.mkdir()
    brick = make_brick(folder, options={"max-hardlinks": "0"}, leaf="posix")
    client = connect(brick)
    client.creat("/file").close()
    with contextlib.suppress(OSError):  # ext4 has no room for as many records
        for number in range(20):
            client.link("/file", f"/{number}")
    brick.stop()
    gfid = Damaged(folder).gfid("file")
    for number in range(20, 600):
        os.link(folder / "file", folder / f"{number}")
    assert (folder / "file").stat().st_nlink > 500
    assert Damaged(folder).check() == []
    assert Damaged(folder).gfid("599") == gfid


def test_a_name_for_which_there_was_no_room(brick_copy: Damaged) -> None:
    (key,) = brick_copy.records("a/file")
    os.removexattr(brick_copy / "a/file", key)
    os.setxattr(brick_copy / "a/file", "user.large", b"x" * 3700)
    assert brick_copy.check() == []


# ---- damage ----


@dataclass
class Case:
    """Damage made by hand: the kind and the path that the check must name, and whether it mends."""

    kind: Kind
    make: Callable[[Damaged], str]
    mended: bool = True

    def __str__(self) -> str:
        return f"{self.kind.slug}-{self.make.__name__}"


CASES: list[Case] = []
Make = Callable[[Damaged], str]


def damage(kind: Kind, *, mended: bool = True) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CASES.append(Case(kind, make, mended))
        return make

    return add


@damage(Kind.VOLUME_ID, mended=False)
def other_volume(brick: Damaged) -> str:
    os.setxattr(brick.path, "trusted.glusterfs.volume-id", b"short")
    return "."


@damage(Kind.VOLUME_ID, mended=False)
def no_volume_id(brick: Damaged) -> str:
    (brick / ".glusterfs/indices").mkdir()
    os.removexattr(brick.path, "trusted.glusterfs.volume-id")
    return "."


@damage(Kind.ROOT_GFID)
def no_root_gfid(brick: Damaged) -> str:
    os.removexattr(brick.path, "trusted.gfid")
    return "."


@damage(Kind.ROOT_GFID, mended=False)
def wrong_root_gfid(brick: Damaged) -> str:
    os.setxattr(brick.path, "trusted.gfid", uuid.uuid4().bytes)
    return "."


@damage(Kind.ROOT_HANDLE)
def no_root_handle(brick: Damaged) -> str:
    brick.handle(ROOT).unlink()
    return brick.shown(brick.handle(ROOT))


@damage(Kind.ROOT_HANDLE)
def wrong_root_handle(brick: Damaged) -> str:
    brick.link_to(brick.handle(ROOT), "../../../a")
    return brick.shown(brick.handle(ROOT))


@damage(Kind.GFID_MISSING)
def file_without_gfid(brick: Damaged) -> str:
    os.removexattr(brick / "a/file", "trusted.gfid")
    return "a/file"


@damage(Kind.GFID_MISSING)
def directory_without_gfid(brick: Damaged) -> str:
    os.removexattr(brick / "a/b", "trusted.gfid")
    return "a/b"


@damage(Kind.GFID_MISSING, mended=False)
def file_put_there(brick: Damaged) -> str:
    (brick / "a/put").write_text("x")
    return "a/put"


@damage(Kind.GFID_MALFORMED)
def short_gfid(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", "trusted.gfid", b"short")
    return "a/file"


@damage(Kind.GFID_MALFORMED)
def null_gfid_of_a_directory(brick: Damaged) -> str:
    os.setxattr(brick / "a/b", "trusted.gfid", bytes(16))
    return "a/b"


@damage(Kind.GFID_MALFORMED)
def gfid_of_the_root(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", "trusted.gfid", ROOT.bytes)
    return "a/file"


@damage(Kind.GFID_MISMATCH, mended=False)
def other_gfid(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", "trusted.gfid", uuid.uuid4().bytes)
    return "a/file"


@damage(Kind.GFID_MISMATCH, mended=False)
def other_gfid_of_a_directory(brick: Damaged) -> str:
    os.setxattr(brick / "a/b", "trusted.gfid", uuid.uuid4().bytes)
    return "a/b"


@damage(Kind.GFID_DUPLICATE, mended=False)
def file_copied(brick: Damaged) -> str:
    subprocess.run(["cp", "-a", brick / "a/file", brick / "copy"], check=True)
    return "copy"


@damage(Kind.GFID_DUPLICATE, mended=False)
def directory_copied(brick: Damaged) -> str:
    (brick / "copy").mkdir()
    os.setxattr(brick / "copy", "trusted.gfid", brick.gfid("a/b/renamed").bytes)
    return "copy"


@damage(Kind.HANDLE_MISSING)
def no_handle(brick: Damaged) -> str:
    brick.handle("a/file").unlink()
    return "a/file"


@damage(Kind.HANDLE_MISSING)
def no_handle_of_hard_links(brick: Damaged) -> str:
    brick.handle("file").unlink()
    return "a/b/hard|a/hard|file"


@damage(Kind.HANDLE_MISSING)
def no_handle_of_a_symlink(brick: Damaged) -> str:
    brick.handle("a/like-a-handle").unlink()
    return "a/like-a-handle"


@damage(Kind.HANDLE_MISSING)
def no_handle_of_a_directory(brick: Damaged) -> str:
    brick.handle("a/b").unlink()
    return "a/b"


@damage(Kind.HANDLE_MISSING)
def no_hash_directory(brick: Damaged) -> str:
    brick.handle("device").unlink()
    with contextlib.suppress(OSError):
        brick.handle("device").parent.rmdir()
        brick.handle("device").parent.parent.rmdir()
    return "device"


@damage(Kind.HANDLE_ORPHAN)
def name_removed(brick: Damaged) -> str:
    handle = brick.handle("a/file")
    (brick / "a/file").unlink()
    return brick.shown(handle)


@damage(Kind.HANDLE_ORPHAN)
def name_of_a_symlink_removed(brick: Damaged) -> str:
    handle = brick.handle("a/like-a-handle")
    (brick / "a/like-a-handle").unlink()
    return brick.shown(handle)


@damage(Kind.HANDLE_ORPHAN)
def all_but_an_outer_link_removed(brick: Damaged) -> str:
    handle = brick.handle("a/file")
    (brick / "a/file").rename(brick / ".glusterfs/outside")
    return brick.shown(handle)


@damage(Kind.HANDLE_MISMATCH)
def link_of_another_file(brick: Damaged) -> str:
    handle = brick.handle("a/file")
    handle.unlink()
    os.link(brick / "fifo", handle)
    return "a/file"


@damage(Kind.HANDLE_MISMATCH)
def file_replaced(brick: Damaged) -> str:
    """What an editor does."""
    subprocess.run(["cp", "-a", brick / "a/file", brick / "a/new"], check=True)
    (brick / "a/new").rename(brick / "a/file")
    return "a/file"


@damage(Kind.HANDLE_MISMATCH)
def surplus_link(brick: Damaged) -> str:
    handle = brick.handle(uuid.uuid4())
    handle.parent.mkdir(parents=True, exist_ok=True)
    os.link(brick / "a/file", handle)
    return brick.shown(handle)


@damage(Kind.HANDLE_KIND)
def directory_for_a_file(brick: Damaged) -> str:
    handle = brick.handle("device")
    handle.unlink()
    handle.mkdir()
    (handle / "inside").write_text("x")
    return "device"


@damage(Kind.HANDLE_KIND)
def link_of_a_directory_for_a_file(brick: Damaged) -> str:
    brick.link_to(brick.handle("device"), str(brick.handle("a/b").readlink()))
    return "device"


@damage(Kind.HANDLE_KIND)
def file_for_a_directory(brick: Damaged) -> str:
    handle = brick.handle("a/b")
    handle.unlink()
    handle.write_text("x")
    return "a/b"


@damage(Kind.HANDLE_KIND)
def directory_among_handles(brick: Damaged) -> str:
    handle = brick.handle(uuid.uuid4())
    handle.mkdir(parents=True)
    return brick.shown(handle)


def elsewhere(handle: Path) -> Path:
    other = f"{int(handle.name[:2], 16) ^ 1:02x}"
    place = handle.parent.parent.parent / other / handle.parent.name / handle.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


@damage(Kind.HANDLE_MISPLACED)
def handle_moved(brick: Damaged) -> str:
    handle = brick.handle("a/file")
    handle.rename(elsewhere(handle))
    return brick.shown(elsewhere(handle))


@damage(Kind.HANDLE_MISPLACED)
def handle_of_a_directory_moved(brick: Damaged) -> str:
    handle = brick.handle("a/b")
    handle.rename(elsewhere(handle))
    return brick.shown(elsewhere(handle))


@damage(Kind.HANDLE_MISPLACED)
def handle_linked_twice(brick: Damaged) -> str:
    handle = brick.handle("a/file")
    os.link(handle, elsewhere(handle))
    return brick.shown(elsewhere(handle))


@damage(Kind.HANDLE_MALFORMED)
def link_of_another_form(brick: Damaged) -> str:
    brick.link_to(brick.handle("a/b"), "../../../a/b")
    return "a/b"


@damage(Kind.HANDLE_MALFORMED)
def link_out_of_the_brick(brick: Damaged) -> str:
    handle = brick.handle(uuid.uuid4())
    brick.link_to(handle, "/etc")
    return brick.shown(handle)


@damage(Kind.HANDLE_DANGLING)
def link_to_an_old_name(brick: Damaged) -> str:
    handle = brick.handle("a/b/renamed")
    brick.link_to(handle, str(handle.readlink()).replace("/renamed", "/moved"))
    return "a/b/renamed"


@damage(Kind.HANDLE_DANGLING)
def directory_removed(brick: Damaged) -> str:
    handle = brick.handle(ODD)
    inside = brick.handle(f"{ODD}/{ODD}")
    shutil.rmtree(brick / ODD)
    inside.unlink()
    return brick.shown(handle)


@damage(Kind.HANDLE_DANGLING)
def link_through_no_handle(brick: Damaged) -> str:
    stray, parent = brick.handle(uuid.uuid4()), str(uuid.uuid4())
    brick.link_to(stray, f"../../{parent[:2]}/{parent[2:4]}/{parent}/name")
    return brick.shown(stray)


@damage(Kind.HANDLE_LOOP)
def link_to_itself(brick: Damaged) -> str:
    gfid = str(brick.gfid("a/b"))
    brick.link_to(brick.handle("a/b"), f"../../{gfid[:2]}/{gfid[2:4]}/{gfid}/b")
    return "a/b"


@damage(Kind.HANDLE_LOOP)
def link_into_itself(brick: Damaged) -> str:
    inner = str(brick.gfid("a/b/c"))
    brick.link_to(brick.handle("a/b"), f"../../{inner[:2]}/{inner[2:4]}/{inner}/b")
    return "a/b"


@damage(Kind.HANDLE_ASTRAY)
def link_to_another_directory(brick: Damaged) -> str:
    brick.link_to(brick.handle("a/b/c"), str(brick.handle("a/b/renamed").readlink()))
    return "a/b/c"


@damage(Kind.HANDLE_ASTRAY)
def link_without_a_directory_of_its_own(brick: Damaged) -> str:
    handle = brick.handle(uuid.uuid4())
    brick.link_to(handle, str(brick.handle("a/b").readlink()))
    return brick.shown(handle)


@damage(Kind.GFID2PATH_MALFORMED)
def record_with_another_key(brick: Damaged) -> str:
    (value,) = brick.records("a/file").values()
    os.setxattr(brick / "a/file", "trusted.gfid2path.0123456789abcdef", value)
    return "a/file"


@damage(Kind.GFID2PATH_MALFORMED)
def record_that_is_none(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", f"trusted.gfid2path.{xxh64(b'nonsense')}", b"nonsense")
    return "a/file"


def record(brick: Damaged, parent: str, name: str) -> tuple[str, bytes]:
    value = f"{brick.gfid(parent)}/{name}".encode()
    return f"trusted.gfid2path.{xxh64(value)}", value


@damage(Kind.GFID2PATH_STALE)
def record_of_a_name_that_went(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", *record(brick, "a/b", "once"))
    return "a/file"


@damage(Kind.GFID2PATH_STALE)
def record_of_another_files_name(brick: Damaged) -> str:
    os.setxattr(brick / "file", *record(brick, "a", "file"))
    return brick.shown(brick.handle("file"))


@damage(Kind.GFID2PATH_MISSING)
def no_record(brick: Damaged) -> str:
    (key,) = brick.records("a/file")
    os.removexattr(brick / "a/file", key)
    return "a/file"


@damage(Kind.GFID2PATH_MISSING)
def no_record_of_a_hard_link(brick: Damaged) -> str:
    key, value = record(brick, "a/b", "hard")
    assert brick.records("file")[key] == value
    os.removexattr(brick / "file", key)
    return "a/b/hard"


MDATA = "trusted.glusterfs.mdata"


@damage(Kind.MDATA_MALFORMED)
def short_times(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", MDATA, os.getxattr(brick / "a/file", MDATA)[:-1])
    return "a/file"


@damage(Kind.MDATA_MALFORMED)
def times_of_another_version(brick: Damaged) -> str:
    os.setxattr(brick / "a/b", MDATA, b"\2" + os.getxattr(brick / "a/b", MDATA)[1:])
    return "a/b"


@damage(Kind.MDATA_MALFORMED)
def too_many_nanoseconds(brick: Damaged) -> str:
    value = os.getxattr(brick / "file", MDATA)
    os.setxattr(brick / "file", MDATA, value[:-8] + (10**9).to_bytes(8))
    return brick.shown(brick.handle("file"))


@damage(Kind.MAPPING_MALFORMED, mended=False)
def mapped_to_nothing_known(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", "user.glusterfs.bd", b"tape:5")
    return "a/file"


@damage(Kind.MAPPED_DATA, mended=False)
def data_beside_a_device(brick: Damaged) -> str:
    os.setxattr(brick / "a/file", "user.glusterfs.bd", b"thin:4194304")
    assert (brick / "a/file").read_bytes()
    return "a/file"


@damage(Kind.MAPPED_DATA, mended=False)
def data_beside_a_device_that_is_merged(brick: Damaged) -> str:
    value = f"thin:4194304,merge={'5a' * 16}:4096"
    os.setxattr(brick / "a/file", "user.glusterfs.bd", value.encode())
    assert (brick / "a/file").read_bytes()
    return "a/file"


@damage(Kind.UNLINK_LEFTOVER)
def open_when_it_stopped(brick: Damaged) -> str:
    gfid = brick.gfid("a/file")
    brick.handle("a/file").rename(brick / f".glusterfs/unlink/{gfid}")
    (brick / "a/file").unlink()
    return f".glusterfs/unlink/{gfid}"


@damage(Kind.LANDFILL_LEFTOVER)
def tree_in_the_landfill(brick: Damaged) -> str:
    """As rmdir with flags leaves it: the handles of what is inside stay."""
    for name in "file", "a/b/c/file", "a/hard", "a/b/hard":
        (brick / name).unlink()
    os.link(brick.handle("a/file"), brick / "a/b/second")
    os.setxattr(brick / "a/b/second", *record(brick, "a/b", "second"))
    os.link(brick / "a/b/second", brick / "kept")
    os.setxattr(brick / "kept", *record(brick, ".", "kept"))
    for each in list((brick / ".glusterfs").glob("??/??/*-*")):
        if each.is_file() and each.stat().st_nlink == 1:
            each.unlink()
    gfid = brick.gfid("a")
    brick.handle("a").unlink()
    (brick / "a").rename(brick / f".glusterfs/landfill/{gfid}")
    return f".glusterfs/landfill/{gfid}"


@damage(Kind.UNEXPECTED_ENTRY)
def file_among_handles(brick: Damaged) -> str:
    path = brick.handle("a/file").with_name("notes.txt")
    path.write_text("x")
    return brick.shown(path)


@damage(Kind.UNEXPECTED_ENTRY)
def directory_among_hash_directories(brick: Damaged) -> str:
    path = brick / ".glusterfs/00/junk"
    path.mkdir()
    return brick.shown(path)


@damage(Kind.UNEXPECTED_ENTRY)
def file_for_a_hash_directory(brick: Damaged) -> str:
    folder = next(
        each for n in range(256) if not list((each := brick / f".glusterfs/{n:02x}").glob("*/*"))
    )
    shutil.rmtree(folder)
    folder.write_text("x")
    return brick.shown(folder)


@damage(Kind.UNEXPECTED_ENTRY)
def file_for_the_landfill(brick: Damaged) -> str:
    (brick / ".glusterfs/landfill").rmdir()
    (brick / ".glusterfs/landfill").write_text("x")
    return ".glusterfs/landfill"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_kind_of_damage(case: Case, brick_copy: Damaged) -> None:
    """Found once, named rightly, and changed only by a repair, after which it is gone."""
    path = case.make(brick_copy)
    before = snapshot(brick_copy.path)
    found = brick_copy.check()
    assert [finding.kind for finding in found] == [case.kind], found
    assert os.fsdecode(found[0].path) in path.split("|")
    assert snapshot(brick_copy.path) == before
    outcomes = brick_copy.repair()
    assert [finding for finding, _ in outcomes] == found
    assert [outcome.mended for _, outcome in outcomes] == [case.mended], outcomes
    if case.mended:
        assert brick_copy.check() == []
    else:
        assert brick_copy.check() == found
        assert snapshot(brick_copy.path) == before


def test_other_file_systems_are_not_entered(brick_copy: Damaged, tmp_path: Path) -> None:
    """They are a finding, and nothing in them is one."""
    (brick_copy / "mnt").mkdir()
    with stores.store(tmp_path / "image", 32 << 20, brick_copy / "mnt"):
        (brick_copy / "mnt/file").write_text("x")
        ((finding, outcome),) = brick_copy.repair()
        assert (finding.kind, finding.path) == (Kind.OTHER_FILE_SYSTEM, b"mnt")
        assert not outcome.mended


def test_what_cannot_be_read_is_a_finding(
    brick_copy: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its names may be missed: no handle is called an orphan for that."""
    scandir, broken = os.scandir, (brick_copy / "a/b/c").stat().st_ino

    def failing(path: int) -> object:
        if isinstance(path, int) and os.fstat(path).st_ino == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    (finding,) = brick_copy.check()
    assert (finding.kind, finding.path) == (Kind.UNREADABLE, b"a/b/c")


def test_every_kind_is_tested() -> None:
    others = {Kind.OTHER_FILE_SYSTEM, Kind.UNREADABLE}
    assert {case.kind for case in CASES} | others == set(Kind)


def test_a_tree_copied_with_its_xattrs(brick_copy: Damaged) -> None:
    subprocess.run(["cp", "-a", brick_copy / "a/b", brick_copy / "copy"], check=True)
    found = brick_copy.check()
    assert {finding.kind for finding in found} == {Kind.GFID_DUPLICATE}
    names = {b"/".join(finding.path.split(b"/")[:1]) for finding in found}
    assert names == {b"copy"}
    # No directory, file or link is left out; hard links have come apart from what they were of.
    assert len(found) == len(list((brick_copy / "copy").rglob("*"))) + 1


def test_no_symbolic_link_is_followed_out_of_the_brick(brick_copy: Damaged, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    subprocess.run(["cp", "-a", brick_copy / ".glusterfs", outside], check=True)
    for name in "device", "fifo", "a/file":
        folder = brick_copy.handle(name).parent.parent
        if folder.is_symlink():
            continue
        for each in list(folder.rglob("*-*")):
            each.unlink()
        shutil.rmtree(folder)
        folder.symlink_to(outside)
    before = snapshot(outside)
    found = brick_copy.repair()
    assert {f.kind for f, _ in found} >= {Kind.HANDLE_MISSING, Kind.UNEXPECTED_ENTRY}
    assert snapshot(outside) == before


def test_all_handles_lost(brick_copy: Damaged) -> None:
    """What a restore without .glusterfs looks like; everything is made anew."""
    before = {
        path.relative_to(brick_copy.path) for path in (brick_copy / ".glusterfs").glob("??/??/*-*")
    }
    for first in (brick_copy / ".glusterfs").glob("[0-9a-f][0-9a-f]"):
        shutil.rmtree(first)
    kinds = {finding.kind for finding, outcome in brick_copy.repair() if outcome.mended}
    assert kinds == {Kind.ROOT_HANDLE, Kind.HANDLE_MISSING}
    assert brick_copy.check() == []
    after = {
        path.relative_to(brick_copy.path) for path in (brick_copy / ".glusterfs").glob("??/??/*-*")
    }
    assert after == before


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_mended_brick_serves_what_it_held(
    leaf: str, brick_copy: Damaged, make_brick: MakeBrick, connect: Connect
) -> None:
    name_removed(brick_copy)
    for make in (
        no_root_handle,
        no_handle_of_a_directory,
        no_handle_of_hard_links,
        link_to_an_old_name,
        record_of_a_name_that_went_from_hard,
        no_handle_of_a_symlink,
        directory_for_a_file,
    ):
        make(brick_copy)
    number = (brick_copy / "a/b/c/file").stat().st_ino
    for _ in range(2):  # what lies behind a lost directory shows when that is found again
        assert all(outcome.mended for _, outcome in brick_copy.repair())
    assert brick_copy.check() == []
    (lost,) = [each for each in (brick_copy / ".glusterfs/lost+found").iterdir() if each.is_file()]
    assert lost.read_text() == "/a/file"
    client = connect(make_brick(brick_copy.path, leaf=leaf, ctime=True))
    for path, held in {
        "/file": "/file",
        "/a/b/hard": "/file",
        "/a/b/c/file": "/a/b/c/file",
        f"/{ODD}/{ODD}": f"/{ODD}/{ODD}",
    }.items():
        with client.open(path, os.O_RDONLY) as file:
            assert file.pread(1000, 0).value == held.encode("utf-8", "surrogateescape")
    assert client.readlink("/a/like-a-handle") == "../../00/00/x/y"
    client.rename("/a/b/renamed/renamed", "/again")
    client.rename("/a/b", "/b")
    assert (brick_copy / "b/c/file").stat().st_ino == number


def record_of_a_name_that_went_from_hard(brick: Damaged) -> str:
    os.setxattr(brick / "file", *record(brick, "a/b/c", "once"))
    return "file"


# ---- repair of what is not simple ----


def test_the_only_link_of_another_file_is_kept(brick_copy: Damaged) -> None:
    handle = brick_copy.handle("a/file")
    handle.unlink()
    handle.write_text("somebody's")
    ((_, outcome),) = brick_copy.repair()
    assert outcome.mended
    kept = brick_copy / ".glusterfs/lost+found" / handle.name
    assert kept.read_text() == "somebody's"
    assert handle.samefile(brick_copy / "a/file")


def test_what_is_kept_never_replaces_what_was_kept(brick_copy: Damaged) -> None:
    handle = brick_copy.handle("a/file")
    for number in range(3):
        handle.unlink(missing_ok=True)
        handle.write_text(str(number))
        assert brick_copy.repair()[0][1].mended
    kept = sorted(each.read_text() for each in (brick_copy / ".glusterfs/lost+found").iterdir())
    assert kept == ["0", "1", "2"]


def test_a_volume_id_is_set_if_it_is_told(brick_copy: Damaged) -> None:
    os.removexattr(brick_copy.path, "trusted.glusterfs.volume-id")
    ((finding, outcome),) = brick_copy.repair(volume_id=VOLUME.bytes)
    assert (finding.kind, outcome.mended) == (Kind.VOLUME_ID, True)
    assert os.getxattr(brick_copy.path, "trusted.glusterfs.volume-id") == VOLUME.bytes
    assert [each.kind for each in brick_copy.check(volume_id=uuid.uuid4().bytes)] == [
        Kind.VOLUME_ID
    ]


def test_the_landfill_goes_with_its_handles(brick_copy: Damaged) -> None:
    tree_in_the_landfill(brick_copy)
    assert all(outcome.mended for _, outcome in brick_copy.repair())
    assert list((brick_copy / ".glusterfs/landfill").iterdir()) == []
    assert (brick_copy / "kept").read_text() == "/a/file"
    assert brick_copy.handle("kept").samefile(brick_copy / "kept")
    left = [each for each in (brick_copy / ".glusterfs").glob("??/??/*-*") if each.is_symlink()]
    assert {each.name for each in left} == {str(ROOT), str(brick_copy.gfid(ODD))}


def test_the_landfill_is_not_followed_onto_other_file_systems(
    brick_copy: Damaged, tmp_path: Path
) -> None:
    inside = brick_copy / ".glusterfs/landfill/tree/mnt"
    inside.mkdir(parents=True)
    with stores.store(tmp_path / "image", 32 << 20, inside):
        (inside / "file").write_text("x")
        ((finding, outcome),) = brick_copy.repair()
        assert (finding.kind, outcome.mended) == (Kind.LANDFILL_LEFTOVER, False)
        assert (inside / "file").read_text() == "x"


# ---- the command ----


def test_the_command_tells_and_mends(brick_copy: Damaged) -> None:
    os.setxattr(brick_copy / f"{ODD}/{ODD}", MDATA, b"short")
    shown = r"not\xffUTF-8\\\x0a/not\xffUTF-8\\\x0a"
    done = glupy(brick_copy.path)
    assert (done.returncode, done.stderr) == (1, "")
    first, meaning, last = done.stdout.splitlines()
    assert first == f"mdata-malformed {shown}"
    assert meaning.startswith(f"    {Kind.MDATA_MALFORMED.meaning}")
    assert last.startswith("1 findings: ")
    back = subprocess.run(["printf", "%b", shown], check=True, capture_output=True).stdout
    assert back == os.fsencode(f"{ODD}/{ODD}")
    done = glupy(brick_copy.path, "--repair", "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["kind"], finding["path"]) == ("mdata-malformed", shown)
    assert finding["mended"] is True
    assert glupy(brick_copy.path).returncode == 0


def test_on_a_terminal(brick_copy: Damaged) -> None:
    """How far it is, and the findings whole, however long."""
    long = "n" * 255
    os.setxattr(brick_copy / long, MDATA, b"short")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "glupy_tools", "brick", "check", str(brick_copy.path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
    assert process.returncode == 1
    assert f"mdata-malformed {long}\r\n" in shown.decode()
    assert re.search(r"\d+ files, \d+ directories, \d+ handles", shown.decode())
    assert "Traceback" not in shown.decode()


READS_ALL = "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"


def test_a_check_that_cannot_be_made(written: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/.glusterfs").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path, line in {
        tmp_path / "nowhere": "no such directory",
        tmp_path / "file": "no such directory",
        tmp_path: "is no brick: it has no .glusterfs",
        tmp_path / "empty": "is no brick: ",
        written / "a": "is no brick: it has no .glusterfs",
    }.items():
        done = glupy(path)
        assert (done.returncode, done.stdout) == (2, "")
        assert line in done.stderr and done.stderr.count("\n") == 1
    command = [sys.executable, "-m", "glupy_tools", "brick", "check", "/"]
    done = subprocess.run(
        # It may read what root may: the checkout can be in a folder of root's.
        [*("setpriv", "--reuid=65534", "--clear-groups"), *READS_ALL, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "only root" in done.stderr and done.stderr.count("\n") == 1


def test_the_docs_name_the_kinds() -> None:
    docs = Path(__file__).parents[2] / "docs" / "brick-check.md"
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", docs.read_text(), re.M)
    assert rows == [(kind.slug, kind.meaning, kind.repair) for kind in Kind]


# ---- bricks that are being served ----


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_live_brick_under_load_has_no_findings(
    leaf: str, make_brick: MakeBrick, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there are suspicions, which do not last."""
    suspected: list[Finding] = []
    still = Scan._still

    def counted(scan: Scan, finding: Finding) -> bool:
        suspected.append(finding)
        return still(scan, finding)

    monkeypatch.setattr(Scan, "_still", counted)
    brick = make_brick(leaf=leaf, ctime=True)
    backend = Path(next(iter(brick.graph)).options["directory"])
    client = connect(brick)
    fill(client)
    stop = threading.Event()

    def work(who: int) -> int:
        turns = 0
        while not stop.is_set():
            folder = f"/{who}-{turns % 5}"
            client.mkdir(folder)
            for name in "abc":
                client.creat(f"{folder}/{name}").close()
            client.link(f"{folder}/a", f"/shared-{who}")
            client.mkdir(f"{folder}/d")
            client.rename(f"{folder}/a", f"{folder}/d/a")
            client.rename(f"{folder}/d", f"/a/b/d-{who}")
            client.rename(f"/shared-{who}", f"/a/b/d-{who}/b")
            client.rename(folder, f"/a/{who}")
            for path in f"/a/b/d-{who}/a", f"/a/b/d-{who}/b", f"/a/{who}/b", f"/a/{who}/c":
                client.unlink(path)
            client.rmdir(f"/a/b/d-{who}")
            client.rmdir(f"/a/{who}")
            turns += 1
        return turns

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, who) for who in range(3)]
        try:
            done = glupy(backend, "--json", "--gfid2path")
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert json.loads(done.stdout)["live"] is True
            deadline = time.monotonic() + LOAD_SECONDS
            while time.monotonic() < deadline:
                with ground(backend) as opened:
                    assert list(Scan(opened, live=True, recorded=True).findings()) == []
            assert suspected
        finally:
            stop.set()
        assert all(worker.result(60) > 3 for worker in workers)


@pytest.mark.allow_log(r".*")
def test_a_live_brick_is_checked_but_not_repaired(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick()
    damaged = Damaged(Path(next(iter(brick.graph)).options["directory"]))
    client = connect(brick)
    fill(client)
    with ground(damaged.path) as opened:
        assert servers(opened) == [brick.pid]
    file = client.open("/a/file")
    client.unlink("/a/file")
    assert list((damaged / ".glusterfs/unlink").iterdir()), "in use: no finding"
    no_handle_of_hard_links(damaged)
    link_to_an_old_name(damaged)
    handle = damaged.handle("device")
    (damaged / "device").unlink()
    done = glupy(damaged.path, "--json")
    found = {each["kind"]: each["path"] for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert found.pop("handle-missing") in ("file", "a/hard", "a/b/hard")
    assert found == {
        "handle-dangling": "a/b/renamed",
        "handle-orphan": damaged.shown(handle),
    }
    before = snapshot(damaged.path)
    done = glupy(damaged.path, "--repair")
    assert done.returncode == 2
    assert "is being served" in done.stderr and done.stderr.count("\n") == 1
    assert snapshot(damaged.path) == before
    file.close()


def test_a_brick_that_starts_meanwhile_is_not_repaired(
    brick_copy: Damaged, make_brick: MakeBrick
) -> None:
    from pyposix.check import Watch

    with ground(brick_copy.path) as opened:
        watch = Watch(opened)
        brick = make_brick(brick_copy.path, leaf="posix")
        deadline = time.monotonic() + 10
        while not watch.served():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        brick.stop()
        assert servers(opened) == []
