"""A brick that is killed, or whose machine loses its power, under a mixed load.

The load keeps a journal: of each file, what was acknowledged, what a fsync has made durable, and
which call was on its way. A killed brick must have all that was acknowledged: its page cache is the
kernel's. After a power cut, what was fsynced must be there, under a name that it had then or has
got since, as ext4 promises.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import itertools
import os
import random
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing.gfapi import Client, File
from glupy.testing.pytest_plugin import Connect, MakeBrick
from pyposix.check import Finding, Ground, Kind, Repair, Scan

MIB = 1 << 20
BLOCK = 4096
WORD = 8
BLOCKS = 24  # of a file, at most
WORKERS = 4
FICLONE = 0x40049409  # <linux/fs.h>
SHARED = [f"/shared-{n}" for n in range(3)]
IDENTITY = "user.identity"
YOUNG = 1.0
"""Seconds for which a file without a gfid counts as one that is being made: no lookup finds it."""
# Damage that C's storage/posix leaves, too, when it is killed between two system calls of a fop.
LEFT_BY_C = {
    # rename, link, unlink: the name was changed, its record was not yet
    Kind.GFID2PATH_MISSING,
    Kind.GFID2PATH_STALE,
    # unlink, rename over a file: its last name is gone, its handle is not yet
    Kind.HANDLE_ORPHAN,
}
# The same of rmdir; what begins otherwise is a directory that is there, and has lost its handle.
NO_DIRECTORY = Kind.HANDLE_DANGLING, b".glusterfs/"
# What a call fails with that was on its way when the brick went, or that comes later: EBADFD is of
# files that are not open any more.
DISCONNECTED = errno.ENOTCONN, errno.EBADFD

# What a client has asked when its brick goes, or when it goes itself.
pytestmark = pytest.mark.allow_log(
    r"forced unwinding frame",
    r"remote operation failed.* \{error=Transport endpoint is not connected",
)


# ---- the journal ----


@dataclass
class Node:
    """A file, directory or symbolic link: what was acknowledged of it, and its past, which is all
    that it may have been since its last fsync."""

    kind: int
    identity: bytes
    words: list[int] = field(default_factory=list)
    """Each block is one number, written again and again; 0 is a hole."""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    durable: bool = False
    """It was fsynced once."""
    past_words: dict[int, set[int]] = field(default_factory=dict)
    past_sizes: set[int] = field(default_factory=set)
    past_xattrs: dict[str, set[bytes | None]] = field(default_factory=dict)
    past_names: set[str] = field(default_factory=set)
    kept_names: set[str] = field(default_factory=set)
    """Those that it had all the time since."""
    carried_from: set[str] = field(default_factory=set)
    """Names that went as a directory above was renamed. ext4 writes that down with the file's next
    own change, not with a fsync of a file that has not changed."""

    def resize(self, blocks: int) -> None:
        for number in range(blocks, len(self.words)):
            self.past_words.setdefault(number, {0}).add(0)
        self.words = self.words[:blocks] + [0] * (blocks - len(self.words))
        self.past_sizes.add(blocks)

    def put(self, block: int, word: int) -> None:
        self.carried_from.clear()
        self.words[block] = word
        self.past_words.setdefault(block, {0}).add(word)

    def set_xattr(self, name: str, value: bytes | None) -> None:
        self.carried_from.clear()
        before = self.xattrs.pop(name, None)
        if value is not None:
            self.xattrs[name] = value
        self.past_xattrs.setdefault(name, {before}).add(value)

    def sync(self) -> None:
        """All that was before is no more."""
        self.durable = True
        self.past_words = {number: {word} for number, word in enumerate(self.words)}
        self.past_sizes = {len(self.words)}
        self.past_xattrs = {name: {value} for name, value in self.xattrs.items()}
        self.past_names = self.names | self.carried_from
        self.kept_names = set() if self.carried_from else set(self.names)


class Model:
    """What one worker has made: the only one that touches it."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}

    def add(self, path: str, node: Node) -> None:
        self.names[path] = node
        node.names.add(path)
        node.past_names.add(path)
        node.carried_from.clear()

    def remove(self, path: str) -> Node:
        node = self.names.pop(path)
        node.names.discard(path)
        node.kept_names.discard(path)
        node.carried_from.clear()
        return node

    def rename(self, old: str, new: str) -> None:
        if new in self.names:
            self.remove(new)
        self.add(new, self.remove(old))
        for path in [path for path in self.names if path.startswith(old + "/")]:
            before = self.names[path].carried_from | {path}
            self.add(new + path[len(old) :], self.remove(path))
            self.names[new + path[len(old) :]].carried_from = before

    def paths(self, kind: int) -> list[str]:
        return [path for path, node in self.names.items() if node.kind == kind]


Change = Callable[[Model], None]


class Load:
    """Workers on several clients; no call begins and none is acknowledged while `lock` is held."""

    def __init__(self, clients: list[Client], seed: str, *, fsyncs: float) -> None:
        """`fsyncs`: how often, to two creates; each takes as long as many other calls."""
        self.fsyncs = fsyncs
        self.lock = threading.Lock()
        self.killed = threading.Event()
        self._go, self._end = threading.Event(), threading.Event()
        self.workers = [
            Worker(self, clients[n % len(clients)], n, f"{seed}-{n}") for n in range(WORKERS)
        ]
        self._threads = [threading.Thread(target=worker.run) for worker in self.workers]

    def __enter__(self) -> Load:
        self._go.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._go.set()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def goes_on(self) -> bool:
        """Wait while there is a pause; say whether there is more to do."""
        self._go.wait()
        return not self._end.is_set()


class Worker:
    """One thread's calls. It changes only what it has made, in directories that all share."""

    def __init__(self, load: Load, client: Client, number: int, seed: str) -> None:
        self.load, self.client, self.prefix = load, client, f"w{number}-"
        self.random = random.Random(seed)
        self.model = Model()
        self.in_flight: Change | None = None
        self.journal: deque[str] = deque(maxlen=500)
        self.counts: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._numbers = itertools.count(1)
        self._open: dict[bytes, File] = {}

    def run(self) -> None:
        try:
            while self.load.goes_on():
                self.step()
        except OSError as error:
            if not (self.load.killed.is_set() and error.errno in DISCONNECTED):
                self.error = error
        except BaseException as error:
            self.error = error
        finally:
            for file in self._open.values():
                with contextlib.suppress(OSError):  # the brick is gone
                    file.close()

    def call(self, what: str, call: Callable[[], object], change: Change) -> None:
        """Make a call, which changes the model once it is acknowledged."""
        with self.load.lock:
            self.in_flight = change
            self.journal.append(what)
        call()
        with self.load.lock:
            change(self.model)
            self.in_flight = None
            self.journal.append("done")
        self.counts[what.split(maxsplit=1)[0]] += 1

    def step(self) -> None:
        files = self.model.paths(stat.S_IFREG)
        if len(files) < 8:
            return self.create()
        if len(self.model.names) > 30:
            return self.unlink(self.random.choice(files + self.model.paths(stat.S_IFLNK)))
        kinds: list[tuple[float, Callable[[], None]]] = [
            (2, self.create),
            (8, lambda: self.write(self.random.choice(files))),
            (self.load.fsyncs, lambda: self.fsync(self.random.choice(files))),
            (2, lambda: self.discard(self.random.choice(files))),
            (1, lambda: self.zerofill(self.random.choice(files))),
            (1, lambda: self.fallocate(self.random.choice(files))),
            (1, lambda: self.truncate(self.random.choice(files))),
            (2, lambda: self.set_xattr(self.random.choice(files))),
            (3, lambda: self.rename(self.random.choice(files))),
            (2, lambda: self.link(self.random.choice(files))),
            (2, lambda: self.unlink(self.random.choice(files))),
            (1, self.mkdir),
            (1, self.rename_folder),
            (2, self.rmdir),
            (1, self.symlink),
        ]
        weights, calls = zip(*kinds, strict=True)
        (chosen,) = self.random.choices(calls, weights)
        chosen()

    def new_path(self, outside: str | None = None) -> str:
        folders = SHARED + self.model.paths(stat.S_IFDIR)
        if outside is not None:
            folders = [path for path in folders if not f"{path}/".startswith(f"{outside}/")]
        return f"{self.random.choice(folders)}/{self.prefix}{next(self._numbers)}"

    def file(self, node: Node) -> File:
        return self._open[node.identity]

    # Names

    def create(self) -> None:
        path = self.new_path()
        identity = path.rpartition("/")[2].encode()

        def create() -> None:
            self._open[identity] = self.client.creat(path, os.O_RDWR | os.O_EXCL)

        def change(model: Model) -> None:
            model.add(path, Node(stat.S_IFREG, identity))

        self.call(f"create {path}", create, change)
        self.call(
            f"identify {path}",
            lambda: self._open[identity].fsetxattr(IDENTITY, identity),
            lambda model: model.names[path].set_xattr(IDENTITY, identity),
        )

    def link(self, path: str) -> None:
        new = self.new_path()
        self.call(
            f"link {path} {new}",
            lambda: self.client.link(path, new),
            lambda model: model.add(new, model.names[path]),
        )

    def unlink(self, path: str) -> None:
        """A file that has no other name is written to once more, and only then closed."""
        node = self.model.names[path]

        def change(model: Model) -> None:
            model.remove(path)

        self.call(f"unlink {path}", lambda: self.client.unlink(path), change)
        self._let_go(node)

    def _let_go(self, node: Node) -> None:
        if not node.names and node.kind == stat.S_IFREG:
            file = self._open[node.identity]
            file.pwrite(b"nobody's", 0)
            file.close()
            del self._open[node.identity]

    def rename(self, path: str) -> None:
        """To a new name, or over another file."""
        node, new = self.model.names[path], self.new_path()
        victim = None
        if self.random.random() < 0.4:
            other = self.random.choice(self.model.paths(stat.S_IFREG))
            if self.model.names[other] is not node:
                new, victim = other, self.model.names[other]
        self.call(
            f"rename {path} {new}",
            lambda: self.client.rename(path, new),
            lambda model: model.rename(path, new),
        )
        if victim is not None:
            self._let_go(victim)

    def mkdir(self) -> None:
        path = self.new_path()
        self.call(
            f"mkdir {path}",
            lambda: self.client.mkdir(path),
            lambda model: model.add(path, Node(stat.S_IFDIR, path.encode())),
        )

    def rename_folder(self) -> None:
        if folders := self.model.paths(stat.S_IFDIR):
            path = self.random.choice(folders)
            new = self.new_path(outside=path)
            self.call(
                f"rename {path} {new}",
                lambda: self.client.rename(path, new),
                lambda model: model.rename(path, new),
            )

    def rmdir(self) -> None:
        for path in self.model.paths(stat.S_IFDIR):
            if not any(other.startswith(path + "/") for other in self.model.names):

                def change(model: Model, path: str = path) -> None:
                    model.remove(path)

                self.call(f"rmdir {path}", partial(self.client.rmdir, path), change)
                return

    def symlink(self) -> None:
        path = self.new_path()
        target = path.rpartition("/")[2]
        self.call(
            f"symlink {path}",
            lambda: self.client.symlink(target, path),
            lambda model: model.add(path, Node(stat.S_IFLNK, target.encode())),
        )

    # Data

    def write(self, path: str) -> None:
        first, count = self._range()
        file = self.file(self.model.names[path])
        words = [next(self._numbers) for _ in range(count)]
        data = b"".join(word.to_bytes(WORD, "little") * (BLOCK // WORD) for word in words)

        def change(model: Model) -> None:
            node = model.names[path]
            node.resize(max(len(node.words), first + count))
            for number, word in enumerate(words, first):
                node.put(number, word)

        self.call(f"write {path} {first} {words}", lambda: file.pwrite(data, first * BLOCK), change)

    def discard(self, path: str) -> None:
        first, count = self._range()
        file = self.file(self.model.names[path])

        def change(model: Model) -> None:
            node = model.names[path]
            for number in range(first, min(first + count, len(node.words))):
                node.put(number, 0)

        self.call(
            f"discard {path} {first} {count}",
            lambda: file.discard(first * BLOCK, count * BLOCK),
            change,
        )

    def zerofill(self, path: str) -> None:
        first, count = self._range()
        file = self.file(self.model.names[path])

        def change(model: Model) -> None:
            node = model.names[path]
            node.resize(max(len(node.words), first + count))
            for number in range(first, first + count):
                node.put(number, 0)

        self.call(
            f"zerofill {path} {first} {count}",
            lambda: file.zerofill(first * BLOCK, count * BLOCK),
            change,
        )

    def fallocate(self, path: str) -> None:
        first, count = self._range()
        file = self.file(self.model.names[path])

        def change(model: Model) -> None:
            node = model.names[path]
            node.resize(max(len(node.words), first + count))

        self.call(
            f"fallocate {path} {first} {count}",
            lambda: file.fallocate(first * BLOCK, count * BLOCK),
            change,
        )

    def truncate(self, path: str) -> None:
        blocks, _ = self._range()
        file = self.file(self.model.names[path])
        self.call(
            f"truncate {path} {blocks}",
            lambda: file.ftruncate(blocks * BLOCK),
            lambda model: model.names[path].resize(blocks),
        )

    def fsync(self, path: str) -> None:
        file = self.file(self.model.names[path])
        self.call(f"fsync {path}", file.fsync, lambda model: model.names[path].sync())

    def set_xattr(self, path: str) -> None:
        file = self.file(self.model.names[path])
        name = f"user.{self.random.randrange(3)}"
        if name in self.model.names[path].xattrs and self.random.random() < 0.5:
            self.call(
                f"removexattr {path} {name}",
                lambda: file.fremovexattr(name),
                lambda model: model.names[path].set_xattr(name, None),
            )
            return
        value = b"%d" % next(self._numbers) * self.random.choice([1, 20])
        self.call(
            f"setxattr {path} {name} {value!r}",
            lambda: file.fsetxattr(name, value),
            lambda model: model.names[path].set_xattr(name, value),
        )

    def _range(self) -> tuple[int, int]:
        first = self.random.randrange(BLOCKS)
        return first, self.random.randint(1, min(8, BLOCKS - first))


# ---- what is there afterwards ----


class Found(NamedTuple):
    kind: int
    links: int
    target: bytes
    words: list[set[int]]
    xattrs: dict[str, bytes]


def survey(client: Client) -> dict[str, Found]:
    """Read all that a client can see; each name that is listed can be read.

    The client looks each name up before it hears of its gfid in any other way: only such a lookup
    mends what was being made when the brick went (C's posix_gfid_heal)."""
    found = {}
    folders = list(SHARED)
    while folders:
        folder = folders.pop()
        names = listing(client, folder, plus=False)
        for name in names:
            path = f"{folder}/{name}"
            found[path] = look(client, path)
            if found[path].kind == stat.S_IFDIR:
                folders.append(path)
        assert listing(client, folder, plus=True) == names
    return found


def listing(client: Client, folder: str, *, plus: bool) -> set[str]:
    return {entry.name for entry in client.readdir(folder, plus=plus)} - {".", ".."}


def look(client: Client, path: str) -> Found:
    status = client.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    target, words = b"", []
    xattrs = {
        name: client.getxattr(path, name, follow=False)
        for name in client.listxattr(path, follow=False)
        if name.startswith("user.")
    }
    if kind == stat.S_IFLNK:
        target = client.readlink(path).encode()
    elif kind == stat.S_IFREG:
        assert status.st_size % BLOCK == 0, f"{path} has {status.st_size} bytes"
        with client.open(path, os.O_RDONLY) as file:
            data = memoryview(file.pread(BLOCKS * BLOCK + 1, 0).value).cast("Q")
        assert data.nbytes == status.st_size
        step = BLOCK // WORD
        words = [set(data[at : at + step]) for at in range(0, len(data), step)]
    return Found(kind, status.st_nlink, target, words, xattrs)


def lost(model: Model, in_flight: Change | None, prefix: str, found: dict[str, Found]) -> list[str]:
    """What of that which was acknowledged is not there; the call in flight came or came not, and
    one on data may have come half-way."""
    models = either(model, in_flight)
    mine = {path: seen for path, seen in found.items() if f"/{prefix}" in path}
    if not any(mine.keys() == model.names.keys() for model in models):
        differ = [sorted(mine.keys() ^ model.names.keys()) for model in models]
        return [f"names differ: {differ}"]
    problems = []
    for path, seen in mine.items():
        nodes = [model.names[path] for model in models if path in model.names]
        if seen.kind not in [node.kind for node in nodes]:
            problems.append(f"{path} is of another kind")
        if seen.kind == stat.S_IFLNK and seen.target != nodes[0].identity:
            problems.append(f"{path} leads to {seen.target!r}")
        if seen.kind != stat.S_IFREG:
            continue
        if seen.links not in [len(node.names) for node in nodes]:
            problems.append(f"{path} has {seen.links} links")
        if seen.xattrs not in [node.xattrs for node in nodes]:
            problems.append(f"{path} has xattrs {seen.xattrs}: {[n.xattrs for n in nodes]}")
        sizes = [len(node.words) for node in nodes]
        if not min(sizes) <= len(seen.words) <= max(sizes):
            problems.append(f"{path} has {len(seen.words)} blocks: {sizes}")
        for number, words in enumerate(seen.words):
            allowed = {n.words[number] if number < len(n.words) else 0 for n in nodes}
            if not words <= allowed:
                problems.append(f"{path}, block {number}: {words}, not {allowed}")
    return problems


def not_durable(
    model: Model, in_flight: Change | None, found: dict[str, Found]
) -> tuple[int, list[str]]:
    """How many files were fsynced, and what of them is not there.

    What has changed since, or was being changed, may be as it was or as it became."""
    models = either(model, in_flight)
    nodes: dict[bytes, list[Node]] = {}
    for one in models:
        for node in {id(node): node for node in one.names.values()}.values():
            if node.durable:
                nodes.setdefault(node.identity, []).append(node)
    problems, count = [], 0
    for identity, versions in nodes.items():
        if len(versions) < len(models):
            continue  # its last name was being removed, or its first fsync was on its way
        count += 1
        names = set.union(*(node.past_names for node in versions))
        kept = set.intersection(*(node.kept_names for node in versions))
        there = {
            name for name in names if name in found and found[name].xattrs.get(IDENTITY) == identity
        }
        if not kept <= there or not there:
            problems.append(f"{identity!r}: of {names}, {kept or 'one'} must be, {there} are")
        for name in there:
            problems += unlike(name, found[name], versions)
    return count, problems


def unlike(path: str, seen: Found, versions: list[Node]) -> list[str]:
    """What of a file is like nothing in its past."""
    problems = []
    sizes = set.union(*(node.past_sizes for node in versions))
    if not min(sizes) <= len(seen.words) <= max(sizes):
        problems.append(f"{path} has {len(seen.words)} blocks: {sizes}")
    for number, words in enumerate(seen.words):
        allowed = set.union(*(node.past_words.get(number, {0}) for node in versions))
        if not words <= allowed:
            problems.append(f"{path}, block {number}: {words}, not {allowed}")
    names = {name for node in versions for name in node.past_xattrs}
    for name in seen.xattrs.keys() | names:
        values = {v for n in versions for v in n.past_xattrs.get(name, {None})}
        if seen.xattrs.get(name) not in values:
            problems.append(f"{path}: {name} is {seen.xattrs.get(name)!r}, not of {values}")
    return problems


def either(model: Model, in_flight: Change | None) -> list[Model]:
    """What it is like without the call in flight, and with it."""
    if in_flight is None:
        return [model]
    changed = copy.deepcopy(model)
    in_flight(changed)
    return [model, changed]


def findings(folder: Path) -> list[Finding]:
    """What `glupy brick check` says of a brick that has stopped."""
    with ground(folder) as opened:
        return list(Scan(opened, live=False).findings())


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    opened = Ground(os.fsencode(folder))
    try:
        yield opened
    finally:
        opened.close()


# ---- SIGKILL ----


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("leaf", ["pyposix", pytest.param("posix", marks=pytest.mark.long)])
def test_sigkill_loses_nothing(
    place: Path, rounds: int, leaf: str, make_brick: MakeBrick, connect: Connect
) -> None:
    """One brick, killed again and again; C's too, which shows what it leaves and what it heals."""
    folder = place / "brick"
    folder.mkdir()
    moments = random.Random(rounds)
    done: Counter[str] = Counter()
    damage: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for number in range(rounds):
        brick = make_brick(folder, leaf=leaf, ctime=True)
        clients = [connect(brick) for _ in range(2)]
        if number:
            remove(clients[0])
        for path in SHARED:
            clients[0].mkdir(path)
        with Load(clients, f"{leaf}-{rounds}-{number}", fsyncs=0.2) as load:
            time.sleep(moments.uniform(0.1, 0.8))
            load.killed.set()
            brick.kill()
        for client in clients:
            client.close()
        damage.update(finding.kind.slug for finding in findings(folder))
        with restarted(make_brick, connect, folder, leaf) as client:
            found = survey(client)
        for worker in load.workers:
            problems = lost(worker.model, worker.in_flight, worker.prefix, found)
            assert problems == [], "\n".join(worker.journal)
            done += worker.counts
        left += mended(folder)
    print(f"acknowledged {dict(done)}; damage {dict(damage)}, of which stayed {dict(left)}")


@contextlib.contextmanager
def restarted(make_brick: MakeBrick, connect: Connect, folder: Path, leaf: str) -> Iterator[Client]:
    """A client, once no file is young any more, of a brick that has stopped afterwards."""
    brick = make_brick(folder, leaf=leaf, ctime=True)
    try:
        with connect(brick) as client:
            time.sleep(YOUNG)
            yield client
    finally:
        brick.stop()


def mended(folder: Path) -> Counter[str]:
    """Which kinds of damage the brick has not healed itself, each one that C leaves, too, and
    that a repair mends."""
    left = findings(folder)
    assert [finding for finding in left if not left_by_c(finding)] == []
    with ground(folder) as opened:
        repair = Repair(opened)
        for finding in left:
            repair.mend(finding)
    assert findings(folder) == []
    return Counter(finding.kind.slug for finding in left)


def left_by_c(finding: Finding) -> bool:
    kind, folder = NO_DIRECTORY
    return finding.kind in LEFT_BY_C or (finding.kind is kind and finding.path.startswith(folder))


def remove(client: Client) -> None:
    """Remove all that there is."""

    def empty(folder: str) -> None:
        for name in listing(client, folder, plus=False):
            path = f"{folder}/{name}"
            if stat.S_ISDIR(client.lstat(path).st_mode):
                empty(path)
                client.rmdir(path)
            else:
                client.unlink(path)

    for folder in SHARED:
        empty(folder)
        client.rmdir(folder)


# ---- power cuts ----


@pytest.fixture(params=["ext4", pytest.param("xfs", marks=pytest.mark.long)])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[stores.Store]:
    """A store whose loop file can be copied at one instant: it lies on xfs, which clones a file
    while no write to it is under way, and what the loop device's file system has not written yet
    is lost with its power. Not of btrfs: the kernel takes a copy for the same file system."""
    kind = request.param
    with (
        stores.store(tmp_path / "disk", 3072 * MIB, tmp_path / "disks", kind="xfs") as disk,
        stores.store(disk.folder / "image", 512 * MIB, tmp_path / "live", kind=kind) as store,
    ):
        yield store


def clone(image: Path, target: Path) -> None:
    """Copy a file as it is at one instant."""
    with image.open("rb") as source, target.open("wb") as new:
        fcntl.ioctl(new, FICLONE, source.fileno())


@pytest.mark.parametrize("cuts", [5, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("leaf", ["pyposix", pytest.param("posix", marks=pytest.mark.long)])
def test_power_cuts_lose_nothing_fsynced(
    image: stores.Store,
    cuts: int,
    leaf: str,
    make_brick: MakeBrick,
    connect: Connect,
    tmp_path: Path,
) -> None:
    folder = image.folder / "brick"
    folder.mkdir()
    brick = make_brick(folder, leaf=leaf, ctime=True)
    clients = [connect(brick) for _ in range(2)]
    for path in SHARED:
        clients[0].mkdir(path)
    stores.run("sync", "--file-system", folder)  # the brick itself is older than its load
    mountpoint = tmp_path / "cut"
    mountpoint.mkdir()
    mount = stores.mount_of(image.folder)
    options = ["nouuid"] if mount is not None and mount.type == "xfs" else []  # beside the original
    copied = image.image.with_name("cut")
    moments = random.Random(cuts)
    durable = 0
    left: Counter[str] = Counter()
    with Load(clients, f"{leaf}-{cuts}", fsyncs=2) as load:
        for _ in range(cuts):
            load.resume()
            time.sleep(moments.uniform(0.2, 1))
            with load.lock:
                journal = [(copy.deepcopy(w.model), w.in_flight) for w in load.workers]
                clone(image.image, copied)
            load.pause()
            with (
                stores.loop_device(copied) as device,
                stores.mounted(device, mountpoint, options),
            ):
                with restarted(make_brick, connect, mountpoint / "brick", leaf) as client:
                    found = survey(client)
                for model, in_flight in journal:
                    count, problems = not_durable(model, in_flight, found)
                    assert problems == []
                    durable += count
                left += mended(mountpoint / "brick")
            copied.unlink()
    assert durable > cuts
    print(f"{durable} files were durable; damage that stayed {dict(left)}")
