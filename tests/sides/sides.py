"""The same fops on a C brick and on a pyposix brick, and what each answers.

A `Side` is one of the bricks with its client, whose graph is in this process: protocol/client and
above it a translator (`translators/winder.py`) that winds what the test says, so that nothing is
checked or changed before the brick has it. Files get gfids that follow from their names, so answers
are compared whole: all but times, and what says how full the disk is.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import os
import queue
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glupy import Fd, FileType, Flock, Gfid, Iatt, Inode, Loc, Statvfs, Vector, _entry, fops
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.views import Dict, Mdata
from glupy.views.dirents import Dirent, Dirents
from glupy.views.locks import Lease, Locks
from volfiles import Graph

WINDER = Path(__file__).parent / "translators" / "winder.py"
# Whose op_errno says something after success: ENOENT, the end.
TELLING = {"readv", "readdir", "readdirp"}
# What makes a file, and the field of its reply that has the file's attributes.
MAKES = {"create": "buf", "mknod": "buf", "mkdir": "buf", "symlink": "buf", "put": "buf"}
SHORT = 64
READ = 16 << 20
CLOSING_SECONDS = 3.0
# Times; and what only says how the file system is used.
UNCOMPARED_XATTRS = {"trusted.glusterfs.mdata", "security.selinux"}


class Outcome(NamedTuple):
    """One fop that was sent, and its answer; ``differs`` is the row of docs/differences.md."""

    label: str
    answer: Any
    differs: str | None


class Opened:
    """An fd of the client, open or not. The brick closes it when this is dropped."""

    def __init__(self, label: str, fd: Fd) -> None:
        self.label = label
        self.fd = fd

    def __repr__(self) -> str:
        return self.label


class Side:
    """One brick, and all that was asked there.

    Paths without a leading slash are in ``base``. ``inodes`` has the files that are known by path.
    ``disk_rows`` says which row of the table makes what differ on the disk: by parts of the label.
    """

    def __init__(self, folder: Path, client: Client, winder: Any) -> None:
        self.folder = folder
        self._device = folder.stat().st_dev
        self.client = client
        self._winder = winder
        client.stat("/")
        self.inodes: dict[str, Inode] = {"/": winder.root}
        self._made: dict[str, int] = {}
        self.base = "/"
        self.outcomes: list[Outcome] = []
        self.disk_rows: dict[str, str] = {}
        self._earlier: set[str] = set()

    def begin(self, name: str) -> None:
        """Start over in a folder of its own."""
        self.outcomes = []
        self.disk_rows = {}
        self._earlier = set(self._handles())
        self.base = "/"
        if f"/{name}" not in self.inodes:
            self.do("mkdir", f"/{name}", 0o755, 0)
        self.base = f"/{name}"

    def close(self) -> None:
        """Let go of what lives in the client's graph, which ends next."""
        self.inodes.clear()
        self._winder.drop()
        gc.collect()  # as in `disk`

    # ---- names ----

    def path(self, name: str) -> str:
        """Return the path from the volume's root."""
        return name if name.startswith("/") else f"{self.base.rstrip('/')}/{name}"

    def real(self, name: str) -> Path:
        """Return where the brick has it."""
        return self.folder / self.path(name).lstrip("/")

    def gfid_req(self, name: str) -> Gfid:
        """Return a gfid that nothing has had, the same on both sides."""
        path = self.path(name)
        self._made[path] = self._made.get(path, 0) + 1
        made = f"{path} {self._made[path]}".encode("utf-8", "surrogateescape")
        return Gfid(hashlib.md5(made, usedforsecurity=False).digest())

    def loc(self, name: str | Loc) -> Loc:
        """Return the loc of a path: its inode if it is known, else a new one."""
        if isinstance(name, Loc):
            return name
        path = self.path(name)
        parent, base = os.path.split(path)
        inode = self.inodes.get(path)
        above = self.inodes.get(parent) if path != "/" else None
        loc: Loc = self._winder.keeps(
            Loc(
                path=path,
                name=base if path != "/" else None,
                inode=inode or self._winder.inode(),
                parent=above,
                gfid=inode.gfid if inode else None,
                pargfid=above.gfid if above else None,
            )
        )
        return loc

    def nameless(self, gfid: bytes) -> Loc:
        """Return a loc that has nothing but a gfid."""
        loc = Loc(path=f"<gfid:{Gfid(gfid)}>", inode=self._winder.inode(), gfid=gfid)
        self._winder.keeps(loc)
        return loc

    # ---- fops ----

    def do(
        self,
        fop: str,
        *given: Any,
        xdata: Mapping[str, Any] | Callable[[Dict], None] | None = None,
        caller: Mapping[str, Any] | None = None,
        differs: str | None = None,
        keep: Callable[[Any], Any] | None = None,
        label: str | None = None,
    ) -> Any:
        """Wind a fop; keep its answer among the outcomes. Return ``keep(reply)``, or its op_ret.

        ``given`` are C's arguments but for xdata. A path stands for a loc, a dictionary for a dict.
        What makes a file has a ``gfid-req`` in its xdata, unless that is given.
        """
        table = fops.TABLE[fop]
        kinds = [(name, kind) for name, kind in table.arguments if name != "xdata"]
        made: list[Any] = []
        for (_, kind), value in zip(kinds, given, strict=True):
            if kind == "loc":
                made.append(self.loc(value))
            elif kind == "fd":
                made.append(value.fd)
            elif kind == "dict" and isinstance(value, Mapping) and not isinstance(value, Dict):
                made.append(filled(value))
            else:
                made.append(value)
        if fop in MAKES and xdata is None:
            loc = made[1] if fop == "symlink" else made[0]
            xdata = {"gfid-req": self.gfid_req(loc.path)}
        if any(name == "xdata" for name, _ in table.arguments):
            made.append(None if xdata is None else filled(xdata))
        kept: list[Any] = []

        def show(reply: Any) -> Any:
            if reply.op_ret >= 0:
                self._learn(fop, given, made, reply)
                kept.append(keep(reply) if keep else reply.op_ret)
            return self._shown(table, reply)

        try:
            answer = self._winder.wind(fop, *made, show=show, caller=caller)
        except queue.Empty:
            answer = "no answer"
        if isinstance(answer, dict) and answer["op_errno"] == "ENOTCONN":
            answer = "refused by the client"
            self.client.statvfs("/")  # raises if it is the brick that has gone
        if label is None:
            label = f"{fop}({', '.join(map(_labelled, given))})"
            if xdata is not None and fop not in MAKES:
                label += f" {sorted(xdata) if isinstance(xdata, Mapping) else 'xdata'}"
            if caller:
                label += f" as {dict(caller)}"
        self.outcomes.append(Outcome(label, answer, differs))
        return kept[0] if kept else None

    def note(self, label: str, value: Any, differs: str | None = None) -> None:
        """Keep what was seen in another way."""
        self.outcomes.append(Outcome(label, value, differs))

    def opened(self, name: str, flags: int, **more: Any) -> Opened:
        """Open a file; the fd is returned even if that failed."""
        made = Opened(f"{name} {flags:#o}", self._winder.fd(self.loc(name).inode, flags))
        self.do("open", name, flags, made, **more)
        return made

    def created(
        self, name: str, flags: int = os.O_RDWR | os.O_EXCL, mode: int = 0o644, **more: Any
    ) -> Opened:
        """Create and open a file; the fd is returned even if that failed."""
        loc = self.loc(name)
        made = Opened(f"{name} {flags:#o}", self._winder.fd(loc.inode, flags))
        more = {"label": f"create({_labelled(name)}, {flags:#o}, {mode:#o})", **more}
        self.do("create", loc, flags, mode, 0, made, **more)
        return made

    def opened_dir(self, name: str, **more: Any) -> Opened:
        """Open a directory, or try to."""
        made = Opened(f"{name}/", self._winder.fd(self.loc(name).inode, os.O_RDONLY))
        self.do("opendir", name, made, **more)
        return made

    def anonymous(self, name: str, flags: int = os.O_RDWR) -> Opened:
        """Return an fd that nobody opened."""
        inode = self.loc(name).inode
        return Opened(f"anonymous {name} {flags:#o}", self._winder.anonymous(inode, flags))

    def unopened(self, name: str, flags: int = os.O_RDWR) -> Opened:
        """Return an fd that was never opened, or that the server has forgotten."""
        return Opened(f"unopened {name}", self._winder.fd(self.loc(name).inode, flags))

    def _learn(self, fop: str, given: tuple[Any, ...], made: list[Any], reply: Any) -> None:
        """Keep what is known of names up to date."""
        if fop in MAKES:
            loc = made[1] if fop == "symlink" else made[0]
            self.inodes[loc.path] = self._winder.link(loc, getattr(reply, MAKES[fop]))
        elif fop in ("lookup", "link"):
            loc = made[-2]
            if not loc.path.startswith("<"):
                self.inodes[loc.path] = self._winder.link(loc, reply.buf)
        elif fop in ("unlink", "rmdir"):
            self.inodes.pop(made[0].path, None)
        elif fop == "rename":
            old, new = made[0].path, made[1].path
            for path in [p for p in self.inodes if p == old or p.startswith(old + "/")]:
                self.inodes[new + path[len(old) :]] = self.inodes.pop(path)

    # ---- answers ----

    def _shown(self, table: fops.Fop, reply: Any) -> dict[str, Any]:
        number = reply.op_errno
        if reply.op_ret >= 0 and table.name not in TELLING:
            number = 0  # C leaves there what an earlier call has left
        shown = {"op_ret": reply.op_ret, "op_errno": errno.errorcode.get(number, number)}
        for name, kind in table.reply_fields:
            if kind not in ("inode", "fd", "iobref"):
                shown[name] = self.plain(getattr(reply, name))
        # An empty dict and none are the same to whoever reads it; and what C returns of a failed
        # create is no answer, but the request itself.
        told = shown.get("xdata") or None
        shown["xdata"] = None if reply.op_ret < 0 and told and "gfid-req" in told else told
        return shown

    def plain(self, value: Any) -> Any:
        """What is comparable of a value of a reply, and outlives it."""
        if isinstance(value, Iatt):
            return self._iatt(value)
        if isinstance(value, Dict):
            return {
                key: self.plain(value[key]) if key not in UNCOMPARED_XATTRS else len(value[key])
                for key in sorted(value)
            }
        if isinstance(value, Vector):
            return short(bytes(value))
        if isinstance(value, Statvfs):
            names = ["f_bsize", "f_frsize", "f_blocks", "f_flag", "f_namemax"]
            return {name: getattr(value, name) for name in names}
        if isinstance(value, Dirents):
            return [self.plain(each) for each in value]
        if isinstance(value, Dirent):
            stat_ = self._iatt(value.d_stat) if value.d_stat is not None else None
            return (value.d_name, value.d_type, value.d_off, stat_, self.plain(value.dict))
        if isinstance(value, Flock):
            return (value.l_type, value.l_whence, value.l_start, value.l_len)
        if isinstance(value, Lease):
            return (value.cmd, value.lease_type, value.lease_flags, value.lease_id)
        if isinstance(value, Locks):
            return [self.plain(each.flock) for each in value]
        if isinstance(value, Mdata):
            return "times"
        if isinstance(value, bytes) and not isinstance(value, Gfid):
            return short(value.replace(os.fsencode(self.folder), b"BRICK"))
        if isinstance(value, str):
            return value.replace(str(self.folder), "BRICK")
        return value

    def _iatt(self, value: Iatt) -> dict[str, Any]:
        """Return attributes without times."""
        names = ["flags", "rdev", "size", "nlink", "uid", "gid", "blksize", "blocks"]
        shown = {name: getattr(value, f"ia_{name}") for name in names}
        kind, gfid = value.ia_type, value.ia_gfid
        shown["mode"] = stat.filemode(value.mode) if kind != FileType.INVAL else value.mode
        shown["gfid"] = str(gfid)
        shown["dev"] = "the brick's" if value.ia_dev == self._device else value.ia_dev
        rule = int.from_bytes(gfid[8:], "big")
        shown["ino"] = "gfid's" if value.ia_ino == rule else value.ia_ino
        return shown

    def until_closed(self) -> None:
        """Wait until the brick has closed what was unlinked, and is held here no longer."""
        gc.collect()  # failed replies are cycles with what was sent, fds too
        orphans = self.folder / ".glusterfs" / "unlink"
        deadline = time.monotonic() + CLOSING_SECONDS
        while time.monotonic() < deadline and any(
            each.name not in self._earlier for each in orphans.iterdir()
        ):
            time.sleep(0.01)

    def disk(self) -> dict[str, Any]:
        """Return what is below ``base``, and what handles are new, once fds are closed."""
        self.until_closed()
        found: dict[str, Any] = {}
        for folder, _, files in os.walk(self.real("")):
            for path in [Path(folder), *(Path(folder, name) for name in files)]:
                try:
                    found[f"disk: {path.relative_to(self.folder)}"] = on_disk(path)
                except OSError as error:  # a path too long
                    found[f"disk: {path.relative_to(self.folder)}"] = error.errno
        for name, place in self._handles().items():
            if name not in self._earlier:
                found[f"handle: {name}"] = place
        return found

    def _handles(self) -> dict[str, str]:
        """Return where the brick has which handle."""
        return {
            name: str(Path(folder).relative_to(self.folder))
            for folder, folders, files in os.walk(self.folder / ".glusterfs")
            for name in [*folders, *files]
            if name.count("-") == 4
        }


@contextlib.contextmanager
def served(
    graph: Graph, folder: Path, scratch: Path, name: str, kind: type[Side] = Side
) -> Iterator[Side]:
    """A brick with that graph over a folder, and its client."""
    with contextlib.ExitStack() as stack:
        brick = stack.enter_context(Brick(graph, scratch / name))
        winder = "features/glupy", {"module": f"{WINDER}:Winder"}
        client = stack.enter_context(
            Client(
                brick.client_graph(inserts=[winder]),
                log=scratch / f"{name}-client.log",
                background_fini=True,
            )
        )
        instances = [each for each in _entry._instances.values() if type(each).__name__ == "Winder"]
        side = kind(folder, client, instances[-1])
        stack.callback(side.close)
        yield side


def filled(given: Mapping[str, Any] | Callable[[Dict], None]) -> Dict:
    """Return a dict of GlusterFS."""
    if callable(given):
        made = Dict()
        given(made)
        return made
    return Dict(given)


def _labelled(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return str(short(bytes(value)))
    if isinstance(value, str) and len(value) > SHORT:
        return f"{value[:20]!r}…{len(value)}"
    if isinstance(value, Iatt):
        return "iatt"
    return repr(value)


def short(value: bytes) -> Any:
    """Return bytes, or what stands for many."""
    if len(value) <= SHORT:
        return value
    return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:12]}"


def on_disk(path: Path) -> dict[str, Any]:
    """Return what a file on the disk is, without times and numbers."""
    status = path.lstat()
    directory, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
    return {
        "mode": stat.filemode(status.st_mode),
        "nlink": status.st_nlink,
        "owner": (status.st_uid, status.st_gid),
        "rdev": status.st_rdev,
        "size": None if directory else status.st_size,
        "blocks": None if directory else status.st_blocks,
        "xattrs": xattrs(path),
        "data": short(path.read_bytes()) if is_file and status.st_size <= READ else None,
        "target": str(path.readlink()) if path.is_symlink() else None,
    }


def xattrs(path: Path) -> dict[str, Any]:
    """Return what is stored of a file."""
    found = {}
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, name, follow_symlinks=False)
        found[name] = len(value) if name in UNCOMPARED_XATTRS else short(value)
    return found
