"""What a recipe is opened with: bricks that die, a store that is full or read-only, fops that fail.

Each is a setting of whole sequences, so that these are repeatable: `posix` looks at how full its
disk is every 5 s only. What happens within a sequence is in `trouble`.
"""

import errno
import time
from collections.abc import Collection, Mapping
from typing import Any

from glupy.testing import gfapi
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.runner import Runner

FAULTS = "kill", "full", "readonly", "io"
NOT_PROMISED: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "full": {
        "together": (False, "a full store may refuse either of two calls at once"),
        "refused_times": (False, "ext4 may set them before it finds no room"),
    },
    "readonly": {
        "together": (False, "a store that is read-only refuses what either would change"),
        "refused_when_readonly": (
            frozenset({"anonymousread"}),
            "an anonymous fd of libgfapi's is for writing, too",
        ),
    },
}
"""What a fault takes away of the promises of any recipe, and why."""
PATIENCE = 15.0


class FaultError(ValueError):
    """Faults that there are not, or not together."""


def check_faults(faults: Collection[str], *, compared: bool = False) -> None:
    """FaultError, a line, unless these can happen together; ``compared``: and to two targets in the
    same way."""
    for fault in faults:
        if fault not in FAULTS:
            raise FaultError(f"{fault!r} is no fault: {', '.join(FAULTS)} are")
    if {"full", "readonly"} <= set(faults):
        raise FaultError("what is read-only cannot be full, too")
    if compared and (others := sorted(set(faults) - {"kill", "readonly"})):
        raise FaultError(f"{others[0]} is not the same in two targets: compare them without")


def wait_until_full(client: gfapi.Client) -> None:
    """Wait until the bricks have noticed: they look at each start, and every 5 s."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.creat("/probe").close()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return
            raise
        client.unlink("/probe")
        time.sleep(0.05)
    raise FaultError("no brick says that it is full")


CONTENTS = (
    *(steps.Create(0, "a"), steps.Write(0, 0, 10_000, 1), steps.Discard(0, 4096, 4096)),
    *(steps.Create(1, "b"), steps.Fallocate(1, 0, 1 << 20)),
    *(steps.Create(2, "c"), steps.Write(2, (1 << 20) - 1, 2, 2)),
    *(steps.Link(0, "c", "d"), steps.Setxattr(0, "a", "user.x", b"1")),
    *(steps.Sync(0), steps.Close(0), steps.Close(1), steps.Close(2)),
)
"""What is in a store before it becomes read-only."""


def make_contents(ground: Ground) -> dict[str, FileModel]:
    """Make files, before the store is read-only; what they are then."""
    faults, ground.faults = ground.faults, frozenset()
    runner = Runner(ground)
    for step in CONTENTS:
        runner.perform(step)
    runner.verify()
    ground.faults = faults
    return runner.volume.names
