"""Bricks and mounts as processes: they start, tell of themselves, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

import volfiles
from glupy import stores
from glupy.testing import processes
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, FuseMount, ProcessError, free_port
from glupy.testing.pytest_plugin import Connect, MakeBrick


@pytest.fixture
def leaf() -> str:
    return "posix"


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def crash(pid: int) -> None:
    """Kill a child and wait until it is dead, but leave its status to who started it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_brick_tells_of_itself(brick: Brick, client: Client) -> None:
    calls: Counter[str] = Counter()

    def soon(fds: int, **expected: int) -> None:
        """A brick counts a call, and releases an fd, a little after its client has the answer."""
        deadline = time.monotonic() + 10
        while True:
            dump = brick.statedump()
            calls.update(dump.calls("brick-posix"))
            seen = dump.pools["brick-server", "fd_t"], {name: calls[name] for name in expected}
            if dump.pending_calls == 0 and seen == (fds, expected):
                return
            assert time.monotonic() < deadline, seen

    with client.creat("/file") as file:
        file.pwrite(b"x" * 8192, 0)
        for _ in range(3):
            file.discard(0, 4096)
        soon(fds=1, CREATE=1, WRITE=1, DISCARD=3)
    soon(fds=0, CREATE=1, WRITE=1, DISCARD=3)
    assert 1 << 20 < brick.rss() < 1 << 30
    assert "Final graph:" in brick.log_text()
    assert int((brick.folder / "pid").read_text()) == brick.pid
    assert list((brick.folder / "statedumps").iterdir()) == []


def test_a_brick_ends_with_its_block(make_brick: MakeBrick) -> None:
    brick = make_brick()
    pid = brick.pid
    assert alive(pid)
    brick.stop()
    assert not alive(pid)
    brick.stop()
    with pytest.raises(ProcessError, match="does not run"):
        _ = brick.pid
    brick.start()
    with pytest.raises(ProcessError, match="runs already"):
        brick.start()
    assert brick.pid != pid


def test_a_brick_ends_when_its_block_fails(brick_dir: Path, tmp_path: Path, leaf: str) -> None:
    brick = Brick(volfiles.brick(brick_dir, leaf=leaf, port=free_port()), tmp_path / "brick")
    pid = 0
    with pytest.raises(KeyboardInterrupt), brick:
        pid = brick.pid
        raise KeyboardInterrupt
    assert pid and not alive(pid)


def test_a_brick_over_a_unix_socket(
    make_brick: MakeBrick, connect: Connect, tmp_path: Path
) -> None:
    brick = make_brick(socket=tmp_path / "socket")
    assert connect(brick).stat("/").st_ino == 1


@pytest.mark.expect_log("Directory .* doesn't exist")
@pytest.mark.allow_log("Initialization of volume failed|initializing translator failed|init failed")
def test_a_brick_that_cannot_start(make_brick: MakeBrick, tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="ended: ") as caught:
        make_brick(tmp_path / "nothing")
    assert "doesn't exist" in str(caught.value)


@pytest.mark.allow_log("this is why")
def test_why_a_brick_has_ended_is_told_whatever_it_logs_then(make_brick: MakeBrick) -> None:
    brick = make_brick()
    when = "[2026-01-01 00:00:00.000000 +0000]"
    with brick.log.open("a") as log:
        log.write("\n".join([f"{when} E [a.c:1:f] 0-a: this is why", *[f"{when} I -"] * 30, ""]))
    crash(brick.pid)
    with pytest.raises(ProcessError, match="this is why") as caught:
        brick.stop()
    assert (caught.value.reason or "").endswith("this is why")


def test_a_brick_that_dies(make_brick: MakeBrick) -> None:
    brick = make_brick()
    crash(brick.pid)
    with pytest.raises(ProcessError, match="ended by itself: signal SIGKILL"):
        brick.stop()
    brick.start()
    brick.kill()
    brick.start()
    os.kill(brick.pid, signal.SIGTERM)
    assert brick.wait() == signal.SIGTERM


def test_a_brick_that_does_not_end(make_brick: MakeBrick) -> None:
    brick = make_brick()
    pid = brick.pid
    os.kill(pid, signal.SIGSTOP)  # as deaf to SIGTERM as a brick can be
    with pytest.raises(ProcessError, match=r"did not end within .* of SIGTERM"):
        brick.stop(timeout=0.2)
    assert not alive(pid)


def test_an_error_in_the_block_is_what_is_seen(brick_dir: Path, tmp_path: Path, leaf: str) -> None:
    brick = Brick(volfiles.brick(brick_dir, leaf=leaf, port=free_port()), tmp_path / "brick")
    with pytest.raises(ZeroDivisionError) as caught, brick:
        crash(brick.pid)
        raise ZeroDivisionError
    assert "ended by itself" in caught.value.__notes__[0]


def test_ctrl_c_reaches_the_test_first(brick: Brick) -> None:
    assert os.getpgid(brick.pid) != os.getpgid(0)


def test_a_mount(mount: FuseMount, brick: Brick, client: Client) -> None:
    (mount.mountpoint / "file").write_bytes(b"over fuse")
    with client.open("/file") as file:
        assert file.pread(100, 0).value == b"over fuse"
    assert mount.statedump().sections
    pid = mount.pid
    mount.stop()
    assert stores.mount_of(mount.mountpoint) is None
    assert not alive(pid)


def test_a_mount_whose_process_dies(mount: FuseMount) -> None:
    crash(mount.pid)
    with pytest.raises(ProcessError, match="ended by itself"):
        mount.stop()
    assert stores.mount_of(mount.mountpoint) is None


@pytest.mark.allow_log("failed to unmount")
def test_a_mount_in_use(mount: FuseMount) -> None:
    pid = mount.pid
    user = subprocess.Popen(["sleep", "60"], cwd=mount.mountpoint)
    try:
        with pytest.raises(stores.StoreError, match="busy"):
            mount.stop()
    finally:
        user.kill()
        user.wait()
    assert stores.mount_of(mount.mountpoint) is None
    assert not alive(pid)


def test_a_mount_without_a_brick(
    brick: Brick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_TIMEOUT", 1.0)
    brick.stop()
    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    with pytest.raises(ProcessError, match="no sign of a mounted file system"):
        FuseMount(brick.client_graph(), mountpoint, tmp_path / "fuse").start()
    assert stores.mount_of(mountpoint) is None


def test_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] not in {free_port() for _ in range(100)}
