"""A directory served by a brick process and mounted by a FUSE client process."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import volfiles
from glupy import stores
from glupy.testing.processes import Brick, FuseMount, ProcessError
from glupy_tools.failures import CommandError

_ENDING = 2.0
"""Seconds that a process may take to end after who talks to it has noticed."""


@dataclass(frozen=True)
class Served:
    """The two processes."""

    brick: Brick
    mount: FuseMount

    def check(self, *, patience: float = _ENDING) -> None:
        """Raise CommandError, with the first error it logged, if one of them has ended.

        Or ends within ``patience`` seconds: who talks to it notices that a moment earlier.
        """
        deadline = time.monotonic() + patience
        while True:
            for name, process in (("brick", self.brick), ("FUSE client", self.mount)):
                flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
                ended = os.waitid(os.P_PID, process.pid, flags)
                if ended is not None:
                    how = "status" if ended.si_code == os.CLD_EXITED else "signal"
                    raise _explained(f"the {name} ended ({how} {ended.si_status})", process)
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)


@contextmanager
def served(
    directory: Path,
    mountpoint: Path,
    folder: Path,
    *,
    leaf: str,
    inserts: Sequence[volfiles.Insert] = (),
    log_level: str = "INFO",
    cached: bool = True,
) -> Iterator[Served]:
    """Serve `directory` and mount it on `mountpoint` for as long as the block runs.

    `folder` gets the volfiles and logs, and the socket between the two processes: unlike a port
    of the loopback, only who may enter the folder can reach the brick, which serves as root.
    `cached=False` makes the kernel ask the brick for attributes every time.

    Raises CommandError if a process does not start or does not end as it should.
    """
    graph = volfiles.brick(directory, leaf=leaf, inserts=inserts, socket=folder / "socket")
    brick = Brick(graph, folder / "brick", log_level=log_level)
    mount = FuseMount(
        brick.client_graph(),
        mountpoint,
        folder / "client",
        log_level=log_level,
        arguments=[] if cached else ["--attribute-timeout=0", "--entry-timeout=0"],
    )
    stores.refuse_mounted(mountpoint)
    with ExitStack() as undo:
        for name, process in (("brick", brick), ("FUSE client", mount)):
            # Registered before it is started: Ctrl-C may come at any point.
            undo.push(process)
            try:
                process.start()
            except ProcessError as error:
                why = str(error).splitlines()[0].rpartition(": ")[2]
                raise _explained(f"the {name} did not start ({why})", process) from None
        yield Served(brick, mount)


def _explained(what: str, process: Brick | FuseMount) -> CommandError:
    reason = process.complaint()
    return CommandError(f"{what}: {reason}" if reason else what)
