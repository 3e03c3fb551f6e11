"""`glupy bench`: what a translator in Python costs, as a client of the brick sees it."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import volfiles
from glupy import stores
from glupy.testing.processes import Brick, free_port
from glupy_tools.failures import CommandError
from glupy_tools.measure import LEAST_PAIRS, load, pairs, processor_seconds, ratio
from glupy_tools.volfile import insert_option

if TYPE_CHECKING:
    from glupy.testing.gfapi import Client

KIB, MIB = 1024, 1024 * 1024
STORE_SIZE = 2048 * MIB
DATA = 64 * MIB
"""What all callers together read, write and discard: each has a file of its own."""
ENTRIES = 10_000
"""What all callers together look up and list: each has a directory of its own."""
UNLINKS = 10_000
"""How many files all callers together can unlink in a second, at most."""


@dataclass(frozen=True)
class Row:
    """One operation, with so many calls at once."""

    op: str
    parallel: int
    ratio: float
    """The median of the pairs' ratios, ours to theirs."""
    low: float
    high: float
    ours: float
    """The median rate, in operations per second."""
    theirs: float
    cpu_ratio: float
    """The same of the processor time that an operation takes the brick."""
    cpu_low: float
    cpu_high: float
    our_cpu: float
    """Its median, in microseconds."""
    their_cpu: float


class Measured(NamedTuple):
    """One side of a pair."""

    rate: float
    cpu: float


class Side(NamedTuple):
    """A brick, by its process, and those who call it."""

    pid: int
    callers: Sequence["Caller"]


class Caller:
    """One of the calls that are made at once: a file of its own, and the operations on it."""

    def __init__(
        self, client: "Client", number: int, share: int, seconds: float, folder: str = ""
    ) -> None:
        """``share``: how many there are; ``seconds``: how long a measurement takes; ``folder``:
        where its files are."""
        self._client = client
        self._size = DATA // share
        self._names = max(1, int(UNLINKS * seconds)) // share
        self._crowd: list[str] = []
        self._entries = ENTRIES // share
        self._path = f"{folder}/file-{number}"
        self._other = f"{folder}/other-{number}"
        self._folder = f"{folder}/folder-{number}"
        self._made: list[str] = []
        self._crowded = f"{folder}/crowd-{number}"
        self._file = client.creat(self._path)
        client.setxattr(self._path, "user.bench", b"x" * 64)
        client.mkdir(self._folder)
        client.mkdir(self._crowded)
        self._page = os.urandom(4 * KIB)
        self._large = os.urandom(MIB)

    def fill(self) -> None:
        """Make the file whole again, on disk: no hole, no block that is only promised."""
        for offset in range(0, self._size, MIB):
            self._file.pwrite(self._large, offset)
        self._file.fsync()

    def discard_4k(self, number: int) -> None:
        self._file.discard(number * 4 * KIB % self._size, 4 * KIB)

    def discard_1m(self, number: int) -> None:
        if number * MIB >= self._size:
            raise StopIteration  # there is no more
        self._file.discard(number * MIB, MIB)

    def write_4k(self, number: int) -> None:
        self._file.pwrite(self._page, number * 4 * KIB % self._size)

    def read_4k(self, number: int) -> None:
        self._file.pread(4 * KIB, number * 4 * KIB % self._size)

    def fstat(self, _: int) -> None:
        self._file.fstat()

    def stat(self, _: int) -> None:
        self._client.stat(self._path)

    def create_unlink(self, _: int) -> None:
        self._client.creat(self._other, os.O_RDWR | os.O_EXCL).close()
        self._client.unlink(self._other)

    def write_1m(self, number: int) -> None:
        self._file.pwrite(self._large, number * MIB % self._size)

    def read_1m(self, number: int) -> None:
        self._file.pread(MIB, number * MIB % self._size)

    def getxattr(self, _: int) -> None:
        self._client.getxattr(self._path, "user.bench")

    def setxattr(self, number: int) -> None:
        self._client.setxattr(self._path, "user.bench", b"%064d" % number)

    def rename(self, number: int) -> None:
        names = self._path, self._other
        self._client.rename(names[number % 2], names[1 - number % 2])

    def rename_back(self) -> None:
        with suppress(FileNotFoundError):
            self._client.rename(self._other, self._path)

    def create(self, number: int) -> None:
        path = f"{self._folder}/new-{number}"
        self._client.creat(path, os.O_RDWR | os.O_EXCL).close()
        self._made.append(path)

    def make_files(self) -> None:
        for number in range(self._names):
            self.create(number)

    def unlink(self, _: int) -> None:
        if not self._made:
            raise StopIteration
        self._client.unlink(self._made.pop())

    def remove_files(self) -> None:
        while self._made:
            self._client.unlink(self._made.pop())

    def mkdir(self, number: int) -> None:
        path = f"{self._folder}/new-{number}"
        self._client.mkdir(path)
        self._made.append(path)

    def remove_folders(self) -> None:
        while self._made:
            self._client.rmdir(self._made.pop())

    def make_entries(self) -> None:
        for number in range(len(self._crowd), self._entries):
            self._crowd.append(f"{self._crowded}/entry-{number}")
            self._client.creat(self._crowd[-1]).close()

    def lookup(self, number: int) -> None:
        self._client.stat(self._crowd[number % len(self._crowd)])

    def readdirp(self, _: int) -> None:
        if len(self._client.readdir(self._crowded, plus=True)) < len(self._crowd):
            raise CommandError(f"{self._crowded} was not listed whole")

    def close(self) -> None:
        self._file.close()
        for path in self._path, *self._crowd:
            self._client.unlink(path)
        for folder in self._folder, self._crowded:
            self._client.rmdir(folder)


Part = Callable[[Caller], None]


class Op(NamedTuple):
    """An operation, and what is done around it, unmeasured."""

    call: Callable[[Caller, int], None]
    first: Part | None = None
    """Before all measurements."""
    before: Part | None = None
    """Before each measurement; `after` is after it."""
    after: Part | None = None


OPS = {
    # There must be something to discard each time.
    "discard-4k": Op(Caller.discard_4k, before=Caller.fill),
    "write-4k": Op(Caller.write_4k, first=Caller.fill),
    "read-4k": Op(Caller.read_4k, first=Caller.fill),
    "fstat": Op(Caller.fstat),
    "stat": Op(Caller.stat),
    "create-unlink": Op(Caller.create_unlink),
    "write-1m": Op(Caller.write_1m, first=Caller.fill),
    "read-1m": Op(Caller.read_1m, first=Caller.fill),
    "lookup": Op(Caller.lookup, first=Caller.make_entries),
    "readdirp": Op(Caller.readdirp, first=Caller.make_entries),
    "create": Op(Caller.create, after=Caller.remove_files),
    "unlink": Op(Caller.unlink, before=Caller.make_files, after=Caller.remove_files),
    "mkdir": Op(Caller.mkdir, after=Caller.remove_folders),
    "rename": Op(Caller.rename, after=Caller.rename_back),
    "setxattr": Op(Caller.setxattr),
    "getxattr": Op(Caller.getxattr),
}


@contextmanager
def bench_store(parent: Path) -> Iterator[tuple[Path, stores.Store]]:
    """Make a folder for a benchmark, and a store in it: ext4 -o discard on a loop file."""
    if os.geteuid() != 0:
        raise CommandError("the benchmark needs root: it makes a loop device and a mount")
    with ExitStack() as undo:
        with stores.held_back():
            made = TemporaryDirectory(prefix="glupy-bench-", dir=parent)
            folder = Path(undo.enter_context(made))
        image, mountpoint = folder / "store", folder / "mount"
        yield folder, undo.enter_context(stores.store(image, STORE_SIZE, mountpoint))


@contextmanager
def brick_client(
    leaf: str,
    store: stores.Store,
    folder: Path,
    name: str,
    inserts: Sequence[volfiles.Insert] = (),
) -> Iterator[tuple[Brick, "Client"]]:
    """Run a brick on a directory of the store, and a gfapi client of it over the loopback."""
    try:
        # Only here: the other commands must run where libgfapi is missing.
        from glupy.testing.gfapi import Client  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(f"the gfapi client cannot be loaded, run tools/setup: {error}") from None
    directory = store.folder / name
    directory.mkdir()
    with ExitStack() as undo:
        graph = volfiles.brick(directory, leaf=leaf, port=free_port(), inserts=inserts)
        brick = Brick(graph, folder / name)
        undo.push(brick)
        brick.start()
        client_graph = brick.client_graph(options={"event-threads": "2"})  # as of GlusterFS itself
        yield brick, undo.enter_context(Client(client_graph, background_fini=True))


@contextmanager
def one_side(
    served: tuple[Brick, "Client"],
    parallel: int,
    seconds: float,
    folder: str = "",
    kind: type[Caller] = Caller,
) -> Iterator[Side]:
    """Have so many callers of a brick for as long as the block runs, with files in a folder.

    Where the block fails they are left to the store's end: what is not empty then is no news.
    """
    brick, client = served
    callers = [kind(client, number, parallel, seconds, folder) for number in range(parallel)]
    yield Side(brick.pid, callers)
    for caller in callers:
        caller.close()


def compare(
    op: Op, ours: Side, theirs: Side, count: int, seconds: float
) -> Iterator[tuple[Measured, Measured]]:
    """Yield `count` pairs of measurements (ours, theirs) of an operation."""
    call, first, before, after = op
    with ThreadPoolExecutor(len(ours.callers)) as pool:

        def everywhere(part: Part | None, side: Side) -> None:
            if part is not None:
                list(pool.map(part, side.callers))

        def measured(side: Side) -> Measured:
            everywhere(before, side)
            used = processor_seconds(side.pid)
            done = load([partial(call, caller) for caller in side.callers], seconds, pool)
            used = processor_seconds(side.pid) - used
            everywhere(after, side)
            return Measured(done.rate, used / done.done * 1e6)

        for side in ours, theirs:
            everywhere(first, side)
        yield from pairs(lambda: measured(ours), lambda: measured(theirs), count)


def bench_progress() -> Progress:
    """Show on a terminal what is being measured."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _table(rows: Sequence[Row], ours: str, theirs: str) -> Table:
    columns = "ratio", "95 % interval", ours, theirs, "brick CPU"
    table = Table("op", "parallel", *columns, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}"
        rates = f"{row.ours:,.0f}/s", f"{row.theirs:,.0f}/s"
        cpu = f"x {row.cpu_ratio:.2f}"
        table.add_row(row.op, str(row.parallel), f"{row.ratio:.3f}", interval, *rates, cpu)
    return table


# What the benchmarks of a brick have in common.
leaf_option = click.option(
    "--leaf",
    default="pyposix",
    show_default=True,
    metavar="TYPE",
    help="Our storage translator; `storage/` may be omitted.",
)
parallel_option = click.option(
    "--parallel",
    "parallels",
    multiple=True,
    type=click.IntRange(1, 64),
    default=(1, 8),
    show_default=True,
    metavar="N",
    help="Calls at once; may be given again.",
)
pairs_option = click.option(
    "--pairs",
    "count",
    default=LEAST_PAIRS,
    show_default=True,
    metavar="N",
    type=click.IntRange(LEAST_PAIRS),
    help="Pairs of each, 20 or more.",
)
seconds_option = click.option(
    "--seconds",
    default=0.25,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0.01),
    help="How long each side of a pair is measured.",
)


def folder_option(room: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Where the loop file is put, and how much it may take."""
    return click.option(
        "--dir",
        "parent",
        default=Path("/var/tmp"),
        show_default=True,
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help=f"Where the loop file is put; it takes up to {room}.",
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."
)


@click.group()
def bench() -> None:
    """Measure what a translator in Python costs.

    \b
    Example, as root:
      glupy bench fops --op discard-4k
    """


@bench.command()
@leaf_option
@insert_option("One more translator above our leaf; may be given again.")
@click.option("--against", default="posix", show_default=True, metavar="TYPE", help="Theirs.")
@click.option(
    "--op",
    "ops",
    multiple=True,
    type=click.Choice(list(OPS)),
    help="Only this operation; may be given again.  [default: all]",
)
@parallel_option
@pairs_option
@seconds_option
@folder_option("500 MiB")
@json_option
def fops(
    *,
    leaf: str,
    inserts: Sequence[volfiles.Insert],
    against: str,
    ops: Sequence[str],
    parallels: Sequence[int],
    count: int,
    seconds: float,
    parent: Path,
    as_json: bool,
) -> None:
    """Compare two storage translators, operation by operation, through RPC on the loopback.

    With --insert, others stand above the first: what they take is measured, with the leaf the same.
    Two bricks serve two directories of one store (ext4 -o discard on a loop file), and only one is
    used at a time. A pair is one measurement of each, right after each other, with the order
    changing from pair to pair. `ratio` is the median of the pairs' ratios of operations per
    second, ours to theirs: above 1, ours is faster. Its interval is that of the median by order
    statistics: the true one lies in it with at least 95 % confidence. The same follows for the
    processor time that an operation takes the brick: below 1, ours takes less. Every call has a
    file of its own; a file is filled anew before each measurement of discards. `lookup` is of
    10,000 files, one after the other, and `readdirp` of all of them at once. What is made for a
    measurement, or in it, goes after it and does not count.

    \b
    Examples, as root:
      glupy bench fops                                all, about 10 minutes
      glupy bench fops --op discard-4k --op stat --parallel 8
      glupy bench fops --leaf posix                   how far the same differs from itself
      glupy bench fops --leaf posix --insert features/glupy,module=/root/slow.py:Slow
                                                      what a translator of yours takes
      glupy bench fops --json | jq '.rows[] | select(.high < 0.95)'
    """
    rows: list[Row] = []
    with ExitStack() as undo:
        folder, store = undo.enter_context(bench_store(parent))
        ours = undo.enter_context(brick_client(leaf, store, folder, "ours", inserts))
        theirs = undo.enter_context(brick_client(against, store, folder, "theirs"))
        progress = undo.enter_context(bench_progress())
        for parallel in parallels:
            with (
                one_side(ours, parallel, seconds) as our,
                one_side(theirs, parallel, seconds) as their,
            ):
                for op in ops or OPS:
                    measuring = compare(OPS[op], our, their, count, seconds)
                    found = list(progress.track(measuring, count, description=f"{op} x {parallel}"))
                    rows.append(_row(op, parallel, found))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "leaf": leaf,
                    "inserts": inserts,
                    "against": against,
                    "pairs": count,
                    "seconds": seconds,
                    "rows": [asdict(row) for row in rows],
                }
            )
        )
    else:
        Console().print(_table(rows, leaf, against))


def _row(op: str, parallel: int, found: Sequence[tuple[Measured, Measured]]) -> Row:
    ours, theirs = zip(*found, strict=True)
    figures = []
    for name in Measured._fields:
        our, their = ([getattr(each, name) for each in side] for side in (ours, theirs))
        figures += [round(value, 4) for value in ratio(our, their)]
        figures += [round(median(side), 1) for side in (our, their)]
    return Row(op, parallel, *figures)
