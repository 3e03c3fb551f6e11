"""A snapshot is merged into the file it was made of, and a kill comes between any two steps."""

import errno
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from glupy.testing import failing
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, ONE_LEAF, REFUSED, SLOW, devices, read, refuses, write

DATA = b"old" * 20_000
OLD, NEW = b"new" * 20_000, DATA + bytes(5 * MIB)
"""Of the file, and of its snapshot: what the file has after the merge."""
AfterAKill = Callable[[Callable[[], object]], Client]


def gfid(backend: Path, name: str) -> str:
    return os.getxattr(backend / name, "trusted.gfid").hex()


def dashed(gfid: str) -> str:
    return "-".join((gfid[:8], gfid[8:12], gfid[12:16], gfid[16:20], gfid[20:]))


def make_snapshot(client: Client, backend: Path, file: str, snapshot: str) -> None:
    write(client, f"/{file}", DATA)
    client.setxattr(f"/{file}", KEY, b"thin")
    write(client, f"/{snapshot}", b"")
    order = f"{gfid(backend, snapshot)}:{len(NEW)}"
    client.setxattr(f"/{file}", "snapshot", order.encode())
    write(client, f"/{file}", OLD)


def merged(client: Client, file: str, snapshot: str) -> bool:
    """Whether a file is as after the merge; it and its snapshot are whole, one way or the other."""
    data, size = read(client, f"/{file}"), client.stat(f"/{file}").st_size
    try:
        before = read(client, f"/{snapshot}")
    except FileNotFoundError:
        assert (data, size) == (NEW, len(NEW))
        return True
    assert (data, size, before) == (OLD, len(OLD), NEW)
    return False


def has_devices_of(backend: Path, pool: Path, *names: str) -> bool:
    found = sorted(each.name.rpartition(".")[2].replace("-", "") for each in devices(pool))
    return found == sorted(gfid(backend, name) for name in names)


@pytest.mark.parametrize("leaf", ONE_LEAF)
@pytest.mark.allow_log(*REFUSED)
def test_what_cannot_be_merged(client: Client, backend: Path) -> None:
    make_snapshot(client, backend, "f", "snap")
    refuses(errno.EINVAL, partial(client.setxattr, "/f", "merge", b"1"))
    client.link("/snap", "/other")
    refuses(errno.EMLINK, partial(client.setxattr, "/snap", "merge", b"1"))
    client.unlink("/snap")
    assert not merged(client, "f", "other")
    value = client.getxattr("/f", KEY).decode() + f",merge={gfid(backend, 'other')}:{len(NEW)}"
    write(client, "/plain", b"plain")
    refuses(errno.EINVAL, partial(client.setxattr, "/plain", KEY, value.encode()))
    client.removexattr("/f", KEY)
    refuses(errno.EINVAL, partial(client.setxattr, "/other", "merge", b"1"))
    assert read(client, "/other") == NEW


@pytest.mark.parametrize("leaf", ONE_LEAF)
def test_a_merge_right_after_a_start(
    make_bd: Callable[..., Brick],
    connect: Connect,
    backend: Path,
    brick: Brick,
    client: Client,
    pool: Path,
) -> None:
    """Nobody has looked for the file that it was made of; one has it open."""
    make_snapshot(client, backend, "f", "snap")
    client.close()
    brick.stop()
    there = connect(make_bd(backend))
    there.setxattr("/snap", "merge", b"1")
    assert merged(there, "f", "snap")
    make_snapshot(there, backend, "g", "snap")
    with there.open("/g") as file:
        there.setxattr("/snap", "merge", b"1")
        assert file.pread(len(NEW), 0).value == NEW
        file.pwrite(b"later", 0)
    assert read(there, "/g", 10) == b"laterdoldo"
    wait_until(lambda: has_devices_of(backend, pool, "f", "g"))


@pytest.mark.parametrize("leaf", ONE_LEAF)
@pytest.mark.allow_log(*REFUSED, r"Input/output error")
def test_a_step_that_fails(
    over_failing: Brick, connect: Connect, brick_dir: Path, pool: Path, orders: Path
) -> None:
    """Below; who looks at the file next goes on from there."""
    backend, client = brick_dir / "brick", connect(over_failing)
    for step, after in ("setxattr", False), ("truncate", True), ("unlink", True):
        make_snapshot(client, backend, step, "snap")
        failing.order(orders, step, errno.EIO)
        refuses(errno.EIO, partial(client.setxattr, "/snap", "merge", b"1"))
        assert not list(orders.glob(step))
        assert merged(client, step, "snap") == after
        if not after:
            client.setxattr("/snap", "merge", b"1")
            assert merged(client, step, "snap")
    wait_until(lambda: has_devices_of(backend, pool, "setxattr", "truncate", "unlink"))


# What a client has asked when its brick goes.
@pytest.mark.long
@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.allow_log(
    r"forced unwinding frame",
    r"remote operation failed",
    r"error=Transport endpoint is not connected",
)
@pytest.mark.parametrize(
    ("step", "after"),
    [("setxattr", False), ("truncate", True), ("unlink", True)],
)
def test_a_kill_before_a_step(
    make_brick: Callable[..., Brick],
    make_bd: Callable[..., Brick],
    connect: Connect,
    brick_dir: Path,
    pool: Path,
    step: str,
    after: bool,
) -> None:
    backend = brick_dir / "brick"
    backend.mkdir()
    slow = "features/glupy", {"module": SLOW, "fops": step, "milliseconds": "700"}
    brick = make_brick(backend, inserts=[slow, ("user/pybd", {"pool": f"loop:{pool}"})])
    client = connect(brick)
    make_snapshot(client, backend, "f", "snap")

    def merge() -> None:
        with pytest.raises(OSError):
            client.setxattr("/snap", "merge", b"1")

    merging = threading.Thread(target=merge)
    merging.start()
    time.sleep(0.4)
    brick.kill()
    merging.join()
    client.close()
    there = connect(make_bd(backend))
    left = ["f"] if after else ["f", "snap"]
    wait_until(lambda: has_devices_of(backend, pool, *left))
    assert merged(there, "f", "snap") == after


@pytest.fixture
def after_a_kill(
    make_bd: Callable[..., Brick], connect: Connect, backend: Path, brick: Brick, client: Client
) -> AfterAKill:
    """A client of a brick that starts on what was left."""

    def start(leave: Callable[[], object]) -> Client:
        client.close()
        brick.stop()
        leave()
        return connect(make_bd(backend))

    return start


STEPS = ["none", "said", "taken", "given", "cut", "nameless", "gone", "unsaid"]


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_a_kill_may_leave(
    client: Client, backend: Path, pool: Path, after_a_kill: AfterAKill
) -> None:
    """Step by step, by hand: as far as each of the files has come."""
    for number in range(len(STEPS)):
        make_snapshot(client, backend, f"f{number}", f"snap{number}")

    def leave() -> None:
        for number in range(len(STEPS)):
            merge_by_hand(backend, pool, f"f{number}", f"snap{number}", STEPS[: number + 1])

    there = after_a_kill(leave)
    files = [f"f{number}" for number in range(len(STEPS))]
    # The file is looked at before anybody has looked through the pool.
    for name, step in zip(files, STEPS, strict=True):
        done = step not in ("none", "said", "taken")
        assert read(there, f"/{name}") == (NEW if done else OLD), step
    kept = [name.replace("f", "snap") for name in files[:3]]
    wait_until(lambda: has_devices_of(backend, pool, *files, *kept))
    for name in files:
        assert merged(there, name, name.replace("f", "snap")) == (int(name[1:]) > 2)
        assert os.getxattr(backend / name, KEY).startswith(b"thin:")
        assert b"," not in os.getxattr(backend / name, KEY)


def merge_by_hand(backend: Path, pool: Path, file: str, snapshot: str, steps: list[str]) -> None:
    of_file, of_snapshot = dashed(gfid(backend, file)), dashed(gfid(backend, snapshot))
    (device,) = pool.glob(f"glupy.*.{of_file}")
    (other,) = pool.glob(f"glupy.*.{of_snapshot}")
    half = device.with_name(f"{device.name}.half")
    value = os.getxattr(backend / file, KEY)
    merging = f",merge={of_snapshot.replace('-', '')}:{len(NEW)}".encode()
    handle = backend / ".glusterfs" / of_snapshot[:2] / of_snapshot[2:4] / of_snapshot
    does: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "said": lambda: os.setxattr(backend / file, KEY, value + merging),
        "taken": lambda: device.rename(half),
        "given": lambda: other.rename(device),
        "cut": lambda: os.truncate(backend / file, len(NEW)),
        "nameless": handle.unlink,  # C posix removes the handle first
        "gone": (backend / snapshot).unlink,
        "unsaid": lambda: os.setxattr(backend / file, KEY, value),
    }
    for step in steps:
        does[step]()


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("step", ["said", "taken"])
def test_a_snapshot_that_is_removed_after_a_kill(
    client: Client, backend: Path, pool: Path, after_a_kill: AfterAKill, step: str
) -> None:
    """Before anybody has looked at the file: it was not merged, and there is nothing to merge."""
    make_snapshot(client, backend, "f", "snap")
    steps = STEPS[: STEPS.index(step) + 1]
    there = after_a_kill(lambda: merge_by_hand(backend, pool, "f", "snap", steps))
    there.unlink("/snap")
    assert read(there, "/f") == OLD
    wait_until(lambda: has_devices_of(backend, pool, "f"))
    assert b"," not in os.getxattr(backend / "f", KEY)


@pytest.mark.parametrize("leaf", ONE_LEAF)
def test_a_merge_into_a_file_whose_device_is_half(
    client: Client, backend: Path, pool: Path, after_a_kill: AfterAKill
) -> None:
    """As a kill in an unmapping leaves it: that is no rest of a merge."""
    make_snapshot(client, backend, "f", "snap")
    (device,) = pool.glob(f"glupy.*.{dashed(gfid(backend, 'f'))}")
    there = after_a_kill(lambda: device.rename(device.with_name(f"{device.name}.half")))
    there.setxattr("/snap", "merge", b"1")
    assert merged(there, "f", "snap")
    wait_until(lambda: has_devices_of(backend, pool, "f"))


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_snapshot_in_a_folder_that_nobody_knows(
    client: Client, backend: Path, pool: Path, after_a_kill: AfterAKill
) -> None:
    client.mkdir("/folder")
    make_snapshot(client, backend, "f", "folder/snap")
    steps = STEPS[: STEPS.index("given") + 1]
    there = after_a_kill(lambda: merge_by_hand(backend, pool, "f", "folder/snap", steps))
    assert read(there, "/f") == NEW
    assert not (backend / "folder" / "snap").exists()
    wait_until(lambda: has_devices_of(backend, pool, "f"))
