"""Graphs in the test's own process: a leaf of ours at the bottom, no daemon, no network."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import volfiles
from glupy import _entry
from glupy._bridge import ffi, lib
from glupy.errors import Cancelled
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.translator import Translator

UNRULY = Path(__file__).parent / "translators" / "unruly.py"


def graph(directory: Path, **options: str) -> volfiles.Graph:
    insert = "features/glupy", {"module": f"{UNRULY}:Unruly", **options}
    return volfiles.leaf_graph(directory, leaf="pyposix", inserts=[insert])


@pytest.fixture
def client(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator[Client]:
    logs.watch(tmp_path / "log")
    with Client(graph(brick_dir), log=tmp_path / "log") as client:
        yield client


def instance(name: str = "Unruly") -> Any:
    """Return the one translator of that class in this process."""
    (found,) = [t for t in _entry._instances.values() if type(t).__name__ == name]
    return found


def counts(translator: Translator) -> tuple[int, int]:
    this = translator._this
    answered = lib.glupy_counted(this, lib.PASSED) + lib.glupy_counted(this, lib.UNWOUND)
    return lib.glupy_counted(this, lib.ENTERED), answered


def test_garbage_lets_go_of_inodes_before_their_table_goes(client: Client) -> None:
    translator = instance()
    gc.disable()
    try:
        client.setxattr("/", "user.do", b"knot")
        assert len(translator.knots) == 1
        client.close()
        assert len(translator.knots) == 0
    finally:
        gc.enable()


def test_fops_leave_nothing_to_the_collector(
    brick_dir: Path, tmp_path: Path, logs: LogChecker
) -> None:
    """What C counts is let go of by who has it, not by whoever looks for cycles."""
    logs.watch(tmp_path / "log")
    insert = "features/glupy", {"module": "glupy.testing.bare:Winding"}
    graph = volfiles.leaf_graph(brick_dir, leaf="pyposix", inserts=[insert])
    with Client(graph, log=tmp_path / "log") as client:

        def round_of_fops(number: int) -> None:
            with client.creat(f"/{number}") as file:
                file.pwrite(b"x" * 4096, 0)
                file.pread(4096, 0)
                file.discard(0, 4096)
            client.setxattr(f"/{number}", "user.x", b"1")
            client.rename(f"/{number}", "/renamed")
            client.stat("/renamed")
            with contextlib.suppress(OSError):
                client.getxattr("/renamed", "user.y")
            client.unlink("/renamed")

        round_of_fops(0)
        gc.collect()
        gc.disable()
        try:
            for number in range(200):
                round_of_fops(number)
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_fini_drops_the_contexts_of_what_is_still_open(
    brick_dir: Path, tmp_path: Path, logs: LogChecker
) -> None:
    """Of what a program leaves open, GlusterFS tells nobody: no release comes."""
    logs.watch(tmp_path / "log")
    insert = "features/glupy", {"module": f"{UNRULY}:Remembering"}
    client = Client(
        volfiles.leaf_graph(brick_dir, leaf="pyposix", inserts=[insert]), log=tmp_path / "log"
    )
    with client:
        remembering = instance("Remembering")
        for number in range(5):
            client.creat(f"/file-{number}").close()
            client.open(f"/file-{number}")
        client.opendir("/")
        client._open.clear()  # or it would close them
        alive, fds = len(remembering.alive), len(remembering._fd_contexts)
        assert fds == 6
        assert alive == fds + len(remembering._inode_contexts) >= fds + 6
        gc.disable()
        try:
            client.close()
            assert len(remembering.alive) == 0
        finally:
            gc.enable()
    assert remembering.seen["release"] == remembering.seen["releasedir"] == 0
    assert remembering.seen["forget"] == alive - fds
    open_below = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [path for path in open_below if path.is_relative_to(brick_dir)]


def test_nothing_is_started_once_the_translators_below_go(client: Client) -> None:
    """The inode table goes after PARENT_DOWN: what a forget would start then is cancelled."""
    translator = instance()
    client.setxattr("/", "user.do", b"remember")
    client.close()
    (error,) = translator.late
    assert isinstance(error, Cancelled)


def test_handlers_that_block_do_so_side_by_side(client: Client) -> None:
    """Nobody waits for a handler that is in the kernel."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        blocked = [pool.submit(client.setxattr, "/", "user.do", b"block 2") for _ in range(8)]
        time.sleep(0.2)
        for _ in range(200):
            client.setxattr("/", "user.do", b"nothing")
            client.stat("/")
        assert not any(each.done() for each in blocked)
        for each in blocked:
            each.result()
    assert time.monotonic() - started < 8  # one after the other: 16


def test_a_close_asks_no_python(client: Client) -> None:
    """A leaf without a handler for flush says yes; there is nothing to flush."""
    (leaf,) = [each for each in _entry._instances.values() if each.leaf]
    assert "flush" not in {fop.name for fop in leaf.handled()}
    file = client.creat("/file")
    entered = counts(leaf)[0]
    file.close()  # raises if the flush fails
    assert counts(leaf)[0] == entered


def test_fini_cancels_what_is_suspended(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> None:
    """glfs_fini waits for fops, but for 10 s only; a handler may sleep an hour."""
    logs.watch(tmp_path / "log")
    client = Client(graph(brick_dir), log=tmp_path / "log")
    outcomes: list[int | None] = []

    def call() -> None:
        try:
            client.setxattr("/", "user.do", b"sleep 3600")
        except OSError as error:
            outcomes.append(error.errno)
        else:
            outcomes.append(None)

    with client:
        translator = instance()
        client.setxattr("/", "user.do", b"spawn 3600")
        client.setxattr("/", "user.do", b"remember")
        cancelled: list[int] = []
        translator.forget = lambda inode: cancelled.append(translator.cancelled)
        threads = [threading.Thread(target=call, daemon=True) for _ in range(5)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while (suspended := len(translator._parked)) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert suspended == 6
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 15
    for thread in threads:
        thread.join(5)
    assert outcomes == [errno.EIO] * 5
    ((_, error),) = translator.outcomes
    assert isinstance(error, Cancelled)
    assert cancelled == [6], "before the table of inodes goes"
    assert translator not in _entry._instances.values()


def reconfigure(translator: Any, new: volfiles.Graph, folder: Path) -> int:
    """Give the process's GlusterFS a new volfile, as `gluster volume set` makes glusterd do."""
    path = folder / "new.vol"
    new.write(path)
    libc, libglusterfs = ctypes.CDLL(None), ctypes.CDLL("libglusterfs.so.0")
    libc.fopen.restype = ctypes.c_void_p
    file = libc.fopen(str(path).encode(), b"r")
    context = int(ffi.cast("uintptr_t", translator._this.ctx))
    result = libglusterfs.glusterfs_volfile_reconfigure(
        ctypes.c_void_p(file), ctypes.c_void_p(context)
    )
    return int(result)


def test_options_change_while_the_graph_runs(
    client: Client, brick_dir: Path, tmp_path: Path, logs: LogChecker
) -> None:
    logs.allow("option limit", "mode", "reconfigure", "xlator_tree_reconfigure", "validate of")
    translator = instance()
    assert (translator.option("limit"), translator.option("mode")) == (10, "plain")
    reconfigure(translator, graph(brick_dir, limit="20", mode="fancy"), tmp_path)
    assert (translator.option("limit"), translator.option("mode")) == (20, "fancy")
    reconfigure(translator, graph(brick_dir, limit="999", mode="plain"), tmp_path)
    assert (translator.option("limit"), translator.option("mode")) == (20, "fancy"), (
        "all or nothing"
    )
    reconfigure(translator, graph(brick_dir), tmp_path)
    assert (translator.option("limit"), translator.option("mode")) == (10, "plain")
    client.mkdir("/the-graph-lives")


# What a volfile may say of each option of Choosing, and what it is then; None: what may not be.
OPTIONS: dict[str, dict[str, Any]] = {
    "flag": {"off": False, "Yes": True, "0": False, "enable": True, "2": None, "maybe": None},
    "number": {"-3": -3, "7": 7, "0x5": 5, "-4": None, "8": None, "1.5": None, "ten": None},
    "ratio": {"0.25": 0.25, "2.5": 2.5, "1e0": 1.0, "0.249": None, "2.51": None, "nan": None},
    "interval": {"0.1": 0.1, "1e9": 1e9, "0.09": None, "nan": None, "1s": None},
    "share": {"0.5": 0.5, "100%": 100.0, "0.4%": None, "100.1": None, "-1": None, "many": None},
    "reserve": {"1%": 1.0, "1GB": 1.0 * (1 << 30), "99": 99.0, "0": None, "0.5%": None}
    | {"101%": None, "1073741825": None, "-1": None, "5000.5": None, "many": None},
    "at-least": {"4096": 4096.0, "16PB": 1.0 * (1 << 54), "4095": None, "1%": None},
    "pause": {"10": 10, "2min": 120, "1h": 3600, "9": None, "61min": None, "-1": None, "1 h": None},
    "patience": {"10s": 10, "52wk": 52 * 7 * 86400, "9": None, "soon": None},
    "block": {"512": 512, "1MB": 1 << 20, "511": None, "1048577": None, "large": None},
    "room": {"4KB": 4096, "16TB": 16 << 40, "4095": None, "-1": None},
    "most": {"0": 0, "1MB": 1 << 20, "2MB": None},
    "place": {"/": "/", "/a b/c": "/a b/c", "a/b": None, "/a/../b": None},
    "word": {"any words": "any words", "odd": None},
}


def choosing(directory: Path, **options: str) -> volfiles.Graph:
    insert = "features/glupy", {"module": f"{UNRULY.with_name('choosing.py')}:Choosing", **options}
    return volfiles.leaf_graph(directory, leaf="pyposix", inserts=[insert])


def test_options_of_every_type(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> None:
    """A volfile that has changed says what they are; or nothing changes, and the log has why."""
    log = tmp_path / "log"
    logs.watch(log)
    logs.allow("brick-glupy", "reconfigure")
    with Client(choosing(brick_dir), log=log):
        translator = instance("Choosing")
        defaults = {option.name: option.default for option in translator.options}
        expected = defaults
        for name, cases in OPTIONS.items():
            for written, value in cases.items():
                refusals = log.read_text().count(f"] 0-brick-glupy: option {name}: ")
                reconfigure(translator, choosing(brick_dir, **{name: written}), tmp_path)
                if value is not None:
                    expected = {**defaults, name: value}
                assert {each: translator.option(each) for each in defaults} == expected, written
                assert isinstance(translator.option("flag"), bool)
                refused = log.read_text().count(f"] 0-brick-glupy: option {name}: ") - refusals
                assert refused == (value is None), written
        reconfigure(translator, choosing(brick_dir), tmp_path)
        assert {each: translator.option(each) for each in defaults} == defaults


def test_the_fops_of_a_class_that_defines_none_are_the_defaults(client: Client) -> None:
    translator = instance()
    handled = {fop.number for fop in type(translator).handled()}
    for number in range(1, 59):
        if number in handled or number in (41, 42, 43, 52):  # placeholders, and compound
            continue
        assert lib.glupy_get_fop(translator._this, number) == lib.glupy_get_default_fop(number)


def test_fops_pass_by_inodes_that_are_marked(
    brick_dir: Path, tmp_path: Path, logs: LogChecker
) -> None:
    """Python is not asked about them; about other files, and once that is taken back, it is."""
    logs.watch(tmp_path / "log")
    insert = "features/glupy", {"module": f"{UNRULY.with_name('passing.py')}:Passing"}
    graph = volfiles.leaf_graph(brick_dir, leaf="pyposix", inserts=[insert])
    with (
        Client(graph, log=tmp_path / "log") as client,
        client.creat("/f") as marked,
        client.creat("/g") as other,
    ):
        passing = instance("Passing")
        marked.pwrite(b"data", 0)
        for value, asked in (b"yes", 0), (b"no", 1), (b"yes", 0):
            client.setxattr("/f", "user.pass", value)
            passing.asked.clear()
            entered, answered = counts(passing)
            assert marked.pread(10, 0).value == b"data"
            assert passing.asked["readv"] == asked
            assert counts(passing) == (entered + 1, answered + 1)
            other.pread(10, 0)
            assert passing.asked["readv"] == asked + 1
