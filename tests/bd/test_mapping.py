"""A file is mapped, copied, renamed, removed, unmapped: what clients see and the pool has."""

import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import volfiles
from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, REFUSED, SLOW, devices, fill, inserted, read, refuses, write

HEAL = inserted("heal:Heal")

pytestmark = pytest.mark.parametrize("leaf", LEAVES)


def users(names: list[str]) -> list[str]:
    return [each for each in names if each.startswith("user.")]


def seen_by_heal(connect: Connect, brick: Brick) -> Client:
    return connect(brick, inserts=[HEAL])


# ---- mapping ----


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("thin:3MB", 3 * MIB),
        ("thin:10GB", 10 << 30),
        ("thin:5000", 5000),
        ("thin", 0),
        ("thin:1.5MB", 3 * MIB // 2),
    ],
)
def test_the_size_of_an_empty_file(client: Client, pool: Path, value: str, size: int) -> None:
    write(client, "/f", b"")
    client.setxattr("/f", KEY, value.encode())
    assert client.stat("/f").st_size == size
    assert len(devices(pool)) == 1
    assert client.stat("/f").st_blocks <= 16  # of extents
    assert re.fullmatch(rb"thin:\d+", client.getxattr("/f", KEY))


def test_data_moves_to_the_device_and_back(client: Client, backend: Path, pool: Path) -> None:
    data = os.urandom(3 * MIB)
    with client.creat("/f") as file:
        file.pwrite(data, 0)
        file.pwrite(b"end", 20 * MIB)
        client.utimens("/f", 10**18 + 1, 10**18 + 2)
        client.setxattr("/f", KEY, b"thin")
        assert file.pread(3 * MIB, 0).value == data
        mapped = client.stat("/f")
        assert mapped.st_size == 20 * MIB + 3
        assert mapped.st_mtime_ns == 10**18 + 2
        assert (backend / "f").stat().st_blocks <= 16
        assert (backend / "f").stat().st_size == 20 * MIB + 3
        assert 6144 <= devices(pool)[0].stat().st_blocks < 6300
        assert (backend / "f").read_bytes()[: 3 * MIB] == bytes(3 * MIB)

        client.removexattr("/f", KEY)
        assert devices(pool) == []
        assert file.pread(3 * MIB, 0).value == data
        assert file.pread(10, 20 * MIB).value == b"end"
        assert client.stat("/f").st_mtime_ns == 10**18 + 2
    assert (backend / "f").read_bytes()[: 3 * MIB] == data
    assert (backend / "f").stat().st_blocks < 6300


@pytest.mark.allow_log(*REFUSED)
def test_what_cannot_be_mapped(client: Client, pool: Path) -> None:
    write(client, "/f", b"x" * 5000)
    client.mkdir("/d")
    client.symlink("f", "/s")
    client.mknod("/fifo", 0o010644)
    for value in b"", b"thick", b"thin:", b"thin:x", b"lv:1:2", b":5", b"thin:-5", b"thin:4999":
        refuses(errno.EINVAL, partial(client.setxattr, "/f", KEY, value))
    refuses(errno.EOPNOTSUPP, lambda: client.setxattr("/f", KEY, b"lv:1MB"))
    for path in "/d", "/fifo":
        refuses(errno.EOPNOTSUPP, partial(client.setxattr, path, KEY, b"thin"))
    refuses(errno.ENODATA, lambda: client.removexattr("/f", KEY))
    assert devices(pool) == []
    client.setxattr("/f", KEY, b"thin:10000")
    refuses(errno.EEXIST, lambda: client.setxattr("/f", KEY, b"thin:10000"))
    assert read(client, "/f") == b"x" * 5000 + bytes(5000)


@pytest.mark.allow_log(*REFUSED)
def test_a_pool_that_is_not_there(client: Client, pool: Path) -> None:
    write(client, "/f", b"plain")
    pool.rename(pool.with_suffix(".away"))
    refuses(errno.ENODEV, lambda: client.setxattr("/f", KEY, b"thin"))
    assert read(client, "/f") == b"plain"
    write(client, "/g", b"also")
    pool.with_suffix(".away").rename(pool)
    client.setxattr("/f", KEY, b"thin")
    assert read(client, "/f") == b"plain"


def test_clients_do_not_see_the_key_and_heal_does(
    client: Client, connect: Connect, brick: Brick, pool: Path
) -> None:
    write(client, "/f", b"data")
    client.setxattr("/f", "user.other", b"1")
    client.setxattr("/f", KEY, b"thin:1MB")
    assert users(client.listxattr("/f")) == ["user.other"]
    with client.open("/f") as file:
        assert users(file.flistxattr()) == ["user.other"]
    heal = seen_by_heal(connect, brick)
    assert KEY in heal.listxattr("/f")
    value = heal.getxattr("/f", KEY)
    heal.setxattr("/f", KEY, value)
    heal.setxattr("/f", KEY, b"thin:7MB")
    heal.removexattr("/f", KEY)
    assert heal.getxattr("/f", KEY) == value
    assert client.stat("/f").st_size == MIB
    assert len(devices(pool)) == 1
    # a copy that heal makes: the data comes first, the size is its own
    write(client, "/copy", b"data")
    heal.setxattr("/copy", KEY, value)
    assert client.stat("/copy").st_size == 4
    assert len(devices(pool)) == 2
    assert read(client, "/copy") == b"data"


@pytest.mark.parametrize("above", ["trusted.ec.size", "trusted.glusterfs.shard.file-size"])
def test_a_size_that_is_kept_above_stays(client: Client, pool: Path, above: str) -> None:
    """Of a fragment or a shard's base file the size given is the device's."""
    write(client, "/f", b"x" * 4096)
    client.setxattr("/f", above, bytes(8))
    client.setxattr("/f", KEY, b"thin:40MB")
    assert client.stat("/f").st_size == 4096
    assert devices(pool)[0].stat().st_size == 40 * MIB


# ---- names ----


def test_the_last_name_takes_the_device_along(client: Client, pool: Path) -> None:
    for path in "/f", "/g":
        write(client, path, b"data")
        client.setxattr(path, KEY, b"thin")
    client.link("/f", "/f2")
    client.unlink("/f")
    time.sleep(0.2)
    assert len(devices(pool)) == 2
    assert read(client, "/f2") == b"data"
    client.rename("/f2", "/g")  # over the other one
    wait_until(lambda: len(devices(pool)) == 1)
    assert read(client, "/g") == b"data"
    client.unlink("/g")
    wait_until(lambda: devices(pool) == [])


def test_an_open_file_outlives_its_name(client: Client, pool: Path) -> None:
    write(client, "/f", b"data")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f") as file:
        client.unlink("/f")
        time.sleep(0.2)
        file.pwrite(b"DATA and more", 0)
        file.ftruncate(6 * MIB)
        file.discard(2, 3)
        assert file.pread(6, 0).value == b"DA\0\0\0a"
        assert len(devices(pool)) == 1
    wait_until(lambda: devices(pool) == [])


@pytest.mark.parametrize("bd_options", [{"map": "*.img=thin *.raw=thin:20MB 0-*=lv"}])
@pytest.mark.allow_log(r"is not mapped: Operation not supported")
def test_names_that_are_mapped(client: Client, pool: Path, bd_options: Any) -> None:
    for path in "/a.img", "/plain":
        write(client, path, b"data")
    assert len(devices(pool)) == 1
    client.mknod("/b.raw", 0o100644)
    assert client.stat("/b.raw").st_size == 0
    assert max(each.stat().st_size for each in devices(pool)) == 20 * MIB
    client.rename("/plain", "/c.img")
    assert len(devices(pool)) == 3
    assert read(client, "/c.img") == read(client, "/a.img") == b"data"
    client.mknod("/d.img", 0o101000)  # DHT's pointer to a file elsewhere
    client.mkdir("/e.img")
    assert len(devices(pool)) == 3
    write(client, "/0-f", b"plain")  # this pool has no such devices
    assert len(devices(pool)) == 3
    assert read(client, "/0-f") == b"plain"


@pytest.mark.parametrize("bd_options", [{"map": "*=thin"}])
def test_nothing_is_mapped_under_an_arbiter(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path, bd_options: Any
) -> None:
    client = connect(make_bd(above=[("features/arbiter", {"arbiter-brick": "on"})]))
    client.creat("/f").close()
    client.setxattr("/f", KEY, b"thin:1MB")
    assert devices(pool) == []


# ---- copies ----


@pytest.mark.allow_log(*REFUSED, r"setxattr")
def test_clone_snapshot_and_merge(client: Client, backend: Path, pool: Path) -> None:
    write(client, "/f", b"first" * 1000)
    client.setxattr("/f", KEY, b"thin")

    def gfid(path: str) -> bytes:
        return os.getxattr(backend / path.lstrip("/"), "trusted.gfid").hex().encode()

    for path in "/clone", "/snap":
        write(client, path, b"")
    client.setxattr("/f", "clone", gfid("/clone") + b":3MB")
    client.setxattr("/f", "snapshot", gfid("/snap"))
    write(client, "/f", b"later")
    assert read(client, "/clone") == b"first" * 1000 + bytes(3 * MIB - 5000)
    assert read(client, "/snap") == b"first" * 1000
    assert read(client, "/f") == b"later" + b"first" * 999
    assert client.getxattr("/snap", "list-origin").replace(b"-", b"") == gfid("/f")
    assert len(devices(pool)) == 3
    for value in gfid("/clone"), b"0" * 32, b"x", b"":
        refuses(
            errno.EEXIST if value == gfid("/clone") else errno.EINVAL,
            partial(client.setxattr, "/f", "clone", value),
        )
    refuses(errno.EINVAL, lambda: client.setxattr("/clone", "merge", b"1"))
    client.setxattr("/snap", "merge", b"1")
    assert read(client, "/f") == b"first" * 1000
    refuses(errno.ENOENT, lambda: client.stat("/snap"))
    wait_until(lambda: len(devices(pool)) == 2)
    assert client.getxattr("/", "volume.type") == b"1"
    assert int(client.getxattr("/", "volume.caps")) == 1 | 2 | 4 | 8 | 0x20


# ---- whose a device is ----


def restarted(make_bd: Callable[..., Brick], brick: Brick, directory: Path) -> Brick:
    brick.stop()
    return make_bd(directory)


@pytest.mark.expect_log(r"is missing, or was never this brick's")
@pytest.mark.allow_log(r"error=Input/output error", r"errno=5", r"error: Input/output")
def test_a_copied_brick_does_not_get_the_devices(
    make_bd: Callable[..., Brick],
    connect: Connect,
    brick: Brick,
    client: Client,
    backend: Path,
    pool: Path,
) -> None:
    write(client, "/f", b"precious")
    write(client, "/plain", b"plain")
    client.setxattr("/f", KEY, b"thin")
    copied = backend.with_name("copied")
    os.system(f"cp -a {backend} {copied}")
    other = make_bd(copied)
    there = connect(other)
    with there.open("/f") as file:
        for call in (
            lambda: file.pread(10, 0),
            lambda: file.pwrite(b"spoiled", 0),
            lambda: file.discard(0, 8),
            lambda: file.ftruncate(0),
            lambda: there.open("/f", os.O_RDWR | os.O_TRUNC),
        ):
            refuses(errno.EIO, call)
            assert (copied / "f").stat().st_size == 8
    assert other.log_text().count("is missing, or was never this brick's") == 1
    assert read(there, "/plain") == b"plain"
    there.unlink("/f")
    write(client, "/f", b"P")
    assert read(client, "/f") == b"Precious"
    assert len(devices(pool)) == 1


@pytest.mark.parametrize("owner", [":/somewhere/else", "nobody"])
@pytest.mark.parametrize("bd_options", [{"reclaim-interval": "1"}])
@pytest.mark.allow_log(r"error=Input/output error", r"errno=5", r"error: Input/output")
def test_a_device_with_another_tag_or_none_is_not_touched(
    make_bd: Callable[..., Brick],
    connect: Connect,
    brick: Brick,
    client: Client,
    backend: Path,
    pool: Path,
    logs: LogChecker,
    owner: str,
) -> None:
    write(client, "/f", b"precious")
    client.setxattr("/f", KEY, b"thin")
    client.close()
    brick.stop()
    (device,) = devices(pool)
    tag = os.getxattr(device, "user.glupy.brick")
    if owner == "nobody":
        os.removexattr(device, "user.glupy.brick")
    else:
        os.setxattr(device, "user.glupy.brick", owner.encode())
    again = connect(make_bd(backend))
    logs.expect(rf"belongs to {owner}, not to this brick")
    refuses(errno.EIO, lambda: read(again, "/f"))
    again.unlink("/f")
    ours = device.with_name(device.name[:-36] + str(uuid.uuid4()))
    ours.touch()
    os.setxattr(ours, "user.glupy.brick", tag)
    wait_until(lambda: not ours.exists())
    assert devices(pool) == [device]


def test_two_bricks_share_no_device(
    make_bd: Callable[..., Brick], connect: Connect, client: Client, pool: Path
) -> None:
    other = connect(make_bd())
    for number, each in enumerate([client, other]):
        write(each, "/f", b"%d" % number)
        each.setxattr("/f", KEY, b"thin")
    assert len(devices(pool)) == 2
    assert (read(client, "/f"), read(other, "/f")) == (b"0", b"1")


# ---- lives of a brick ----


def test_what_was_written_outlives_the_brick(
    make_bd: Callable[..., Brick], connect: Connect, brick: Brick, client: Client, backend: Path
) -> None:
    write(client, "/f", b"a" * MIB)
    client.setxattr("/f", KEY, b"thin:5MB")
    with client.open("/f") as file:
        file.pwrite(b"b" * 100, 3 * MIB)
        file.pwrite(b"c" * 100, 6 * MIB)
    before = client.stat("/f")
    client.close()
    brick.stop()
    again = connect(make_bd(backend))
    after = again.stat("/f")
    assert after.st_size == before.st_size == 6 * MIB + 100
    assert after.st_mtime_ns == before.st_mtime_ns
    data = read(again, "/f")
    assert data[:MIB] == b"a" * MIB
    assert data[3 * MIB : 3 * MIB + 100] == b"b" * 100
    assert data[6 * MIB :] == b"c" * 100
    assert sum(map(bool, data)) == MIB + 200


@pytest.mark.expect_log(r"its file is not mapped to it; it is kept")
def test_devices_that_have_lost_their_files(
    make_bd: Callable[..., Brick],
    connect: Connect,
    brick: Brick,
    client: Client,
    backend: Path,
    pool: Path,
    logs: LogChecker,
) -> None:
    for name in "purged", "half", "pending", "unmapped":
        write(client, f"/{name}", name.encode())
        client.setxattr(f"/{name}", KEY, b"thin")
    write(client, "/plain", b"plain")
    gfids = {
        path.name: os.getxattr(path, "trusted.gfid").hex()
        for path in backend.iterdir()
        if path.is_file()
    }
    client.close()
    brick.stop()

    def device(name: str) -> Path:
        gfid = gfids[name]
        return next(each for each in devices(pool) if each.name.replace("-", "").endswith(gfid))

    # Killed between the xattr and the device's name; never mapped; purged by posix; taken off.
    pending, unmapped, half = device("pending"), device("unmapped"), device("half")
    pending.rename(f"{pending}.half")
    half.rename(f"{half}.half")
    os.removexattr(backend / "half", KEY)
    os.removexattr(backend / "unmapped", KEY)
    (backend / "purged").unlink()
    gfid = gfids["purged"]
    (backend / ".glusterfs" / gfid[:2] / gfid[2:4] / dashed(gfid)).unlink()
    stranger = pool / "stranger"
    stranger.write_bytes(b"not ours")

    again = connect(make_bd(backend))
    wait_until(lambda: devices(pool) == sorted([pending, unmapped, stranger]))
    assert read(again, "/pending") == b"pending"
    assert read(again, "/half") == bytes(4)
    assert read(again, "/plain") == b"plain"


def dashed(gfid: str) -> str:
    return "-".join((gfid[:8], gfid[8:12], gfid[12:16], gfid[16:20], gfid[20:]))


# ---- side doors ----


def test_quick_read_gets_the_devices_bytes(client: Client, connect: Connect, brick: Brick) -> None:
    write(client, "/f", b"small")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f") as file:
        file.pwrite(b"SMALL", 0)
    quick = connect(brick, inserts=[("performance/quick-read", {}), ("performance/md-cache", {})])
    quick.readdir("/", plus=True)
    assert read(quick, "/f") == b"SMALL"


def test_readdirp_shows_the_file(client: Client, connect: Connect, brick: Brick) -> None:
    write(client, "/f", b"x" * MIB)
    write(client, "/plain", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin:3MB")
    with client.open("/f") as file:
        file.fsync()
        other = connect(brick)
        entries = {each.name: each.stat for each in other.readdir("/", plus=True)}
        mapped = entries["f"]
        assert mapped is not None
        assert (mapped.st_size, mapped.st_blocks) == (3 * MIB, file.fstat().st_blocks)
        assert mapped.st_blocks >= 2048
        with other.open("/f") as there:
            assert there.pread(MIB, 0).value == b"x" * MIB


def test_readdirp_shows_a_file_that_nobody_has_looked_up(
    client: Client, connect: Connect, brick: Brick, make_bd: Callable[..., Brick], backend: Path
) -> None:
    """The brick has no inode of it yet; nor has a client that keeps what came with the entry."""
    write(client, "/f", b"x" * MIB)
    write(client, "/small", b"SMALL")
    for name in "/f", "/small":
        client.setxattr(name, KEY, b"thin:3MB")
    shown = client.stat("/f")
    assert shown.st_blocks >= 2048
    client.close()
    brick.stop()
    caches: list[volfiles.Insert] = [("performance/quick-read", {}), ("performance/md-cache", {})]
    new = connect(make_bd(backend), inserts=caches)
    entries = {each.name: each.stat for each in new.readdir("/", plus=True)}
    found = entries["f"]
    assert found is not None
    assert (found.st_size, found.st_blocks) == (3 * MIB, shown.st_blocks)
    assert read(new, "/f") == b"x" * MIB + bytes(2 * MIB)
    assert read(new, "/small") == b"SMALL" + bytes(3 * MIB - 5)


def test_open_with_o_trunc(client: Client, pool: Path) -> None:
    write(client, "/f", b"x" * 6 * MIB)
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f", os.O_RDWR | os.O_TRUNC) as file:
        assert file.fstat().st_size == 0
        file.pwrite(b"y", 2 * MIB)
        assert file.pread(3 * MIB, 0).value == bytes(2 * MIB) + b"y"
        file.fsync()
        assert devices(pool)[0].stat().st_blocks <= 24
    with client.creat("/f", os.O_RDWR | os.O_TRUNC) as file:
        assert file.fstat().st_size == 0


def test_append(client: Client) -> None:
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f", os.O_RDWR | os.O_APPEND) as file:
        for _ in range(3):
            file.pwrite(b"abc", 0)
        assert file.pread(100, 0).value == b"abcabcabc"


def test_an_fsync_has_it_all_in_the_stub(client: Client, backend: Path) -> None:
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f") as file:
        file.pwrite(b"x" * 100, 3 * MIB)
        file.fsync()
        time.sleep(0.05)  # a tick of the clock
        file.pwrite(b"y" * 100, 3 * MIB)
        assert (backend / "f").stat().st_mtime_ns < file.fstat().st_mtime_ns
        file.fsync()
        stub, shown = (backend / "f").stat(), file.fstat()
        assert (stub.st_size, stub.st_mtime_ns) == (shown.st_size, shown.st_mtime_ns)


@pytest.mark.allow_log(r"the pool is full", r"No space left on device", r"errno=28")
def test_a_full_pool_takes_no_more_and_discards(
    make_bd: Callable[..., Brick], connect: Connect, tmp_path: Path, logs: LogChecker
) -> None:
    with stores.store(
        tmp_path / "small", 64 * MIB, tmp_path / "mnt", options=("discard", "commit=900")
    ) as small:
        pool = small.folder / "pool"
        pool.mkdir()
        brick = make_bd(pool=pool)
        client = connect(brick)
        write(client, "/f", b"x" * 8 * MIB)
        write(client, "/plain", b"y" * 8 * MIB)
        client.setxattr("/f", KEY, b"thin:100MB")
        with client.open("/f") as file:
            file.fsync()
            fill(small.folder)
            time.sleep(5.2)  # as often as the pool is looked at
            refuses(errno.ENOSPC, lambda: file.pwrite(b"new", 20 * MIB))
            file.pwrite(b"over", 0)
            file.discard(MIB, 4 * MIB)
            assert file.pread(MIB, MIB).value == bytes(MIB)
            blocks = file.fstat().st_blocks
            refuses(errno.ENOSPC, lambda: file.fallocate(0, 90 * MIB))
            # None of those that there were; the list of extents may have got one.
            assert file.fstat().st_blocks <= blocks + 8
            assert file.pread(4, 0).value == b"over"
        refuses(errno.ENOSPC, lambda: client.setxattr("/plain", KEY, b"thin"))
        assert len([each for each in devices(pool) if each.name.startswith("glupy.")]) == 1
        assert read(client, "/plain") == b"y" * 8 * MIB
        client.close()
        brick.stop()


def test_times_that_a_client_sets_are_not_lost_to_a_late_store(
    make_brick: Callable[..., Brick], pool: Path, connect: Connect
) -> None:
    """A release stores the times that there are then, and nobody waits for that."""
    slow = "features/glupy", {"module": SLOW, "fops": "flush,setattr", "milliseconds": "500"}
    options = {"pool": f"loop:{pool}", "map": "*=thin"}
    client = connect(make_brick(inserts=[slow, ("user/pybd", options)]))
    with client.creat("/f") as file:
        file.pwrite(b"x" * 4096, 0)
        closing = threading.Thread(target=client.open("/f", os.O_RDWR).close)
        closing.start()
        time.sleep(0.1)  # what is written now is not stored by the flush, but by the release
        file.pwrite(b"y", 0)
        closing.join()
        time.sleep(0.1)
        file.futimens(10**18, 10**18)
        time.sleep(1)
        assert file.fstat().st_mtime_ns == 10**18
    assert client.stat("/f").st_mtime_ns == 10**18


def test_what_is_stored_of_times_leaves_the_mode(client: Client) -> None:
    """A setattr of nothing is a chown(2) of nobody, which takes S_ISUID away."""
    with client.creat("/f") as file:
        file.fsetxattr(KEY, b"thin")
        file.fchmod(0o4711)
        file.pwrite(b"x", 0)
        file.futimens(10**18, 10**18)
    assert client.stat("/f").st_mode & 0o7777 == 0o4711


def test_what_is_open_when_its_last_name_goes_leaves_no_device(client: Client, pool: Path) -> None:
    """posix keeps such a file, and may still find it by its gfid."""
    with client.creat("/f") as file:
        file.pwrite(b"x" * MIB, 0)
        client.setxattr("/f", KEY, b"thin")
        client.unlink("/f")
        assert file.pread(5, 0).value == b"xxxxx"
        assert len(devices(pool)) == 1
    wait_until(lambda: devices(pool) == [])


def test_a_clone_right_after_a_start(
    make_bd: Callable[..., Brick], connect: Connect, backend: Path, brick: Brick, client: Client
) -> None:
    """Nothing has opened the source's device yet."""
    write(client, "/f", b"data")
    client.setxattr("/f", KEY, b"thin")
    client.creat("/copy").close()
    client.close()
    there = connect(restarted(make_bd, brick, backend))
    gfid = os.getxattr(backend / "copy", "trusted.gfid").hex()
    there.setxattr("/f", "clone", gfid.encode() + b":6MB")
    assert read(there, "/copy") == b"data" + bytes(6 * MIB - 4)
    write_at = there.open("/copy", os.O_RDWR)
    write_at.pwrite(b"end", 6 * MIB - 3)
    write_at.close()
    assert read(there, "/f") == b"data"


def test_what_a_stub_has_is_nobodys(client: Client, backend: Path) -> None:
    """A kill may leave bytes there, or who wrote without pybd."""
    write(client, "/f", b"first" * 1000)
    client.setxattr("/f", KEY, b"thin")
    with (backend / "f").open("r+b") as stub:
        stub.write(b"stale" * 1000)
    with client.open("/f", os.O_RDWR) as file:
        file.discard(0, 4096)
    client.removexattr("/f", KEY)
    assert read(client, "/f") == bytes(4096) + (b"first" * 1000)[4096:]


def test_a_file_without_its_handle_keeps_its_device(
    make_bd: Callable[..., Brick],
    connect: Connect,
    backend: Path,
    brick: Brick,
    client: Client,
    pool: Path,
    logs: LogChecker,
) -> None:
    """A brick that was restored without .glusterfs, or where C posix has lost a handle."""
    write(client, "/f", b"data")
    client.setxattr("/f", KEY, b"thin")
    gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
    client.close()
    brick.stop()
    (backend / ".glusterfs" / gfid[:2] / gfid[2:4] / str(uuid.UUID(gfid))).unlink()
    logs.expect("has no handle in .glusterfs; it is kept")
    again = make_bd(backend)
    there = connect(again)
    wait_until(lambda: "it is kept" in again.log_text())
    assert len(devices(pool)) == 1
    assert read(there, "/f") == b"data"
