"""A client whose volume has changed: fops of its old graph end there, then that graph goes."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from pathlib import Path

from glupy.testing.logs import LogChecker
from glupy.testing.processes import FuseMount
from glupy.testing.pytest_plugin import MakeBrick
from glupy.testing.volfile_server import serving
from glupy.testing.waiting import wait_until

TRANSLATORS = Path(__file__).parent / "translators"
UNRULY = "features/glupy", {"module": f"{TRANSLATORS}/unruly.py:Unruly"}
TOLD = "features/glupy", {"module": f"{TRANSLATORS}/told.py:Told"}


def test_a_switch_lets_fops_end_and_cancels_the_rest(
    make_brick: MakeBrick, tmp_path: Path, logs: LogChecker
) -> None:
    """GlusterFS sends PARENT_DOWN to the old graph when no fop is under way in it any more: what
    the translator does of its own is cancelled then."""
    brick = make_brick()
    graphs = {"volume": brick.client_graph(inserts=[UNRULY])}
    socket, mountpoint = tmp_path / "volfiles.sock", tmp_path / "mount"
    mountpoint.mkdir()
    fetching = "-s", str(socket), "--volfile-server-transport=unix", "--volfile-id=volume"
    mount = FuseMount(graphs["volume"], mountpoint, tmp_path / "fuse", arguments=fetching)
    logs.watch(mount.log, mount.output)

    def do(what: bytes) -> None:
        # A file each: the kernel changes the xattrs of one file one after the other.
        file = mountpoint / what.decode()
        file.touch()
        os.setxattr(file, "user.do", what)

    def switched() -> bool:
        os.kill(mount.pid, signal.SIGHUP)
        os.statvfs(mountpoint)  # the switch is made with the next fop
        return mount.log_text().count("switched to graph ") == 2

    with serving(graphs, socket), mount, concurrent.futures.ThreadPoolExecutor() as pool:
        do(b"spawn 3600")
        asleep = pool.submit(do, b"sleep 3")
        time.sleep(0.3)
        graphs["volume"] = brick.client_graph(inserts=[UNRULY, TOLD])
        wait_until(switched)
        do(b"nothing")  # in the new graph
        assert not asleep.done()
        assert mount.log_text().count("cancelled: ") == 0
        asleep.result(timeout=10)
        wait_until(lambda: mount.log_text().count("cancelled: ") == 1)
        assert mount.log_text().count("-glupy: cancelled: spawn 3600") == 1
        (mountpoint / "file").touch()
