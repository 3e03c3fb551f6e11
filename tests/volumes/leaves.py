"""Volumes whose leaf `glupy volume` has chosen, their clients, and what is waited for."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.statedump import Statedump
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until

KIB, MIB = 1 << 10, 1 << 20
_numbers = itertools.count()

# What a brick says of clients that go, and a client of bricks that do.
PARTING = (
    r"Transport endpoint is not connected|forced unwinding frame|rpcsvc_submit_generic",
    r"Failed to get fd context for a non-anonymous fd",
)


def glupy(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What the command says, however it ends."""
    command = [sys.executable, "-m", "glupy_tools", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@contextlib.contextmanager
def volume_on(
    leaf: str,
    glusterd: Glusterd,
    store: stores.Store,
    logs: LogChecker,
    bricks: int,
    *kind: str,
    options: dict[str, str] | None = None,
    start: bool = True,
) -> Iterator[Volume]:
    """A volume with so many bricks on that leaf, for as long as the block runs; of leaf ``mixed``
    every other brick, from the first one on, is on pyposix."""
    name = f"{leaf}-{next(_numbers)}"
    folder = store.folder / name
    paths = [folder / str(number) for number in range(bricks)]
    with contextlib.ExitStack() as undo:
        undo.callback(stores.run, "rm", "-rf", folder)
        volume = glusterd.create(name, paths, *kind, options=options, start=False)
        undo.callback(glusterd.gluster, "volume", "delete", name)
        undo.callback(glusterd.gluster, "volume", "stop", name, "force")
        logs.watch(*map(volume.log, paths))
        use_leaf(leaf, volume, glusterd)
        if start:
            volume.start()
        yield volume


def use_leaf(leaf: str, volume: Volume, glusterd: Glusterd) -> None:
    """Have a volume that is stopped start with that leaf."""
    choices = [] if leaf == "posix" else [["--leaf", "pyposix" if leaf == "mixed" else leaf]]
    if leaf == "mixed":
        in_c = volume.bricks[1::2]
        bricks = [word for brick in in_c for word in ("--brick", glusterd.brick(brick))]
        choices.append(["--leaf", "posix", *bricks])
    for words in choices:
        done = glupy("volume", "use", volume.name, *words)
        assert done.returncode == 0, done


@contextlib.contextmanager
def client_of(volume: Volume, glusterd: Glusterd, log: Path) -> Iterator[Client]:
    """A gfapi client of a volume."""
    with Client.of_volume(volume.name, glusterd.host, log=log, background_fini=True) as client:
        yield client


def dumped(folder: Path, pid: int) -> Statedump:
    """The last statedump that a process was told to write to a folder; it goes from there."""

    def dumps() -> list[Path]:
        return sorted(folder.glob(f"*.{pid}.dump.*"))

    wait_until(dumps, f"a statedump of process {pid}")
    found = dumps()
    dump = Statedump.parse(found[-1].read_text(errors="replace"))
    for path in found:
        path.unlink()
    return dump
