"""gluster's snapshots of a volume keep what `glupy volume` has chosen, and bring it back."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import volfiles
from glupy import stores
from glupy.stores.loops import loop_device
from glupy.stores.mounts import mounts
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from glupy_tools import gluster, volume_state
from glupy_tools.volume_state import Stack

from .volumes import KIB, MIB, command

HELLO = Path(__file__).parents[3] / "xlators" / "examples" / "hello.py"
GROUP = "snapshots"
NAME, SNAPSHOT, CLONE = "images", "yesterday", "copy"
CHOSEN = [Stack("storage/pyposix", ["features/glupy"])] * 2
JOURNAL = "journal"
RECORD = 4 * KIB


class Entry(NamedTuple):
    """A file as a client sees it."""

    data: bytes
    xattrs: dict[str, bytes]
    has_holes: bool


def unmount() -> None:
    """Bricks of a volume that was restored stay mounted when that is deleted."""
    for mount in mounts():
        if GROUP in mount.source:
            stores.unmount(mount.folder)


@pytest.fixture
def bricks(tmp_path: Path) -> Iterator[list[Path]]:
    """Two directories, each on a thin volume of its own, as gluster wants it."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(600 * MIB)
    with contextlib.ExitStack() as undo:
        command("vgcreate", GROUP, undo.enter_context(loop_device(image)))
        undo.callback(command, "vgremove", "--force", "--yes", GROUP)
        undo.callback(unmount)
        command("lvcreate", "--type", "thin-pool", "--size", "400M", "--name", "pool", GROUP)
        found = []
        for name in "store-0", "store-1":
            thin = "--thin", "--virtualsize", "300M"
            command("lvcreate", *thin, "--name", name, f"{GROUP}/pool")
            device, folder = Path("/dev", GROUP, name), tmp_path / name
            command("mkfs.ext4", "-q", device)
            folder.mkdir()
            stores.mount(device, folder)
            found.append(folder / "brick")
        yield found


@contextlib.contextmanager
def telling(log: Path) -> Iterator[None]:
    """What fails comes with the end of a log."""
    try:
        yield
    except Exception as error:
        error.add_note("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        raise


def glupy(*words: str | Path) -> str:
    return command(sys.executable, "-m", "glupy_tools", *words)


def problems(name: str) -> list[str]:
    """What `glupy volume status` complains of."""
    (state,) = volume_state.states(name)
    found = [state.problem, *(brick.problem for brick in state.bricks)]
    return [problem for problem in found if problem]


def running(name: str) -> list[Stack | None]:
    """What the bricks of a volume run, when all is well."""
    assert problems(name) == []
    (state,) = volume_state.states(name)
    return [brick.running for brick in state.bricks]


def bricks_of(name: str) -> list[Path]:
    (volume,) = gluster.volumes(name)
    return [brick.path for brick in volume.bricks]


def bricks_of_snapshot(glusterd: Glusterd) -> list[gluster.Brick]:
    """`gluster volume` knows nothing of them."""
    nodes = glusterd.xml("snapshot", "status", SNAPSHOT).iter("brick")
    texts = [(node.findtext("path", ""), node.findtext("pid", "")) for node in nodes]
    return [gluster.Brick(path, "", int(pid)) for path, pid in texts]


def record(number: int) -> bytes:
    return number.to_bytes(8) * (RECORD // 8)


def records(journal: Path) -> int:
    """How many records a journal has: each of them whole, one after the other."""
    data = journal.read_bytes()
    count = len(data) // RECORD
    assert data == b"".join(map(record, range(count)))
    return count


@contextlib.contextmanager
def journaling(journal: Path) -> Iterator[Callable[[], int]]:
    """Append to a journal as long as the block runs: yields how many records are safe by now."""
    end, safe = threading.Event(), 0

    def append() -> None:
        nonlocal safe
        with journal.open("wb", buffering=0) as file:
            while not end.is_set():
                file.write(record(safe))
                os.fsync(file.fileno())
                safe += 1
                time.sleep(0.05)  # the store is small

    with ThreadPoolExecutor() as threads:
        appending = threads.submit(append)
        try:
            yield lambda: safe
        finally:
            end.set()
        appending.result()


def fill(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "empty").touch()
    (folder / "below" / "text").write_text("as it was")
    os.setxattr(folder / "below" / "text", "user.colour", b"red")
    (folder / "holes").write_bytes(os.urandom(2 * MIB))
    command("fallocate", "--punch-hole", "--length", f"{MIB}", folder / "holes")
    with (folder / "sparse").open("wb") as file:
        file.seek(10 * MIB)
        file.write(b"the end")


def change(folder: Path) -> None:
    (folder / "empty").unlink()
    (folder / "below" / "text").write_text("as it is")
    os.setxattr(folder / "below" / "text", "user.colour", b"blue")
    with (folder / "holes").open("r+b") as file:
        file.write(os.urandom(2 * MIB))
    (folder / "sparse").rename(folder / "below" / "sparse")
    (folder / "new").write_text("new")


def contents(folder: Path) -> dict[str, Entry]:
    """All files of a volume, but the journal."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != JOURNAL:
            keys = [key for key in os.listxattr(path) if key.startswith("user.")]
            status = path.stat()
            found[str(path.relative_to(folder))] = Entry(
                path.read_bytes(),
                {key: os.getxattr(path, key) for key in keys},
                status.st_blocks * 512 < status.st_size,
            )
    return found


@pytest.mark.long
def test_settings_survive(bricks: list[Path], logs: LogChecker, tmp_path: Path) -> None:
    """In a snapshot, in a clone of it, and in the volume that it is restored to."""
    with Glusterd(tmp_path / "glusterd") as glusterd, telling(glusterd.folder / "log"):
        volume = glusterd.create(NAME, bricks, "replica", "2", start=False)
        logs.watch(*map(volume.log, bricks))
        glupy("volume", "use", NAME, "--leaf", "pyposix")
        glupy("volume", "add", NAME, "features/glupy", "--option", f"module={HELLO}:Hello")
        volume.start()
        assert running(NAME) == CHOSEN
        with volume.mounted(tmp_path / "mnt") as mnt:
            fill(mnt)
            kept = contents(mnt)
            assert {name for name, entry in kept.items() if entry.has_holes} == {"holes", "sparse"}
            with journaling(mnt / JOURNAL) as safe:
                wait_until(safe)
                first = safe()
                glusterd.gluster("snapshot", "create", SNAPSHOT, NAME, "no-timestamp")
                last = safe() + 1  # one more may be on its way
                glusterd.gluster("snapshot", "activate", SNAPSHOT)
                wait_until(lambda: safe() > last)
            change(mnt)
            changed = contents(mnt)

            def check(mnt: Path) -> None:
                """Clients see what there was."""
                assert contents(mnt) == kept
                assert first <= records(mnt / JOURNAL) <= last

            # the snapshot
            parts = bricks_of_snapshot(glusterd)
            paths = [brick.path for brick in parts]
            snapshot = Volume(glusterd, f"snaps/{SNAPSHOT}/{NAME}", paths)
            logs.watch(*map(snapshot.log, paths))
            above = CHOSEN[0].translators
            assert [volume_state.running(brick, above) for brick in parts] == CHOSEN
            written = (glusterd.folder / "work" / "snaps" / SNAPSHOT).glob("*/*-brick.vol")
            types = [[each.type for each in volfiles.read(path)] for path in written]
            assert [volume_state.stack(each, above) for each in types] == CHOSEN
            with snapshot.mounted(tmp_path / "snapshot") as there:
                check(there)

            # a clone
            glusterd.gluster("snapshot", "clone", CLONE, SNAPSHOT)
            clone = Volume(glusterd, CLONE, bricks_of(CLONE))
            logs.watch(*map(clone.log, clone.bricks))
            clone.start()
            assert running(CLONE) == CHOSEN
            with clone.mounted(tmp_path / "clone") as there:
                check(there)
                (there / "of the clone").write_text("its own")
                (there / "holes").unlink()
            for brick in clone.bricks:
                assert ": /of the clone is yours" in clone.log(brick).read_text()
                assert (brick / "of the clone").read_text() == "its own"
            assert contents(mnt) == changed

        # the volume as it was
        volume.stop()
        glusterd.gluster("snapshot", "restore", SNAPSHOT)
        volume.bricks = bricks_of(NAME)
        assert volume.bricks == snapshot.bricks
        volume.start()
        assert running(NAME) == CHOSEN
        with volume.mounted(tmp_path / "mnt") as mnt:
            check(mnt)
            (mnt / "later").write_text("later")
        for brick in volume.bricks:
            assert (brick / "later").read_text() == "later"

        for each in volume, clone:
            each.heal()
            each.stop()
            for brick in each.bricks:
                glupy("brick", "check", brick)
            # What was seen is remembered, though it came with a snapshot.
            glusterd.gluster("volume", "reset", each.name)
            (problem,) = problems(each.name)
            assert problem.startswith("its settings are gone")
            glusterd.gluster("volume", "delete", each.name)
