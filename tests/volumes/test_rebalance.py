"""Files that clients change while a rebalance moves them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing.gfapi import Client, File, Reply
from glupy.testing.logs import LogChecker
from glupy.testing.processes import ProcessError
from glupy.testing.volumes import Glusterd

from .conftest import MakeVolume
from .leaves import MIB, PARTING, client_of
from .load import Image, Worker, different, whole
from .mapped import check_devices, mapped_files
from .moving import Moving, moving_volume

OLD = b"old!" * (MIB // 4)
SPARSE = 4 * MIB
"""Bytes of a file with a hole."""
# What bricks say of a move that is given up, and of clients that look for a file where it was.
CHANGED = (
    r"Device or resource busy|errno=16",
    r"posix_open\] .*No such file|posix_getxattr\] .*dht.linkto",
)


class Change(NamedTuple):
    """What a client does to a file, and what that has then."""

    of: Callable[[Client, str, File], object]
    expected: bytes


def discard_synced(client: Client, path: str) -> None:
    with client.open(path, os.O_RDWR | os.O_SYNC) as file:
        file.discard(0, MIB)


CHANGES = {
    "discard": Change(lambda _client, _path, file: file.discard(0, MIB), bytes(MIB)),
    "o-sync": Change(lambda client, path, _file: discard_synced(client, path), bytes(MIB)),
    "zerofill": Change(lambda _client, _path, file: file.zerofill(0, MIB), bytes(MIB)),
    "ftruncate": Change(lambda _client, _path, file: file.ftruncate(100), OLD[:100]),
    "truncate": Change(lambda client, path, _file: client.truncate(path, 100), OLD[:100]),
}


@pytest.fixture
def moving(
    glusterd: Glusterd, store: stores.Store, pool: Path, logs: LogChecker, tmp_path: Path, leaf: str
) -> Iterator[Moving]:
    """A volume that maps what is named *.img."""
    pybd = "user/pybd", {"pool": f"loop:{pool}", "map": "*.img=thin"}
    folder = tmp_path / "held"
    with moving_volume(leaf, glusterd, store, logs, folder, "copy,mirror", pybd) as moving:
        yield moving


@pytest.mark.allow_log(*PARTING, *CHANGED)
@pytest.mark.parametrize("leaf", [pytest.param("posix", marks=pytest.mark.long), "pyposix"])
def test_what_changes_while_it_moves(moving: Moving, pool: Path, leaf: str) -> None:
    """It stays where it is; C posix without pybd lets a rebalance undo the change
    (docs/upstream-defects.md)."""
    names = [f"{do}-{n}.{kind}" for do in CHANGES for n in range(6) for kind in ("img", "raw")]
    changes = {name: CHANGES[name.rpartition("-")[0]] for name in names}
    with moving.opened(names, lambda file: file.pwrite(OLD, 0)) as (client, files):

        def change(name: str) -> None:
            changes[name].of(client, f"/{name}", files[name])

        changed = moving.rebalance("copy", change)
        undone = {name for name in changed if whole(client, f"/{name}") != changes[name].expected}
    assert {name[:-6] + name[-4:] for name in changed} == {
        do + kind for do in CHANGES for kind in (".img", ".raw")
    }
    assert undone == {name for name in changed if leaf == "posix" and name.endswith(".raw")}
    first, second = moving.volume.bricks
    assert all((first / name).stat().st_size for name in changed - undone)
    check_devices(moving.volume, pool)
    assert mapped_files(second) == {}, "a half copy"


@pytest.mark.long
@pytest.mark.allow_log(*PARTING, *CHANGED)
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_what_is_late_for_a_move_that_is_given_up(moving: Moving, leaf: str) -> None:
    """It is not in the way of the next one; over C posix without pybd it comes back where it was
    discarded (docs/upstream-defects.md)."""
    names = [f"{n}.{kind}" for n in range(8) for kind in ("img", "raw")]
    late: dict[str, Future[Reply[int]]] = {}

    def prepare(file: File) -> None:
        file.pwrite(OLD, 0)
        file.ftruncate(2 * MIB)  # with a hole: then holes are not copied

    with moving.opened(names, prepare) as (client, files):

        def change(name: str) -> None:
            file = files[name]
            first = file.pwrite_async(b"first", 0)  # after this the rebalance gives up
            moving.wait(name, "mirror").unlink()
            first.result()
            file.fsync()
            late[name] = file.pwrite_async(b"late", 4096)
            moving.wait(name, "mirror")

        changed = moving.rebalance("copy", change)
        for name in changed:
            late[name].result()
            files[name].fsync()
            files[name].discard(0, MIB)
        moving.volume.rebalance()
        assert all((moving.volume.bricks[1] / name).stat().st_size for name in changed)
        wrong = {name for name in changed if any(whole(client, f"/{name}"))}
    assert {name[-4:] for name in changed} == {".img", ".raw"}
    assert wrong == {name for name in changed if leaf == "posix" and name.endswith(".raw")}


@pytest.mark.allow_log(*PARTING, *CHANGED)
@pytest.mark.parametrize("leaf", [pytest.param("posix", marks=pytest.mark.long), "pyposix"])
def test_a_rebalance_that_is_killed(moving: Moving, pool: Path, leaf: str) -> None:
    """The next one moves what it has moved half, as clients have changed it since."""
    names = [f"{n}.{kind}" for n in range(8) for kind in ("img", "raw")]
    killed: set[str] = set()

    def prepare(file: File) -> None:
        file.pwrite(OLD + OLD, 0)
        file.ftruncate(SPARSE)  # with a hole: then holes are not copied

    with moving.opened(names, prepare) as (client, files):

        def kill(name: str) -> None:
            if name[-4:] not in {each[-4:] for each in killed}:
                moving.wait(name, "copy").unlink()
                moving.wait(name, "copy")  # its second MiB: the first is there
                killed.add(name)
            if len(killed) == 2:
                moving.volume.kill_rebalance()

        moving.rebalance("copy", kill)
        for name in killed:
            files[name].discard(4096, MIB)
        moving.volume.rebalance()
        assert all((moving.volume.bricks[1] / name).stat().st_size for name in killed)
        expected = OLD[:4096] + bytes(MIB) + OLD[4096:] + bytes(2 * MIB)
        assert not {name for name in killed if different(whole(client, f"/{name}"), expected)}
    check_devices(moving.volume, pool)


@pytest.mark.long
@pytest.mark.allow_log(*PARTING, *CHANGED)
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_a_rebalance_beside_writers(
    make_volume: MakeVolume, glusterd: Glusterd, pool: Path, tmp_path: Path, leaf: str
) -> None:
    """What is changed while it moves is right wherever it is then. Of stock GlusterFS files are
    lost by lookup-optimize, and what makes them longer by a hole (docs/upstream-defects.md)."""
    options = {"user.xlator.pybd.map": "*.img=thin", "cluster.lookup-optimize": "off"}
    volume = make_volume(1, leaf=leaf, options=options)
    log = tmp_path / "log"
    images = {
        f"{number}.img": Image(number, zerofill=True, past_end=False, grows=False)
        for number in range(12)
    }

    def check(client: Client) -> None:
        for name, image in images.items():
            assert not different(whole(client, f"/{name}"), image.data), name
        found = [path.name for brick in volume.bricks for path in mapped_files(brick).values()]
        assert sorted(found) == sorted(images), "no half copies"
        check_devices(volume, pool)

    with client_of(volume, glusterd, log) as client, ExitStack() as opened:
        workers = []
        with ExitStack() as running:
            for name, image in images.items():
                file = opened.enter_context(client.creat(f"/{name}"))
                image.change(file, 1, truncates=False)
                work = functools.partial(image.change, file, 2, truncates=False)
                workers.append(running.enter_context(Worker(nullcontext(work), pause=0.3)))
            for number in range(1, 4):
                volume.add_bricks(volume.bricks[0].with_name(f"more-{number}"))
                with suppress(ProcessError):  # some are not moved
                    volume.rebalance()
                for worker in workers:
                    worker.go_on(2)
        for worker in workers:
            worker.raise_error()
        check(client)
    with client_of(volume, glusterd, log) as client:
        check(client)
        volume.rebalance()
        check(client)
