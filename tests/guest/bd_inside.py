"""What runs in the guest: files on volumes of LVM, on loop devices and on LUNs of all kinds.

Most of it without a brick process: Python is slow enough there.
"""

import contextlib
import errno
import fcntl
import os
import random
import re
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

import volfiles
from glupy import linux
from glupy.stores.loops import loop_device
from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.machine import FopMachine, Model, run
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect, MakeBrick
from pybd.moving import Moving
from pybd.pools.lvm import LvmPool

KEY = "user.glusterfs.bd"
KIB, MIB = 1 << 10, 1 << 20
CHUNK = 64 * KIB
EXTENT = 4 * MIB
GROUP, LUN_GROUP = "group-1", "lun"  # device-mapper doubles what LVM puts between names
THIN_POOL = "pool"
THIN_POOL_SIZE = 96 * MIB
THIN, THICK = f"lvm:{GROUP}/{THIN_POOL}", f"lvm:{GROUP}"
PATIENCE = 60.0

# What is refused is logged by the translators around pybd, too.
REFUSED = r"is not mapped to", r"errno=\d+", r"error=", r"error: ", r"remote operation failed"
NOT_FREED = r"its space is not freed"


class Lun(NamedTuple):
    """A disk of scsi_debug; ``frees``: whether a discard of a file on it gives space back."""

    options: str
    frees: bool
    by: frozenset[str]
    """Of the calls on the disk, those that free."""


ALL, DISCARD = {"BLKDISCARD", "PUNCH_HOLE"}, {"BLKDISCARD"}
LUNS = {
    "unmap-zeros": Lun("lbpu=1 lbprz=1", True, frozenset(DISCARD)),
    "unmap": Lun("lbpu=1 lbprz=0", False, frozenset(DISCARD)),
    "write-same": Lun("lbpu=0 lbpws=1 lbprz=1 unmap_granularity=2048", True, frozenset(ALL)),
    "none": Lun("lbpu=0", False, frozenset()),
}


def command(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def volumes(group: str = GROUP) -> list[str]:
    """The volumes of a group, but the thin pool."""
    names = command("lvs", "--noheadings", "-o", "lv_name", group).split()
    return sorted(name for name in names if name != THIN_POOL)


def empty(group: str) -> None:
    for name in volumes(group):
        command("lvremove", "--yes", f"{group}/{name}")


@pytest.fixture(scope="session", autouse=True)
def lvm_conf(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The guest's own settings, but LVM keeps no copies of its metadata: that takes its time."""
    folder = tmp_path_factory.mktemp("lvm")
    text = Path("/etc/lvm/lvm.conf").read_text() + "backup { backup=0 archive=0 }\n"
    (folder / "lvm.conf").write_text(text)
    os.environ["LVM_SYSTEM_DIR"] = str(folder)


@pytest.fixture(scope="session")
def loop_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A volume group on a loop device, and a thin pool in it."""
    image = tmp_path_factory.mktemp("group") / "image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    with loop_device(image) as device:
        command("vgcreate", "--physicalextentsize", f"{EXTENT}b", GROUP, device)
        size = ("--size", f"{THIN_POOL_SIZE}b", "--chunksize", f"{CHUNK}b")
        command("lvcreate", "--type", "thin-pool", *size, "--name", THIN_POOL, GROUP)
        yield
        command("vgremove", "--force", "--yes", GROUP)


@pytest.fixture
def group(loop_group: None) -> Iterator[str]:
    yield GROUP
    empty(GROUP)


@pytest.fixture(scope="module", params=LUNS)
def lun(request: pytest.FixtureRequest) -> Iterator[Lun]:
    """A volume group on a LUN."""
    lun = LUNS[request.param]
    command("modprobe", "scsi_debug", "dev_size_mb=64", *lun.options.split())
    try:
        wait_until(Path("/dev/sda").exists)  # the guest's own disk is none of SCSI
        yield lun
    finally:
        command("modprobe", "-r", "scsi_debug")


@pytest.fixture
def lun_group(lun: Lun) -> Iterator[str]:
    command("vgcreate", "--physicalextentsize", f"{EXTENT}b", LUN_GROUP, "/dev/sda")
    yield LUN_GROUP
    command("vgremove", "--force", "--yes", LUN_GROUP)


Open = Callable[..., Client]


@pytest.fixture
def in_this_process(
    brick_dir: Path, tmp_path: Path, logs: LogChecker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """`in_this_process(pool)`: a client with pyposix and pybd in this very process.

    It does not look for lost devices: glfs_fini waits 10 s for the call that is waiting for the
    next look. Bricks do, see below.
    """

    async def patrol(_: Moving) -> None:
        pass

    monkeypatch.setattr(Moving, "patrol", patrol)
    with contextlib.ExitStack() as stack:

        def make(pool: str) -> Client:
            log = tmp_path / "in-process.log"
            logs.watch(log)
            graph = volfiles.leaf_graph(brick_dir, inserts=[("user/pybd", {"pool": pool})])
            return stack.enter_context(Client(graph, log=log))

        yield make


@pytest.fixture
def thin(group: str, in_this_process: Open) -> Client:
    return in_this_process(THIN)


@pytest.fixture
def thick(group: str, in_this_process: Open) -> Client:
    return in_this_process(THICK)


@pytest.fixture
def on_lun(lun_group: str, in_this_process: Open) -> Client:
    return in_this_process(f"lvm:{lun_group}")


def write(client: Client, path: str, data: bytes, offset: int = 0) -> None:
    with client.creat(path) as file:
        file.pwrite(data, offset)
        file.fsync()


def read(client: Client, path: str, length: int = 32 * MIB) -> bytes:
    with client.open(path, os.O_RDONLY) as file:
        return file.pread(length, 0).value


def refuses(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


# ---- contents ----


class Whole(Model):
    """A file on a thick volume has all of its blocks from the start, whatever happens to them."""

    def _has_all(self) -> None:
        self.must = self.touched(0, self.size)
        self.may = set(self.must)

    def grow(self, size: int) -> None:
        super().grow(size)
        self._has_all()

    def allocate(self, offset: int, end: int) -> None:
        self.last = offset

    def discard(self, offset: int, end: int) -> None:
        super().discard(offset, end)
        self._has_all()

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._has_all()


class Kept:
    """A client whose one file outlives an example, empty: to map a file takes seconds here."""

    def __init__(self, client: Client, path: str, mapping: bytes) -> None:
        self._client = client
        write(client, path, b"")
        client.setxattr(path, KEY, mapping)

    def creat(self, path: str, flags: int) -> File:
        self._client.truncate(path, 0)
        return self._client.open(path)

    def open(self, path: str) -> File:
        return self._client.open(path)

    def unlink(self, path: str) -> None:
        pass


class OnThick(FopMachine):
    def __init__(self, client: Kept) -> None:
        super().__init__(cast(Client, client), "/file", block_size=512, metadata_blocks=0)
        self.model = Whole(512, 0, bytearray(), set(), set())


class OnThin(FopMachine):
    """Allocation is the model's to the chunk. Where the chunks are, a thin volume cannot tell: all
    is data to SEEK_DATA and SEEK_HOLE."""

    def __init__(self, client: Kept) -> None:
        super().__init__(
            cast(Client, client),
            "/file",
            block_size=CHUNK,
            metadata_blocks=0,
            delayed=True,
            allocates=False,
        )

    def _seek(self, offset: int) -> None:
        inside = offset < self.model.size
        assert self._sought(offset, os.SEEK_DATA) == (offset if inside else None)
        assert self._sought(offset, os.SEEK_HOLE) == (self.model.size if inside else None)


@pytest.fixture(params=[pytest.param(1, id="bounded"), pytest.param(50, marks=pytest.mark.long)])
def times(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22")
def test_machine_on_a_thin_volume(thin: Client, times: int) -> None:
    kept = Kept(thin, "/file", b"thin")
    run(lambda: OnThin(kept), examples=6 * times)


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22")
def test_machine_on_a_thick_volume(thick: Client, times: int) -> None:
    kept = Kept(thick, "/file", b"lv")
    run(lambda: OnThick(kept), examples=4 * times)


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22", NOT_FREED)
def test_machine_on_a_lun(on_lun: Client, times: int) -> None:
    kept = Kept(on_lun, "/file", b"lv")
    run(lambda: OnThick(kept), examples=3 * times)


# ---- space ----


def used_of_pool() -> int:
    """Bytes of the thin pool that are in use."""
    (status,) = command("dmsetup", "status", "--target", "thin-pool").splitlines()
    # NAME: START LENGTH thin-pool TRANSACTION METADATA USED/ALL …
    return int(status.split()[6].partition("/")[0]) * CHUNK


def device(of: Path, group: str = GROUP) -> Path:
    """The volume of a file, by the file on the brick."""
    gfid = os.getxattr(of, "trusted.gfid").hex()
    (name,) = (each for each in volumes(group) if each.replace("-", "").endswith(gfid))
    return Path("/dev", group, name)


def held(volume: Path) -> int:
    """Sectors of 512 bytes that a thin volume has of its pool, as dmsetup says."""
    return int(command("dmsetup", "status", volume).split()[3])


def test_thin_space_comes_back(thin: Client, brick_dir: Path) -> None:
    before = used_of_pool()
    data = random.Random(0).randbytes(3 * MIB)
    for name in "/f", "/g":
        write(thin, name, b"first")
        thin.setxattr(name, KEY, b"thin")
        write(thin, name, data, 1000)
    write(thin, "/g", b"far", 21 * MIB)
    for name in "f", "g":
        mapped = held(device(brick_dir / name))
        assert thin.stat(f"/{name}").st_blocks == min(mapped, (3 * MIB + 1000 + 511) // 512) or (
            name == "g" and thin.stat("/g").st_blocks == mapped
        )
    assert used_of_pool() >= before + 6 * MIB
    with thin.open("/f") as file:
        file.discard(MIB + 100, MIB)
        assert file.fstat().st_blocks == held(device(brick_dir / "f"))
        assert file.pread(4 * MIB, 0).value == (
            b"first" + bytes(995) + data[: MIB - 900] + bytes(MIB) + data[2 * MIB - 900 :]
        )
    for name in "/f", "/g":
        with thin.open(name) as file:
            file.discard(0, 32 * MIB)
            file.fsync()
            assert not any(file.pread(32 * MIB, 0).value)
    assert used_of_pool() <= before + 2 * CHUNK
    assert thin.statvfs("/").f_blocks > 0
    for name in "/f", "/g":
        thin.unlink(name)
    wait_until(lambda: not volumes())
    assert used_of_pool() == before


@pytest.mark.long
@pytest.mark.expect_log(NOT_FREED)
def test_a_thin_pool_that_ignores_discards(
    group: str, in_this_process: Open, logs: LogChecker
) -> None:
    whole = f"{group}/{THIN_POOL}"
    command("lvchange", "--activate", "n", group)
    command("lvchange", "--discards", "ignore", whole)
    command("lvchange", "--activate", "y", group)
    try:
        client = in_this_process(THIN)
        write(client, "/f", b"x" * MIB)
        client.setxattr("/f", KEY, b"thin")
        with client.open("/f") as file:
            for _ in range(2):
                file.discard(100, MIB)
            assert file.pread(MIB, 0).value == b"x" * 100 + bytes(MIB - 100)
        client.unlink("/f")
        wait_until(lambda: not volumes())
    finally:
        command("lvchange", "--activate", "n", group)
        command("lvchange", "--discards", "passdown", whole)
        command("lvchange", "--activate", "y", group)


def unmapped() -> int:
    """Bytes of the LUN that are not mapped."""
    text = Path("/sys/bus/pseudo/drivers/scsi_debug/map").read_text().strip("\n\0")
    granules = 0
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        granules += int(last or first) - int(first) + 1
    found = Path("/sys/module/scsi_debug/parameters/unmap_granularity").read_text()
    return 64 * MIB - granules * 512 * int(found)


def ioctl(number: int) -> Callable[[int, int, int], None]:
    def call(device: int, offset: int, length: int) -> None:
        fcntl.ioctl(device, number, struct.pack("QQ", offset, length))

    return call


def punch(device: int, offset: int, length: int) -> None:
    mode = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
    linux.fallocate(device, mode, offset, length)


CALLS = {"BLKDISCARD": ioctl(0x1277), "PUNCH_HOLE": punch, "BLKZEROOUT": ioctl(0x127F)}


def test_what_frees_on_a_lun(lun: Lun, capsys: pytest.CaptureFixture[str]) -> None:
    """Which calls free and which of them give zeros: why pybd's ladder is as it is."""
    freeing = set()
    for name, call in CALLS.items():
        disk = os.open("/dev/sda", os.O_RDWR)
        try:
            for at in range(0, 16 * MIB, MIB):
                os.pwrite(disk, b"\xaa" * MIB, at)
            os.fsync(disk)
            before = unmapped()
            try:
                call(disk, 4 * MIB, 8 * MIB)
                said = "ok"
            except OSError as error:
                said = errno.errorcode[cast(int, error.errno)]
            freed = (unmapped() - before) // MIB
            os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_DONTNEED)
            zeros = not any(os.pread(disk, 8 * MIB, 4 * MIB))
        finally:
            os.close(disk)
        with capsys.disabled():
            print(f"\n{lun.options:44} {name:11} {said:10} freed {freed} of 8 MiB, zeros: {zeros}")
        assert zeros or name == "BLKDISCARD"
        assert freed in (0, 8)
        if freed:
            freeing.add(name)
    assert freeing == lun.by


@pytest.mark.allow_log(NOT_FREED)
def test_a_discard_on_a_lun(on_lun: Client, lun: Lun, tmp_path: Path) -> None:
    write(on_lun, "/f", b"")
    on_lun.setxattr("/f", KEY, b"lv:10MB")
    data = random.Random(1).randbytes(9 * MIB)
    write(on_lun, "/f", data)
    before = unmapped()
    with on_lun.open("/f") as file:
        file.discard(MIB + 7, 6 * MIB)
        file.discard(MIB + 7, 6 * MIB)
        expected = data[: MIB + 7] + bytes(6 * MIB) + data[7 * MIB + 7 :] + bytes(MIB)
        assert file.pread(10 * MIB, 0).value == expected
        file.fsync()
    freed = unmapped() - before
    assert 5 * MIB <= freed <= 6 * MIB if lun.frees else freed == 0
    assert len(re.findall(NOT_FREED, (tmp_path / "in-process.log").read_text())) == (not lun.frees)
    (name,) = volumes(LUN_GROUP)
    subprocess.run(["sync"], check=True)
    with Path("/dev", LUN_GROUP, name).open("rb") as volume:
        os.posix_fadvise(volume.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert volume.read(10 * MIB) == expected


# ---- errors ----


@pytest.mark.parametrize(
    ("pool", "complaint"),
    [
        ("lvm:nothing", 'Volume group "nothing" not found'),
        (f"lvm:{GROUP}/nothing", f"there is no thin pool {GROUP}/nothing"),
    ],
)
@pytest.mark.expect_log(r"mapped files cannot be used")
@pytest.mark.allow_log(*REFUSED)
def test_a_pool_that_is_not_there(
    group: str, in_this_process: Open, tmp_path: Path, pool: str, complaint: str
) -> None:
    client = in_this_process(pool)
    write(client, "/f", b"plain")
    refuses(errno.ENODEV, lambda: client.setxattr("/f", KEY, b"lv"))
    assert read(client, "/f") == b"plain"
    log = (tmp_path / "in-process.log").read_text()
    assert len(re.findall("mapped files cannot be used", log)) == 1
    assert len(re.findall(f"is not mapped to lv: .*{complaint}", log)) == 1


@pytest.mark.allow_log(*REFUSED)
def test_what_cannot_be_mapped(group: str, in_this_process: Open, tmp_path: Path) -> None:
    client = in_this_process(THICK)
    write(client, "/f", b"data")
    refuses(errno.EOPNOTSUPP, lambda: client.setxattr("/f", KEY, b"thin"))
    refuses(errno.ENOSPC, lambda: client.setxattr("/f", KEY, b"lv:100GB"))
    assert read(client, "/f") == b"data"
    assert volumes() == []
    client.setxattr("/f", KEY, b"lv:5MB")
    refuses(errno.EEXIST, lambda: client.setxattr("/f", KEY, b"lv:5MB"))
    with client.open("/f") as file:
        refuses(errno.ENOSPC, lambda: file.ftruncate(100 << 30))
        refuses(errno.ENOSPC, lambda: file.pwrite(b"far", 100 << 30))
        assert file.fstat().st_size == 5 * MIB
    assert read(client, "/f") == b"data" + bytes(5 * MIB - 4)


@pytest.mark.expect_log(r"the pool is full")
@pytest.mark.allow_log(*REFUSED)
def test_a_thin_pool_without_space(thin: Client) -> None:
    write(thin, "/f", b"x" * 2 * MIB)
    thin.setxattr("/f", KEY, b"thin:50MB")
    free = THIN_POOL_SIZE - used_of_pool()
    volume = ("--virtualsize", f"{THIN_POOL_SIZE}b", "--thinpool", f"{GROUP}/{THIN_POOL}")
    command("lvcreate", "--yes", "--name", "ballast", *volume)
    chunks = free // CHUNK - 4
    ballast = f"of=/dev/{GROUP}/ballast"
    command("dd", "if=/dev/zero", ballast, f"bs={CHUNK}", f"count={chunks}", "oflag=direct")
    time.sleep(5.1)  # as often as the pool is looked at
    with thin.open("/f") as file:
        refuses(errno.ENOSPC, lambda: file.pwrite(b"new", 20 * MIB))
        file.discard(0, MIB)
        assert file.pread(2 * MIB, 0).value == bytes(MIB) + b"x" * MIB
        time.sleep(5.1)
        file.pwrite(b"new", 20 * MIB)
        file.fsync()
        assert file.pread(3, 20 * MIB).value == b"new"


@pytest.mark.allow_log(*REFUSED)
def test_a_device_that_fails(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """EIO to who uses that file; the brick lives, and other files do."""
    folder = brick_dir / "brick"
    folder.mkdir()
    brick = make_brick(folder, inserts=[("user/pybd", {"pool": THIN})])
    client = connect(brick)
    for name, kind in ("/f", b"lv"), ("/g", b"thin"):
        write(client, name, name.encode() * MIB)
        client.setxattr(name, KEY, kind)
    failing = device(folder / "f")
    with client.open("/f") as file, client.open("/g") as other:
        assert file.pread(2, 0).value == b"/f"
        command("dmsetup", "suspend", failing)
        size = int(command("blockdev", "--getsz", failing))
        command("dmsetup", "load", failing, "--table", f"0 {size} error")
        command("dmsetup", "resume", failing)
        failing_number = os.open(failing, os.O_RDONLY)
        os.posix_fadvise(failing_number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(failing_number)
        refuses(errno.EIO, lambda: file.pread(MIB, MIB))
        file.pwrite(b"lost" * KIB, 8 * KIB)  # whole pages, so that nothing has to be read
        refuses(errno.EIO, file.fsync)
        refuses(errno.EIO, lambda: file.discard(10, MIB))
        refuses(errno.EIO, lambda: file.zerofill(10, MIB))
        other.pwrite(b"still", 0)
        other.fsync()
        assert other.pread(7, 0).value == b"stillg/"
        write(client, "/plain", b"plain")
        command("lvchange", "--refresh", f"{GROUP}/{failing.name}")
        assert file.pread(4 * KIB, MIB).value == b"/f" * 2 * KIB
        file.pwrite(b"again", 0)
        file.fsync()
        assert file.pread(5, 0).value == b"again"
    client.close()
    brick.stop()


# ---- copies ----


def gfid_of(client: Client, folder: Path, path: str) -> bytes:
    write(client, path, b"")
    return os.getxattr(folder / path.strip("/"), "trusted.gfid").hex().encode()


def test_clone_snapshot_and_merge(thin: Client, brick_dir: Path) -> None:
    first = random.Random(2).randbytes(2 * MIB)
    write(thin, "/f", first)
    thin.setxattr("/f", KEY, b"thin:5MB")
    before = used_of_pool()
    thin.setxattr("/f", "clone", gfid_of(thin, brick_dir, "/clone"))
    thin.setxattr("/f", "snapshot", gfid_of(thin, brick_dir, "/snap") + b":9MB")
    assert used_of_pool() == before  # shared
    with thin.open("/f") as file:
        file.pwrite(b"changed", 0)
        file.fsync()
        file.discard(MIB, MIB)
    assert read(thin, "/f") == b"changed" + first[7:MIB] + bytes(4 * MIB)
    assert read(thin, "/clone") == first + bytes(3 * MIB)
    assert read(thin, "/snap") == first + bytes(7 * MIB)
    assert thin.stat("/snap").st_size == 9 * MIB
    with thin.open("/clone") as file:
        file.discard(0, MIB)
        assert file.pread(5 * MIB, 0).value == bytes(MIB) + first[MIB:] + bytes(3 * MIB)
    assert read(thin, "/snap") == first + bytes(7 * MIB)
    thin.setxattr("/snap", "merge", b"1")
    assert read(thin, "/f") == first + bytes(7 * MIB)
    refuses(errno.ENOENT, lambda: thin.stat("/snap"))
    wait_until(lambda: len(volumes()) == 2)
    assert int(thin.getxattr("/", "volume.caps")) == 1 | 2 | 4 | 8 | 0x20
    thin.removexattr("/clone", KEY)
    assert read(thin, "/clone") == bytes(MIB) + first[MIB:] + bytes(3 * MIB)
    assert len(volumes()) == 1


@pytest.mark.long
def test_a_clone_of_a_thick_volume(thick: Client, brick_dir: Path) -> None:
    data = random.Random(3).randbytes(MIB)
    write(thick, "/f", data)
    thick.setxattr("/f", KEY, b"lv:5MB")
    thick.setxattr("/f", "clone", gfid_of(thick, brick_dir, "/clone"))
    with thick.open("/f") as file:
        file.discard(0, MIB)
    assert read(thick, "/clone") == data + bytes(4 * MIB)
    assert int(thick.getxattr("/", "volume.caps")) & 2 == 0


# ---- the pool ----


@pytest.mark.parametrize("kind", ["thin", pytest.param("lv", marks=pytest.mark.long)])
def test_a_volume_that_is_open(group: str, kind: str) -> None:
    """It is renamed and resized, as pybd does."""
    pool = LvmPool(f"{group}/{THIN_POOL}")
    pool.check()
    assert pool.extent == EXTENT
    tag = ":/a-b/=25_x"
    pool.make("a-b.half", 5 * MIB, kind, tag)
    found = pool.find("a-b.half")
    assert found == ("a-b.half", tag, 8 * MIB)
    volume = pool.open("a-b.half")
    os.pwrite(volume.number, b"kept", 0)
    volume.sync()
    pool.rename("a-b.half", "a-b")
    assert pool.find("a-b.half") is None
    blocks = 8 * MIB // 512 if kind == "lv" else CHUNK // 512
    assert volume.blocks() == pool.blocks("a-b") == blocks
    for size in 12 * MIB, 4 * MIB:
        pool.resize("a-b", size)
        volume.measure()
        assert volume.size == size
    assert os.pread(volume.number, 4, 0) == b"kept"
    pool.make("other", MIB, kind, "")
    with pytest.raises(FileExistsError):
        pool.rename("other", "a-b")
    with pytest.raises(FileExistsError):
        pool.make("other", MIB, kind, "")
    assert {each.name: each.tag for each in pool.devices()} == {"a-b": tag, "other": ""}
    refuses(errno.EBUSY, lambda: pool.remove("a-b"))
    del volume
    command("lvchange", "--activate", "n", f"{group}/a-b")
    assert pool.blocks("a-b") == (4 * MIB // 512 if kind == "lv" else 0)
    assert os.pread(pool.open("a-b").number, 4, 0) == b"kept"
    for name in "a-b", "other", "nothing":
        pool.remove(name)
    assert pool.devices() == []
    refuses(errno.ENOENT, lambda: pool.open("nothing"))
    room = pool.room()
    assert (room.size, room.free) == (THIN_POOL_SIZE, THIN_POOL_SIZE - used_of_pool())


def test_a_pool_that_gives_out_old_data_is_refused(group: str) -> None:
    whole = f"{group}/{THIN_POOL}"
    command("lvchange", "--zero", "n", whole)
    try:
        with pytest.raises(OSError, match=f"lvchange --zero y {whole}"):
            LvmPool(whole).check()
    finally:
        command("lvchange", "--zero", "y", whole)
    LvmPool(whole).check()


# ---- whose a volume is, and what a crash leaves ----


@pytest.mark.expect_log(r"belongs to :/somewhere/else, not to this brick")
@pytest.mark.expect_log(r"its file is not mapped to it; it is kept")
@pytest.mark.allow_log(*REFUSED)
def test_volumes_that_have_lost_their_files(
    group: str, in_this_process: Open, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """Killed between the xattr and the volume's name; never mapped; purged; taken off; another's.

    As in tests/bd, where it is files of a loop pool.
    """
    client = in_this_process(THIN)
    names = "pending", "half", "purged", "unmapped", "another"
    for name in names:
        write(client, f"/{name}", name.encode())
        client.setxattr(f"/{name}", KEY, b"thin")
    client.close()
    devices = {name: device(brick_dir / name).name for name in names}
    for name in "pending", "half":
        command("lvrename", group, devices[name], f"{devices[name]}.half")
    for name in "half", "unmapped":
        os.removexattr(brick_dir / name, KEY)
    (brick_dir / "purged").unlink()
    gfid = devices["purged"].rpartition(".")[2]
    (brick_dir / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid).unlink()
    tag = command("lvs", "--noheadings", "-o", "lv_tags", f"{group}/{devices['another']}").strip()
    change = ("--deltag", tag, "--addtag", "glupy.brick=:/somewhere/else")
    command("lvchange", *change, f"{group}/{devices['another']}")

    brick = make_brick(brick_dir, inserts=[("user/pybd", {"pool": THIN})])
    again = connect(brick)
    left = sorted(devices[name] for name in ("pending", "unmapped", "another"))
    wait_until(lambda: volumes() == left)
    assert read(again, "/pending") == b"pending"
    refuses(errno.EIO, lambda: read(again, "/another"))
    again.unlink("/another")
    again.unlink("/pending")
    wait_until(lambda: volumes() == sorted(devices[name] for name in ("unmapped", "another")))
    again.close()
    brick.stop()


@pytest.mark.allow_log(*REFUSED, r"forced unwinding frame", r"its file is not mapped to it")
def test_kill(
    group: str, make_brick: MakeBrick, connect: Connect, brick_dir: Path, times: int
) -> None:
    """The brick is killed while a file is mapped or unmapped."""
    folder = brick_dir / "brick"
    folder.mkdir()
    data = random.Random(4).randbytes(MIB)
    chance = random.Random(5)

    def started() -> tuple[Brick, Client]:
        brick = make_brick(folder, inserts=[("user/pybd", {"pool": THIN})])
        return brick, connect(brick)

    brick, client = started()
    write(client, "/f", data)
    for _ in range(times):
        mapped = KEY in os.listxattr(folder / "f")

        def operate(client: Client = client, mapped: bool = mapped) -> None:
            with contextlib.suppress(OSError):
                if mapped:
                    client.removexattr("/f", KEY)
                else:
                    client.setxattr("/f", KEY, b"thin")

        thread = threading.Thread(target=operate)
        thread.start()
        time.sleep(chance.uniform(1, 6))
        brick.kill()
        thread.join()
        client.close()
        brick, client = started()
        client.stat("/f")
        gfid = os.getxattr(folder / "f", "trusted.gfid").hex()

        def settled(gfid: str = gfid) -> bool:
            owners = [name.rpartition(".")[2].replace("-", "") for name in volumes()]
            return owners == ([gfid] if KEY in os.listxattr(folder / "f") else [])

        wait_until(settled)
        assert read(client, "/f") == data
    client.close()
    brick.stop()
