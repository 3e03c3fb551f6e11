"""What a brick tells glustereventsd: the events of C posix, by the same datagrams."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import volfiles
from glupy import stores
from glupy._bridge import lib
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, ProcessError, free_port

SAME_GFID = Path(__file__).parent / "translators" / "same_gfid.py"
PORT = 55555  # EVENT_PORT of libglusterfs/src/events.c, in 10.3 and 11.1
POSIX = {getattr(lib, name) for name in dir(lib) if name.startswith("EVENT_POSIX_")}
"""What other processes on this machine tell meanwhile is of other kinds."""
LEAVES = "posix", "pyposix"
MIB = 1 << 20

MakeBrick = Callable[..., Brick]


class Told(NamedTuple):
    """A datagram: the event's number, and what it says."""

    event: int
    text: str


class Events:
    """Listens in glustereventsd's place, for what bricks below a folder tell."""

    def __init__(self, listeners: list[socket.socket], folder: Path) -> None:
        self._listeners = listeners
        self._folder = folder

    def received(self) -> list[Told]:
        """Return what has come since the last time."""
        found = []
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    _, event, text = listener.recv(4096).decode().split(" ", 2)
                    if int(event) in POSIX and f"{self._folder}/" in text:
                        found.append(Told(int(event), text))
        return found

    def wait(self) -> list[Told]:
        """The same, waiting for the first."""
        deadline = time.monotonic() + 15
        while not (found := self.received()):
            assert time.monotonic() < deadline, "no event came"
            time.sleep(0.05)
        return found


@pytest.fixture
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Events]:
    with contextlib.ExitStack() as stack:
        listeners = []
        for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            listener = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            try:
                listener.bind((host, PORT))
            except OSError as error:  # no IPv6 here
                assert error.errno == errno.EADDRNOTAVAIL
                continue
            listener.setblocking(False)
            listeners.append(listener)
        yield Events(listeners, tmp_path_factory.getbasetemp())


def folders(brick_dir: Path) -> dict[str, Path]:
    """A folder for each leaf, all called alike in what is told: only its last part differs."""
    found = {leaf: brick_dir / leaf for leaf in LEAVES}
    for folder in found.values():
        folder.mkdir()
    return found


def same(told: dict[str, list[Told]], folders: dict[str, Path]) -> list[Told]:
    """Return what C posix has told, if pyposix has told the same of its own folder."""
    theirs = [
        Told(each.event, each.text.replace(str(folders["posix"]), "BRICK"))
        for each in told["posix"]
    ]
    ours = [
        Told(each.event, each.text.replace(str(folders["pyposix"]), "BRICK"))
        for each in told["pyposix"]
    ]
    assert ours == theirs
    return ours


VOLUME, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)


@pytest.mark.parametrize(
    "marked, event, told",
    [
        (None, lib.EVENT_POSIX_BRICK_NOT_IN_VOLUME, "brick=here:BRICK"),
        (b"short", lib.EVENT_POSIX_BRICK_VERIFICATION_FAILED, "brick=here:BRICK"),
        (
            OTHER.bytes,
            lib.EVENT_POSIX_ALREADY_PART_OF_VOLUME,
            f"volume-id={OTHER};brick=here:BRICK",
        ),
    ],
    ids=["no volume", "no uuid", "another volume"],
)
@pytest.mark.allow_log(r".*")
def test_a_brick_of_another_volume(
    make_brick: MakeBrick,
    brick_dir: Path,
    events: Events,
    marked: bytes | None,
    event: int,
    told: str,
) -> None:
    places = folders(brick_dir)
    found = {}
    for leaf, folder in places.items():
        if marked is not None:
            os.setxattr(folder, "trusted.glusterfs.volume-id", marked)
        options = {"volume-id": str(VOLUME), "hostname": "here"}
        with pytest.raises(ProcessError):
            make_brick(folder, leaf=leaf, options=options)
        found[leaf] = events.wait()
    assert same(found, places) == [Told(event, told)]


@pytest.mark.allow_log(r".*")
def test_a_file_system_without_acls(make_brick: MakeBrick, tmp_path: Path, events: Events) -> None:
    image, mountpoint = tmp_path / "image", tmp_path / "mnt"
    with stores.store(image, 256 * MIB, mountpoint, kind="btrfs", options=("noacl",)) as store:
        places = folders(store.folder)
        found = {}
        for leaf, folder in places.items():
            with Brick(
                volfiles.brick(folder, leaf=leaf, port=free_port(), options={"hostname": "here"}),
                tmp_path / leaf,
            ):
                found[leaf] = events.wait()
    (told,) = same(found, places)
    assert told == Told(lib.EVENT_POSIX_ACL_NOT_SUPPORTED, "brick=here:BRICK")


@pytest.mark.parametrize(
    "replaced, op",
    [("by a folder", "open_for_write"), ("by /dev/null", "aio_read_buf")],
)
@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.allow_log(r".*")
def test_a_brick_that_fails_its_health_check(
    make_brick: MakeBrick, brick_dir: Path, events: Events, leaf: str, replaced: str, op: str
) -> None:
    """C posix names its call that has failed, and has more behind the brick's name."""
    folder = brick_dir / leaf
    folder.mkdir()
    make_brick(folder, leaf=leaf, options={"health-check-interval": "1", "hostname": "here"})
    file = folder / ".glusterfs" / "health_check"
    file.unlink(missing_ok=True)
    if replaced == "by a folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/null")
    (told,) = events.wait()
    assert told.event == lib.EVENT_POSIX_HEALTH_CHECK_FAILED
    fields = dict(field.split("=", 1) for field in told.text.split(";"))
    print(fields)
    error = fields.pop("error")
    if replaced == "by a folder":
        assert error == os.strerror(errno.EISDIR)
    assert fields == {
        "path": str(file),
        "op": op if leaf == "posix" else "write_and_read",
        "brick": f"here:{folder}" + " timeout is 20" * (leaf == "posix"),
    }


@pytest.mark.allow_log(r".*")
def test_a_directory_with_the_gfid_of_another(
    make_brick: MakeBrick, brick_dir: Path, events: Events
) -> None:
    places, event = folders(brick_dir), lib.EVENT_POSIX_SAME_GFID
    found = {}
    for leaf, folder in places.items():
        brick = make_brick(
            folder,
            leaf=leaf,
            options={"hostname": "here"},
            inserts=[("features/glupy", {"module": f"{SAME_GFID}:SameGfid"})],
        )
        with Client(brick.client_graph()) as client:
            client.mkdir("/one")
            assert event not in {each.event for each in events.received()}
            client.mkdir("/two")
        found[leaf] = [each for each in events.received() if each.event == event]
    (told,) = same(found, places)
    gfid = uuid.UUID(bytes=bytes(range(16)))
    assert told == Told(
        event,
        f"gfid={gfid};path=BRICK/.glusterfs/00/00/{uuid.UUID(int=1)}/one;newpath=/two"
        ";brick=here:BRICK",
    )
