"""Fops at the same time: pyposix does in parallel what C posix does in parallel, and no more.

No clock says so, but a file system that is frozen: whoever would write to it is held in the kernel
until it is thawed, before any lock that the kernel has itself. A fop that begins while others are
held there has its answer, or is held there too, or waits: the brick carries out one at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import volfiles
from glupy import Loc, constants, keys, stores
from glupy.views import Mdata

from .comparing import LEAVES
from .scenarios import BLOCK, MODE, with_mode
from .sides import Opened, Side, served

pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

SIZE = 256 << 20
SECONDS = 20.0
IO_THREADS = (
    "performance/io-threads",
    {
        "idle-time": "3600",
        **dict.fromkeys(["thread-count", "normal-prio-threads", "low-prio-threads"], "64"),
    },
)
# linux/fs.h
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
HELD = "percpu_rwsem_wait"
"""Where the kernel holds whoever would write to a frozen file system."""


# ---- fops ----

Fop = Callable[[], Any]
"""A fop that is still to be sent."""
NUMBERS = map(str, itertools.count())


@dataclass
class At:
    """What a fop is about: a file, an fd of it that no other fop has, and names in its folder."""

    side: Side
    folder: str
    file: str
    fd: Opened

    def fop(self, fop: str, *given: Any, **more: Any) -> Fop:
        """Return a fop for this side."""
        return functools.partial(self.side.do, fop, *given, **more)

    def free(self) -> str:
        """Return a name that nothing has."""
        return f"{self.folder}/{next(NUMBERS)}"

    def made(self, fop: str, *given: Any) -> str:
        """Return the name of something new."""
        self.side.do(fop, name := self.free(), *given)
        return name

    def linked(self) -> str:
        """Return one more name of the file."""
        self.side.do("link", self.file, name := self.free())
        return name

    def symlinked(self) -> str:
        """Return the name of a symbolic link."""
        self.side.do("symlink", "to", name := self.free(), 0)
        return name

    def marked(self) -> str:
        """Return an xattr that the file has."""
        name = f"user.{next(NUMBERS)}"
        self.side.do("setxattr", self.file, {name: b"x"}, 0)
        return name

    def unseen(self) -> str:
        """Return a name of the file of which the client does not know."""
        name = self.linked()
        del self.side.inodes[self.side.path(name)]
        return name

    def nameless(self) -> Loc:
        """Return a loc that has only the file's gfid."""
        return self.side.nameless(self.side.inodes[self.side.path(self.file)].gfid)


def new(side: Side, folder: str | None = None) -> At:
    """Make a file, and a folder for it unless there is one."""
    if folder is None:
        side.do("mkdir", folder := next(NUMBERS), *FOLDER)
    fd = side.created(file := f"{folder}/{next(NUMBERS)}")
    side.do("writev", fd, *DATA)
    return At(side, folder, file, fd)


def again(at: At) -> At:
    """Open the file once more."""
    return At(at.side, at.folder, at.file, at.side.opened(at.file, os.O_RDWR))


Act = Callable[[At], Fop]
"""Prepares a fop."""


def by_fd(fop: str, *given: Any, **more: Any) -> Act:
    return lambda at: at.fop(fop, at.fd, *given, **more)


def by_name(fop: str, *given: Any) -> Act:
    return lambda at: at.fop(fop, at.file, *given)


def making(fop: str, *given: Any) -> Act:
    return lambda at: at.fop(fop, at.free(), *given)


def opening(flags: int) -> Act:
    return lambda at: functools.partial(at.side.opened, at.file, flags)


def listing(fop: str, *given: Any) -> Act:
    return lambda at: at.fop(fop, at.side.opened_dir(at.folder), *given)


def copying(**more: Any) -> Act:
    return lambda at: at.fop("copy_file_range", at.fd, 0, at.fd, BLOCK, BLOCK, 0, **more)


DATA = b"w" * BLOCK, 1, 0, 0, None
FILE, FOLDER = (stat.S_IFREG | 0o644, 0, 0), (0o755, 0)
ATOMIC, APPEND = {keys.UPDATE_ATOMIC: 1}, {keys.WRITE_IS_APPEND: 1}
ADD = constants.GF_XATTROP_ADD_ARRAY
COUNTER = "trusted.afr.x"
ONE, ZERO = ({COUNTER: number.to_bytes(4)} for number in (1, 0))

ON_FILES: dict[str, Act] = {
    "writev": by_fd("writev", *DATA),
    "writev-atomic": by_fd("writev", *DATA, xdata=ATOMIC),
    "writev-append": by_fd("writev", *DATA, xdata=APPEND),
    "discard": by_fd("discard", 0, BLOCK),
    "discard-atomic": by_fd("discard", 0, BLOCK, xdata=ATOMIC),
    "zerofill": by_fd("zerofill", 0, BLOCK),
    "zerofill-atomic": by_fd("zerofill", 0, BLOCK, xdata=ATOMIC),
    "fallocate": by_fd("fallocate", 0, 0, BLOCK),
    "fallocate-atomic": by_fd("fallocate", 0, 0, BLOCK, xdata=ATOMIC),
    "truncate": by_name("truncate", BLOCK),
    "ftruncate": by_fd("ftruncate", BLOCK),
    "open-truncate": opening(os.O_RDWR | os.O_TRUNC),
    "setattr": by_name("setattr", with_mode(0o600), MODE),
    "fsetattr": by_fd("fsetattr", with_mode(0o600), MODE),
    "setxattr": by_name("setxattr", {"user.x": b"x"}, 0),
    "fsetxattr": by_fd("fsetxattr", {"user.x": b"x"}, 0),
    "removexattr": lambda at: at.fop("removexattr", at.file, at.marked()),
    "fremovexattr": lambda at: at.fop("fremovexattr", at.fd, at.marked()),
    "xattrop": by_name("xattrop", ADD, ONE),
    "fxattrop": by_fd("fxattrop", ADD, ONE),
    "link": lambda at: at.fop("link", at.file, at.free()),
    "unlink": lambda at: at.fop("unlink", at.linked(), 0),
    "rename": lambda at: at.fop("rename", at.linked(), at.free()),
    "rename-over": lambda at: at.fop("rename", at.linked(), at.made("mknod", *FILE)),
}
ON_NAMES: dict[str, Act] = {
    "create": lambda at: functools.partial(at.side.created, at.free()),
    "mknod": making("mknod", *FILE),
    "mkdir": making("mkdir", *FOLDER),
    "symlink": lambda at: at.fop("symlink", "to", at.free(), 0),
    "unlink-last": lambda at: at.fop("unlink", at.made("mknod", *FILE), 0),
    "rmdir": lambda at: at.fop("rmdir", at.made("mkdir", *FOLDER), 0),
    "rmdir-tree": lambda at: at.fop("rmdir", at.made("mkdir", *FOLDER), 1),
    "rename-directory": lambda at: at.fop("rename", at.made("mkdir", *FOLDER), at.free()),
}
# Nothing else can be seen behind these. io-threads of 10.3 has no copy_file_range, so nothing that
# the client sends overtakes one; and while C posix stores times it has all else of the file spin.
LAST_ON_FILES: dict[str, Act] = {
    "copy_file_range": copying(),
    "copy_file_range-atomic": copying(xdata=ATOMIC),
    "setxattr-times": by_name("setxattr", {keys.SET_MDATA: Mdata(1, 1, 1, 0, 0, 0)}, 0),
}
WRITES = ON_FILES | ON_NAMES
READS: dict[str, Act] = {
    "lookup": by_name("lookup"),
    "lookup-unseen": lambda at: at.fop("lookup", at.unseen()),
    "lookup-gfid": lambda at: at.fop("lookup", at.nameless()),
    "lookup-folder": lambda at: at.fop("lookup", at.folder),
    "stat": by_name("stat"),
    "stat-folder": lambda at: at.fop("stat", at.folder),
    "fstat": by_fd("fstat"),
    "access": by_name("access", os.R_OK),
    "readlink": lambda at: at.fop("readlink", at.symlinked(), 100),
    "statfs": by_name("statfs"),
    "open": opening(os.O_RDWR),
    "readv": by_fd("readv", BLOCK, 0, 0),
    "seek": by_fd("seek", 0, constants.GF_SEEK_HOLE),
    "rchecksum": by_fd("rchecksum", 0, BLOCK),
    "getxattr": lambda at: at.fop("getxattr", at.file, at.marked()),
    "getxattr-names": by_name("getxattr", "glusterfs.gfidtopath"),
    "fgetxattr": by_fd("fgetxattr", None),
    "xattrop-zero": by_name("xattrop", ADD, ZERO),
    "opendir": lambda at: functools.partial(at.side.opened_dir, at.folder),
    "readdir": listing("readdir", BLOCK, 0),
    "readdirp": listing("readdirp", BLOCK, 0),
    "fsync": by_fd("fsync", 0),
    "fsyncdir": listing("fsyncdir", 0),
    "flush": by_fd("flush"),
}


# ---- at the same time ----


class Shared(Side):
    """A side that many threads ask."""

    def __init__(self, *given: Any) -> None:
        self._lock = threading.Lock()
        super().__init__(*given)

    def _learn(self, *given: Any) -> None:
        with self._lock:
            super()._learn(*given)


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Let nobody write to a file system while the block runs."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(number, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(number, FITHAW, 0)
    finally:
        os.close(number)


@contextlib.contextmanager
def thawed_at_the_latest(folder: Path) -> Iterator[None]:
    """Have a file system thawed that this process has frozen when it is killed."""
    command = ["sh", "-c", 'cat; exec fsfreeze --unfreeze "$0" 2>/dev/null', str(folder)]
    # Its input ends with this process; a Ctrl-C does not reach it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0):
        yield


def doings(pid: int) -> dict[str, tuple[str, str]]:
    """Return of a process's threads but this one what each does, and how often it has stopped."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(threading.get_native_id()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = (task / "status").read_text()
                state = status.partition("\nState:\t")[2][0]
                doing = (task / "wchan").read_text() if state == "D" else state
                found[task.name] = doing, status.partition("\nvoluntary_ctxt_switches:")[2]
    return found


@dataclass
class Rink:
    """Bricks on a file system that can be frozen."""

    folder: Path
    sides: dict[str, Side]
    pids: dict[str, int]

    def told(self, prepare: Callable[[Side], dict[str, Fop]]) -> dict[str, dict[str, str]]:
        """Begin fops one after the other, the first of which is held; return what each one does.

        ``prepare`` says which, before nobody can write any more. In the end all must succeed.
        """
        for side in self.sides.values():
            side.outcomes.clear()
        fops = {leaf: prepare(side) for leaf, side in self.sides.items()}
        told: dict[str, dict[str, str]] = {leaf: {} for leaf in fops}
        names = list(fops[LEAVES[0]])
        begun: list[Future[Any]] = []
        with ThreadPoolExecutor(len(fops) * len(names)) as pool, frozen(self.folder):
            for name in names:
                futures = {leaf: pool.submit(fops[leaf][name]) for leaf in fops}
                begun += futures.values()
                held = self._settled(futures.values())
                for leaf, future in futures.items():
                    earlier = list(told[leaf].values()).count("held")
                    waiting = "held" if held[leaf] > earlier else "waits"
                    told[leaf][name] = "answered" if future.done() else waiting
                assert all("held" in each.values() for each in told.values()), told
        for each in begun:
            each.result()
        outcomes = [outcome for side in self.sides.values() for outcome in side.outcomes]
        assert not [each for each in outcomes if each.answer["op_ret"] < 0]
        return told

    def make_room(self, fops: int) -> None:
        """Have each brick carry out so many fops at once, of which most are held.

        io-threads starts one more thread when more fops wait than it has threads.
        """
        names = [str(number) for number in range(2 * fops)]
        told = self.told(lambda side: dict.fromkeys(names, WRITES["writev"](new(side))))
        assert all(list(each.values()).count("held") >= fops for each in told.values()), told

    def _settled(self, futures: Iterable[Future[Any]]) -> dict[str, int]:
        """Return how many threads of each brick are held, once there are answers or will be none.

        While no thread runs no message is under way: a Unix socket wakes at once who reads from it.
        And no thread has run between two looks at all of them if none has stopped once more.
        """
        deadline = time.monotonic() + SECONDS
        processes = {**self.pids, "client": os.getpid()}
        seen: dict[str, dict[str, tuple[str, str]]] = {}
        while True:
            answered = all(future.done() for future in futures)
            now = {name: doings(pid) for name, pid in processes.items()}
            found = {name: [doing for doing, _ in each.values()] for name, each in now.items()}
            if answered or (
                now == seen and {"S", HELD}.issuperset(itertools.chain(*found.values()))
            ):
                return {name: each.count(HELD) for name, each in found.items()}
            seen = now
            assert time.monotonic() < deadline, f"somebody is always busy: {seen}"


@contextlib.contextmanager
def skating(
    leaf: str, folder: Path, scratch: Path, inserts: Sequence[volfiles.Insert] = ()
) -> Iterator[tuple[Side, int]]:
    """A brick in a folder that is made, and the number of its process."""
    options = {"health-check-interval": "0", "janitor-sleep-duration": "600"}
    folder.mkdir()
    name = folder.name
    given: dict[str, Any] = {"leaf": leaf, "options": options, "inserts": inserts, "ctime": True}
    graph = volfiles.brick(folder, socket=scratch / f"{name}.socket", **given)
    graph = graph.remove("brick-io-threads").insert(IO_THREADS, above="brick-locks")
    with served(graph, folder, scratch, name, Shared) as side:
        yield side, int((scratch / name / "pid").read_text())


@pytest.fixture(scope="module")
def rink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rink]:
    scratch = tmp_path_factory.mktemp("parallel")
    with (
        stores.store(scratch / "image", SIZE, scratch / "mnt", options=["nobarrier"]) as store,
        thawed_at_the_latest(store.folder),
        contextlib.ExitStack() as stack,
    ):
        made = Rink(store.folder, {}, {})
        for leaf in LEAVES:
            brick = skating(leaf, store.folder / leaf, scratch)
            made.sides[leaf], made.pids[leaf] = stack.enter_context(brick)
        made.make_room(4)
        yield made


# ---- tests ----

FOLDERS = pytest.mark.parametrize("where", ["in one folder", "in two folders"])


ALLOCATIONS = {"zerofill", "zerofill-atomic", "fallocate", "fallocate-atomic"}
KEPT_OUT = {"truncate", "ftruncate", "writev", "writev-atomic", "writev-append"}
KEPT_OUT |= {"copy_file_range", "copy_file_range-atomic"}


def kept_out(first: str, second: str) -> bool:
    """Row `allocations-alone` of docs/differences.md: nobody else writes what may be undone."""
    pair = {first, second}
    return bool(pair & ALLOCATIONS) and pair <= ALLOCATIONS | KEPT_OUT


def is_atomic(fop: str) -> bool:
    """Say whether C posix does one of these after the other: their attributes tell of one."""
    return fop.endswith("-atomic") or fop == "writev-append"


def check_on_one_file(first: str, second: str, rink: Rink) -> None:
    def prepare(side: Side) -> dict[str, Fop]:
        at = new(side)
        behind = ON_FILES | LAST_ON_FILES
        return {"first": ON_FILES[first](at), "second": behind[second](again(at))}

    told = rink.told(prepare)
    if kept_out(first, second):
        assert told["pyposix"] == {"first": "held", "second": "waits"}
        waits = is_atomic(first) and is_atomic(second)
        assert told["posix"] == {"first": "held", "second": "waits" if waits else "held"}
    else:
        assert told["pyposix"] == told["posix"]


@pytest.mark.parametrize("second", ON_FILES | LAST_ON_FILES)
@pytest.mark.parametrize("first", ON_FILES)
def test_on_one_file(first: str, second: str, rink: Rink) -> None:
    check_on_one_file(first, second, rink)


def test_xattrops_of_one_file_add_up(rink: Rink, tmp_path: Path) -> None:
    """One that reads, and writes then, is found by what it does meanwhile: and it counts 1 and 1
    as 1."""
    files: dict[Side, Path] = {}

    def adding(side: Side) -> dict[str, Fop]:
        at = new(side)
        files[side] = side.real(at.file)
        return {name: ON_FILES["xattrop"](at) for name in ("first", "second")}

    def counted(rink: Rink) -> dict[str, int]:
        rink.told(adding)
        value = {leaf: os.getxattr(files[side], COUNTER) for leaf, side in rink.sides.items()}
        return {leaf: int.from_bytes(each) for leaf, each in value.items()}

    assert counted(rink) == {"posix": 2, "pyposix": 2}
    module = Path(__file__).parent / "translators" / "xattrops.py"
    above = "features/glupy", {"module": f"{module}:XattropIsNotAtomic"}
    with skating("pyposix", rink.folder / "wrong", tmp_path, [above]) as (side, pid):
        wrong = Rink(rink.folder, rink.sides | {"pyposix": side}, rink.pids | {"pyposix": pid})
        wrong.make_room(2)
        with pytest.raises(AssertionError, match=r"'held'} != {'second': 'waits'}"):
            check_on_one_file("xattrop", "xattrop", wrong)
        assert counted(wrong) == {"posix": 2, "pyposix": 1}


@FOLDERS
@pytest.mark.parametrize("fop", WRITES)
def test_on_two_files(fop: str, where: str, rink: Rink) -> None:
    def prepare(side: Side) -> dict[str, Fop]:
        at = new(side)
        other = new(side, at.folder if where == "in one folder" else None)
        return {"first": WRITES[fop](at), "second": WRITES[fop](other)}

    told = rink.told(prepare)
    assert told["pyposix"] == told["posix"]


@pytest.mark.parametrize("first", [*WRITES, "rename-folder"])
def test_reads_meanwhile(first: str, rink: Rink) -> None:
    def prepare(side: Side) -> dict[str, Fop]:
        at = new(side)
        acts = WRITES | {"rename-folder": lambda at: at.fop("rename", at.folder, next(NUMBERS))}
        reads = {name: act(again(at)) for name, act in READS.items()}
        return {"first": acts[first](at), **reads}

    told = rink.told(prepare)
    assert told["pyposix"] == told["posix"]


@FOLDERS
def test_all_at_once(where: str, rink: Rink) -> None:
    def prepare(side: Side) -> dict[str, Fop]:
        folder = new(side).folder if where == "in one folder" else None
        acts = [*WRITES.items(), ("copy_file_range", copying())]
        return {name: act(new(side, folder)) for name, act in acts}

    rink.make_room(len(WRITES) + 1)
    told = rink.told(prepare)
    assert told["pyposix"] == told["posix"]
    assert set(told["posix"].values()) == {"held"}
