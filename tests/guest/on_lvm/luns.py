"""Files on thick volumes of SCSI disks of all kinds."""

import errno
import fcntl
import os
import random
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from glupy import linux
from glupy.testing.gfapi import Client

from .volumes import (
    EXTENT,
    KEY,
    LUN_GROUP,
    MIB,
    NOT_FREED,
    ON_THICK,
    Open,
    command,
    search,
    volumes,
    wait_until,
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
    "none": Lun("lbpu=0", False, frozenset()),
}


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


@pytest.fixture
def on_lun(lun_group: str, in_this_process: Open) -> Client:
    return in_this_process(f"lvm:{lun_group}")


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22", NOT_FREED)
def test_machine_on_a_lun(on_lun: Client, times: int) -> None:
    search(on_lun, b"lv", ON_THICK, 3 * times)


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
