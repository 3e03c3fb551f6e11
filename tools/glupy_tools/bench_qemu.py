"""`glupy bench qemu`: what discarding an image from QEMU takes, with a brick in Python and in C."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from glupy import stores
from glupy.testing.qemu import Images
from glupy.testing.volfile_server import serving
from glupy_tools.bench import (
    MIB,
    bench_progress,
    bench_store,
    brick_client,
    folder_option,
    json_option,
    leaf_option,
    pairs_option,
)
from glupy_tools.failures import CommandError
from glupy_tools.measure import pairs, ratio

SIZE = 1024 * MIB
"""What is discarded at once: the whole image."""
PROGRAM = "qemu-io"
PROMPT = b"qemu-io> "
KEPT = 64
"""Blocks of 512 bytes that a discarded image may keep: extents and xattrs of its own."""


@dataclass(frozen=True)
class Row:
    """The one operation."""

    op: str
    ratio: float
    """The median of the pairs' ratios, ours to theirs."""
    low: float
    high: float
    ours: float
    """The median rate, in discards of the image per second."""
    theirs: float


class Image:
    """An image in a brick: QEMU has it open by its gluster driver, and we on the brick itself."""

    def __init__(self, qemu: "subprocess.Popen[bytes]", file: Path) -> None:
        self._qemu = qemu
        self._data = os.urandom(MIB)
        self._number = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        self._answer()

    def discarded(self) -> float:
        """Write all of it anew, on the disk, then have QEMU discard it: how often in a second."""
        os.fsync(self._number)  # what was discarded before may be used again
        for offset in range(0, SIZE, MIB):
            os.pwrite(self._number, self._data, offset)
        os.fsync(self._number)
        assert self._qemu.stdin is not None
        started = time.perf_counter()
        self._qemu.stdin.write(f"discard 0 {SIZE}\n".encode())
        self._qemu.stdin.flush()
        said = self._answer()
        seconds = time.perf_counter() - started
        if os.fstat(self._number).st_blocks > KEPT:
            raise CommandError(f"the image has kept its blocks, {PROGRAM} says: {said}")
        return 1 / seconds

    def _answer(self) -> str:
        """Wait until QEMU is ready for a command; return what it has said until then."""
        assert self._qemu.stdout is not None
        said = b""
        while not said.endswith(PROMPT):
            more = os.read(self._qemu.stdout.fileno(), 4096)
            said += more
            if not more:
                raise CommandError(f"{PROGRAM} has ended: {said.decode(errors='replace').strip()}")
        return said.removesuffix(PROMPT).decode(errors="replace").strip()

    def close(self) -> None:
        os.close(self._number)


@contextmanager
def image_on(leaf: str, store: stores.Store, folder: Path, name: str) -> Iterator[Image]:
    """Have a brick with an image, and QEMU with it open, for as long as the block runs."""
    with ExitStack() as undo:
        brick, client = undo.enter_context(brick_client(leaf, store, folder, name))
        with client.creat("/image") as file:
            file.ftruncate(SIZE)
        socket = folder / f"{name}.socket"
        undo.enter_context(serving({"volume": brick.client_graph()}, socket))
        words = "-d", "unmap", "-f", "raw", Images("volume", socket).url("image")
        with stores.held_back():
            qemu = undo.enter_context(
                subprocess.Popen(
                    [PROGRAM, *words],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            )
            # It would wait 10 s for a timer of libgfapi's before it ends by itself.
            undo.callback(qemu.kill)
        image = Image(qemu, store.folder / name / "image")
        undo.callback(image.close)
        yield image


@click.command()
@leaf_option
@click.option("--against", default="posix", show_default=True, metavar="TYPE", help="Theirs.")
@pairs_option
@folder_option("2 GiB")
@json_option
def qemu(*, leaf: str, against: str, count: int, parent: Path, as_json: bool) -> None:
    """Compare two storage translators by the discard of a 1 GiB image from QEMU.

    Two bricks serve two directories of one store (ext4 -o discard on a loop file), each with an
    image that a qemu-io process has open by QEMU's gluster driver. All of the image is written
    anew, to the disk, before QEMU is told to discard it; it must have no blocks afterwards.
    Pairs, ratio and interval are those of `glupy bench fops`; above 1, ours is faster.

    \b
    Examples, as root:
      glupy bench qemu                     about 2 minutes
      glupy bench qemu --leaf posix        how far the same differs from itself
      glupy bench qemu --json | jq .rows
    """
    if shutil.which(PROGRAM) is None:
        raise CommandError(f"{PROGRAM} is missing: install qemu-utils, qemu-block-extra")
    with ExitStack() as undo:
        folder, store = undo.enter_context(bench_store(parent))
        ours = undo.enter_context(image_on(leaf, store, folder, "ours"))
        theirs = undo.enter_context(image_on(against, store, folder, "theirs"))
        progress = undo.enter_context(bench_progress())
        measuring = pairs(ours.discarded, theirs.discarded, count)
        found = list(progress.track(measuring, count, description="discard-1g"))
    sides = list(zip(*found, strict=True))
    figures = [round(value, 4) for value in ratio(*sides)]
    row = Row("discard-1g", *figures, *(round(median(side), 2) for side in sides))
    if as_json:
        head = {"leaf": leaf, "against": against, "pairs": count}
        click.echo(json.dumps({**head, "rows": [asdict(row)]}))
    else:
        Console().print(_table(row, leaf, against))


def _table(row: Row, ours: str, theirs: str) -> Table:
    table = Table("op", "ratio", "95 % interval", ours, theirs, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    interval = f"{row.low:.3f} to {row.high:.3f}"
    table.add_row(row.op, f"{row.ratio:.3f}", interval, f"{row.ours:.2f}/s", f"{row.theirs:.2f}/s")
    return table
