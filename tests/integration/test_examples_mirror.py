"""The mirror: two directories of one brick, which are equal as long as neither fails."""

import ast
import contextlib
import errno
import io
import itertools
import os
import random
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest

import volfiles
from glupy import linux
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount, ProcessError, free_port
from glupy.testing.pytest_plugin import Connect

MIRROR = Path(__file__).parents[2] / "xlators" / "examples" / "mirror.py"

PUNCH = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE

MakeMirror = Callable[..., "Mirrored"]
Mounted = Callable[[Brick], Path]
Failing = Callable[[int], list[volfiles.Insert]]


@dataclass
class Mirrored:
    """A brick with a mirror, and its two directories."""

    brick: Brick
    one: Path
    two: Path

    def states(self) -> list[str]:
        """What the mirror says of its children in a statedump."""
        dump = self.brick.statedump()["features/glupy.mirror"]
        return [state for state in dump.values() if state in ("good", "out")]


def documented(one: Path, two: Path, brick: str) -> volfiles.Graph:
    """The graph that the docstring of the example prints; ``brick`` is its call of ``brick()``."""
    text = ast.get_docstring(ast.parse(MIRROR.read_text())) or ""
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    for written, meant in [
        ('brick("/srv/one", leaf="posix")', brick),
        ("/srv/two", str(two)),
        ("/ABSOLUTE/PATH/OF/mirror.py", str(MIRROR)),
    ]:
        assert written in code
        code = code.replace(written, meant)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"one": one})
    return volfiles.parse(printed.getvalue())


def with_above(
    graph: volfiles.Graph, layers: Mapping[int, Sequence[volfiles.Insert]]
) -> volfiles.Graph:
    """The graph with translators between the mirror and its children, the lowest first."""
    one, two, mirror, *above = graph
    xlators, children = [one, two], [one.name, two.name]
    for index, inserts in layers.items():
        for type_, options in inserts:
            name = f"{children[index]}+"
            xlators.append(volfiles.Xlator(name, type_, options, [children[index]]))
            children[index] = name
    return volfiles.Graph([*xlators, replace(mirror, subvolumes=children), *above])


FAILING = """
from glupy import FopError, Option, Translator

class Failing(Translator):
    '''Fail writev and mkdir; with errno 0 a writev writes one byte only.'''

    options = [Option("errno", int)]

    async def writev(self, frame, fd, vector, count, offset, flags, iobref, xdata):
        if self.option("errno"):
            raise FopError(self.option("errno"))
        return await self.child.writev(fd, bytes(vector)[:1], 1, offset, flags, None, xdata)

    def mkdir(self, frame, *arguments):
        raise FopError(self.option("errno"))
"""


@pytest.fixture
def failing(tmp_path: Path) -> Failing:
    """`failing(errno)`: the layer that fails with it."""
    file = tmp_path / "failing.py"
    file.write_text(FAILING)
    module = {"module": f"{file}:Failing"}
    return lambda number: [("features/glupy", {**module, "errno": str(number)})]


@pytest.fixture
def make_mirror(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator[MakeMirror]:
    """`make_mirror({1: [insert, …]}, ctime=…)`: with translators above its second child, say."""
    one, two = brick_dir / "one", brick_dir / "two"
    with contextlib.ExitStack() as stack:

        def make(
            layers: Mapping[int, Sequence[volfiles.Insert]] | None = None, *, ctime: bool = False
        ) -> Mirrored:
            one.mkdir()
            two.mkdir()
            call = f"brick({str(one)!r}, leaf='posix', port={free_port()}, ctime={ctime})"
            brick = Brick(with_above(documented(one, two, call), layers or {}), tmp_path / "brick")
            logs.watch(brick.log, brick.output)
            return Mirrored(stack.enter_context(brick), one, two)

        yield make


@pytest.fixture
def mounted(tmp_path: Path, logs: LogChecker) -> Iterator[Mounted]:
    """Mount a brick by FUSE; may be called again for another mount of it."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def mounted(brick: Brick) -> Path:
            folder = tmp_path / f"fuse-{next(numbers)}"
            mountpoint = folder / "mountpoint"
            mountpoint.mkdir(parents=True)
            mount = FuseMount(brick.client_graph(), mountpoint, folder)
            logs.watch(mount.log, mount.output)
            stack.enter_context(mount)
            return mountpoint

        yield mounted


# ---- equal ----


class State(NamedTuple):
    mode: int
    owner: tuple[int, int]
    links: int
    device: int
    data: bytes
    xattrs: dict[str, bytes]


def state(path: Path) -> State:
    status = path.lstat()
    data = b""
    if stat.S_ISREG(status.st_mode):
        data = path.read_bytes()
    elif stat.S_ISLNK(status.st_mode):
        data = os.fsencode(path.readlink())
    return State(
        status.st_mode,
        (status.st_uid, status.st_gid),
        status.st_nlink,
        status.st_rdev,
        data,
        {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
    )


def tree(root: Path) -> dict[str, State]:
    """All that both directories of a mirror should have alike, by path."""
    found = {}
    for folder, folders, files in os.walk(root):
        if ".glusterfs" in folders:
            folders.remove(".glusterfs")
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            found[str(path.relative_to(root))] = state(path)
    return found


def assert_equal(mirrored: Mirrored) -> dict[str, State]:
    assert mirrored.states() == ["good", "good"]
    one, two = tree(mirrored.one), tree(mirrored.two)
    assert one.keys() == two.keys()
    for path in one:
        assert one[path] == two[path], path
    return one


def work(root: Path, seed: int, steps: int) -> None:
    """Change this and that: names that the other workers change too, and data of its own file.

    Names that are fought over have no open files: see the docstring of the example.
    """
    chance = random.Random(seed)
    own = root / f"own-{seed}"

    def path() -> Path:
        return root / chance.choice(["", "folder"]) / chance.choice("abc")

    def write() -> None:
        with (root / "shared").open("r+b", buffering=0) as shared, own.open("ab") as file:
            for _ in range(3):
                data = bytes([chance.randrange(1, 256)]) * chance.randrange(1, 40_000)
                file.write(data)
                shared.seek(chance.randrange(60_000))
                shared.write(data)

    def carve() -> None:
        with own.open("r+b", buffering=0) as file, (root / "shared").open("r+b") as target:
            linux.fallocate(file.fileno(), 0, chance.randrange(50_000), 30_000)
            linux.fallocate(file.fileno(), PUNCH, chance.randrange(50_000), 20_000)
            os.copy_file_range(file.fileno(), target.fileno(), 10_000)
            file.truncate(chance.randrange(70_000))
            os.fsync(file.fileno())

    def mark() -> None:
        marked = path()
        os.setxattr(marked, "user.mark", bytes([chance.randrange(256)]) * 9)
        os.setxattr(marked, "user.other", b"")
        os.removexattr(marked, "user.other")

    actions: list[Callable[[], object]] = [
        write,
        write,
        carve,
        mark,
        own.unlink,
        lambda: os.truncate(path(), chance.randrange(50_000)),
        lambda: path().unlink(),
        lambda: path().rename(path()),
        lambda: path().hardlink_to(path()),
        lambda: path().symlink_to(path().name),
        lambda: path().mkdir(),
        lambda: path().rmdir(),
        lambda: os.mknod(path()),
        lambda: os.mknod(path(), stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        lambda: path().chmod(chance.randrange(0o1000)),
        lambda: os.chown(path(), chance.randrange(99), chance.randrange(99)),
        lambda: os.utime(path(), ns=(chance.randrange(10**18), chance.randrange(10**18))),
    ]
    for _ in range(steps):
        # A name may be missing, or something else: then it is an error of both children.
        with contextlib.suppress(OSError):
            chance.choice(actions)()


# What C translators and clients have to say about names that went before they were used.
@pytest.mark.allow_log(r" E (\[MSGID: \d+\] )?\[(posix|fuse|server|client)[\w-]*\.c:")
@pytest.mark.parametrize("ctime", [False, True])
def test_both_are_equal_after_a_mixed_load(
    make_mirror: MakeMirror, mounted: Mounted, ctime: bool
) -> None:
    mirrored = make_mirror(ctime=ctime)
    one, two = mounted(mirrored.brick), mounted(mirrored.brick)
    (one / "folder").mkdir()
    (one / "shared").touch()
    workers = [(one, 1), (one, 2), (two, 3), (two, 4)]
    with ThreadPoolExecutor(len(workers)) as pool:
        for done in [pool.submit(work, root, seed, 300) for root, seed in workers]:
            done.result()
    found = assert_equal(mirrored)
    assert len(found) > 4
    for path, each in found.items():
        assert len(each.xattrs["trusted.gfid"]) == 16
        if ctime and path != ".":
            assert "trusted.glusterfs.mdata" in each.xattrs  # the times are in there


def test_writes_to_the_same_bytes_have_one_order(make_mirror: MakeMirror, connect: Connect) -> None:
    mirrored = make_mirror()
    with connect(mirrored.brick).creat("/file") as file:
        for round in range(20):
            writes = [file.pwrite_async(bytes([i + 1]) * 65_536, 0) for i in range(16)]
            assert {write.result(30).value for write in writes} == {65_536}
            one = (mirrored.one / "file").read_bytes()
            assert one == (mirrored.two / "file").read_bytes(), round
            assert len(set(one)) == 1


def test_space_goes_back_in_both(make_mirror: MakeMirror, connect: Connect) -> None:
    mirrored = make_mirror()
    with connect(mirrored.brick).creat("/file") as file:
        file.fallocate(0, 1 << 20)
        file.pwrite(b"x" * (1 << 20), 0)
        file.discard(0, 1 << 18)
        file.zerofill(1 << 19, 1 << 18)
        file.discard(1 << 18, 1 << 18)
        for folder in mirrored.one, mirrored.two:
            os.sync()
            assert (folder / "file").stat().st_blocks * 512 < 600_000
            data = (folder / "file").read_bytes()
            assert data == bytes(3 << 18) + b"x" * (1 << 18)


# ---- not equal any more ----


def test_a_child_that_fails_is_out(
    make_mirror: MakeMirror, failing: Failing, mounted: Mounted, logs: LogChecker
) -> None:
    logs.expect(r" E .* 0-mirror: two\+ is out: writev: \[Errno 28\] No space left on device")
    mirrored = make_mirror({1: failing(errno.ENOSPC)})
    mount = mounted(mirrored.brick)
    (mount / "file").touch()
    assert mirrored.states() == ["good", "good"]
    (mount / "file").write_text("data")
    assert mirrored.states() == ["good", "out"]
    (mount / "other").write_text("more")
    assert (mount / "file").read_text() == "data"
    assert (mirrored.one / "other").read_text() == "more"
    assert (mirrored.two / "file").read_text() == ""
    assert not (mirrored.two / "other").exists()  # nothing goes there any more
    assert mirrored.brick.log_text().count("is out") == 1


def test_reads_leave_a_first_child_that_is_out(
    make_mirror: MakeMirror, failing: Failing, connect: Connect, logs: LogChecker
) -> None:
    logs.expect(r"brick-posix\+ is out: writev: .* but another child did it")
    mirrored = make_mirror({0: failing(errno.ENOSPC)})
    client = connect(mirrored.brick)
    with client.creat("/file") as file:
        assert file.pwrite(b"data", 0).value == 4
        assert file.pread(9, 0).value == b"data"
        assert file.fstat().st_size == 4
    assert mirrored.states() == ["out", "good"]
    assert client.stat("/file").st_size == 4
    assert {entry.name for entry in client.readdir("/", plus=True)} >= {"file"}
    client.unlink("/file")
    with pytest.raises(FileNotFoundError):
        client.stat("/file")
    assert (mirrored.one / "file").read_bytes() == b""


def test_a_short_write_is_a_failure(
    make_mirror: MakeMirror, failing: Failing, connect: Connect, logs: LogChecker
) -> None:
    logs.expect(r"two\+ is out: writev: 1 bytes only")
    mirrored = make_mirror({1: failing(0)})
    with connect(mirrored.brick).creat("/file") as file:
        assert file.pwrite(b"data", 0).value == 4
    assert mirrored.states() == ["good", "out"]


@pytest.mark.allow_log(r"\{errno=30\}")  # server and client tell of it
def test_an_error_of_both_is_the_clients(
    make_mirror: MakeMirror, failing: Failing, connect: Connect
) -> None:
    mirrored = make_mirror({0: failing(errno.EROFS), 1: failing(errno.ENOSPC)})
    client = connect(mirrored.brick)
    with pytest.raises(OSError) as caught:
        client.mkdir("/folder")
    assert caught.value.errno == errno.EROFS
    client.creat("/file").close()
    assert_equal(mirrored)


def test_one_subvolume_is_refused(brick_dir: Path, tmp_path: Path, logs: LogChecker) -> None:
    logs.expect("does not start: a mirror needs at least two subvolumes$")
    logs.allow(".*")  # what glusterfsd has to say when a graph cannot be built
    graph = volfiles.brick(
        brick_dir, leaf="posix", inserts=[("features/glupy", {"module": f"{MIRROR}:Mirror"})]
    )
    brick = Brick(graph, tmp_path / "brick")
    logs.watch(brick.log, brick.output)
    with pytest.raises(ProcessError), brick:
        pass
