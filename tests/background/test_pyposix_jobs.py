"""What a brick does beside its fops: health check, janitor, batched fsyncs; C posix beside it.

Many rows of docs/differences.md name these tests: they show what C posix does, too.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import functools
import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import volfiles
from glupy import _entry, linux, stores
from glupy._bridge import ffi
from glupy.testing import stock
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount, ProcessError, free_port
from glupy.testing.waiting import wait_until
from glupy.views import Dict
from pyposix.batch_fsync import BatchFsync, Mode
from pyposix.files import File, OpenFile

LEAVES = "posix", "pyposix"
# Where they are to differ, as docs/differences.md says, a test is of each leaf by itself.
POSIX = pytest.param("posix", marks=pytest.mark.of_10_3)
EACH = pytest.mark.parametrize("leaf", [POSIX, "pyposix"])
ASKING = Path(__file__).parents[1] / "integration" / "translators" / "asking.py"
DOWN = "health-check failed, going down"

MakeBrick = Callable[..., Brick]
Connect = Callable[..., Client]


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


def has_logged(brick: Brick | FuseMount, text: str) -> bool:
    return text in brick.log_text()


class Multiplexed(Brick):
    """A process with several bricks, as with cluster.brick-multiplex; their health is checked."""

    def __init__(self, brick: Path, folder: Path, leaf: str = "pyposix") -> None:
        self._port, self._leaf, self._socket = free_port(), leaf, folder / "attach.sock"
        super().__init__(self._graph_of(brick), folder, arguments=["-S", str(self._socket)])

    def _graph_of(self, brick: Path) -> volfiles.Graph:
        options = {"health-check-interval": "1"}
        return volfiles.brick(
            brick, leaf=self._leaf, port=self._port, name=str(brick), options=options
        )

    def attach(self, brick: Path) -> None:
        volfile = self.folder / f"{brick.name}.vol"
        self._graph_of(brick).write(volfile)
        command: list[Path | str] = ["gf_attach", self._socket, volfile]
        subprocess.run(command, check=True, timeout=60, capture_output=True)

    def client(self, brick: Path) -> Client:
        graph = volfiles.client(port=self._port, brick=str(brick))
        return Client(graph, background_fini=True)


def mount_of(brick: Path, leaf: str, folder: Path) -> FuseMount:
    """Return a mount of a leaf in its own process, whose health is checked."""
    mountpoint = folder.with_name(f"{folder.name}-mount")
    mountpoint.mkdir()
    options = {"health-check-interval": "1"}
    return FuseMount(volfiles.leaf_graph(brick, leaf=leaf, options=options), mountpoint, folder)


def is_gone(client: Client) -> bool:
    """Say whether the client's brick is: its fops fail at once then."""
    try:
        client.stat("/before")
    except OSError as error:
        assert error.errno == errno.ENOTCONN
        return True
    return False


class Running:
    """A leaf in this process, whose options change as `gluster volume set` changes a brick's."""

    def __init__(self, folder: Path, log: Path, **options: str) -> None:
        self._folder, self._log = folder, log
        self._options = options
        self.client = Client(self._graph(), log=log)
        self._leaf: Any = list(_entry._instances.values())[-1]

    def _graph(self) -> volfiles.Graph:
        options = {name.replace("_", "-"): value for name, value in self._options.items()}
        return volfiles.leaf_graph(self._folder, options=options)

    def set(self, **options: str) -> None:
        """Give the process's GlusterFS a new volfile."""
        self._options.update(options)
        volfile = self._log.with_name("new.vol")
        self._graph().write(volfile)
        libc, libglusterfs = ctypes.CDLL(None), ctypes.CDLL("libglusterfs.so.0")
        libc.fopen.restype = ctypes.c_void_p
        file = ctypes.c_void_p(libc.fopen(str(volfile).encode(), b"r"))
        context = ctypes.c_void_p(int(ffi.cast("uintptr_t", self._leaf._this.ctx)))
        assert libglusterfs.glusterfs_volfile_reconfigure(file, context) == 0


@pytest.fixture
def running(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def make(**options: str) -> Running:
            logs.watch(tmp_path / "running.log")
            made = Running(brick_dir, tmp_path / "running.log", **options)
            stack.enter_context(made.client)
            return made

        yield make


# ---- health check ----


def break_health(folder: Path) -> None:
    """Have the next check fail: nobody can write to a directory."""
    file = folder / ".glusterfs" / "health_check"
    file.unlink(missing_ok=True)
    file.mkdir()


@pytest.mark.allow_log(r".*")
def test_a_brick_that_fails_its_health_check_goes_down(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """Both leaves, side by side."""
    bricks = {}
    for leaf in LEAVES:
        folder = brick_dir / leaf
        folder.mkdir()
        bricks[leaf] = make_brick(folder, leaf=leaf, options={"health-check-interval": "1"})
        client = connect(bricks[leaf])
        client.mkdir("/d")
        written = wait_until(functools.partial(text_of, folder / ".glusterfs" / "health_check"))
        whole = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000"
        # C posix 11 takes what its formatter returns for the length of the whole.
        cut = leaf == "posix" and stock.version() >= (11,)
        assert re.fullmatch(r"\d{4}-\d" if cut else whole, written), leaf
        break_health(folder)
    for leaf in LEAVES:
        brick = bricks[leaf]
        wait_until(functools.partial(has_logged, brick, DOWN))
        (line,) = [line for line in brick.log_text().splitlines() if DOWN in line]
        assert "] M [" in line, leaf
        assert (brick_dir / leaf / "d").is_dir()


@pytest.mark.allow_log(r".*")
def test_what_ends_with_a_sick_brick(tmp_path: Path, brick_dir: Path, logs: LogChecker) -> None:
    """Its process, 30 s later, if it is a brick's, and has no other brick by then.

    C posix ends it if it is a mount's, too, and if it has got another brick in the 30 s.
    """
    with contextlib.ExitStack() as stack:

        def started(leaf: str, kind: str) -> Brick | FuseMount:
            folder = brick_dir / f"{leaf}-{kind}"
            folder.mkdir()
            process = (
                mount_of(folder, leaf, tmp_path / folder.name)
                if kind == "mount"
                else Multiplexed(folder, tmp_path / folder.name, leaf)
            )
            logs.watch(process.log)
            stack.enter_context(process)
            return process

        kinds = "alone", "mount", "another"
        processes = {(leaf, kind): started(leaf, kind) for leaf in LEAVES for kind in kinds}
        start = time.monotonic()
        for leaf, kind in processes:
            break_health(brick_dir / f"{leaf}-{kind}")
        for (leaf, kind), process in processes.items():
            wait_until(functools.partial(has_logged, process, DOWN))
            if isinstance(process, Multiplexed) and kind == "another":
                other = brick_dir / f"{leaf}-other"
                other.mkdir()
                process.attach(other)
        ending = [*(("posix", kind) for kind in kinds), ("pyposix", "alone")]
        for key in ending:
            assert processes[key].wait(50) == signal.SIGTERM, key
            assert time.monotonic() - start > 25, key
            assert has_logged(processes[key], "still alive! -> SIGTERM")
        ended = processes["posix", "mount"]
        assert isinstance(ended, FuseMount) and stores.mount_of(ended.mountpoint) is None
        alive = processes["pyposix", "another"]
        assert isinstance(alive, Multiplexed)
        wait_until(lambda: has_logged(alive, "detached: the process has other bricks"))
        with alive.client(brick_dir / "pyposix-other") as client:
            client.mkdir("/the-other-lives")
        mount = processes["pyposix", "mount"]
        time.sleep(2)
        assert mount.ended is None and not has_logged(mount, "still alive")


@EACH
@pytest.mark.allow_log(r".*")
def test_a_file_system_that_hangs(make_brick: MakeBrick, brick_dir: Path, leaf: str) -> None:
    """A FIFO without a reader hangs whoever opens it, as a disk that is gone may."""
    fifo = brick_dir / ".glusterfs" / "health_check"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    options = {"health-check-interval": "1", "health-check-timeout": "1"}
    brick = make_brick(brick_dir, options=options)
    if leaf == "posix":
        time.sleep(4)
        assert not has_logged(brick, DOWN)
        with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
            wait_until(reader.peek)  # it has waited for this
    else:
        wait_until(functools.partial(has_logged, brick, DOWN))
        assert "no answer after 1 s" in brick.log_text()


@pytest.mark.parametrize("calls", [("write", "pwrite64"), ("read", "pread64")], ids="wr")
@EACH
@pytest.mark.allow_log(r".*")
def test_errors_of_the_health_check(
    make_brick: MakeBrick, brick_dir: Path, leaf: str, calls: tuple[str, str]
) -> None:
    """Of the write and the read themselves."""
    brick = make_brick(brick_dir, options={"health-check-interval": "1"})
    file = brick_dir / ".glusterfs" / "health_check"
    with brick.strace(calls, error="EIO", path=file) as trace:
        if leaf == "posix":  # not even when it has happened again
            wait_until(lambda: text_of(trace).count("EIO") > 2)
        else:
            wait_until(functools.partial(has_logged, brick, DOWN))
    assert "Input/output error" in brick.log_text()
    assert has_logged(brick, DOWN) == (leaf == "pyposix")


def test_the_interval_of_a_running_brick(running: Callable[..., Running], brick_dir: Path) -> None:
    brick = running(health_check_interval="0")
    file = brick_dir / ".glusterfs" / "health_check"
    time.sleep(1.5)
    assert not file.exists()
    brick.set(health_check_interval="1")
    wait_until(file.exists, seconds=15)  # the default is 30
    brick.set(health_check_interval="0")
    time.sleep(0.5)  # a check that was under way has ended
    file.unlink()
    time.sleep(2)
    assert not file.exists()
    brick.client.mkdir("/the-brick-lives")


@pytest.mark.expect_log(DOWN)
def test_a_process_that_is_no_brick_lives_on(
    running: Callable[..., Running], brick_dir: Path, tmp_path: Path
) -> None:
    """A leaf in somebody's own program: its volume goes down, the program is not ours to end."""
    running(health_check_interval="1")
    break_health(brick_dir)
    wait_until(lambda: DOWN in (tmp_path / "running.log").read_text())
    time.sleep(1)
    assert "still alive" not in (tmp_path / "running.log").read_text()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, to be filled."""
    with stores.store(tmp_path / "small", 32 << 20, tmp_path / "full") as store:
        yield store.folder


@pytest.mark.parametrize("file", ["is there", "is yet to be made"])
@EACH
@pytest.mark.allow_log(r".*")
def test_a_full_brick_is_not_a_sick_one(
    small: Path, make_brick: MakeBrick, connect: Connect, leaf: str, file: str
) -> None:
    """C posix takes it for one if the check's file cannot be made."""
    folder = small / "brick"
    folder.mkdir()
    brick = make_brick(folder, options={"health-check-interval": "1"} if file == "is there" else {})
    client = connect(brick)
    with client.creat("/f") as opened:
        opened.pwrite(b"x" * (1 << 20), 0)
    client.close()
    if file == "is there":
        wait_until((folder / ".glusterfs" / "health_check").exists)
    brick.stop()
    fill(small, inodes=True)
    brick = make_brick(folder, options={"health-check-interval": "1"})
    if leaf == "posix" and file != "is there":
        wait_until(functools.partial(has_logged, brick, DOWN))
        assert has_logged(brick, "error is No space left on device")
        return
    if file != "is there":
        wait_until(functools.partial(has_logged, brick, "No space left on device"))
    client = connect(brick)
    time.sleep(2.5)
    assert not has_logged(brick, DOWN)
    with client.open("/f") as opened:
        opened.discard(0, 1 << 20)
        opened.pwrite(b"the brick lives", 0)


def fill(folder: Path, *, inodes: bool) -> None:
    """Leave no space to a file system of ext4, nor inodes."""
    ballast = folder / "ballast"
    ballast.mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count() if inodes else range(1):
            (ballast / f"{number}").touch()
    with (ballast / "0").open("wb", buffering=0) as file:
        for size in 1 << 20, 4096, 1024:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
        os.fsync(file.fileno())


@EACH
@pytest.mark.allow_log(r".*")
def test_a_create_that_finds_no_room_for_the_handle(
    small: Path, make_brick: MakeBrick, connect: Connect, leaf: str
) -> None:
    """C posix leaves a name that nobody can open."""
    folder = small / "brick"
    folder.mkdir()
    client = connect(make_brick(folder, options={"reserve": "0"}))
    fill(small, inodes=False)
    with pytest.raises(OSError) as failure:
        client.creat("/f")
    assert failure.value.errno == errno.ENOSPC
    assert (folder / "f").exists() == (leaf == "posix")
    with pytest.raises(FileNotFoundError):
        client.open("/f")


@pytest.mark.allow_log(r".*")
def test_only_the_sick_brick_of_a_process_goes(
    tmp_path: Path, brick_dir: Path, logs: LogChecker
) -> None:
    """As with cluster.brick-multiplex."""
    well, sick = brick_dir / "well", brick_dir / "sick"
    for folder in well, sick:
        folder.mkdir()
    process = Multiplexed(well, tmp_path / "brick")
    logs.watch(process.log)
    with process:
        process.attach(sick)
        clients = {folder: process.client(folder) for folder in (well, sick)}
        for client in clients.values():
            client.mkdir("/before")
        break_health(sick)
        wait_until(functools.partial(has_logged, process, DOWN))
        wait_until(functools.partial(is_gone, clients[sick]))
        assert (sick / "before").is_dir()
        clients[well].mkdir("/after")
        time.sleep(2)
        clients[well].mkdir("/much-later")
        for client in clients.values():
            client.close()


# ---- janitor ----


@pytest.fixture
def asking(connect: Connect) -> Iterator[Callable[[Brick], tuple[Client, Any]]]:
    """`asking(brick)`: a client whose rmdir takes whole trees, and its translator."""

    def make(brick: Brick) -> tuple[Client, Any]:
        client = connect(brick, inserts=[("features/glupy", {"module": f"{ASKING}:Asking"})])
        instances: list[Any] = list(_entry._instances.values())
        translator = [each for each in instances if type(each).__name__ == "Asking"][-1]
        translator.trees = True
        return client, translator

    yield make


def handles(folder: Path) -> list[Path]:
    """All handles but the root's."""
    found = folder.glob(".glusterfs/??/??/*-*")
    return sorted(each for each in found if not each.name.endswith("-000000000001"))


def plant(client: Client, depth: int) -> None:
    """A deep tree with all kinds of files, one of which has a name outside."""
    client.creat("/outside").close()
    path = ""
    for number in range(depth):
        path += f"/tree-{number}" if number else "/tree"
        client.mkdir(path)
        client.creat(f"{path}/file").close()
        client.symlink("nowhere", f"{path}/symlink")
    client.link("/outside", f"{path}/inside")
    client.mknod(f"{path}/fifo", 0o010600)


@pytest.mark.allow_log(r".*")
def test_the_landfill_is_purged(
    make_brick: MakeBrick, asking: Callable[[Brick], tuple[Client, Any]], brick_dir: Path
) -> None:
    left = {}
    for leaf in LEAVES:
        folder = brick_dir / leaf
        folder.mkdir()
        brick = make_brick(folder, leaf=leaf, options={"janitor-sleep-duration": "1"})
        client, _ = asking(brick)
        plant(client, 20)
        client.rmdir("/tree")
        landfill = folder / ".glusterfs" / "landfill"
        wait_until(functools.partial(is_empty, landfill))
        left[leaf] = len(handles(folder))
        assert (folder / "outside").stat().st_nlink == 2, "itself and its handle"
        client.close()
    assert left == {"posix": 1, "pyposix": 1}


@EACH
@pytest.mark.allow_log(r".*")
def test_a_tree_that_is_deeper_than_a_path_is_long(
    make_brick: MakeBrick, brick_dir: Path, leaf: str
) -> None:
    landfill = brick_dir / ".glusterfs" / "landfill"
    deep = landfill / "deep"
    deep.mkdir(parents=True)
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a-long-name", dir_fd=here)
        below = os.open("a-long-name", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    options = {"janitor-sleep-duration": "1"}
    if leaf == "pyposix":
        make_brick(brick_dir, options=options)
        wait_until(functools.partial(is_empty, landfill))
        return
    brick = make_brick(brick_dir, options=options, log_level="TRACE")
    # When it begins for the second time, the first is over.
    wait_until(lambda: brick.log_text().count("janitor cleaning out") > 1)
    assert [path.name for path in landfill.iterdir()] == ["deep"]
    brick.stop()
    subprocess.run(["rm", "-r", deep], check=True)  # too deep for shutil.rmtree, too


@pytest.mark.expect_log("landfill will not be purged")
def test_the_landfill_of_a_running_brick(running: Callable[..., Running], brick_dir: Path) -> None:
    old = brick_dir / ".landfill"
    (old / "tree").mkdir(parents=True)
    brick = running(janitor_sleep_duration="1", disable_landfill_purge="on")
    landfill = brick_dir / ".glusterfs" / "landfill"
    assert not old.exists(), "that of old bricks has moved"
    time.sleep(2.5)
    assert [path.name for path in landfill.glob("*/*")] == ["tree"]
    brick.set(disable_landfill_purge="off")
    wait_until(functools.partial(is_empty, landfill))


# The close may be on its way when the client sees that the brick has gone.
@pytest.mark.allow_log(r"saved_frames_unwind", r"client4_0_flush_cbk\] .*errno=107")
def test_what_a_crash_left_in_unlink_goes_at_the_start(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    brick = make_brick(brick_dir)
    client = connect(brick)
    file = client.creat("/f")
    client.unlink("/f")
    orphans = brick_dir / ".glusterfs" / "unlink"
    assert len(list(orphans.iterdir())) == 1
    brick.kill()
    with contextlib.suppress(OSError):
        file.close()
    client.close()
    make_brick(brick_dir)
    assert not list(orphans.iterdir())


def test_unlink_in_the_background(make_brick: MakeBrick, connect: Connect, brick_dir: Path) -> None:
    brick = make_brick(brick_dir, options={"background-unlink": "on"})
    client = connect(brick)
    client.creat("/f").close()
    client.unlink("/f")
    assert not (brick_dir / "f").exists() and not handles(brick_dir)
    open_files = Path(f"/proc/{brick.pid}/fd")
    wait_until(lambda: not [1 for fd in open_files.iterdir() if "/f (deleted)" in link(fd)])


def link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except FileNotFoundError:
        return ""


# ---- batched fsync ----


class Syncs:
    """Stands in for the system calls, and keeps what was called on which file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
        self.calls: list[tuple[str, int]] = []

        def call(name: str, number: int) -> None:
            self.calls.append((name, number))
            if name == failing:
                raise OSError(errno.EIO, "failed")

        for name in "fsync", "fdatasync":
            monkeypatch.setattr(os, name, functools.partial(call, name))
        monkeypatch.setattr(linux, "syncfs", functools.partial(call, "syncfs"))


def batch(mode: Mode, *, count: int = 3) -> list[Any]:
    """Three fsyncs in one batch, the second of data only; their futures, done."""
    batches = BatchFsync()
    batches.mode, batches.delay = mode, 0.2
    futures = [
        batches.add(OpenFile(File(bytes(16)), 1000 + number, 0), number == 1)
        for number in range(count)
    ]
    wait_until(lambda: all(future.done() for future in futures))
    return [future._outcome for future in futures]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.SYNCFS, [("syncfs", 1002)]),
        (Mode.SYNCFS_SINGLE_FSYNC, [("syncfs", 1002), ("fsync", 1002)]),
        (
            Mode.SYNCFS_REVERSE_FSYNC,
            [("syncfs", 1002), ("fsync", 1002), ("fdatasync", 1001), ("fsync", 1000)],
        ),
        (Mode.REVERSE_FSYNC, [("fsync", 1002), ("fdatasync", 1001), ("fsync", 1000)]),
    ],
)
def test_modes(
    mode: Mode, expected: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch)
    assert batch(mode) == [(None, None)] * 3
    assert syncs.calls == expected


@pytest.mark.parametrize(
    ("mode", "failing", "failed"),
    [
        (Mode.SYNCFS, "syncfs", [True, True, True]),
        (Mode.REVERSE_FSYNC, "fdatasync", [False, True, False]),
    ],
)
def test_a_sync_that_fails(
    mode: Mode, failing: str, failed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    Syncs(monkeypatch, failing)
    outcomes = [error for _, error in batch(mode)]
    assert [getattr(error, "errno", None) == errno.EIO for error in outcomes] == failed


def batching(xdata: Dict) -> None:
    xdata.set_int("batch-fsync", 1)


@pytest.mark.parametrize("mode", [mode.value for mode in Mode])
@EACH
def test_batches_over_rpc(
    mode: str,
    leaf: str,
    make_brick: MakeBrick,
    asking: Callable[[Brick], tuple[Client, Any]],
) -> None:
    """What a client sees is the same in each mode; strace sees what the brick does."""
    options = {"batch-fsync-mode": mode, "batch-fsync-delay-usec": "50000"}
    brick = make_brick(options=options)
    client, translator = asking(brick)
    files = [client.creat(f"/f{number}") for number in range(4)]
    for file in files:
        file.pwrite(b"x", 0)
    translator.fill = batching
    with (
        brick.strace(["fsync", "fdatasync", "syncfs"]) as trace,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        for _ in pool.map(lambda file: file.fsync(), files):
            pass
    translator.fill = None
    for file in files:
        file.close()
    calls = re.findall(r" (\w+)\(\d+", trace.read_text())
    single = {"syncfs": {"syncfs"}, "none": {"fsync"}, "reverse-fsync": {"fsync"}}
    assert set(calls) == single.get(mode, {"syncfs", "fsync"})
    assert calls.count("fsync") == (
        4 if mode in ("none",) or "reverse" in mode else calls.count("fsync")
    )
    attributes = [(reply["prebuf"], reply["postbuf"]) for _, reply in translator.replies]
    if leaf == "posix" and mode != Mode.NONE:
        assert attributes == [(("INVAL", 0, 0),) * 2] * 4
    else:
        assert attributes == [(("IFREG", 1, 1),) * 2] * 4


@EACH
def test_who_comes_within_the_delay(
    leaf: str, make_brick: MakeBrick, asking: Callable[[Brick], tuple[Client, Any]]
) -> None:
    """C posix has picked the batch by then, and begins the next one a delay later."""
    options = {"batch-fsync-mode": "reverse-fsync", "batch-fsync-delay-usec": "1000000"}
    client, translator = asking(make_brick(options=options))
    files = [client.creat(f"/f{number}") for number in range(2)]
    translator.fill = batching

    def sync(file: Any) -> float:
        file.fsync()
        return time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(sync, files[0])
        time.sleep(0.3)
        second = pool.submit(sync, files[1])
    between = second.result() - first.result()
    assert (between > 0.9) == (leaf == "posix")
    for file in files:
        file.close()


@pytest.mark.parametrize("mode", [mode.value for mode in Mode if mode.startswith("syncfs")])
@EACH
@pytest.mark.allow_log(r".*")
def test_a_syncfs_that_fails(
    mode: str,
    leaf: str,
    make_brick: MakeBrick,
    asking: Callable[[Brick], tuple[Client, Any]],
) -> None:
    brick = make_brick(options={"batch-fsync-mode": mode})
    client, translator = asking(brick)
    with client.creat("/f") as file:
        file.pwrite(b"x", 0)
        translator.fill = batching
        with brick.strace(["syncfs"], error="EIO") as trace:
            try:
                file.fsync()
            except OSError as error:
                assert (leaf, error.errno) == ("pyposix", errno.EIO)
            else:
                assert leaf == "posix"
        translator.fill = None
    assert trace.read_text().count("EIO") == 1


def test_batches_one_after_the_other() -> None:
    batches = BatchFsync()
    batches.mode = Mode.REVERSE_FSYNC
    number = os.open("/dev/null", os.O_RDONLY)
    opened = OpenFile(File(bytes(16)), number, 0)
    for _ in range(3):
        future = batches.add(opened, False)
        wait_until(future.done)
        assert future._outcome is not None
        error = future._outcome[1]
        assert isinstance(error, OSError) and error.errno == errno.EINVAL


# ---- options that do nothing, or too much ----


@pytest.mark.parametrize(
    "option, call", [("linux-aio", "io_submit"), ("linux-io_uring", "io_uring_enter")]
)
@EACH
@pytest.mark.allow_log(r"io_getevents\(\) returned -4")  # strace has come
def test_aio_is_accepted(
    option: str,
    call: str,
    leaf: str,
    make_brick: MakeBrick,
    connect: Connect,
) -> None:
    """By C posix with effect, if it was built for it: Debian's is not for io_uring."""
    brick = make_brick(options={option: "on"})
    synchronous = "pwrite64", "pwritev", "pread64", "preadv"
    with (
        connect(brick).creat("/f") as file,
        brick.strace([*synchronous, call]) as trace,
    ):
        file.pwrite(b"x" * 10, 0)
        assert file.pread(10, 0).value == b"x" * 10
    used = set(re.findall(r" (\w+)\(", trace.read_text()))
    if leaf == "posix" and not has_logged(brick, "not available at build-time"):
        assert used == {call}
    else:
        assert used and call not in used
    assert has_logged(brick, f"{option} has no effect") == (leaf == "pyposix")


@EACH
@pytest.mark.expect_log("longer-than-7")
@pytest.mark.allow_log(r".*")
def test_a_separator_that_is_too_long(make_brick: MakeBrick, connect: Connect, leaf: str) -> None:
    """C posix begins without the options that it has not come to: new files have no mode."""
    options = {"gfid2path-separator": "longer-than-7"}
    if leaf == "pyposix":
        with pytest.raises(ProcessError, match="is longer than 7"):
            make_brick(options=options)
        return
    client = connect(make_brick(options=options))
    client.creat("/f", mode=0o644).close()
    assert client.stat("/f").st_mode & 0o777 == 0


@pytest.mark.expect_log("there is no glusterd-uuid")
def test_pathinfo_without_a_uuid_is_told(make_brick: MakeBrick) -> None:
    make_brick(options={"node-uuid-pathinfo": "on"})
