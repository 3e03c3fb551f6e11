"""A command that goes on in a child: what becomes of its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glupy import stores
from glupy_tools.crashes import clear

SHELTERED = """
import os, resource, signal, sys, time
from glupy_tools.crashes import in_a_child

def end(number, _):
    print("undone", flush=True)
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, end)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
crash = in_a_child(lambda: print("undone by the parent", flush=True))
if crash:
    print("crashed:", crash.name)
    sys.exit(1)
print("child", os.getpid(), flush=True)
"""
# Not one long sleep: of a signal right before it nothing would be seen until its end.
WAIT = "for _ in range(600): time.sleep(0.1)"


def sheltered(body: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SHELTERED + body]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("body", "status", "shown"),
    [
        ("sys.exit(7)", 7, ""),
        ("os.abort()", 1, "undone by the parent\ncrashed: SIGABRT\n"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1, "undone by the parent\ncrashed: SIGSEGV\n"),
        ("os.kill(os.getpid(), 9)", 128 + signal.SIGKILL, "undone by the parent\n"),
    ],
)
def test_how_it_ends(body: str, status: int, shown: str) -> None:
    with sheltered(body) as command:
        out, complaints = command.communicate(timeout=30)
    first, _, rest = out.partition("\n")
    assert first.startswith("child ")
    assert (command.returncode, rest, complaints) == (status, shown, "")


def test_a_signal_is_handed_on() -> None:
    with sheltered(WAIT) as command:
        assert command.stdout is not None
        command.stdout.readline()
        command.terminate()
        assert command.communicate(timeout=30) == ("undone\n", "")
    assert command.returncode == 128 + signal.SIGTERM


def test_a_crash_after_a_signal_is_no_crash() -> None:
    body = "signal.signal(signal.SIGTERM, lambda *_: os.abort())\nprint()\nsys.stdout.flush()\n"
    with sheltered(body + WAIT) as command:
        assert command.stdout is not None
        command.stdout.readline()
        command.stdout.readline()
        command.terminate()
        assert command.communicate(timeout=30)[0] == "undone by the parent\n"
    assert command.returncode == 128 + signal.SIGTERM


def test_a_child_ends_with_its_parent() -> None:
    with sheltered(WAIT) as command:
        assert command.stdout is not None
        child = Path("/proc", command.stdout.readline().split()[1])
        command.kill()
        deadline = time.monotonic() + 10
        while child.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not child.exists()


def test_what_is_left_is_taken_away(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Stores, a pool's devices in them, and processes that wrote their number there."""
    folder = tmp_path / "target"
    request.addfinalizer(lambda: stores.unmake(folder / "image"))
    request.addfinalizer(lambda: stores.detach(folder / "store" / "pool-0" / "device"))
    (folder / "brick-0").mkdir(parents=True)
    (folder / "brick-1").mkdir()
    store = stores.make(folder / "image", 64 << 20, folder / "store")
    pool = store.folder / "pool-0"
    pool.mkdir()
    file = pool / "device"
    file.write_bytes(bytes(1 << 20))
    stores.attach(file)
    with (
        subprocess.Popen(["sleep", "60"]) as stranger,
        subprocess.Popen(["sh", "-c", "sleep 60; :", folder / "brick-0" / "pid"]) as ours,
    ):
        (folder / "brick-0" / "pid").write_text(f"{ours.pid}\n")
        # That number is another process's now.
        (folder / "brick-1" / "pid").write_text(f"{stranger.pid}\n")
        while b"sleep 60" not in Path(f"/proc/{ours.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # it is exec'd, but its arguments are not there yet
        clear(tmp_path)
        assert ours.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()
    assert stores.find(folder / "image") is None
    assert stores.devices_of(file) == []
    assert not (folder / "image").exists()
