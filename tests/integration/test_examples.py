"""What each example promises, seen through a real brick over the C posix."""

import codecs
import os
import re
import runpy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import volfiles
from glupy import fops
from glupy.testing.gfapi import credentials
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount, ProcessError
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "xlators" / "examples"

Mounted = Callable[[Brick], Path]


def example(name: str, **options: str) -> volfiles.Insert:
    """The example of that class, as one more translator of a brick."""
    return "features/glupy", {"module": f"{EXAMPLES}/{name.lower()}.py:{name}", **options}


@pytest.fixture
def leaf() -> str:
    return "storage/posix"


@pytest.fixture
def mounted(tmp_path: Path, logs: LogChecker) -> Iterator[Mounted]:
    """Mount a brick by FUSE, so that each system call is a fop."""
    with ExitStack() as stack:

        def mounted(brick: Brick) -> Path:
            mountpoint = tmp_path / "mountpoint"
            mountpoint.mkdir()
            uncached = ["--entry-timeout=0", "--attribute-timeout=0", "--negative-timeout=0"]
            mount = FuseMount(
                brick.client_graph(), mountpoint, tmp_path / "fuse", arguments=uncached
            )
            logs.watch(mount.log, mount.output)
            stack.enter_context(mount)
            return mountpoint

        yield mounted


def traced(brick: Brick, fop: str, what: str = "") -> int:
    """How many fops of that name, with that in their arguments, a Trace in the brick has logged."""
    return len(re.findall(rf"\d+ {fop}\(.*{re.escape(what)}", brick.log_text()))


# ---- hello ----


def test_hello_greets_who_makes_a_file(
    make_brick: MakeBrick, connect: Connect, logs: LogChecker
) -> None:
    brick = make_brick(inserts=[example("Hello")])
    logs.expect(r" I .* 0-brick-glupy: hello, user 0: /one is yours$")
    logs.expect(r"0-brick-glupy: hello, user 1234: /two is yours$")
    client = connect(brick)
    client.creat("/one").close()
    client.chmod("/", 0o777)
    with credentials(1234, 1234):
        client.creat("/two").close()
    client.mkdir("/three")
    assert brick.log_text().count("is yours") == 2


def test_hello_has_an_option(make_brick: MakeBrick, mounted: Mounted, logs: LogChecker) -> None:
    mount = mounted(make_brick(inserts=[example("Hello", greeting="salve")]))
    logs.expect("salve, user 0: /file is yours$")
    (mount / "file").write_text("data")
    assert (mount / "file").read_text() == "data"


# ---- negative ----


def negative(make_brick: MakeBrick, **options: str) -> Brick:
    """A Negative, with a Trace below that shows what reaches the child."""
    return make_brick(inserts=[example("Trace", fops="lookup"), example("Negative", **options)])


def test_negative_asks_once_for_a_name_that_is_missing(
    make_brick: MakeBrick, mounted: Mounted
) -> None:
    brick = negative(make_brick)
    mount = mounted(brick)
    for _ in range(5):
        assert not (mount / "missing").exists()
    assert traced(brick, "lookup", "/missing") == 1
    dump = brick.statedump()["features/glupy.brick-glupy-2"]
    assert int(dump["missing"]) == 1
    assert int(dump["spared"]) >= 4


def test_negative_asks_each_time_for_a_name_that_exists(
    make_brick: MakeBrick, mounted: Mounted
) -> None:
    brick = negative(make_brick)
    mount = mounted(brick)
    (mount / "file").touch()
    before = traced(brick, "lookup", "/file")
    for _ in range(3):
        assert (mount / "file").exists()
    assert traced(brick, "lookup", "/file") >= before + 3


MAKERS: dict[str, Callable[[Path, Path], object]] = {
    "create": lambda path, _: path.touch(),
    "mkdir": lambda path, _: path.mkdir(),
    "mknod": lambda path, _: os.mkfifo(path),
    "symlink": lambda path, _: path.symlink_to("nowhere"),
    "link": lambda path, other: path.hardlink_to(other),
    "rename": lambda path, other: other.rename(path),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_negative_forgets_a_name_that_is_made(
    make_brick: MakeBrick, mounted: Mounted, maker: str
) -> None:
    brick = negative(make_brick)
    mount = mounted(brick)
    (mount / "folder").mkdir()
    (mount / "other").touch()
    path = mount / "folder" / "name"
    for _ in range(2):
        assert not os.path.lexists(path)
    assert traced(brick, "lookup", "/folder/name") == 1
    MAKERS[maker](path, mount / "other")
    assert os.path.lexists(path)


def test_negative_knows_names_by_their_directory(make_brick: MakeBrick, mounted: Mounted) -> None:
    mount = mounted(negative(make_brick))
    (mount / "one").mkdir()
    (mount / "two").mkdir()
    (mount / "two" / "name").touch()
    assert not (mount / "one" / "name").exists()
    (mount / "one").rename(mount / "three")
    (mount / "two").rename(mount / "one")
    assert (mount / "one" / "name").exists()
    assert not (mount / "three" / "name").exists()


def test_negative_notices_what_goes_again(make_brick: MakeBrick, mounted: Mounted) -> None:
    mount = mounted(negative(make_brick))
    for _ in range(3):
        assert not (mount / "file").exists()
        (mount / "file").touch()
        assert (mount / "file").exists()
        (mount / "file").unlink()


def test_negative_has_a_limit(make_brick: MakeBrick, mounted: Mounted) -> None:
    brick = negative(make_brick, limit="2")
    mount = mounted(brick)
    names = ["a", "b", "a", "c", "a", "b"]  # c drives out b, of no use for longest; b then c
    for name in names:
        assert not (mount / name).exists()
    assert [traced(brick, "lookup", f"(/{name})") for name in "abc"] == [1, 2, 1]
    assert brick.statedump()["features/glupy.brick-glupy-2"]["missing"] == "2"


LATE = """
from glupy import Translator, sleep

class Late(Translator):
    '''Hold the reply of the first lookup of /name for three seconds.'''

    def init(self):
        self.first = True

    async def lookup(self, frame, loc, xdata):
        held = loc.path == "/name" and self.first
        if held:
            self.first = False
        try:
            return await self.child.lookup(loc, xdata)
        finally:
            if held:
                self.log.info("held")
                await sleep(3)
                self.log.info("let go")
"""


def test_negative_does_not_believe_a_reply_from_before_the_name_was_made(
    make_brick: MakeBrick, connect: Connect, tmp_path: Path
) -> None:
    """A lookup that was answered before a create, and comes up after it."""
    (tmp_path / "late.py").write_text(LATE)
    late = "features/glupy", {"module": f"{tmp_path}/late.py:Late"}
    brick = make_brick(inserts=[late, example("Negative")])
    one, two = connect(brick), connect(brick)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(one.stat, "/name")
        wait_until(lambda: "held" in brick.log_text())
        two.creat("/name").close()
        assert "let go" not in brick.log_text()
        assert isinstance(early.exception(10), FileNotFoundError)
    assert one.stat("/name").st_size == 0


# ---- trace ----


def test_trace_logs_arguments_and_replies(make_brick: MakeBrick, mounted: Mounted) -> None:
    brick = make_brick(inserts=[example("Trace")])
    mount = mounted(brick)
    (mount / "file").write_text("hello")
    assert (mount / "file").read_text() == "hello"
    os.setxattr(mount / "file", "user.key", b"value")
    with pytest.raises(FileNotFoundError):
        (mount / "missing").stat()
    assert [path.name for path in mount.iterdir()] == ["file"]
    log = brick.log_text()
    for fop, arguments, reply in [
        ("create", r"loc=Loc\(/file\), flags=\d+, mode=\d+, umask=\d+, fd=Fd\(", "op_ret=0"),
        ("writev", r"fd=Fd\(.*vector=<5 bytes>, count=1, offset=0", "op_ret=5, op_errno=0"),
        ("readv", r"fd=Fd\(.*offset=0", "vector=<5 bytes>.*op_ret=5"),
        ("setxattr", r"loc=Loc\(/file\), dict=.*user.key.*value", "op_ret=0"),
        ("lookup", r"loc=Loc\(/missing\)", "op_ret=-1, op_errno=2"),
        ("readdirp", r"fd=Fd\(", "op_ret=[1-9]"),
    ]:
        call = re.search(rf"0-brick-glupy: (\d+) {fop}\({arguments}.*\)$", log, re.MULTILINE)
        assert call, (fop, log)
        assert re.search(rf"0-brick-glupy: {call[1]} {fop}: .*{reply}", log), (fop, log)


def test_trace_handles_every_fop() -> None:
    trace = runpy.run_path(str(EXAMPLES / "trace.py"))["Trace"]
    assert trace.handled() == list(fops.TABLE.values())


def test_trace_shows_only_chosen_fops(make_brick: MakeBrick, connect: Connect) -> None:
    brick = make_brick(inserts=[example("Trace", fops="writev, discard")])
    with connect(brick).creat("/file") as file:
        file.pwrite(b"x" * 8192, 0)
        file.discard(4096, 4096)
        assert file.pread(8192, 0).value == b"x" * 4096 + bytes(4096)
    log = brick.log_text()
    assert set(re.findall(r"0-brick-glupy: \d+ (\w+)", log)) == {"writev", "discard"}
    assert re.search(r"discard\(fd=Fd\(.*\), offset=4096, len=4096", log)
    dump = brick.statedump()["features/glupy.brick-glupy"]
    assert (dump["writev"], dump["discard"]) == ("1", "1")
    assert "create" not in dump


@pytest.mark.parametrize("name", ["Trace", "Slow"])
def test_an_unknown_fop_is_refused(make_brick: MakeBrick, logs: LogChecker, name: str) -> None:
    logs.expect("does not start: no such fop: wirte$")
    logs.allow(".*")  # what glusterfsd has to say when a graph cannot be built
    with pytest.raises(ProcessError):
        make_brick(inserts=[example(name, fops="wirte,readv")])


# ---- rot13 ----


def rot13(data: bytes) -> bytes:
    return codecs.encode(data.decode("latin-1"), "rot13").encode("latin-1")


def test_rot13_lies_on_the_brick(make_brick: MakeBrick, mounted: Mounted, brick_dir: Path) -> None:
    mount = mounted(make_brick(brick_dir, inserts=[example("Rot13")]))
    (mount / "file").write_text("Hello, Wörld 123\n")
    assert (brick_dir / "file").read_text() == "Uryyb, Jöeyq 123\n"
    assert (mount / "file").read_text() == "Hello, Wörld 123\n"
    with (mount / "file").open("a") as file:
        file.write("more")
    assert (brick_dir / "file").read_text() == "Uryyb, Jöeyq 123\nzber"
    assert (mount / "file").read_text() == "Hello, Wörld 123\nmore"


def test_rot13_of_any_bytes_in_any_pieces(
    make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    data = bytes(range(256)) * 2048 + os.urandom(100_001)
    client = connect(make_brick(brick_dir, inserts=[example("Rot13")]))
    with client.creat("/file") as file:
        assert file.pwrite(data[:300_000], 0).value == 300_000
        rest = [data[300_000:300_001], data[300_001:500_000], data[500_000:]]
        assert file.pwritev(rest, 300_000) == len(data) - 300_000
        assert (brick_dir / "file").read_bytes() == rot13(data)
        assert b"".join(file.preadv([100_000, 1, 300_000], 0)) == data[:400_001]
        assert file.pread(50, len(data) - 10).value == data[-10:]
        assert file.pread(10, len(data)).value == b""


def test_rot13_leaves_to_the_child_what_has_no_letters(
    make_brick: MakeBrick, connect: Connect
) -> None:
    client = connect(make_brick(inserts=[example("Rot13")]))
    data = bytearray(b"some letters" * 2000)
    with client.creat("/file") as file, client.creat("/copy") as copy:
        file.pwrite(data, 0)
        file.discard(4096, 8192)
        data[4096:12288] = bytes(8192)
        file.zerofill(20_000, 100)
        data[20_000:20_100] = bytes(100)
        file.ftruncate(22_000)
        file.fallocate(0, 23_000)
        data[22_000:] = bytes(1000)
        assert file.pread(30_000, 0).value == data
        assert file.copy_file_range(0, copy, 0, len(data)).value == len(data)
        assert copy.pread(30_000, 0).value == data


PROBE = """
from glupy import Translator

class Probe(Translator):
    '''Log where the data of a write lies, and that of a read's reply.'''

    async def writev(self, frame, fd, vector, *rest):
        self.log.info("write at %s", vector.addresses())
        return await self.child.writev(fd, vector, *rest)

    async def readv(self, frame, *arguments):
        reply = await self.child.readv(*arguments)
        self.log.info("read at %s", reply.vector.addresses())
        return reply
"""


def test_rot13_copies_nothing_that_has_no_letters(
    make_brick: MakeBrick, connect: Connect, tmp_path: Path
) -> None:
    """The bytes lie at the same address above and below it."""
    (tmp_path / "probe.py").write_text(PROBE)
    probe = "features/glupy", {"module": f"{tmp_path}/probe.py:Probe"}
    brick = make_brick(inserts=[probe, example("Rot13"), probe])
    with connect(brick).creat("/file") as file:
        for data in b"0123" * 1000, b"letters!" * 500:
            file.pwrite(data, 0)
            assert file.pread(4000, 0).value == data
    seen = re.findall(r"(write|read) at \[(\d+)\]", brick.log_text())
    digits, letters = seen[:4], seen[4:]
    assert [fop for fop, _ in digits] == ["write", "write", "read", "read"]
    assert digits[0] == digits[1] and digits[2] == digits[3]
    assert letters[0] != letters[1] and letters[2] != letters[3]


def test_rot13_of_what_quick_read_gets_with_a_lookup(
    make_brick: MakeBrick, connect: Connect
) -> None:
    brick = make_brick(inserts=[example("Trace", fops="readv"), example("Rot13")])
    with connect(brick).creat("/file") as file:
        file.pwrite(b"small", 0)
    client = connect(brick, inserts=[("performance/quick-read", {})])
    client.stat("/file")
    with client.open("/file", os.O_RDONLY) as file:
        assert file.pread(100, 0).value == b"small"
    assert traced(brick, "readv") == 0


PUTTER = """
from glupy import Dict, Gfid, Loc, Translator, fops

class Putter(Translator):
    '''setxattr user.put on the root puts a file into it: NAME=DATA.'''

    async def setxattr(self, frame, loc, dict, flags, xdata):
        name, _, data = dict.get_bytes("user.put").decode().partition("=")
        file = Loc(path=f"/{name}", name=name, parent=loc.inode, inode=loc.inode.new(),
                   pargfid=loc.inode.gfid)
        request = Dict({"gfid-req": Gfid.random()})
        await self.child.put(file, 0o644, 0, 0, [data.encode()], 1, 0, None, Dict(), request)
        return fops.Setxattr()
"""


# The C posix complains, since its put writes before the inode is linked.
@pytest.mark.allow_log("_fill_writev_xdata")
def test_put_has_data_and_makes_a_name(
    make_brick: MakeBrick, mounted: Mounted, brick_dir: Path, tmp_path: Path
) -> None:
    """No client sends put as yet, so a translator above does it here."""
    (tmp_path / "putter.py").write_text(PUTTER)
    putter = "features/glupy", {"module": f"{tmp_path}/putter.py:Putter"}
    mount = mounted(make_brick(brick_dir, inserts=[example("Rot13"), example("Negative"), putter]))
    assert not (mount / "file").exists()
    os.setxattr(mount, "user.put", b"file=hello")
    assert (brick_dir / "file").read_text() == "uryyb"
    assert (mount / "file").read_text() == "hello"


# ---- slow ----


def threads(brick: Brick) -> list[str]:
    """The names of the brick's threads, but those of io-threads, which come and go."""
    tasks = Path(f"/proc/{brick.pid}/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    return sorted(name for name in names if not name.startswith("glfs_iot"))


def test_slow_delays_without_holding_threads(make_brick: MakeBrick, connect: Connect) -> None:
    """50 writes wait at the same time. io-threads has 16 threads, and a timer is one more."""
    parallel, delay = 50, 5.0
    slow = example("Slow", fops="writev", milliseconds=str(int(delay * 1000)))
    brick = make_brick(inserts=[example("Trace", fops="writev"), slow])
    with connect(brick).creat("/file") as file:
        before = threads(brick)
        start = time.monotonic()
        writes = [file.pwrite_async(b"%07d\n" % i, 8 * i) for i in range(parallel)]
        wait_until(lambda: brick.statedump().pending_calls >= parallel)
        during = threads(brick)
        assert traced(brick, "writev") == 0
        assert not any(write.done() for write in writes)
        assert len(during) <= len(before) + 1, (before, during)
        for write in writes:
            assert write.result(delay * 10).value == 8
        assert time.monotonic() - start < delay * 3  # one after the other: 250 s
        assert traced(brick, "writev") == parallel
        assert file.pread(400, 0).value == b"".join(b"%07d\n" % i for i in range(parallel))


def test_slow_delays_chosen_fops_only(make_brick: MakeBrick, mounted: Mounted) -> None:
    slow = example("Slow", fops="unlink", milliseconds="700")
    mount = mounted(make_brick(inserts=[slow]))
    start = time.monotonic()
    for _ in range(20):
        (mount / "file").write_text("data")
        assert (mount / "file").read_text() == "data"
    assert time.monotonic() - start < 0.7 * 20
    start = time.monotonic()
    (mount / "file").unlink()
    assert time.monotonic() - start >= 0.7
    assert not (mount / "file").exists()


def test_slow_passes_errors_on(make_brick: MakeBrick, connect: Connect) -> None:
    client = connect(make_brick(inserts=[example("Slow", milliseconds="10")]))
    with pytest.raises(FileNotFoundError):
        client.unlink("/missing")
    client.mkdir("/folder")
    with pytest.raises(FileExistsError):
        client.mkdir("/folder")
