"""What GlusterFS tells a translator beside fops: of clients that go, of files that are closed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.pytest_plugin import Connect, MakeBrick

TOLD = "features/glupy", {"module": f"{Path(__file__).parent}/translators/told.py:Told"}


def until(process: Brick | FuseMount, reached: Callable[[dict[str, str]], bool]) -> None:
    """Wait until the one Told's statedump says so; fail if it does not in 10 s."""
    deadline = time.monotonic() + 10
    while True:
        shown = (dict(section.pairs) for section in process.statedump().sections)
        (told,) = (pairs for pairs in shown if "fdclose" in pairs)
        if reached(told):
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


def test_of_clients_and_what_they_close(
    make_brick: MakeBrick, connect: Connect, tmp_path: Path, logs: LogChecker
) -> None:
    """A mount's translator is told of a close, a brick's of a client that ends, or is killed."""
    brick = make_brick(inserts=[TOLD])
    client = connect(brick)
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    mount = FuseMount(brick.client_graph(inserts=[TOLD]), mountpoint, tmp_path / "fuse")
    logs.watch(mount.log, mount.output)
    with mount:
        pid = mount.pid
        file = os.open(mountpoint / "file", os.O_CREAT | os.O_RDWR)
        folder = os.open(mountpoint, os.O_DIRECTORY)
        until(mount, lambda shown: shown["fdclose"] == "0")
        os.close(file)
        os.close(folder)
        # A close is told of later. Of a directory's no GlusterFS tells so far.
        until(mount, lambda shown: shown["fdclose"] == "1")
        file = os.open(mountpoint / "file", os.O_RDWR)
        folder = os.open(mountpoint, os.O_DIRECTORY)
        until(brick, lambda shown: shown["client_disconnect"] == "0")
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        for fd in file, folder:  # or the mount would be busy
            with contextlib.suppress(OSError):
                os.close(fd)
        mount.kill()
    until(
        brick,
        lambda shown: (
            shown["client_disconnect"] == shown["client_destroy"] == "1"
            and f"-PID:{pid}-" in shown["client_disconnect of"]
            and shown["client_disconnect of"] == shown["client_destroy of"]
            and shown["fdclose"] == shown["fdclosedir"] == "0"
        ),
    )
    client.close()
    until(
        brick,
        lambda shown: (
            shown["client_disconnect"] == shown["client_destroy"] == "2"
            and f"-PID:{os.getpid()}-" in shown["client_destroy of"]
        ),
    )
