"""Files that clients change while a rebalance moves them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd

from .leaves import MIB, PARTING, client_of
from .load import whole
from .mapped import check_devices, mapped_files
from .moving import held_volume, rebalance_held

OLD = b"old!" * (MIB // 4)
# What bricks say of a move that is given up, and of clients that look for a file where it was.
CHANGED = (
    r"Device or resource busy|errno=16",
    r"posix_open\] .*No such file|posix_getxattr\] .*dht.linkto",
)


class Change(NamedTuple):
    """What a client does to a file, and what that has then."""

    of: Callable[[Client, str, File], object]
    expected: bytes


CHANGES = {
    "discard": Change(lambda _client, _path, file: file.discard(0, MIB), bytes(MIB)),
    "zerofill": Change(lambda _client, _path, file: file.zerofill(0, MIB), bytes(MIB)),
    "ftruncate": Change(lambda _client, _path, file: file.ftruncate(100), OLD[:100]),
    "truncate": Change(lambda client, path, _file: client.truncate(path, 100), OLD[:100]),
}


@pytest.mark.allow_log(*PARTING, *CHANGED)
@pytest.mark.parametrize("leaf", [pytest.param("posix", marks=pytest.mark.long), "pyposix"])
def test_what_changes_while_it_moves(
    glusterd: Glusterd,
    store: stores.Store,
    pool: Path,
    logs: LogChecker,
    tmp_path: Path,
    leaf: str,
) -> None:
    """It stays where it is; C posix without pybd lets a rebalance undo the change
    (docs/upstream-defects.md)."""
    names = [f"{do}-{n}.{kind}" for do in CHANGES for n in (0, 3) for kind in ("img", "raw")]
    changes = {name: CHANGES[name.partition("-")[0]] for name in names}
    pybd = "user/pybd", {"pool": f"loop:{pool}", "map": "*.img=thin"}
    held, log = tmp_path / "held", tmp_path / "log"
    with held_volume(leaf, glusterd, store, logs, held, pybd) as volume:
        with client_of(volume, glusterd, log) as client:
            for name in names:
                with client.creat(f"/{name}") as file:
                    file.pwrite(OLD, 0)
        first, second = volume.bricks[0], volume.bricks[0].with_name("2")
        volume.add_bricks(second)
        with client_of(volume, glusterd, log) as client, ExitStack() as opened:
            files = {name: opened.enter_context(client.open(f"/{name}")) for name in names}

            def change(name: str) -> None:
                changes[name].of(client, f"/{name}", files[name])

            changed = rebalance_held(volume, held, change)
            undone = {
                name for name in changed if whole(client, f"/{name}") != changes[name].expected
            }
        assert {name[:-6] + name[-4:] for name in changed} == {
            do + kind for do in CHANGES for kind in (".img", ".raw")
        }
        assert undone == {name for name in changed if leaf == "posix" and name.endswith(".raw")}
        assert all((first / name).stat().st_size for name in changed - undone)
        check_devices(volume, pool)
        assert mapped_files(second) == {}, "a half copy"
