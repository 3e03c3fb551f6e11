"""Files on thick volumes of SCSI disks of all kinds."""

import contextlib
import errno
import fcntl
import os
import random
import re
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from glupy import linux
from glupy.testing.gfapi import Client
from glupy.testing.waiting import wait_until

from .volumes import (
    EXTENT,
    FAILS,
    KEY,
    LUN_GROUP,
    MIB,
    NOT_FREED,
    ON_THICK,
    REFUSED,
    Open,
    command,
    empty,
    forgotten,
    refuses,
    search,
    volumes,
    write,
)


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
    "write-same-only": Lun("lbpu=0 lbpws=1 lbprz=0", False, frozenset(DISCARD)),
    "pattern": Lun("lbpu=1 lbprz=2", False, frozenset(DISCARD)),
    "granules": Lun(
        "lbpu=1 lbprz=1 unmap_granularity=2048 unmap_alignment=1024", True, frozenset(DISCARD)
    ),
    # granules that are less than a page, and begin where no page does
    "odd": Lun("lbpu=1 lbprz=1 unmap_granularity=4 unmap_alignment=1", True, frozenset(DISCARD)),
    "none": Lun("lbpu=0", False, frozenset()),
}
RARE = "write-same", "write-same-only", "pattern", "granules", "odd"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.long) if name in RARE else name for name in LUNS],
)
def lun(request: pytest.FixtureRequest) -> Iterator[Lun]:
    """A volume group on a LUN."""
    lun = LUNS[request.param]
    command("modprobe", "scsi_debug", "dev_size_mb=64", *lun.options.split())
    try:
        wait_until(Path("/dev/sda").exists)  # the guest's own disk is none of SCSI
        yield lun
    finally:
        command("modprobe", "-r", "scsi_debug")


@pytest.fixture(scope="module")
def lun_group(lun: Lun) -> str:
    """It goes with the disk. Who writes to the disk itself comes before: the first test."""
    command("vgcreate", "--physicalextentsize", f"{EXTENT}b", LUN_GROUP, "/dev/sda")
    return LUN_GROUP


@pytest.fixture
def emptied(lun_group: str) -> Iterator[str]:
    yield lun_group
    empty(lun_group)


@pytest.fixture
def on_lun(emptied: str, in_this_process: Open) -> Client:
    return in_this_process(f"lvm:{emptied}")


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
        # aligned as the granules are, or without a part of one at each end
        assert freed in (0, 7 if "unmap_alignment" in lun.options else 8)
        if freed:
            freeing.add(name)
    assert freeing == lun.by


@contextlib.contextmanager
def forgetting(group: str) -> Iterator[None]:
    """What is read meanwhile comes from the disk, now and then: the kernel may hold zeros for what
    a disk has not unmapped."""
    ended = threading.Event()

    def forget() -> None:
        while not ended.wait(0.05):
            for name in Path("/dev", group).glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    forgotten(name)

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22", NOT_FREED)
def test_machine_on_a_lun(on_lun: Client, times: int) -> None:
    with forgetting(LUN_GROUP):
        search(on_lun, b"lv", ON_THICK, 3 * times)


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
    volume = Path("/dev", LUN_GROUP, name)
    forgotten(volume)
    assert volume.read_bytes()[: 10 * MIB] == expected


@pytest.mark.parametrize("lun", ["unmap-zeros"], indirect=True)
@pytest.mark.long
@pytest.mark.allow_log(*REFUSED, FAILS)
def test_a_lun_that_is_away(on_lun: Client, tmp_path: Path) -> None:
    """EIO to who uses its files, and one line; once it is back all is well."""
    write(on_lun, "/f", b"ab" * MIB)
    on_lun.setxattr("/f", KEY, b"lv")
    write(on_lun, "/plain", b"")
    (name,) = volumes(LUN_GROUP)
    state = Path("/sys/block/sda/device/state")
    with on_lun.open("/f") as file, on_lun.open("/plain") as plain:
        file.fsync()
        forgotten(Path("/dev", LUN_GROUP, name))
        state.write_text("offline\n")
        for _ in range(2):
            refuses(errno.EIO, lambda: file.pread(MIB, MIB))
            refuses(errno.EIO, lambda: file.discard(MIB, MIB))
            refuses(errno.EIO, lambda: file.zerofill(MIB, MIB))
            file.pwrite(b"lost" * 1024, 8192)
            refuses(errno.EIO, file.fsync)
            plain.pwrite(b"plain", 0)
            plain.fsync()
        state.write_text("running\n")
        assert len(re.findall(FAILS, (tmp_path / "in-process.log").read_text())) == 1
        assert file.pread(MIB, MIB).value == b"ab" * (MIB // 2)
        before = unmapped()
        file.discard(MIB, MIB)
        file.pwrite(b"again", 0)
        file.fsync()
        assert unmapped() == before + MIB
        assert file.pread(MIB, MIB).value == bytes(MIB)


@contextlib.contextmanager
def medium_error(at: int) -> Iterator[None]:
    """A page of the disk cannot be read as long as the block runs."""
    parameters = Path("/sys/module/scsi_debug/parameters")
    (parameters / "medium_error_start").write_text(str(at // 512))
    (parameters / "medium_error_count").write_text("8")
    opts = Path("/sys/bus/pseudo/drivers/scsi_debug/opts")
    opts.write_text("0x2")
    try:
        yield
    finally:
        opts.write_text("0x0")


@pytest.mark.parametrize("lun", ["odd"], indirect=True)
@pytest.mark.allow_log(*REFUSED, FAILS)
def test_what_a_disk_cannot_read_or_has_not_unmapped(on_lun: Client) -> None:
    """Where a page cannot be read no read ends as if the file did, and no discard as if all behind
    it was zeros. Of a page that is unmapped in part the rest is wiped."""
    data = b"data" * MIB
    write(on_lun, "/f", data)
    on_lun.setxattr("/f", KEY, b"lv")
    (name,) = volumes(LUN_GROUP)
    volume = Path("/dev", LUN_GROUP, name)
    starts = int(command("dmsetup", "table", volume).split()[4]) * 512
    with on_lun.open("/f") as file:
        forgotten(volume)
        with medium_error(starts + 3 * MIB + 4096):
            assert file.pread(3 * MIB, 0).value == data[: 3 * MIB]
            refuses(errno.EIO, lambda: file.pread(2 * MIB, 2 * MIB))
            refuses(errno.EIO, lambda: file.discard(0, 4 * MIB))
        file.discard(0, 4 * MIB)
        forgotten(volume)
        assert not any(volume.read_bytes()[: 4 * MIB])
        file.pwrite(data, 0)
        file.fsync()
        assert file.pread(4 * MIB, 0).value == data  # the kernel has all of it
        file.discard(2048, MIB)
        forgotten(volume)
        assert volume.read_bytes()[: 4 * MIB] == data[:2048] + bytes(MIB) + data[MIB + 2048 :]
