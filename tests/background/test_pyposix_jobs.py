"""What a brick does beside its fops: health check, janitor, batched fsyncs; C posix beside it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import functools
import os
import re
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
from glupy.testing.processes import Brick, ProcessError, free_port
from glupy.views import Dict
from pyposix.batch_fsync import BatchFsync, Mode
from pyposix.files import File, OpenFile

LEAVES = "posix", "pyposix"
ASKING = Path(__file__).parents[1] / "integration" / "translators" / "asking.py"
DOWN = "health-check failed, going down"

MakeBrick = Callable[..., Brick]
Connect = Callable[..., Client]


def wait_for(what: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Return what it returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


def has_logged(brick: Brick, text: str) -> bool:
    return text in brick.log_text()


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
def test_a_brick_that_fails_its_health_check_ends(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """First its clients are told; the process goes 30 s later. Both leaves, side by side."""
    ends = {}
    bricks = {}
    for leaf in LEAVES:
        folder = brick_dir / leaf
        folder.mkdir()
        bricks[leaf] = make_brick(folder, leaf=leaf, options={"health-check-interval": "1"})
        client = connect(bricks[leaf])
        client.mkdir("/d")
        written = wait_for(functools.partial(text_of, folder / ".glusterfs" / "health_check"))
        whole = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000"
        # C posix 11 takes what its formatter returns for the length of the whole.
        cut = leaf == "posix" and stock.version() >= (11,)
        assert re.fullmatch(r"\d{4}-\d" if cut else whole, written), leaf
        break_health(folder)
    start = time.monotonic()
    for leaf in LEAVES:
        brick = bricks[leaf]
        wait_for(functools.partial(has_logged, brick, DOWN))
        (line,) = [line for line in brick.log_text().splitlines() if DOWN in line]
        assert "] M [" in line, leaf
        assert (brick_dir / leaf / "d").is_dir()
    for leaf in LEAVES:
        ends[leaf] = bricks[leaf].wait(45)
        assert time.monotonic() - start > 25, leaf
        assert "still alive! -> SIGTERM" in bricks[leaf].log_text()
    assert ends["pyposix"] == ends["posix"]


@pytest.mark.allow_log(r".*")
def test_a_file_system_that_hangs(make_brick: MakeBrick, brick_dir: Path) -> None:
    """A FIFO without a reader hangs whoever opens it, as a disk that is gone may."""
    (brick_dir / ".glusterfs").mkdir()
    os.mkfifo(brick_dir / ".glusterfs" / "health_check")
    options = {"health-check-interval": "1", "health-check-timeout": "1"}
    brick = make_brick(brick_dir, options=options)
    wait_for(functools.partial(has_logged, brick, DOWN))
    assert "no answer after 1 s" in brick.log_text()


def test_the_interval_of_a_running_brick(running: Callable[..., Running], brick_dir: Path) -> None:
    brick = running(health_check_interval="0")
    file = brick_dir / ".glusterfs" / "health_check"
    time.sleep(1.5)
    assert not file.exists()
    brick.set(health_check_interval="1")
    wait_for(file.exists)
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
    wait_for(lambda: DOWN in (tmp_path / "running.log").read_text())
    time.sleep(1)
    assert "still alive" not in (tmp_path / "running.log").read_text()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, to be filled."""
    with stores.store(tmp_path / "small", 32 << 20, tmp_path / "full") as store:
        yield store.folder


@pytest.mark.expect_log("health check of .* No space left on device")
def test_a_full_brick_is_not_a_sick_one(
    small: Path, make_brick: MakeBrick, connect: Connect
) -> None:
    folder = small / "brick"
    folder.mkdir()
    brick = make_brick(folder)
    client = connect(brick)
    with client.creat("/f") as file:
        file.pwrite(b"x" * (1 << 20), 0)
    client.close()
    brick.stop()
    with (small / "ballast").open("wb", buffering=0) as ballast:
        for size in 1 << 20, 4096, 1024:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))
        os.fsync(ballast.fileno())
    brick = make_brick(folder, options={"health-check-interval": "1"})
    wait_for(functools.partial(has_logged, brick, "No space left on device"))
    client = connect(brick)
    time.sleep(1.5)
    assert not has_logged(brick, DOWN)
    with client.open("/f") as file:
        file.discard(0, 1 << 20)
    client.mkdir("/the-brick-lives")


@pytest.mark.allow_log(r".*")
def test_only_the_sick_brick_of_a_process_goes(
    tmp_path: Path, brick_dir: Path, logs: LogChecker
) -> None:
    """As with cluster.brick-multiplex."""
    port, socket = free_port(), tmp_path / "attach.sock"
    well, sick = brick_dir / "well", brick_dir / "sick"
    graphs = {}
    for folder in well, sick:
        folder.mkdir()
        graphs[folder] = volfiles.brick(
            folder, port=port, name=str(folder), options={"health-check-interval": "1"}
        )
    process = Brick(graphs[well], tmp_path / "brick", arguments=["-S", str(socket)])
    logs.watch(process.log)
    with process:
        volfile = tmp_path / "sick.vol"
        graphs[sick].write(volfile)
        subprocess.run(["gf_attach", socket, volfile], check=True, timeout=60, capture_output=True)
        clients = {}
        for folder in well, sick:
            clients[folder] = Client(
                volfiles.client(port=port, brick=str(folder)), background_fini=True
            )
            clients[folder].mkdir("/before")
        break_health(sick)
        wait_for(functools.partial(has_logged, process, DOWN))
        wait_for(functools.partial(is_gone, clients[sick]))
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
        wait_for(functools.partial(is_empty, landfill))
        left[leaf] = len(handles(folder))
        assert (folder / "outside").stat().st_nlink == 2, "itself and its handle"
        client.close()
    assert left == {"posix": 1, "pyposix": 1}


def test_a_tree_that_is_deeper_than_a_path_is_long(make_brick: MakeBrick, brick_dir: Path) -> None:
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
    make_brick(brick_dir, options={"janitor-sleep-duration": "1"})
    wait_for(functools.partial(is_empty, landfill))


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
    wait_for(functools.partial(is_empty, landfill))


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
    wait_for(lambda: not [1 for fd in open_files.iterdir() if "/f (deleted)" in link(fd)])


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
    wait_for(lambda: all(future.done() for future in futures))
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


@pytest.mark.parametrize("mode", [mode.value for mode in Mode])
def test_batches_over_rpc(
    mode: str, make_brick: MakeBrick, asking: Callable[[Brick], tuple[Client, Any]]
) -> None:
    """What a client sees is the same in each mode; strace sees what the brick does."""
    options = {"batch-fsync-mode": mode, "batch-fsync-delay-usec": "50000"}
    brick = make_brick(options=options)
    client, translator = asking(brick)

    def fill(xdata: Dict) -> None:
        xdata.set_int("batch-fsync", 1)

    files = [client.creat(f"/f{number}") for number in range(4)]
    for file in files:
        file.pwrite(b"x", 0)
    translator.fill = fill
    trace = brick.folder / "trace"
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync,syncfs", "-o", str(trace), "-p"]
    with subprocess.Popen([*command, str(brick.pid)], stderr=subprocess.PIPE) as tracer:
        try:
            assert tracer.stderr is not None
            tracer.stderr.readline()  # attached
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for _ in pool.map(lambda file: file.fsync(), files):
                    pass
        finally:
            tracer.terminate()
    for file in files:
        file.close()
    calls = re.findall(r" (\w+)\(\d+", trace.read_text())
    single = {"syncfs": {"syncfs"}, "none": {"fsync"}, "reverse-fsync": {"fsync"}}
    assert set(calls) == single.get(mode, {"syncfs", "fsync"})
    assert calls.count("fsync") == (
        4 if mode in ("none",) or "reverse" in mode else calls.count("fsync")
    )


def test_batches_one_after_the_other() -> None:
    batches = BatchFsync()
    batches.mode = Mode.REVERSE_FSYNC
    number = os.open("/dev/null", os.O_RDONLY)
    opened = OpenFile(File(bytes(16)), number, 0)
    for _ in range(3):
        future = batches.add(opened, False)
        wait_for(future.done)
        assert future._outcome is not None
        error = future._outcome[1]
        assert isinstance(error, OSError) and error.errno == errno.EINVAL


# ---- options that do nothing, or too much ----


@pytest.mark.expect_log("linux-aio has no effect", "linux-io_uring has no effect")
def test_aio_is_accepted(make_brick: MakeBrick, connect: Connect) -> None:
    client = connect(make_brick(options={"linux-aio": "on", "linux-io_uring": "on"}))
    with client.creat("/f") as file:
        file.pwrite(b"x" * 10, 0)
        assert file.pread(10, 0).value == b"x" * 10


@pytest.mark.expect_log("gfid2path-separator: 'longer-than-7' is longer than 7")
@pytest.mark.allow_log(r".*")
def test_a_separator_that_is_too_long(make_brick: MakeBrick) -> None:
    with pytest.raises(ProcessError):
        make_brick(options={"gfid2path-separator": "longer-than-7"})


@pytest.mark.expect_log("there is no glusterd-uuid")
def test_pathinfo_without_a_uuid_is_told(make_brick: MakeBrick) -> None:
    make_brick(options={"node-uuid-pathinfo": "on"})
