"""Files on thick volumes."""

import errno
import random
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client

from .volumes import (
    KEY,
    MIB,
    ON_THICK,
    REFUSED,
    THICK,
    Open,
    gfid_of,
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
