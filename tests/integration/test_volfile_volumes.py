"""Volumes that the recipes compose, over real bricks and in the client's own process: what is
written is read back, and lies in the bricks as it should."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, free_port
from glupy.testing.pytest_plugin import MakeBrick
from volfiles import (
    ARBITER,
    Graph,
    Insert,
    client,
    disperse,
    distribute,
    leaf_graph,
    replicate,
    shard,
)

KIB, MIB = 1 << 10, 1 << 20
SIZE = MIB + 4321
SHARDED = 9 * MIB + 4321  # two and a bit: shards have 4 MiB at least

# What replicate and disperse say when the last of their bricks goes, at the end of each test.
pytestmark = pytest.mark.allow_log("All subvolumes are down")

Subvolumes = Callable[..., list[Graph]]
Run = Callable[[Graph], Client]


@pytest.fixture(params=["posix", "pyposix", "in process"])
def place(request: pytest.FixtureRequest) -> str:
    """The leaf of real bricks, or pyposix in the client's process (C posix crashes there)."""
    place: str = request.param
    return place


@pytest.fixture
def subvolumes(place: str, make_brick: MakeBrick, brick_dir: Path) -> Subvolumes:
    """``subvolumes(3, last=…)``: as many of them, and the inserts of the last one."""

    def subvolumes(number: int, last: Sequence[Insert] = ()) -> list[Graph]:
        graphs = []
        for n in range(number):
            directory, name = brick_dir / str(n), f"brick-{n}"
            directory.mkdir()
            inserts = last if n == number - 1 else ()
            if place == "in process":
                graphs.append(leaf_graph(directory, inserts=inserts, name=name))
            else:
                brick: Brick = make_brick(directory, leaf=place, inserts=inserts, name=name)
                options = brick.graph.top.options
                port = int(options["transport.socket.listen-port"])
                graphs.append(client(port=port, brick=name))
        return graphs

    return subvolumes


@pytest.fixture
def run(tmp_path: Path, logs: LogChecker) -> Iterator[Run]:
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def run(graph: Graph) -> Client:
            assert graph.check() == []
            log = tmp_path / f"client-{next(numbers)}.log"
            logs.watch(log)
            return stack.enter_context(Client(graph, log=log, background_fini=True))

        yield run


def write(volume: Client, path: str, size: int = SIZE) -> bytes:
    """Write a file, punch a hole of a quarter in it, read it back; gives what is in it now."""
    data = bytearray(random.Random(path).randbytes(size))
    start, end = size // 4, size // 2
    with volume.creat(path) as file:
        for offset in range(0, size, MIB):
            chunk = bytes(data[offset : offset + MIB])
            assert file.pwrite(chunk, offset).value == len(chunk)
        file.discard(start, end - start)
        data[start:end] = bytes(end - start)
        assert read(file, size) == data
    assert volume.stat(path).st_size == size
    return bytes(data)


def read(file: File, size: int) -> bytes:
    return b"".join(file.pread(MIB, offset).value for offset in range(0, size, MIB))


def files(brick_dir: Path, path: str) -> list[Path]:
    """Those of the bricks that there are."""
    return [file for folder in sorted(brick_dir.iterdir()) if (file := folder / path).exists()]


def test_distributed_files_are_whole_on_one_brick(
    subvolumes: Subvolumes, run: Run, brick_dir: Path
) -> None:
    volume = run(distribute(subvolumes(3)))
    volume.mkdir("/folder")
    used = set()
    for n in range(8):
        data = write(volume, f"/folder/{n}")
        (file,) = files(brick_dir, f"folder/{n}")
        assert file.read_bytes() == data
        used.add(file.parent.parent)
    assert len(used) > 1
    assert len(files(brick_dir, "folder")) == 3


def test_replicas_are_equal(subvolumes: Subvolumes, run: Run, brick_dir: Path) -> None:
    data = write(run(replicate(subvolumes(3))), "/file")
    copies = files(brick_dir, "file")
    assert [copy.read_bytes() == data for copy in copies] == [True] * 3
    assert len({copy.stat().st_blocks for copy in copies}) == 1
    assert copies[0].stat().st_blocks * 512 < SIZE * 3 / 4 + 16 * KIB


def test_an_arbiter_has_no_data(subvolumes: Subvolumes, run: Run, brick_dir: Path) -> None:
    data = write(run(replicate(subvolumes(3, last=[ARBITER]), arbiter=True)), "/file")
    one, two, arbiter = files(brick_dir, "file")
    assert one.read_bytes() == two.read_bytes() == data
    assert arbiter.stat().st_size == 0


def test_any_two_of_six_fragments_may_be_missing(
    subvolumes: Subvolumes, run: Run, brick_dir: Path
) -> None:
    graphs = subvolumes(6)
    volume = run(disperse(graphs, redundancy=2))
    data = write(volume, "/file")
    fragments = files(brick_dir, "file")
    stripe = 4 * 512
    assert {file.stat().st_size for file in fragments} == {-(-SIZE // stripe) * 512}
    assert len({file.read_bytes() for file in fragments}) == 6
    volume.close()
    for n in random.Random(SIZE).sample(range(6), 2):
        graphs[n] = client(port=free_port(), name=f"nobody-{n}")
    with run(disperse(graphs, redundancy=2)).open("/file") as again:
        assert read(again, SIZE) == data


def test_shards_are_in_their_folder(subvolumes: Subvolumes, run: Run, brick_dir: Path) -> None:
    volume = run(shard(distribute(subvolumes(2)), block_size="4MB"))
    data = write(volume, "/file", SHARDED)
    (first,) = files(brick_dir, "file")
    assert first.read_bytes() == data[: 4 * MIB]
    shards = {file.name: file for file in brick_dir.glob("*/.shard/*.[0-9]*")}
    gfid = sorted(name.rpartition(".")[0] for name in shards)[0]
    assert set(shards) == {f"{gfid}.1", f"{gfid}.2"}
    assert shards[f"{gfid}.1"].read_bytes() == data[4 * MIB : 8 * MIB]
    assert shards[f"{gfid}.2"].read_bytes() == data[8 * MIB :]


def test_recipes_go_into_each_other_and_take_inserts(
    subvolumes: Subvolumes, run: Run, brick_dir: Path
) -> None:
    graphs = subvolumes(4)
    pairs = [replicate(graphs[n : n + 2], name=f"pair-{n}") for n in (0, 2)]
    graph = shard(distribute(pairs), block_size="4MB")
    graph = graph.insert(("features/utime", {}), above="distribute")
    graph = graph.insert(("performance/write-behind", {}), below="shard")
    graph = graph.insert(("performance/io-threads", {}), above=graphs[0].top.name)
    volume = run(graph)
    data = write(volume, "/file", SHARDED)
    one, two = files(brick_dir, "file")
    assert one.read_bytes() == two.read_bytes() == data[: 4 * MIB]
    assert len(list(brick_dir.glob("*/.shard/*.[0-9]*"))) == 4
