"""A Python translator's life in a brick process: start, refusal, shutdown, and what it leaves."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

import volfiles
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker, records
from glupy.testing.processes import Brick, ProcessError, free_port
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

HERE = Path(__file__).parent
UNRULY = HERE / "translators" / "unruly.py"
# protocol/server logs each failed fop as an error; here they fail on purpose.
SERVER = r"server-rpc-fops_v2"

Insert = tuple[str, dict[str, str]]


def python(name: str, **options: str) -> Insert:
    return "features/glupy", {"module": f"{UNRULY}:{name}", **options}


@pytest.fixture
def leaf() -> str:
    return "storage/posix"


def shown(brick: Brick, name: str = "brick-glupy") -> dict[str, str]:
    return brick.statedump()[f"features/glupy.{name}"]


def until(brick: Brick, reached: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Wait until the translator shows that, but not for ever; return what it shows."""
    deadline = time.monotonic() + 10
    while not reached(section := shown(brick)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return section


def all_answered(brick: Brick) -> None:
    """Fail if a call is still pending. The server lets go of one only after its reply has left."""
    wait_until(lambda: brick.statedump().pending_calls == 0)


def do(client: Client, what: str) -> concurrent.futures.Future[None]:
    """Ask Unruly for it, on a thread of its own."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def call() -> None:
        try:
            client.setxattr("/", "user.do", what.encode())
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=call, daemon=True).start()
    return future


# ---- SIGTERM ----


@pytest.mark.allow_log(
    SERVER, "disconnected|failed|forced unwinding|remote operation|not connected"
)
@pytest.mark.parametrize(
    "what",
    [
        "block 60",
        "sleep 60",
        "spin 60",
        "sleep-then-block 60",
        "hold-the-gil",
        "swallow 60",
        "thread 60",
        "recurse-on def",
        "ask sleep 60",
        "wait",
    ],
)
@pytest.mark.parametrize("leaf", ["posix", pytest.param("pyposix", marks=pytest.mark.long)])
def test_sigterm_ends_a_brick_whatever_its_handlers_do(
    make_brick: MakeBrick, connect: Connect, what: str
) -> None:
    brick = make_brick(inserts=[python("Unruly"), python("Unruly")])
    client = connect(brick)
    waiting = [do(client, what) for _ in range(4)]
    time.sleep(0.5)
    assert not any(each.done() for each in waiting)
    began = time.monotonic()
    brick.stop(timeout=2)
    assert time.monotonic() - began < 2
    for each in waiting:
        with pytest.raises(OSError) as failure:
            each.result(timeout=10)
        assert failure.value.errno == errno.ENOTCONN
    assert "Traceback" not in brick.log_text()
    assert "Traceback" not in brick.output.read_text()
    assert not list(brick.folder.glob("core*"))


# ---- timers ----


def test_a_handler_that_blocks_after_its_sleep_delays_no_other(
    make_brick: MakeBrick, connect: Connect
) -> None:
    client = connect(make_brick(inserts=[python("Unruly")]))
    blocked = [do(client, "sleep-then-block 5") for _ in range(3)]
    time.sleep(0.5)  # they block now
    for each in [do(client, "sleep 0.05") for _ in range(5)]:
        each.result(timeout=4)  # long before the others
    assert not any(each.done() for each in blocked)
    for each in blocked:
        each.result(timeout=20)


# ---- what a handler may do wrong, as a client and an operator see it ----


@pytest.mark.expect_log(
    r"setxattr: ZeroDivisionError: one$", r"Traceback[\s\S]*ZeroDivisionError: one"
)
@pytest.mark.allow_log(SERVER, "ZeroDivisionError", "remote operation failed|SETXATTR")
def test_a_bug_is_one_line_and_a_traceback_once_a_minute(
    make_brick: MakeBrick, connect: Connect
) -> None:
    brick = make_brick(inserts=[python("Unruly")])
    client = connect(brick)
    for _ in range(20):
        with pytest.raises(OSError) as failure:
            client.setxattr("/", "user.do", b"crash one")
        assert failure.value.errno == errno.EIO
    with pytest.raises(OSError):
        client.setxattr("/", "user.do", b"crash two")
    ours = [r for r in records(brick.log_text()) if "ZeroDivisionError" in r.text]
    assert len(ours) == 4, "a line and a traceback for each of two"
    client.mkdir("/the-brick-lives")


@pytest.mark.expect_log("setxattr: RuntimeError: the future was dropped without a result")
@pytest.mark.allow_log(SERVER, "dropped", "remote operation failed|SETXATTR")
def test_a_coroutine_that_nobody_can_resume_fails_its_fop(
    make_brick: MakeBrick, connect: Connect
) -> None:
    brick = make_brick(inserts=[python("Unruly")])
    with pytest.raises(OSError) as failure:
        do(connect(brick), "drop").result(timeout=10)
    assert failure.value.errno == errno.EIO
    all_answered(brick)


@pytest.mark.expect_log(
    r"setxattr: RecursionError: maximum recursion depth exceeded", r"Traceback[\s\S]*RecursionError"
)
@pytest.mark.allow_log(SERVER, "remote operation failed|SETXATTR")
def test_endless_recursion_on_a_thread_of_io_threads_is_a_bug(
    make_brick: MakeBrick, connect: Connect
) -> None:
    """Its stack has 256 KiB; the brick lives."""
    brick = make_brick(inserts=[python("Unruly")])
    client = connect(brick)
    for number, how in enumerate(["def", "sorted", "json", "await"]):
        with pytest.raises(OSError) as failure:
            client.setxattr("/", "user.do", f"recurse {how}".encode())
        assert failure.value.errno == errno.EIO
        client.mkdir(f"/after-{how}")
        log = brick.log_text()
        assert log.count("on thread glfs_iotwr") == number + 1
        assert log.count("setxattr: RecursionError: ") == number + 1


@pytest.mark.expect_log(r" [MCE] .* 0-brick-glupy: said at", r" [MCE] .* 0-some\.other: said at")
def test_what_is_logged_has_its_level_and_whose_it_is(
    make_brick: MakeBrick, connect: Connect
) -> None:
    """A translator's logger says all that GlusterFS writes; others begin at INFO, unless told."""
    brick = make_brick(log_level="TRACE", inserts=[python("Unruly")])
    client = connect(brick)
    for what in b"log", b"log some.other", b"log-all some.other":
        client.setxattr("/", "user.do", what)
    said = r"^\[.*\] (\w) \[unruly\.py:\d+:do_log\] 0-(.*): said at \d+$"
    levels: dict[str, str] = {}
    for letter, name in re.findall(said, brick.log_text(), re.MULTILINE):
        levels[name] = levels.get(name, "") + letter
    assert levels == {"brick-glupy": "TDIWECM", "some.other": "IWECM" + "TDIWECM"}


# ---- refusals ----


@contextlib.contextmanager
def written(path: Path, text: str, mode: int = 0o644) -> Iterator[Path]:
    path.write_text(text)
    path.chmod(mode)
    yield path


REFUSED = {
    "no such class": ("{unruly}:Nobody", {}, "has no translator class Nobody"),
    "no such file": ("/nowhere/x.py:X", {}, "there is no file /nowhere/x.py"),
    "no module": ("nowhere.at_all:X", {}, "cannot import nowhere.at_all: ModuleNotFoundError"),
    "not a name": ("unruly", {}, "'unruly' is not package.module:Class"),
    "syntax": ("{broken}:X", {}, "cannot import {broken}: SyntaxError"),
    "init raises": ("{unruly}:Refusing", {}, "RuntimeError: no such luck"),
    "a number": ("{unruly}:Unruly", {"limit": "many"}, "option limit: "),
    "too large": ("{unruly}:Unruly", {"limit": "101"}, "option limit: 101 is above 100"),
    "too small": ("{choosing}:Choosing", {"share": "0.4%"}, "option share: 0.4 is below 0.5"),
    "no bool": ("{choosing}:Choosing", {"flag": "maybe"}, "option flag: "),
    "no path": ("{choosing}:Choosing", {"place": "a/b"}, "option place: "),
    "no choice": ("{unruly}:Unruly", {"mode": "odd"}, "option mode: "),
    "writable": ("{open}:X", {}, "{open} can be written by others than root"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_brick_refuses_to_start_with_one_clear_line(
    why: str, tmp_path: Path, brick_dir: Path
) -> None:
    spec, options, line = REFUSED[why]
    with (
        written(tmp_path / "broken.py", "def (:\n") as broken,
        written(tmp_path / "open.py", "class X: pass\n", 0o666) as opened,
    ):
        choosing = UNRULY.with_name("choosing.py")
        names = {"unruly": UNRULY, "choosing": choosing, "broken": broken, "open": opened}
        module = spec.format(**names)
        graph = volfiles.brick(
            brick_dir,
            leaf="posix",
            port=free_port(),
            inserts=[("features/glupy", {"module": module, **options})],
        )
        brick = Brick(graph, tmp_path / "brick")
        with pytest.raises(ProcessError), brick:
            pass
        ours = [r.text for r in records(brick.log_text()) if "0-brick-glupy: " in r.text]
        first = next(i for i, text in enumerate(ours) if "this translator does not start" in text)
        assert line.format(**names) in ours[first]
        assert "\n" not in ours[first].strip()
        assert "Traceback (most recent call last)" in ours[first + 1]


# ---- the environment ----


def test_neither_pythonpath_nor_the_current_folder_reaches_a_brick(
    tmp_path: Path,
    brick_dir: Path,
    logs: LogChecker,
    connect: Connect,
) -> None:
    poisoned = tmp_path / "brick"  # where the process runs
    poisoned.mkdir()
    for name in "glupy", "cffi", "logging", "json":
        (poisoned / f"{name}.py").write_text("raise SystemExit('poisoned')\n")
    graph = volfiles.brick(brick_dir, leaf="posix", port=free_port(), inserts=[python("Unruly")])
    environment = {
        "PYTHONPATH": str(poisoned),
        "PYTHONHOME": str(poisoned),
        "PYTHONSTARTUP": str(poisoned / "json.py"),
        "PYTHONOPTIMIZE": "2",
    }
    with Brick(graph, poisoned, environment=environment) as brick:
        logs.watch(brick.log, brick.output)
        connect(brick)  # a brick that never had a client dies of a statedump, Python or not
        assert shown(brick)["prefix"] == sys.prefix
        assert shown(brick)["cwd"] == str(poisoned)
        assert str(poisoned) not in shown(brick)["path"]


# ---- statedump, contexts, fops of its own ----


def test_a_statedump_shows_what_the_class_returns(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick(inserts=[python("Unruly", limit="7", mode="fancy", size="3MB")])
    connect(brick).setxattr("/", "user.do", b"nothing")
    section = shown(brick)
    assert (section["limit"], section["mode"], section["size"]) == ("7", "fancy", str(3 << 20))
    assert section["fops-entered"] == section["fops-unwound"] == "1"


def test_contexts_go_with_their_inodes_and_fds(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick(inserts=[python("Remembering")])
    client = connect(brick)
    for number in range(20):
        with client.creat(f"/file-{number}"):
            pass
        with client.open(f"/file-{number}"):
            pass
    client.readdir("/")
    # A client tells of a closed fd after the close, and of a forgotten inode sooner or later.
    before = until(brick, lambda s: int(s["release"]) == 20 and int(s["releasedir"]) >= 1)
    assert int(before["release"]) == 20
    assert int(before["releasedir"]) >= 1
    assert int(before["alive"]) >= 20
    for number in range(20):
        client.unlink(f"/file-{number}")
    until(brick, lambda section: int(section["alive"]) <= 2)
    after = shown(brick)
    assert int(after["forget"]) >= 20
    assert int(after["alive"]) == int(after["inodes"]) <= 2  # the root and nothing else


def test_a_translator_starts_fops_of_its_own(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick(inserts=[python("Starter")])
    connect(brick)
    section = until(
        brick, lambda section: {"worker", "timer", "thread", "failed"} <= section.keys()
    )
    assert section["worker"] == section["timer"] == section["thread"] == "4096"
    assert section["failed"] == "FopError" or section["failed"].startswith("Fop")
    all_answered(brick)


def test_several_translators_and_instances_share_a_process(
    make_brick: MakeBrick, connect: Connect
) -> None:
    inserts = [python("Unruly", limit="1"), python("Remembering"), python("Unruly", limit="2")]
    brick = make_brick(inserts=inserts)
    client = connect(brick)
    client.setxattr("/", "user.do", b"nothing")
    client.setxattr("/", "user.plain", b"x")
    dump = brick.statedump()
    limits = [
        dump[s.name]["limit"]
        for s in dump.sections
        if s.name.startswith("features/glupy.") and "limit" in dict(s.pairs)
    ]
    assert sorted(limits) == ["1", "2"]


def test_py_spy_shows_the_handlers(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick(inserts=[python("Unruly")])
    waiting = do(connect(brick), "block 5")
    time.sleep(0.5)
    command = [f"{sys.prefix}/bin/py-spy", "dump", "--pid", str(brick.pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "setxattr" in shown and "unruly.py" in shown
    waiting.result(timeout=20)


# ---- two bricks in one process, as cluster.brick-multiplex makes them ----


class Multiplexed:
    """A brick process over stock C posix, to which a second brick is attached and detached."""

    def __init__(self, folder: Path, brick_dir: Path, inserts: list[Insert]) -> None:
        """`inserts` are the first one's; the second has two of Python's."""
        self.socket = folder / "attach.sock"
        self.port = free_port()
        self.c_dir, self.python_dir = brick_dir / "c", brick_dir / "python"
        self.c_dir.mkdir()
        self.python_dir.mkdir()
        self.volfile = folder / "python.vol"
        self.inserts = [python("Unruly"), python("Remembering")]
        self._gone_before = 0
        self.process = Brick(
            self.graph(self.c_dir, inserts),
            folder / "brick",
            arguments=["-S", str(self.socket)],
            # glibc's arenas, one a thread, grow by megabytes at times: it shows what is used.
            environment={"MALLOC_ARENA_MAX": "1"},
        )

    def graph(self, directory: Path, inserts: list[Insert], leaf: str = "posix") -> volfiles.Graph:
        # GlusterFS knows a multiplexed brick by its path.
        return volfiles.brick(
            directory, leaf=leaf, port=self.port, name=str(directory), inserts=inserts
        )

    def client(self, directory: Path) -> volfiles.Graph:
        return volfiles.client(port=self.port, brick=str(directory))

    def attach(self, inserts: list[Insert] | None = None, leaf: str = "posix") -> None:
        if inserts is None:
            inserts = self.inserts
        self.graph(self.python_dir, inserts, leaf).write(self.volfile)
        self._gf_attach(self.socket, self.volfile)

    def detach(self) -> None:
        """Ask for it: `detached` says when it is done."""
        self._gone_before = self._gone()
        self._gf_attach("-d", self.socket, self.python_dir)

    def detached(self) -> bool:
        """Whether all translators of the brick have been asked to go (fini)."""
        return self._gone() > self._gone_before

    def _gone(self) -> int:
        # The top translator's fini is the last.
        unloaded = f"0-{self.python_dir}: io-stats translator unloaded"
        return self.process.log_text().count(unloaded)

    @staticmethod
    def _gf_attach(*arguments: str | Path) -> None:
        command: list[str | Path] = ["gf_attach", *arguments]
        subprocess.run(command, check=True, timeout=60, capture_output=True)


@pytest.fixture
def multiplexed(
    request: pytest.FixtureRequest, tmp_path: Path, brick_dir: Path, logs: LogChecker
) -> Iterator[Multiplexed]:
    """A test may be parametrized by the inserts of the brick that stays."""
    made = Multiplexed(tmp_path, brick_dir, getattr(request, "param", []))
    logs.watch(made.process.log, made.process.output)
    # gf_attach's bricks have no checksum of a volfile that glusterd sent; the second is what
    # detaching a stock brick logs too.
    logs.allow("failed to get volfile checksum", "rpc_transport_unref", SERVER)
    # Replies to a client whose connection the detach has cut.
    logs.allow("failed to submit message", "server_submit_reply", "rpcsvc_check_and_reply_error")
    # That client comes again while the brick goes.
    logs.allow("Not received child_up for this xlator")
    with made.process:
        yield made


def test_a_detached_python_brick_leaves_the_other_unharmed(multiplexed: Multiplexed) -> None:
    multiplexed.attach()
    with (
        Client(multiplexed.client(multiplexed.c_dir), background_fini=True) as ours,
        Client(multiplexed.client(multiplexed.python_dir), background_fini=True) as theirs,
    ):
        stop = threading.Event()
        done = 0

        def cancelled() -> list[str]:
            log = multiplexed.process.log_text()
            return sorted(re.findall("cancelled: (.*)", log))

        def load() -> None:
            nonlocal done
            with ours.creat("/load") as file:
                while not stop.is_set():
                    file.pwrite(b"x" * 4096, done % 64 * 4096)
                    file.discard(done % 64 * 4096, 4096)
                    done += 1

        def load_python() -> None:
            with contextlib.suppress(OSError), theirs.creat("/load") as file:
                while not stop.is_set():
                    file.pwrite(b"x" * 4096, 0)

        with concurrent.futures.ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
            stack.callback(stop.set)
            running = pool.submit(load)
            ending = pool.submit(load_python)
            waiting = [
                do(theirs, what) for what in ("sleep 3600", "wait", "wait", "wait", "block 4")
            ]
            do(theirs, "spawn 60").result(timeout=15)
            time.sleep(0.5)
            multiplexed.detach()
            for each in waiting:
                with pytest.raises(OSError) as failure:
                    each.result(timeout=2)
                assert failure.value.errno == errno.ENOTCONN
            ending.result(timeout=15)
            # GlusterFS lets a brick go once all fops of its clients have ended, not before: what
            # only waits is ended for that.
            clients = ["sleep 3600", "wait", "wait", "wait"]
            wait_until(lambda: cancelled() == clients)
            assert not multiplexed.detached()
            wait_until(multiplexed.detached, seconds=15)
            assert cancelled() == sorted([*clients, "spawn 60"])
            before = done
            time.sleep(0.5)
            stop.set()
            running.result(timeout=15)  # not one of its fops failed
            assert done > before
    assert "Traceback" not in multiplexed.process.log_text()


def test_what_waits_on_a_detached_brick_gets_eio(multiplexed: Multiplexed) -> None:
    """Its client is told by the connection, whoever is above it by the errno."""
    multiplexed.attach([*multiplexed.inserts, *multiplexed.inserts])
    asked = ["sleep 3600", "wait", "wait"]
    with Client(multiplexed.client(multiplexed.python_dir), background_fini=True) as client:
        for what in asked:
            do(client, f"ask {what}")
        wait_until(lambda: multiplexed.process.log_text().count("asking") == len(asked))
        multiplexed.detach()
        wait_until(multiplexed.detached, seconds=15)
    told = re.findall(r": (\w+(?: \d+)?): (E\w+)$", multiplexed.process.log_text(), re.M)
    assert sorted(told) == [(what, "EIO") for what in asked]


def test_a_detached_brick_ends_its_own_fops_first(multiplexed: Multiplexed) -> None:
    """Or they would go on in what is freed."""
    multiplexed.attach()
    with Client(multiplexed.client(multiplexed.python_dir), background_fini=True) as client:
        do(client, "spawn-busy 3").result(timeout=10)
        multiplexed.detach()
        wait_until(multiplexed.detached, seconds=15)
    assert "busy no more" in multiplexed.process.log_text()


@pytest.mark.parametrize("multiplexed", [[python("Remembering")]], indirect=True)
def test_a_detached_brick_remembers_nothing(multiplexed: Multiplexed) -> None:
    """Neither of its inodes nor of what was open; the brick that stays keeps its own."""
    multiplexed.attach()
    files = [f"/file-{number}" for number in range(20)]

    def memories() -> tuple[int, int, int]:
        section = shown(multiplexed.process, f"{multiplexed.c_dir}-glupy")
        return int(section["alive"]), int(section["everywhere"]), int(section["translators"])

    with (
        Client(multiplexed.client(multiplexed.c_dir), background_fini=True) as ours,
        Client(multiplexed.client(multiplexed.python_dir), background_fini=True) as theirs,
    ):
        for file in files:
            ours.creat(file).close()
            theirs.creat(file).close()
            ours.open(file)
        held = [theirs.open(file) for file in files]
        own, everywhere, translators = memories()
        assert translators == 1 + len(multiplexed.inserts)
        assert own >= 2 * len(files)
        assert everywhere >= own + 2 * len(files)
        multiplexed.detach()
        wait_until(multiplexed.detached, seconds=15)
        for each in held:
            with contextlib.suppress(OSError):
                each.close()
        assert memories() == (own, own, 1)


def test_detached_bricks_give_their_memory_back(multiplexed: Multiplexed) -> None:
    """Those too that are detached while fops are under way and handlers asleep."""

    def come_and_go(inserts: list[Insert], leaf: str) -> None:
        multiplexed.attach(inserts, leaf)
        graph = multiplexed.client(multiplexed.python_dir)

        def write(name: str) -> None:
            with contextlib.suppress(OSError), client.creat(name) as file:
                while True:
                    file.pwrite(b"x" * 4096, 0)

        with (
            Client(graph, background_fini=True) as client,
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            for number in range(25):
                with client.creat(f"/file-{number}") as file:
                    file.pwrite(b"x" * 4096, 0)
            if inserts:
                do(client, "spawn 60").result(timeout=10)
                for _ in range(5):
                    do(client, "sleep 0.1")
            for name in "/one", "/other":
                pool.submit(write, name)
            time.sleep(0.02)
            multiplexed.detach()
        wait_until(multiplexed.detached, seconds=15)

    def grow(inserts: list[Insert], leaf: str, times: int) -> int:
        """Return by how many bytes the process grows with each brick.

        What it needs once comes with the first ones, or with more parallelism than ever before:
        what counts is the median.
        """
        sizes = []
        for _ in range(times):
            for _ in range(5):
                come_and_go(inserts, leaf)
            sizes.append(multiplexed.process.rss())
        return int(median(after - before for before, after in itertools.pairwise(sizes))) // 5

    ours, stock = grow(multiplexed.inserts, "pyposix", 5), grow([], "posix", 3)
    log = multiplexed.process.log_text()
    assert log.count("cancelled: spawn 60") == 25
    assert "Traceback" not in log
    # GlusterFS itself loses some with every brick: 12 KiB, or 34 if there are fops under way.
    for _ in range(2):
        if ours - stock < 1 << 16:
            break
        ours = grow(multiplexed.inserts, "pyposix", 5)  # what is lost is lost each time
    assert ours - stock < 1 << 16, f"{ours >> 10} KiB, without Python {stock >> 10} KiB"


assert os.geteuid() == 0, "bricks need root: run the tests as root or with sudo"
