"""What clients ask for beside a fop, of C's brick and of ours: what the tests of it share.

A `Running` side takes over other options at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import volfiles
from glupy import Loc, _entry, fops, keys
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, free_port
from glupy.testing.volfile_server import serving

from .comparing import LEAVES, Pair, compared, judged, table
from .sides import WINDER, Opened, Side

Xdata = Mapping[str, Any]
LOCK_COUNTS = {f"glusterfs.{kind}-count": 0 for kind in ("entrylk", "inodelk", "posixlk")}
CONTENTS = b"0123456789"
LINKTO = stat.S_IFREG | stat.S_ISVTX
"""The mode of a link file of DHT: the file itself is on another brick."""


class Asking(Side):
    """A side that shows a little more of a reply, or less."""

    def do(self, fop: str, *given: Any, **more: Any) -> Any:
        """Wind a fop. Of an unlink C tells a link count unasked: row unlink-link-count."""
        done = super().do(fop, *given, **more)
        answer = self.outcomes[-1].answer
        if fop == "unlink" and isinstance(answer, dict) and answer["xdata"]:
            if keys.GET_LINK_COUNT not in (more.get("xdata") or {}):
                answer["xdata"].pop(keys.GET_LINK_COUNT, None)
            answer["xdata"] = answer["xdata"] or None
        return done

    def _shown(self, table: fops.Fop, reply: Any) -> dict[str, Any]:
        """Of a create that fails C returns the request; only what it says beside is an answer."""
        shown = super()._shown(table, reply)
        if table.name == "create" and reply.op_ret < 0:
            failed = reply.xdata is not None and keys.PREOP_FAILED in reply.xdata
            shown["xdata"] = keys.PREOP_FAILED if failed else None
        return shown

    def _learn(self, fop: str, given: tuple[Any, ...], made: list[Any], reply: Any) -> None:
        """A file without a gfid has no inode."""
        if fop != "lookup" or reply.buf.ia_gfid:
            super()._learn(fop, given, made, reply)

    def gfid(self, name: str) -> bytes:
        """Return the gfid of a file that is there."""
        return bytes(self.inodes[self.path(name)].gfid)

    def by_gfid(self, name: str) -> Loc:
        """Return a loc that has nothing but the gfid of a file that is there."""
        return self.nameless(self.gfid(name))

    def held(self, name: str, data: bytes = CONTENTS) -> Opened:
        """Make a file with some bytes, and keep it open."""
        made = self.created(name)
        self.do("writev", made, data, 1, 0, 0, None)
        return made

    def linkto(self, name: str, xattr: bytes | None = b"elsewhere") -> None:
        """Make a link file of DHT, with or without the xattr that says where the file is."""
        self.do("mknod", name, LINKTO, 0, 0)
        if xattr is not None:
            self.do("setxattr", name, {keys.DHT_LINKTO: xattr}, 0)

    def plant(self, name: str, mode: int, xattrs: Xdata) -> None:
        """Make a file that the brick has, but its server does not know."""
        path, gfid = self.real(name), self.gfid_req(name)
        os.mknod(path, mode)
        for key, value in {keys.GFID: bytes(gfid), **xattrs}.items():
            os.setxattr(path, key, value)
        handle = self.folder / ".glusterfs" / str(gfid)[:2] / str(gfid)[2:4] / str(gfid)
        handle.parent.mkdir(exist_ok=True)
        os.link(path, handle)

    def make(self, fop: str, name: str, xdata: Xdata, **more: Any) -> None:
        """Make a file with the fop of that name."""
        given: dict[str, tuple[Any, ...]] = {
            "mkdir": (name, 0o755, 0),
            "mknod": (name, stat.S_IFREG | 0o644, 0, 0),
            "symlink": ("to", name, 0),
            "put": (name, 0o644, 0, 0, b"p" * 100, 1, 0, None, {"user.put": b"1"}),
        }
        label = f"{fop} {name} {xdata}"
        if fop == "create":
            self.created(name, xdata=xdata, label=label, **more)
        else:
            self.do(fop, *given[fop], xdata=xdata, label=label, **more)


MAKING = "create", "mknod", "mkdir", "symlink"


def check(
    sides: Sequence[Side], name: str, scenario: Callable[[Any], None], *, disk: bool = True
) -> list[Pair]:
    """Have both do the same; return what they answered: the same, but for rows of the table."""
    pairs = compared(sides, name, scenario, disk=disk)
    # Their folder's own mkdir tells how many there were before, by links of the root.
    pairs = [pair for pair in pairs if not pair[0].label.startswith("mkdir('/")]
    wrong = judged(pairs)
    assert not wrong, f"{len(wrong)} of {len(pairs)}:\n" + "\n".join(wrong[:50])
    assert {c.differs for c, _ in pairs if c.differs is not None} <= table().keys()
    return pairs


def told(pairs: list[Pair], row: str) -> list[tuple[Any, Any]]:
    """Return what C and what ours answered where they are to differ, and do."""
    return [(c.answer, ours.answer) for c, ours in pairs if c.differs == row]


# ---- values ----

ALL = 0xFFFFFFFF
ACL = struct.pack("<IHHIHHIHHI", 2, 1, 6, ALL, 4, 4, ALL, 32, 0, ALL)
TEXT = b"u::rw,u:7:r,g::r,m::rwx,o::-"


def packed(*times: int) -> bytes:
    """Return times as trusted.glusterfs.mdata has them."""
    return struct.pack(">BQ6q", 1, 0, *times)


CALLERS = {
    "user": 5,
    "none": 0,
    "gsyncd": -1,
    "hadoop": -2,
    "defrag": -3,
    "no-root-squash": -4,
    "quota": -5,
    "self-heal": -6,
    "heal": -7,
    "bit-rot": -8,
    "scrub": -9,
    "tier": -10,
    "trash": -11,
    "add-replica": -12,
    "set-utime": -13,
}
"""GlusterFS's own clients have pids of their own."""

# ---- a brick whose options change ----

UUID = "12345678-1234-1234-1234-123456789abc"
ALWAYS = {
    "health-check-interval": "0",
    "glusterd-uuid": UUID,
    "hostname": "here",
    "janitor-sleep-duration": "1",
    "batch-fsync-delay-usec": "0",
}
VOLUME = "brick"
SECONDS = 20.0


class Running(Asking):
    """A side whose brick gets its volfile as from glusterd: it has other options at any time."""

    def __init__(
        self,
        brick: Brick,
        graphs: dict[str, volfiles.Graph],
        leaf: str,
        folder: Path,
        client: Client,
        winder: Any,
    ) -> None:
        super().__init__(folder, client, winder)
        self.brick = brick
        self.leaf = leaf
        self._graphs = graphs
        self._port = int(brick.graph.top.options["transport.socket.listen-port"])

    def offer(self, options: Mapping[str, str]) -> None:
        """Have another volfile for the brick, once it asks."""
        self._graphs[VOLUME] = brick_graph(self.leaf, self.folder, self._port, options)

    def set(self, options: Mapping[str, str]) -> None:
        """Change the options; those not given are again what they are without a word."""
        self.offer(options)
        self.ask("No change in volfile", 1)

    def ask(self, expected: str, times: int) -> None:
        """Have the brick ask for its volfile until its log has a text so many times more."""
        enough = self.brick.log_text().count(expected) + times
        deadline = time.monotonic() + SECONDS
        while self.brick.log_text().count(expected) < enough:
            assert time.monotonic() < deadline, self.brick.log_text()[-2000:]
            os.kill(self.brick.pid, signal.SIGHUP)
            time.sleep(0.02)


def brick_graph(leaf: str, folder: Path, port: int, options: Mapping[str, str]) -> volfiles.Graph:
    return volfiles.brick(folder, leaf=leaf, port=port, options={**ALWAYS, **options})


@contextlib.contextmanager
def run(leaf: str, folder: Path, scratch: Path) -> Iterator[Running]:
    """A brick and its client; a server of volfiles beside it."""
    folder.mkdir(exist_ok=True)
    graph = brick_graph(leaf, folder, free_port(), {})
    graphs = {VOLUME: graph}
    socket = scratch / f"{leaf}.sock"
    fetching = "-s", str(socket), "--volfile-server-transport=unix", f"--volfile-id={VOLUME}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(graphs, socket))
        brick = stack.enter_context(Brick(graph, scratch / leaf, arguments=fetching))
        winder = "features/glupy", {"module": f"{WINDER}:Winder"}
        log = scratch / f"{leaf}-client.log"
        graph = brick.client_graph(inserts=[winder])
        client = stack.enter_context(Client(graph, log=log, background_fini=True))
        winders = [each for each in _entry._instances.values() if type(each).__name__ == "Winder"]
        side = Running(brick, graphs, leaf, folder, client, winders[-1])
        stack.callback(side.close)
        yield side


@contextlib.contextmanager
def run_both(folders: Mapping[str, Path], scratch: Path) -> Iterator[list[Running]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(run(leaf, folders[leaf], scratch)) for leaf in LEAVES]


def until(what: Callable[[], Any]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
