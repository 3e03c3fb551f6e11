"""`glupy bench bridge`: what the bridge itself costs, in processor time and in memory."""

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

import volfiles
from glupy import stores
from glupy.testing.processes import Brick, free_port
from glupy_tools.bench import KIB, MIB, bench_store
from glupy_tools.failures import CommandError
from glupy_tools.measure import LEAST_PAIRS, Interval, median, processor_seconds

if TYPE_CHECKING:
    from glupy.testing.gfapi import File

DATA = 64 * MIB
CALLS = 4000
"""How many fops each side of a pair is, where processor time is measured."""
PUNCH_HOLE_KEEP_SIZE = 0x03  # FALLOC_FL_* of linux/falloc.h
HANDLERS = {
    "handler that only returns PASS": "Passing",
    "async handler that only winds": "Winding",
}
"""What they are, and their class in `glupy.testing.bare`."""


@dataclass(frozen=True)
class Figure:
    """One measured quantity: the median of the pairs, and its 95 % interval."""

    name: str
    unit: str
    median: float
    low: float
    high: float


def _figure(name: str, unit: str, found: Interval) -> Figure:
    return Figure(name, unit, *(round(value, 3) for value in found))


class _Replies:
    """Counts the replies to discards that have all attributes of before and after.

    It looks at what libgfapi gives: a future and two `stat_result`s, as `File.discard_async` makes
    them, take twice as long as the discard itself.
    """

    def __init__(self, null: object, all_of_stat: int) -> None:
        self.whole = 0
        self._null = null
        self._all = all_of_stat

    def answer(self, ret: int, _error: int, pre: Any, post: Any) -> None:
        self.whole += (
            ret == 0
            and self._null not in (pre, post)
            and not ~(pre.glfs_st_mask & post.glfs_st_mask) & self._all
            and pre.glfs_st_size == post.glfs_st_size
            and pre.glfs_st_blocks >= post.glfs_st_blocks
        )


def discard_in_process(store: stores.Store, count: int) -> Figure:
    """Compare discards of a graph in this process with the system call on the very same file.

    The graph has pyposix at its bottom and ctime on, the file has a gfid and data: a discard there
    reads the attributes before and after, and each reply is looked at for them.
    """
    from glupy.testing._gfapi import ffi, lib  # noqa: PLC0415
    from glupy.testing.gfapi import Client  # noqa: PLC0415

    directory = store.folder / "in-process"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    large = os.urandom(MIB)

    def fill(file: "File") -> None:
        for offset in range(0, DATA, MIB):
            file.pwrite(large, offset)
        file.fsync()

    def timed(call: Callable[[int], object]) -> float:
        started = time.perf_counter()
        for offset in range(0, DATA, 4 * KIB):
            call(offset)
        return time.perf_counter() - started

    graph = volfiles.leaf_graph(directory, leaf="pyposix", ctime=True)
    with Client(graph) as client, client.creat("/file") as file, ExitStack() as undo:
        number = os.open(directory / "file", os.O_RDWR)
        undo.callback(os.close, number)
        length = ctypes.c_long(4 * KIB)

        def raw(offset: int) -> None:
            if libc.fallocate(number, PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(offset), length):
                raise OSError(ctypes.get_errno(), "fallocate")

        replies = _Replies(ffi.NULL, lib.GLFS_STAT_BASIC_STATS)
        answer = lib.glupy_gfapi_answered, ffi.new_handle(replies)

        def ours(offset: int) -> None:
            if lib.glfs_discard_async(file._handle, offset, length.value, *answer):
                raise OSError(ffi.errno, "glfs_discard_async")

        ratios = []
        for pair in range(count + 1):
            seconds = {}
            for side in (raw, ours) if pair % 2 else (ours, raw):
                fill(file)
                seconds[side] = timed(side)
            ratios.append(seconds[raw] / seconds[ours])
        if replies.whole != len(ratios) * (DATA // (4 * KIB)):
            raise CommandError("a discard came back without its attributes")
    return _figure("in-process discard / raw fallocate", "ratio", median(ratios[1:]))


def handlers(store: stores.Store, folder: Path, count: int) -> list[Figure]:
    """Measure what the least handlers add to a fop, in processor time of the brick.

    What one has that only returns PASS is what entering Python takes; the rest is what it does.
    """
    with ExitStack() as undo:
        sides = {
            what: _brick(undo, store, folder, what or "plain", leaf="posix", inserts=inserts)
            for what, inserts in _inserts().items()
        }

        def spent(side: str) -> float:
            return processor_seconds(sides[side][0].pid)

        added = _added({what: file for what, (_, file) in sides.items()}, spent, count)
    return [_figure(what, "µs of brick CPU a fop", found) for what, found in added.items()]


def handlers_in_process(store: stores.Store, count: int) -> list[Figure]:
    """The same above pyposix in this process, where nothing else uses the caches meanwhile."""
    from glupy.testing.gfapi import Client  # noqa: PLC0415

    with ExitStack() as undo:
        files = {}
        for what, inserts in _inserts().items():
            directory = store.folder / f"{what or 'plain'} in process"
            directory.mkdir()
            graph = volfiles.leaf_graph(directory, leaf="pyposix", inserts=inserts)
            client = undo.enter_context(Client(graph))
            files[what] = undo.enter_context(client.creat("/file"))
        added = _added(files, lambda _: time.process_time(), count)
    return [
        _figure(f"{what}, in one process", "µs of CPU a fop", found)
        for what, found in added.items()
    ]


def _inserts() -> dict[str, list[volfiles.Insert]]:
    """None, and each handler."""
    module = "glupy.testing.bare"
    return {"": []} | {
        what: [("features/glupy", {"module": f"{module}:{name}"})]
        for what, name in HANDLERS.items()
    }


def _added(
    files: Mapping[str, "File"], spent: Callable[[str], float], count: int
) -> dict[str, Interval]:
    """By how many µs each is above the first, of which there is no handler in the way."""

    def cost(side: str) -> float:
        before = spent(side)
        for _ in range(CALLS):
            files[side].discard(0, 4 * KIB)
        return (spent(side) - before) / CALLS * 1e6

    added: dict[str, list[float]] = {what: [] for what in HANDLERS}
    for round_ in range(count + 1):
        costs = {side: cost(side) for side in (files if round_ % 2 else reversed(list(files)))}
        for what, found in added.items():
            found.append(costs[what] - costs[""])
    return {what: median(found[1:]) for what, found in added.items()}


def memory(store: stores.Store, folder: Path, count: int) -> Figure:
    """Compare what a brick has resident with pyposix and with C posix, after the same work."""
    more = []
    for number in range(count):
        with ExitStack() as undo:
            resident = []
            for leaf in "posix", "pyposix":
                name = f"{leaf}-{number}"
                brick, file = _brick(undo, store, folder, name, leaf=leaf)
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(lambda n, f=file: f.pwrite(b"x" * 4096, n * 4096), range(2000)))
                    list(pool.map(lambda n, f=file: f.pread(4096, n * 4096), range(2000)))
                resident.append(brick.rss())
            more.append((resident[1] - resident[0]) / MIB)
    return _figure("brick with pyposix, more than with C posix", "MiB resident", median(more))


_ports: Iterator[int] = iter(free_port, 0)


def _brick(
    undo: ExitStack,
    store: stores.Store,
    folder: Path,
    name: str,
    *,
    leaf: str,
    inserts: Sequence[volfiles.Insert] = (),
) -> tuple[Brick, "File"]:
    from glupy.testing.gfapi import Client  # noqa: PLC0415

    directory = store.folder / name
    directory.mkdir()
    graph = volfiles.brick(directory, leaf=leaf, port=next(_ports), inserts=inserts)
    brick = undo.enter_context(Brick(graph, folder / name))
    client = undo.enter_context(Client(brick.client_graph(), background_fini=True))
    return brick, undo.enter_context(client.creat("/file"))


@click.command()
@click.option(
    "--pairs",
    "count",
    default=LEAST_PAIRS,
    show_default=True,
    metavar="N",
    type=click.IntRange(LEAST_PAIRS),
    help="Pairs of each, 20 or more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def bridge(*, count: int, as_json: bool) -> None:
    """Measure the bridge itself: a discard in one process, the least handlers, memory.

    All in pairs in one run; each figure is the median of the pairs with its 95 % interval.

    \b
    Example, as root:
      glupy bench bridge
    """
    with bench_store(Path("/var/tmp")) as (folder, store):
        figures = [
            discard_in_process(store, count),
            *handlers(store, folder, count),
            *handlers_in_process(store, count),
            memory(store, folder, count),
        ]
    if as_json:
        click.echo(json.dumps({"pairs": count, "figures": [asdict(each) for each in figures]}))
        return
    table = Table("", "median", "95 % interval", "unit", box=None)
    for each in figures:
        table.add_row(
            each.name, f"{each.median:.3f}", f"{each.low:.3f} to {each.high:.3f}", each.unit
        )
    Console().print(table)
