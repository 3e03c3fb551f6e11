#!/usr/bin/env python3
"""Show a defect of stock GlusterFS again (../upstream-defects.md), by calls of libgfapi.

Usage, as root: .venv/bin/python docs/upstream/defects.py NAME [TARGET]

Without NAME it lists them. Does the calls on the target of `glupy fuzz` in which they show, unless
there is another one. Exits 1 if something is wrong there, 0 if nothing is, 2 if it cannot run.
"""

import errno
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import volfiles
from glupy import stores
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.script import main
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import (
    Age,
    AnonymousRead,
    AsInternal,
    Chown,
    Close,
    Copy,
    Create,
    Discard,
    Fallocate,
    Fsetxattr,
    Fstat,
    Inject,
    Kill,
    Link,
    Open,
    Plan,
    Read,
    Rename,
    Seek,
    Stat,
    Step,
    Together,
    Truncate,
    TruncatePath,
    Unlink,
    Wait,
    Write,
    Zerofill,
)
from glupy.testing.gfapi import Client, LeaseType, files, holding
from glupy.testing.processes import Brick, FuseMount, ProcessError

MIB = 1 << 20
PUT = "features/glupy", {"module": f"{Path(__file__).resolve().with_name('put.py')}:CreateByPut"}


@dataclass(frozen=True)
class StatRoot(Step):
    """A stat of ``/`` where there is no brick."""

    modifies = False

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(errno.ENOTCONN)

    def call(self, side: Side) -> None:
        side.client(0).stat("/")


@dataclass(frozen=True)
class TruncateByAnother(TruncatePath):
    """The same by a client that comes for it, where others can come."""

    def call(self, side: Side) -> None:
        client = side.client(self.client)
        assert isinstance(client, Client)
        if any(node.type == "protocol/client" for node in client.graph):
            with Client(client.graph, background_fini=True) as another:
                another.truncate("/" + self.name, self.size)
        else:
            super().call(side)


@dataclass(frozen=True)
class LetGo(Step):
    """Nothing is done: the brick soon has no file open that has no name."""

    modifies = False

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        deadline = time.monotonic() + 5
        while any(map(self._is_held_by, side.trouble.bricks)):
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "its blocks are not freed")
            time.sleep(0.05)

    @staticmethod
    def _is_held_by(brick: Brick) -> bool:
        for link in Path(f"/proc/{brick.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed just now
                if link.readlink().name.endswith(" (deleted)"):
                    return True
        return False


@dataclass(frozen=True)
class OpenLeased(Step):
    """Open what a client that comes for it, and then ends, has a lease of."""

    modifies = False

    client: int
    name: str

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(errno.EAGAIN)

    def call(self, side: Side) -> None:
        client, path, lease = side.client(self.client), "/" + self.name, b"mine"
        assert isinstance(client, Client)
        try:
            with Client(client.graph, background_fini=True) as another:
                file = holding(lease, lambda: another.open(path))
                file.take_lease(LeaseType.WRITE, lease)
                try:
                    client.open(path, os.O_RDWR | os.O_NONBLOCK)
                finally:
                    holding(lease, file.close)
        finally:
            side.trouble.death(patience=5)  # as it lets go of the first


class Defect(NamedTuple):
    """Calls on a target, and what is wrong then.

    ``target`` is one of `glupy fuzz`, or of `target_of`. ``promised`` is what it does not promise
    (`Promises`), but should; ``faults`` are those of `glupy fuzz`, and ``inserts``, too.
    """

    target: str
    steps: Sequence[Step]
    wrong: str
    promised: Sequence[str] = ()
    faults: Sequence[str] = ()
    inserts: Sequence[volfiles.Insert] = ()


@contextmanager
def target_of(text: str) -> Iterator[str]:
    """Set up what `glupy fuzz` has no recipe for, over a brick: ``mount``, or ``client:TYPE,…``,
    each with its options behind it: ``TYPE option=value``."""
    kind, _, types = text.partition(":")
    if kind not in ("client", "mount"):
        yield text
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        folder = Path(made)
        with (
            stores.store(folder / "image", 1 << 30, folder / "store") as store,
            ExitStack() as stack,
        ):
            socket = folder / "socket"
            brick = Brick(
                volfiles.brick(store.folder, leaf="posix", socket=socket), folder / "brick"
            )
            stack.enter_context(brick)
            words = [each.split() for each in types.split(",") if each]
            inserts = [
                (type_, dict(option.split("=") for option in given)) for type_, *given in words
            ]
            graph = brick.client_graph(inserts=inserts)
            if kind == "client":
                volfile = folder / "client.vol"
                graph.write(volfile)
                yield str(volfile)
            else:
                (mountpoint := folder / "mnt").mkdir()
                stack.enter_context(FuseMount(graph, mountpoint, folder / "mount"))
                yield f"dir:{mountpoint}"


DEFECTS = {
    "utime-copies": Defect(
        "ctime:pyposix",
        [Create(0, "a"), Write(0, 0, 2, 1), Age(0), Copy(0, 0, 0, 1, 1)],
        "mtime was not set",
        ["copies", "times"],
    ),
    "utime-zerofill": Defect(
        "ctime:pyposix",
        [Create(0, "a"), Wait(), Zerofill(0, 0, 1, later=True)],
        "ctime was not set",
        ["times"],
    ),
    "posix-rename": Defect(
        "posix", [Create(0, "a"), Rename(0, "a", "a"), Write(0, 0, 1, 1)], "0 links, not 1"
    ),
    "posix-replaced": Defect(
        "disperse:4+2:posix",
        [
            Create(0, "a"),
            Write(0, 0, 4096, 1),
            Create(2, "b"),
            Rename(0, "b", "a"),
            Write(0, 0, 1, 1),
        ],
        "ENOENT, where success is right",
        ["replaced"],
    ),
    "posix-full-discard": Defect(
        "posix",
        [
            *(AsInternal(on=True), Create(0, "a"), Write(0, 0, 4096, 1), AsInternal(on=False)),
            Discard(0, 0, 4096),
        ],
        "ENOSPC, where success is right",
        faults=["full"],
    ),
    "posix-full-fallocate": Defect(
        "posix",
        [AsInternal(on=True), Create(0, "a"), Fallocate(0, 0, 64 * MIB, keep_size=True)],
        "blocks of 512 bytes, not 0 to 16",
        faults=["full"],
    ),
    "posix-put": Defect(
        "posix", [Create(0, "a")], "ENODATA, where success is right", inserts=[PUT]
    ),
    "replicate-copies": Defect(
        "replicate:3:pyposix",
        [Create(0, "a"), Write(0, 0, 4096, 1), Copy(0, 0, 0, 8192, 4096)],
        "size 4096, not 12288",
        ["copies"],
    ),
    "replicate-links": Defect(
        "replicate:3:posix",
        [Create(0, "a"), Inject("link"), Link(0, "a", "b")],
        "1 links, not 2",
        ["links"],
        ["io"],
    ),
    "distribute-copies": Defect(
        "distribute:2:pyposix",
        [
            step
            for number, name in enumerate("abcdefghij")  # some are on the second subvolume
            for step in (
                Create(number, name),
                Write(number, 0, 1, 1),
                Copy(number, 0, number, 1, 1),
            )
        ],
        "EPERM, where success is right",
        ["copies"],
    ),
    "gfapi-copies": Defect(
        "pyposix",
        [Create(0, "a"), Write(0, 0, 2, 1), Copy(0, 0, 0, 1, 2)],
        "EPERM, where EINVAL is right",
        ["copy_errnos"],
    ),
    "shard-two-clients": Defect(
        "shard:posix",
        [Create(0, "a"), TruncateByAnother(0, "a", 1), Truncate(0, 1)],
        "size 2, not 1",
    ),
    "shard-seek": Defect(
        "shard:pyposix", [Create(0, "a"), Seek(0, 0, hole=False)], "ENOTSUP, where ENXIO is right"
    ),
    "shard-read": Defect(
        "shard:pyposix",
        [Create(0, "a"), Read(0, 0, 1)],
        "the reply has no attributes of afterwards",
        ["attributes"],
    ),
    "shard-discard": Defect(
        "shard:pyposix", [Create(0, "a"), Discard(0, 0, 1)], "size 1, not 0", ["discard_ends"]
    ),
    "shard-empty-range": Defect(
        "shard:pyposix",
        [Create(0, "a"), Write(0, 0, 1, 1), Discard(0, 8 * MIB, 0, later=True)],
        "no answer within 10 s",
    ),
    "shard-append": Defect(
        "shard:pyposix",
        [
            Create(0, "a", os.O_RDWR | os.O_APPEND),
            Write(0, 0, 10, 1),
            Truncate(0, 100),
            Write(0, 0, 5, 2),
        ],
        "a: byte 10 is 0x03, not 0x00",
    ),
    "shard-open": Defect(
        "shard:pyposix",
        [
            Create(0, "a"),
            Write(0, 0, 1, 1),
            Close(0),
            Open(0, "a", os.O_RDWR | os.O_TRUNC),
            Fstat(0),
        ],
        "size 1, not 0",
    ),
    "shard-truncate": Defect(
        "shard:pyposix",
        [Create(0, "a"), Close(0), Open(0, "a", os.O_RDONLY), Truncate(0, 1)],
        "it succeeded, where EINVAL is right",
    ),
    "shard-truncate-to-a-boundary": Defect(
        "shard:pyposix",
        [Create(0, "a"), Write(0, 0, 1, 1), Write(0, 4 * MIB, 1, 1), Truncate(0, 4 * MIB)],
        "a: byte 0 is 0x00, not 0x02",
        ["cuts_within"],
    ),
    "shard-truncate-from-a-hole": Defect(
        "shard:pyposix",
        [
            Create(0, "a"),
            Write(0, 0, 1, 1),
            Truncate(0, 4 * MIB + 1),
            Truncate(0, 0),
            Truncate(0, 1),
        ],
        "a: byte 0 is 0x02, not 0x00",
        ["cuts_within"],
    ),
    "shard-truncate-times": Defect(
        "shard:pyposix",
        [Create(0, "a"), Write(0, 0, 1, 1), Wait(), Fstat(0), Truncate(0, 2)],
        "mtime was not set",
        ["growing_times"],
    ),
    "shard-together": Defect(
        "shard:pyposix",
        [
            Create(0, "a"),
            # Who comes first is a matter of luck.
            *[
                Together(Write(0, 4 * MIB, 100, 1), Write(0, 4 * MIB + 100, 100, 1)),
                Truncate(0, 0),
            ]
            * 1500,
        ],
        "ENOENT, where success is right",
        ["together"],
    ),
    "shard-truncate-second": Defect(
        "shard:pyposix",
        [
            *(Create(0, "a"), Write(0, 0, 8 * MIB, 1), Wait(), Truncate(0, 4 * MIB + 1)),
            Fstat(0),
        ],
        "mtime was not set",
        ["cutting_times"],
    ),
    "shard-truncate-reply": Defect(
        "shard:pyposix",
        [Create(0, "a"), Write(0, 0, 2, 1), Fstat(0), Wait(), Truncate(0, 1)],
        "mtime was not set",
        ["old_times"],
    ),
    "shard-utimens": Defect(
        "shard:pyposix",
        [Create(0, "a"), Age(0), Fstat(0)],
        "which was set to 1000000000000000000",
        ["set_times"],
    ),
    "shard-write-only": Defect(
        "shard:pyposix",
        [Create(0, "a"), Close(0), Open(0, "a", os.O_WRONLY), Read(0, 0, 1)],
        "it succeeded, where EBADF is right",
        ["checked_flags"],
    ),
    "shard-first-read": Defect(
        "client:features/shard",
        [Create(0, "a"), Truncate(0, 1), Read(0, 0, 100)],
        "100 bytes from 0 on, not 1",
    ),
    "shard-full-unlink": Defect(
        "shard:pyposix",
        [
            *(AsInternal(on=True), Create(0, "a")),
            *(Write(0, n * MIB, 1 << n // 2, 1) for n in range(40, 23, -1)),  # to the last block
            *(AsInternal(on=False), Close(0), Unlink(0, "a")),
        ],
        "ENOSPC, where success is right",
        ["refused_when_full"],
        ["full"],
    ),
    "shard-unlink": Defect(
        "shard:pyposix",
        [Create(0, "a"), Unlink(0, "a"), Truncate(0, 1)],
        "ENOENT, where success is right",
    ),
    "posix-unlink": Defect(
        "posix", [Unlink(0, "c")], "it succeeded on a store that is read-only", faults=["readonly"]
    ),
    "posix-link": Defect(
        "posix",
        [
            *(Create(0, "a"), Link(0, "a", "b"), Create(1, "c")),
            *(Rename(0, "c", "a"), Unlink(0, "a"), Link(0, "b", "a")),
        ],
        "EEXIST, where success is right",
        ["links_again"],
    ),
    "server-copies": Defect(
        "posix",
        [
            *(Create(0, "a"), Write(0, 0, 1, 1), Copy(0, 0, 0, 1, 1)),
            *(Unlink(0, "a"), Close(0), LetGo()),
        ],
        "EBUSY, where success is right",
    ),
    "client-copies": Defect(
        "posix",
        [Create(0, "a"), Write(0, 0, 2, 1), Copy(0, 1, 0, 2, 1)],
        "a: byte 2 is 0x02, not 0x03",
        ["source_offsets"],
    ),
    "server-fsetattr": Defect(
        "posix",
        # Two files of one client: the number of one of them is 0, which does no harm.
        [Open(0, "a", os.O_RDONLY), Open(2, "b", os.O_RDONLY), Age(0), Age(2)],
        "brick-0 ended by itself: signal SIGSEGV in xlator/protocol/server.so",
        faults=["readonly"],
    ),
    "disperse-read": Defect(
        "disperse:4+2:pyposix",
        [Create(0, "a"), Discard(0, 0, 1), Read(0, 512, 1)],
        "1 bytes from 0 on, not 0",
        ["read_ends"],
    ),
    "disperse-append": Defect(
        "disperse:4+2:pyposix",
        [Create(0, "a", os.O_RDWR | os.O_APPEND), Write(0, 0, 1, 1), Discard(0, 0, 1)],
        "a: byte 0 is 0x02, not 0x00",
        ["append_discards"],
    ),
    "disperse-unlink": Defect(
        "disperse:4+2:pyposix",
        [Create(0, "a"), TruncatePath(1, "a", 1), Unlink(1, "a")],
        "file 0, at the end: size 0, not 1",
    ),
    "disperse-truncate": Defect(
        "disperse:4+2:pyposix",
        [Create(0, "a"), Write(0, 0, 1024, 1), Truncate(0, 512), Truncate(0, 1024)],
        "a: byte 512 is 0x0c, not 0x00",
        ["wrong_sizes"],
    ),
    "disperse-stat": Defect(
        "disperse:4+2:pyposix",
        [Create(0, "a"), Write(0, 0, 1, 1), Stat(1, "a")],
        "afterwards: size 0, not 1",
        ["old_sizes"],
    ),
    "leases-open": Defect(
        "pyposix",
        [Create(0, "a"), Close(0), OpenLeased(0, "a")],
        "brick-0 ended by itself: signal SIGSEGV in xlator/",  # where what is freed twice shows
        faults=["kill"],  # so it has a process of its own, and two clients; none is killed
        inserts=[("features/leases", {"leases": "on"})],
    ),
    "md-cache-replaced": Defect(
        "client:performance/md-cache",
        [
            *(Create(0, "a"), Create(1, "c"), Link(0, "c", "b"), Rename(0, "a", "c")),
            Stat(0, "b"),
        ],
        "2 links, not 1",
        ["links"],
    ),
    "io-cache-end": Defect(
        "client:performance/io-cache",
        [Create(0, "a"), Read(0, 0, 1), Write(0, 0, 4096, 1), Read(0, 0, 4096)],
        "0 bytes from 0 on, not 4096",
    ),
    "io-cache-fallocate": Defect(
        "client:performance/io-cache",
        [Create(0, "a"), Read(0, 0, 1), Fallocate(0, 0, 4096), Read(0, 0, 4096)],
        "0 bytes from 0 on, not 4096",
    ),
    "md-cache-fsetxattr": Defect(
        "client:performance/write-behind,performance/md-cache",
        [
            Create(0, "a"),
            # Who comes first is a matter of luck.
            *[Write(0, 0, MIB, 1), Fsetxattr(0, "user.x", b""), Fstat(0), Truncate(0, 0)] * 150,
        ],
        "size 0, not 1048576",
        ["old_sizes"],
    ),
    "nl-cache-created": Defect(
        "client:performance/nl-cache",
        [Create(0, "a"), Close(0), AnonymousRead(0, "a", 0, 1), Stat(0, "a")],
        "ENOENT, where success is right",
    ),
    "nl-cache-links": Defect(
        "client:performance/nl-cache nl-cache-positive-entry=on",
        [Create(0, "a"), Link(0, "a", "b"), Rename(0, "a", "b"), Close(0), Stat(0, "a")],
        "ENOENT, where success is right",
        ["same_names"],
    ),
    "quick-read-truncated": Defect(
        "client:performance/quick-read",
        [
            *(Create(0, "a"), Write(0, 0, 4096, 1)),
            *(Create(1, "a", os.O_RDWR | os.O_TRUNC), Read(0, 0, 1)),
        ],
        "1 bytes from 0 on, not 0",
    ),
    "quick-read-owner": Defect(
        "client:performance/quick-read",
        [
            *(Create(0, "a"), Write(0, 0, 4096, 1)),
            *(Create(1, "a"), Chown(0, "a", 1000, 0), Read(1, 0, 4096)),
        ],
        "mode 0o644 of 0:0, not mode 0o644 of 1000:0",
        ["new_rights"],
    ),
    "read-ahead-fallocate": Defect(
        "client:performance/read-ahead",
        [Create(0, "a"), Read(0, 0, 4096), Fallocate(0, 0, 8192), Read(0, 4096, 1)],
        "0 bytes from 0 on, not 1",
    ),
    "read-ahead-zerofill": Defect(
        "client:performance/read-ahead",
        [Create(0, "a"), Read(0, 0, 1), Zerofill(0, 512, 1), Read(0, 1, 1)],
        "0 bytes from 0 on, not 1",
    ),
    "write-behind-flags": Defect(
        "client:performance/write-behind",
        [Create(0, "a"), Close(0), Open(0, "a", os.O_RDONLY), Write(0, 0, 1, 1)],
        "it succeeded, where EBADF is right",
        ["checked_flags"],
    ),
    "write-behind-read": Defect(
        "client:performance/write-behind",
        [
            *(Create(0, "a"), Write(0, 0, 4096, 1)),
            # Who comes first is a matter of luck.
            *[Write(0, 4096, MIB, 1), Read(0, 0, 4096), Truncate(0, 4096)] * 30,
        ],
        ", not 1052672",
        ["old_sizes"],
    ),
    "write-behind-truncate": Defect(
        "client:performance/write-behind",
        [
            Create(0, "a"),
            *[Write(0, 0, MIB, 1), Truncate(0, MIB + 1), Truncate(0, 0)] * 30,
        ],
        "before: size 0, not 1048576",
        ["old_sizes"],
    ),
    "gfapi-stat": Defect(
        "pyposix", [Kill(), StatRoot()], "it succeeded, where ENOTCONN is right", faults=["kill"]
    ),
    "fuse-nameless": Defect(
        "mount",
        [Create(0, "a"), Unlink(0, "a"), Age(0)],
        "ESTALE, where success is right",
        ["nameless"],
    ),
}


def run(name: str, target: str | None = None) -> int:
    """Show it, and return the exit status."""
    defect = DEFECTS[name]
    steps.base.PATIENCE = files.ANSWER_TIMEOUT = 10
    with target_of(target or defect.target) as opened:
        return main(
            defect.steps,
            [opened],
            inserts=defect.inserts,
            faults=defect.faults,
            promised=defect.promised,
        )


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in DEFECTS:
        print("NAME is one of", *DEFECTS)
        sys.exit(2)
    try:
        sys.exit(run(*sys.argv[1:]))
    except (ProcessError, stores.StoreError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
