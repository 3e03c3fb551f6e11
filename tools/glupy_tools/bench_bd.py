"""`glupy bench bd`: what a file on a block device costs, and what one beside it does."""

import fcntl
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from glupy import keys, stores
from glupy_tools.bench import (
    MIB,
    OPS,
    Caller,
    Op,
    bench_progress,
    bench_store,
    brick_client,
    compare,
    folder_option,
    json_option,
    leaf_option,
    one_side,
    pairs_option,
    parallel_option,
    seconds_option,
)
from glupy_tools.failures import CommandError
from glupy_tools.measure import pairs, ratio

if TYPE_CHECKING:
    from glupy.testing.gfapi import Client, File

WHOLE = 1024 * MIB
"""What all callers together discard at once of `WHOLE_OP`."""
WHOLE_OP = "discard-1g"
BLKDISCARD = 0x1277  # linux/fs.h

DATA_OPS = {
    "read-4k": OPS["read-4k"],
    "write-4k": OPS["write-4k"],
    "discard-4k": OPS["discard-4k"],
    "read-1m": OPS["read-1m"],
    "write-1m": OPS["write-1m"],
    # There must be something to discard each time.
    "discard-1m": Op(Caller.discard_1m, before=Caller.fill),
}


@dataclass(frozen=True)
class Row:
    """One operation of one kind, with so many calls at once."""

    op: str
    kind: str
    """What is compared: `mapped`, `plain` or `device`, as the command's help says."""
    parallel: int
    ratio: float
    """The median of the pairs' ratios, ours to theirs."""
    low: float
    high: float
    ours: float
    """The median rate, in operations per second."""
    theirs: float


class MappedCaller(Caller):
    """A caller whose file is mapped."""

    def __init__(
        self, client: "Client", number: int, share: int, seconds: float, folder: str = ""
    ) -> None:
        super().__init__(client, number, share, seconds, folder)
        client.setxattr(self._path, keys.BD, b"thin")


class Whole:
    """A mapped file that is discarded whole: by its brick, and by the kernel on its very device.

    Either way there is data to discard, written to the device and from there to the disk. So the
    one difference is the way: a client, its brick and pybd, or nothing.
    """

    def __init__(self, file: "File", device: Path, size: int) -> None:
        self._file, self._size = file, size
        self._number = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        self._data = os.urandom(MIB)

    def fill(self) -> None:
        """Write it whole, and have that on the disk."""
        for offset in range(0, self._size, MIB):
            os.pwrite(self._number, self._data, offset)
        os.fsync(self._number)

    def through_brick(self) -> None:
        self._file.discard(0, self._size)

    def by_kernel(self) -> None:
        fcntl.ioctl(self._number, BLKDISCARD, struct.pack("QQ", 0, self._size))

    def close(self) -> None:
        os.close(self._number)


@contextmanager
def wholes(client: "Client", directory: Path, pool: Path, parallel: int) -> Iterator[list[Whole]]:
    """Have so many mapped files, with data, for as long as the block runs."""
    # Only here: the other commands must run where the bridge is not built.
    from pybd.identity import Identity  # noqa: PLC0415

    size = WHOLE // parallel // MIB * MIB
    identity, made = Identity("", str(directory)), []
    with ExitStack() as undo:
        for number in range(parallel):
            name = f"whole-{number}"
            file = undo.enter_context(client.creat(f"/{name}"))
            undo.callback(client.unlink, f"/{name}")
            client.setxattr(f"/{name}", keys.BD, b"thin:%d" % size)
            gfid = os.getxattr(directory / name, "trusted.gfid")
            devices = stores.devices_of(pool / identity.name(gfid))
            if not devices:
                raise CommandError(f"the brick has no device for its file {name}")
            made.append(Whole(file, devices[0], size))
            undo.callback(made[-1].close)
        yield made


def compare_whole(files: Sequence[Whole], count: int) -> Iterator[tuple[float, float]]:
    """Yield `count` pairs of rates: discarded through the brick, and by the kernel alone."""
    with ThreadPoolExecutor(len(files)) as pool:
        yield from pairs(
            partial(_discarded, pool, files, Whole.through_brick),
            partial(_discarded, pool, files, Whole.by_kernel),
            count,
        )


def _discarded(pool: Executor, files: Sequence[Whole], discard: Callable[[Whole], None]) -> float:
    for file in files:
        file.fill()
    started = time.perf_counter()
    list(pool.map(discard, files))
    return len(files) / (time.perf_counter() - started)


def _row(op: str, kind: str, parallel: int, found: Sequence[tuple[float, float]]) -> Row:
    ours, theirs = zip(*found, strict=True)
    figures = [round(value, 4) for value in ratio(ours, theirs)]
    return Row(op, kind, parallel, *figures, *(round(median(side), 1) for side in (ours, theirs)))


def _table(rows: Sequence[Row]) -> Table:
    columns = "parallel", "ratio", "95 % interval", "ours", "theirs"
    table = Table("op", "kind", *columns, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}"
        rates = (f"{rate:,.{0 if rate >= 100 else 1}f}/s" for rate in (row.ours, row.theirs))
        figures = f"{row.ratio:.3f}", interval, *rates
        table.add_row(row.op, row.kind, str(row.parallel), *figures)
    return table


@click.command()
@leaf_option
@click.option(
    "--op",
    "ops",
    multiple=True,
    type=click.Choice([*DATA_OPS, WHOLE_OP]),
    help="Only this operation; may be given again.  [default: all]",
)
@parallel_option
@pairs_option
@seconds_option
@folder_option("2 GiB")
@json_option
def bd(
    *,
    leaf: str,
    ops: Sequence[str],
    parallels: Sequence[int],
    count: int,
    seconds: float,
    parent: Path,
    as_json: bool,
) -> None:
    """Compare files on block devices (user/pybd) with plain ones, through RPC on the loopback.

    Two bricks over the same storage translator serve two directories of one store (ext4 -o discard
    on a loop file): one with user/pybd and a pool of loop files on that store, one without. Pairs,
    ratios and intervals are those of `glupy bench fops`; above 1, ours is faster.

    \b
    Three kinds of rows:
      mapped   a mapped file against a plain one of the same brick
      plain    a plain file of the brick with pybd against one of the brick without
      device   discard-1g alone: 1 GiB of data on mapped files, discarded by a client through the
               brick, against ioctl(BLKDISCARD) on the very same loop devices

    Every call has a file of its own, and what is discarded has data on the disk each time: all of
    it is written anew before each measurement. 1 GiB, and the 64 MiB of the other operations, are
    of all calls together.

    \b
    Examples, as root:
      glupy bench bd                            all, about 10 minutes
      glupy bench bd --op discard-4k --parallel 1
      glupy bench bd --json | jq '.rows[] | select(.high < 0.95)'
    """
    rows: list[Row] = []
    with ExitStack() as undo:
        folder, store = undo.enter_context(bench_store(parent))
        pool = store.folder / "pool"
        pool.mkdir(0o700)
        inserts = [("user/pybd", {"pool": f"loop:{pool}"})]
        with_bd = undo.enter_context(brick_client(leaf, store, folder, "with", inserts))
        without = undo.enter_context(brick_client(leaf, store, folder, "without"))
        client = with_bd[1]
        client.mkdir("/mapped")
        progress = undo.enter_context(bench_progress())
        chosen = [name for name in DATA_OPS if name in (ops or DATA_OPS)]
        for parallel in parallels:
            with ExitStack() as sides:
                mapped, plain, bare = (
                    sides.enter_context(side)
                    for side in (
                        one_side(with_bd, parallel, seconds, "/mapped", MappedCaller),
                        one_side(with_bd, parallel, seconds),
                        one_side(without, parallel, seconds),
                    )
                )
                for op in chosen:
                    for kind, ours, theirs in ("mapped", mapped, plain), ("plain", plain, bare):
                        measuring = compare(DATA_OPS[op], ours, theirs, count, seconds)
                        what = f"{op} x {parallel}, {kind}"
                        found = [
                            (our.rate, their.rate)
                            for our, their in progress.track(measuring, count, description=what)
                        ]
                        rows.append(_row(op, kind, parallel, found))
            if WHOLE_OP in (ops or [WHOLE_OP]):
                with wholes(client, store.folder / "with", pool, parallel) as files:
                    rates = compare_whole(files, count)
                    what = f"{WHOLE_OP} x {parallel}"
                    pairs_of = list(progress.track(rates, count, description=what))
                    rows.append(_row(WHOLE_OP, "device", parallel, pairs_of))
    if as_json:
        figures = [asdict(row) for row in rows]
        click.echo(json.dumps({"leaf": leaf, "pairs": count, "seconds": seconds, "rows": figures}))
    else:
        Console().print(_table(rows))
