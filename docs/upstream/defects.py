#!/usr/bin/env python3
"""Show a defect of stock GlusterFS again (../upstream-defects.md), by calls of libgfapi.

Usage, as root: .venv/bin/python docs/upstream/defects.py NAME [TARGET]

Without NAME it lists them. Does the calls on the target of `glupy fuzz` in which they show, unless
there is another one. Exits 1 if something is wrong there, 0 if nothing is, 2 if it cannot run.
"""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.replay import main
from glupy.testing.fuzz.steps import (
    Age,
    Close,
    Copy,
    Create,
    Discard,
    Fstat,
    Inject,
    Link,
    Open,
    Read,
    Rename,
    Seek,
    Stat,
    Step,
    Truncate,
    TruncatePath,
    Unlink,
    Wait,
    Write,
    Zerofill,
)
from glupy.testing.gfapi import files

MIB = 1 << 20


class Defect(NamedTuple):
    """Calls on a target, and what is wrong then.

    ``promised`` is what the target does not promise (`Promises`), but should; ``faults`` are those
    of `glupy fuzz`.
    """

    target: str
    steps: Sequence[Step]
    wrong: str
    promised: Sequence[str] = ()
    faults: Sequence[str] = ()


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
    "shard-unlink": Defect(
        "shard:pyposix",
        [Create(0, "a"), Unlink(0, "a"), Truncate(0, 1)],
        "ENOENT, where success is right",
    ),
    "posix-unlink": Defect(
        "posix", [Unlink(0, "c")], "it succeeded on a store that is read-only", faults=["readonly"]
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
}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in DEFECTS:
        print("NAME is one of", *DEFECTS)
        sys.exit(2)
    steps.base.PATIENCE = files.ANSWER_TIMEOUT = 10
    defect = DEFECTS[arguments[0]]
    target = arguments[1:] or [defect.target]
    sys.exit(main(defect.steps, target, faults=defect.faults, promised=defect.promised))
