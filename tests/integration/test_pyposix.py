"""pyposix as bricks and clients see it: fops on data and space, in this process and over RPC."""

import concurrent.futures
import contextlib
import errno
import itertools
import os
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import volfiles
from glupy import stores
from glupy.testing.fuzz import GFAPI, Search, behind_rpc, ground_of
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount
from glupy.testing.waiting import wait_until
from pyposix.check import Ground, Scan

KIB, MIB = 1 << 10, 1 << 20
SEED = random.randrange(1 << 32)
REFUSED = r"error=(Invalid argument|No space left on device|File too large)"

# A client that is closed does not wait for the answers to its last closes.
pytestmark = pytest.mark.allow_log(r"forced unwinding .*\(RELEASE")

MakeBrick = Callable[..., Brick]
Connect = Callable[..., Client]


@pytest.fixture(params=[False, True], ids=["plain", "ctime"])
def in_process(
    request: pytest.FixtureRequest, brick_dir: Path, tmp_path: Path, logs: LogChecker
) -> Iterator[Client]:
    """The translator in this very process: no daemon, no network."""
    log = tmp_path / "client.log"
    logs.watch(log)
    with Client(volfiles.leaf_graph(brick_dir, ctime=request.param), log=log) as client:
        yield client


def test_machine_in_process(in_process: Client, brick_dir: Path) -> None:
    # features/utime sets no times in a discard (docs/upstream-defects.md).
    promises = replace(GFAPI, times=frozenset())
    ground = ground_of([in_process], promises, [brick_dir])
    assert (finding := Search(ground).run(examples=60, seed=SEED)) is None, finding


@pytest.mark.allow_log(r"error=")
def test_machine_over_rpc(brick: Brick, client: Client) -> None:
    backend = Path(next(iter(brick.graph)).options["directory"])
    ground = ground_of([client], behind_rpc(GFAPI), [backend])
    assert (finding := Search(ground).run(examples=60, seed=SEED)) is None, finding


@pytest.mark.allow_log("error=No such file", "Fresh file: ")
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_a_file_that_is_being_made_is_not_there_yet(
    leaf: str, brick_dir: Path, make_brick: MakeBrick, connect: Connect
) -> None:
    """Another client that looks up a shard meets it before it has its gfid."""
    client = connect(make_brick(brick_dir, leaf=leaf))
    for number in itertools.count():
        made = brick_dir / str(number)
        made.touch()
        try:
            client.stat(f"/{number}")
        except OSError as error:
            assert error.errno == errno.ENOENT
            break
        # on a machine that was busy for a second: it is not fresh any more
        assert time.time() - made.stat().st_mtime >= 1
    assert "trusted.gfid" not in os.listxattr(made)
    time.sleep(1.1)
    client.stat(f"/{number}")
    assert len(os.getxattr(made, "trusted.gfid")) == 16


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, to be filled."""
    with stores.store(tmp_path / "small", 32 * MIB, tmp_path / "full") as store:
        yield store.folder


def fill(folder: Path) -> None:
    """Leave no block free, not even of those that are kept for root."""
    with (folder / "ballast").open("wb") as ballast:
        for size in MIB, 64 * KIB, 4 * KIB:
            try:
                while True:
                    ballast.write(bytes(size))
                    ballast.flush()
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.fsync(ballast.fileno())


@pytest.mark.allow_log(REFUSED)
@pytest.mark.parametrize("reserve", ["0", "1", "50%"])
def test_discard_on_a_full_brick(
    reserve: str, small: Path, make_brick: MakeBrick, connect: Connect
) -> None:
    """Neither a reserve that is used up nor a file system that is full refuses the one fop that
    gives space back; what would take some is refused."""
    folder = small / "brick"
    folder.mkdir()
    (small / "empty").mkdir()
    client = connect(make_brick(folder, options={"reserve": "0"}))
    file = client.creat("/file")
    file.pwrite(b"x" * 8 * MIB, 0)
    file.fsync()
    fill(small)
    client = connect(make_brick(folder, options={"reserve": reserve}))
    file = client.open("/file")
    for refused in (
        lambda: file.fallocate(8 * MIB, MIB),
        lambda: file.zerofill(8 * MIB, MIB),
        lambda: file.pwrite(b"y" * MIB, 8 * MIB),
    ):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.ENOSPC
    assert file.pwrite(b"z" * 4 * KIB, 0).value == 4 * KIB  # over what is there
    before = file.fstat()
    file.discard(4 * MIB, 4 * MIB)
    after = file.fstat()
    assert after.st_size == before.st_size == 8 * MIB
    assert before.st_blocks - after.st_blocks >= 4 * MIB // 512 - 8


@pytest.mark.allow_log(REFUSED)
@pytest.mark.parametrize("ctime", [False, True])
def test_what_fails_leaves_nothing_behind(
    ctime: bool, small: Path, make_brick: MakeBrick, connect: Connect
) -> None:
    folder = small / "brick"
    folder.mkdir()
    client = connect(make_brick(folder, options={"reserve": "0"}, ctime=ctime))
    file = client.creat("/file")
    file.pwrite(b"x" * MIB, 0)
    file.ftruncate(3 * MIB)
    file.fallocate(4 * MIB, 64 * KIB, keep_size=True)  # is there before, and must stay
    file.fsync()
    backend = folder / "file"

    def state() -> tuple[object, ...]:
        status = backend.stat()
        stored = {name: os.getxattr(backend, name) for name in os.listxattr(backend)}
        return status.st_size, status.st_blocks, status.st_mtime_ns, stored

    before, free = state(), os.statvfs(small).f_bfree
    calls: list[Callable[[], object]] = [
        lambda: file.fallocate(MIB, 100 * MIB),
        lambda: file.fallocate(MIB, 100 * MIB, keep_size=True),
        lambda: file.zerofill(MIB, 100 * MIB),
    ]
    for fails in calls:
        with pytest.raises(OSError) as caught:
            fails()
        assert caught.value.errno == errno.ENOSPC
        now = state()
        assert now[:2] == before[:2]
        assert now[3] == before[3]
        assert os.statvfs(small).f_bfree == free
    assert file.pread(MIB, 0).value == b"x" * MIB


def test_atomic_updates_see_only_themselves(brick: Brick, connect: Connect) -> None:
    """features/shard adds up what each fop says it did to the blocks: that and no more."""
    client = connect(brick, inserts=[("features/shard", {"shard-block-size": "4MB"})])
    file = client.creat("/file")
    file.pwrite(b"x" * 4 * KIB, 8 * MIB - 4 * KIB)

    def work(number: int) -> None:
        offset = 4 * MIB + number % 60 * 64 * KIB
        file.pwrite(b"x" * 32 * KIB, offset)
        if number % 2:
            file.discard(offset, 16 * KIB)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(240)]:
            done.result(60)
    backend = Path(next(iter(brick.graph)).options["directory"])
    pieces = [backend / "file", *(backend / ".shard").glob("*-*.[0-9]")]
    # Of each piece, one block of xattrs was there before its first write.
    blocks = sum(piece.stat().st_blocks for piece in pieces)
    assert abs(client.stat("/file").st_blocks - blocks) <= 8 * len(pieces)


def test_shards(brick: Brick, connect: Connect) -> None:
    """features/shard: anonymous fds, and write-update-atomic on each fop."""
    shard = ("features/shard", {"shard-block-size": "4MB"})
    client = connect(brick, inserts=[shard])
    file = client.creat("/file")
    file.pwrite(b"x" * 12 * MIB, 0)
    assert file.fstat().st_size == 12 * MIB
    backend = Path(next(iter(brick.graph)).options["directory"])
    pieces = sorted((backend / ".shard").glob("*-*.[0-9]"))
    assert len(pieces) == 2
    before = [piece.stat().st_blocks for piece in pieces]
    file.discard(4 * MIB, 8 * MIB)
    after = [piece.stat().st_blocks for piece in pieces]
    assert all(b - a >= 4 * MIB // 512 - 8 for b, a in zip(before, after, strict=True))
    assert file.pread(4 * KIB, 6 * MIB).value == bytes(4 * KIB)
    assert file.pread(4 * KIB, 0).value == b"x" * 4 * KIB


@pytest.mark.allow_log(r".*")
def test_an_anonymous_fd_that_cannot_be_opened_says_why(brick: Brick, connect: Connect) -> None:
    client = connect(brick, inserts=[("features/shard", {"shard-block-size": "4MB"})])
    file = client.creat("/file")
    file.pwrite(b"x" * 8 * MIB, 0)
    backend = Path(next(iter(brick.graph)).options["directory"])
    (piece,) = (backend / ".shard").glob("*.1")
    gfid = str(uuid.UUID(bytes=os.getxattr(piece, "trusted.gfid")))
    piece.unlink()
    (backend / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid).unlink()
    with pytest.raises(FileNotFoundError):
        file.discard(5 * MIB, MIB)


def test_an_open_file_outlives_its_names(brick: Brick, client: Client) -> None:
    backend = Path(next(iter(brick.graph)).options["directory"])
    orphans = backend / ".glusterfs" / "unlink"
    removals: dict[str, Callable[[], None]] = {
        "/unlinked": lambda: client.unlink("/unlinked"),
        "/victim": lambda: client.rename("/other", "/victim"),
    }
    for path, remove in removals.items():
        client.creat("/other").close()
        file = client.creat(path)
        file.pwrite(b"still here", 0)
        remove()
        assert len(list(orphans.iterdir())) == 1
        assert file.pread(100, 0).value == b"still here"
        assert file.fstat().st_nlink == 0
        file.discard(0, 5)
        file.close()
        client.stat("/")  # the close is sent without waiting for its answer
        wait_until(lambda: not list(orphans.iterdir()))


def test_orphans_of_a_crash_are_removed(brick: Brick, client: Client, connect: Connect) -> None:
    backend = Path(next(iter(brick.graph)).options["directory"])
    file = client.creat("/file")
    client.unlink("/file")
    assert list((backend / ".glusterfs" / "unlink").iterdir())
    brick.kill()
    brick.start()
    assert not list((backend / ".glusterfs" / "unlink").iterdir())
    with contextlib.suppress(OSError):  # the client may have noticed, or not yet
        file.close()


@pytest.mark.expect_log("led elsewhere: a rename was cut off")
def test_a_rename_of_a_directory_that_was_cut_off(
    brick: Brick, client: Client, connect: Connect
) -> None:
    """Killed before the handle followed: the directory is found where it is now, by all ways."""
    backend = Path(next(iter(brick.graph)).options["directory"])
    client.mkdir("/in")
    for name in "moved", "replaced":
        client.mkdir(f"/{name}")
        client.creat(f"/{name}/f").close()
    gfids = {name: os.getxattr(backend / name, "trusted.gfid") for name in ("moved", "replaced")}
    brick.stop()
    (backend / "moved").rename(backend / "in" / "now")
    (backend / "replaced").rename(backend / "in" / "kept")
    brick.start()
    again = connect(brick)
    again.mkdir("/replaced")  # where the handle of another directory leads
    for name, now in ("moved", "now"), ("replaced", "kept"):
        assert again.stat(f"/in/{now}/f").st_size == 0
        again.rename(f"/in/{now}/f", f"/in/{now}/g")
        text = str(uuid.UUID(bytes=gfids[name]))
        handle = backend / ".glusterfs" / text[:2] / text[2:4] / text
        assert handle.resolve() == backend / "in" / now
    again.creat("/replaced/h").close()
    brick.stop()
    with contextlib.closing(Ground(os.fsencode(backend))) as opened:
        assert list(Scan(opened, live=False).findings()) == []


def test_many_threads(client: Client) -> None:
    """Names made, renamed and removed by eight at once; nobody gets in another's way."""

    def work(who: int) -> None:
        for turn in range(30):
            folder = f"/{who}-{turn}"
            client.mkdir(folder)
            with client.creat(f"{folder}/f") as file:
                file.pwrite(b"x" * 5000, 0)
                file.discard(0, 4096)
            client.link(f"{folder}/f", f"{folder}/g")
            client.rename(f"{folder}/g", f"/shared-{turn % 3}")
            client.unlink(f"{folder}/f")
            client.rmdir(folder)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, who) for who in range(8)]:
            done.result(120)
    assert {entry.name for entry in client.readdir("/")} == {
        ".",
        "..",
        "shared-0",
        "shared-1",
        "shared-2",
    }


def test_deep_directories(brick: Brick, client: Client, connect: Connect) -> None:
    """Deeper than the kernel follows symbolic links, found again from the handles alone."""
    path = ""
    for level in range(100):
        path += f"/{level}"
        client.mkdir(path)
    client.creat(f"{path}/f").close()
    number = client.stat(f"{path}/f").st_ino
    brick.stop()
    brick.start()
    again = connect(brick)
    assert again.stat(f"{path}/f").st_ino == number
    again.rename("/0/1", "/moved")
    moved = "/moved" + path[len("/0/1") :]
    again.creat(f"{moved}/g").close()
    assert [entry.name for entry in again.readdir(moved) if entry.name[0] != "."] != []


def test_a_mounted_file_system(mount: FuseMount) -> None:
    """What everybody does with one."""
    script = """
        set -e
        cp -a /usr/include/glusterfs copy && diff -r /usr/include/glusterfs copy
        rsync -a copy/ again/ && test -z "$(rsync -acni --delete copy/ again/)"
        git init -q repo && cp -r copy repo/ && cd repo
        git add . && git -c user.name=n -c user.email=e commit -qm all && git fsck --strict
        git clone -q . ../clone && cd .. && diff -r repo/copy clone/copy
        tar cf t.tar copy && mkdir x && tar xf t.tar -C x && diff -r copy x/copy
        truncate -s 8M sparse && fallocate -l 4M sparse && fallocate -p -o 1M -l 2M sparse
        test $(stat -c %s sparse) = 8388608
        test $(stat -c %b sparse) -lt 4200 && test $(stat -c %b sparse) -ge 4096
        rm -rf copy again repo clone x t.tar sparse && test -z "$(ls -A)"
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=mount.mountpoint, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.allow_log(r".*")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"directory": "/nowhere"}, "option directory: /nowhere is not a directory"),
        ({"volume-id": "no"}, "option volume-id: 'no' is not a UUID"),
        ({"volume-id": "0" * 32}, "it is not a brick of this volume"),
        ({"reserve": "-1"}, "option reserve"),
    ],
)
def test_a_brick_that_does_not_start_says_why(
    options: dict[str, str], line: str, brick_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    graph = volfiles.leaf_graph(brick_dir, options=options)
    with pytest.raises(OSError):
        Client(graph, log=log)
    said = [each for each in log.read_text().splitlines() if "does not start" in each]
    assert len(said) == 1 and line in said[0]
