"""Files on thick volumes."""

import errno
import os
import random
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.waiting import wait_until

from .volumes import (
    KEY,
    MIB,
    ON_THICK,
    REFUSED,
    THICK,
    Open,
    command,
    device,
    gfid_of,
    near,
    of_pool,
    read,
    refuses,
    search,
    volumes,
    write,
)


@pytest.mark.allow_log(r"error=Invalid argument", r"errno=22")
def test_machine_on_a_thick_volume(thick: Client, times: int) -> None:
    search(thick, b"lv", ON_THICK, 4 * times)


@pytest.mark.long
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
        # A thick volume is all data.
        assert (file.lseek(MIB, os.SEEK_DATA), file.lseek(MIB, os.SEEK_HOLE)) == (MIB, 5 * MIB)
    assert read(client, "/f") == b"data" + bytes(5 * MIB - 4)


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


@pytest.mark.long
def test_old_data_of_the_disk_shows_nowhere(
    soiled: str, thick: Client, in_process: Client, brick_dir: Path
) -> None:
    """In no hole, no copy, and nothing that grows; a file is unmapped without it, too."""
    data = random.Random(7).randbytes(MIB)
    write(thick, "/f", data)
    write(thick, "/f", data, 3 * MIB)
    first = data + bytes(2 * MIB) + data
    thick.setxattr("/f", KEY, b"lv:5MB")
    assert read(thick, "/f") == first + bytes(MIB)
    thick.setxattr("/f", "snapshot", gfid_of(thick, brick_dir, "/snap") + b":9MB")
    check_statfs(soiled, thick, in_process)
    with thick.open("/f") as file:
        file.pwrite(b"changed", 0)
        file.discard(3 * MIB, MIB)
        file.pwrite(data, 9 * MIB)
        file.fsync()
    # Were it killed now, or the power cut before the bytes came, nothing of others' would show.
    assert not any(device(brick_dir / "f").read_bytes()[10 * MIB :])
    assert read(thick, "/f") == b"changed" + data[7:] + bytes(8 * MIB) + data
    assert read(thick, "/snap") == first + bytes(5 * MIB)
    thick.setxattr("/snap", "merge", b"1")
    assert read(thick, "/f") == first + bytes(5 * MIB)
    refuses(errno.ENOENT, lambda: thick.stat("/snap"))
    wait_until(lambda: len(volumes()) == 1)
    thick.removexattr("/f", KEY)
    assert read(thick, "/f") == (brick_dir / "f").read_bytes() == first + bytes(5 * MIB)
    assert volumes() == []


def check_statfs(group: str, client: Client, without: Client) -> None:
    """The group's size, and all that it has free: a thick volume has its space already."""
    options = ("--noheadings", "--nosuffix", "--units", "b", "--options", "vg_size,vg_free")
    room = [int(number) for number in command("vgs", *options, group).split()]
    size, free = of_pool(client, without)
    assert size == room[0]
    assert near(free, room[1])


@pytest.mark.long
def test_files_that_are_mapped_by_name(group: str, in_this_process: Open, brick_dir: Path) -> None:
    """As large as the rule says is the volume; the file begins empty, or has what it had."""
    client = in_this_process(THICK, map="*.img=lv:8MB")
    write(client, "/created.img", b"")
    write(client, "/renamed", b"")
    write(client, "/moved", b"moved")
    assert len(volumes()) == 1
    for name in "/renamed", "/moved":
        client.rename(name, f"{name}.img")
    names = "/created.img", "/renamed.img", "/moved.img"
    assert [client.stat(name).st_size for name in names] == [0, 0, 5]
    assert read(client, "/moved.img") == b"moved"
    data = random.Random(8).randbytes(MIB)
    for name in names:
        with device(brick_dir / name.strip("/")).open("rb") as volume:
            assert volume.seek(0, os.SEEK_END) == 8 * MIB
        write(client, name, data, 5 * MIB)
    assert len(volumes()) == len(names)
    for name in names[:2]:
        assert read(client, name) == bytes(5 * MIB) + data
    assert read(client, "/moved.img") == b"moved" + bytes(5 * MIB - 5) + data
