"""`glupy fuzz`: search a graph for a sequence of fops after which something is wrong."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import volfiles
from glupy.stores import ENDING
from glupy.testing.logs import logs_below
from glupy_tools.crashes import ABANDONED, ClientCrashError, Crash, clear, in_a_child
from glupy_tools.failures import CommandError
from glupy_tools.volfile import insert_option

if TYPE_CHECKING:
    from glupy.testing.fuzz import Search
    from glupy.testing.fuzz.runner import Runner

CACHE = Path("~/.cache/glupy/fuzz")
JOURNAL = "journal"
"""In the folder of stores: the calls of the sequence that is tried now."""
AT_ONCE = 500
"""Examples between two looks at the clock, at most."""
BETWEEN_LINES = 60.0
"""Seconds between two lines of how far it is, where there is no terminal to show that."""


def _words(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    return [word for word in value.split(",") if word]


@click.command()
@click.argument("target", metavar="TARGET")
@click.option(
    "--against",
    metavar="TARGET",
    help="Do the same there, and compare; without it a model says what is right.",
)
@insert_option("One more translator above each leaf of the recipe: yours; may be given again.")
@click.option(
    "--faults",
    default="",
    callback=_words,
    metavar="FAULT[,FAULT…]",
    help="What happens to a recipe: kill, full, readonly, io.",
)
@click.option("--over-rpc", is_flag=True, help="Each brick of a recipe is a process of its own.")
@click.option("--time", "seconds", type=click.FloatRange(min=0), metavar="SECONDS")
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many sequences.  [default: 1000, unless --time is given]",
)
@click.option("--steps", default=50, type=click.IntRange(min=1), metavar="N", show_default=True)
@click.option(
    "--seed", type=int, metavar="N", help="Of the sequences.  [default: another each time]"
)
@click.option(
    "--patience",
    default=90.0,  # more than those calls take that wait for bricks
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    show_default=True,
    help="How long a call may take.",
)
@click.option(
    "--dir",
    "place",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where stores are put.  [default: memory, or /var/tmp if there is little]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where repro.py and repro.sh go, which do what was found again; and the logs.",
)
def fuzz(
    *,
    target: str,
    against: str | None,
    inserts: Sequence[volfiles.Insert],
    faults: list[str],
    over_rpc: bool,
    seconds: float | None,
    examples: int | None,
    steps: int,
    seed: int | None,
    patience: float,
    place: Path | None,
    out: Path | None,
) -> None:
    """Search TARGET for calls after which data, attributes, names or allocation are wrong.

    Sequences of fops on a few files (of two clients of a recipe over RPC, unless it is sharded) are
    made up, at offsets around the boundaries of blocks, pages and shards; a model says what each
    has to return, and what the files are then. The shortest sequence that is found is shown, and
    the last traceback in a log.

    \b
    TARGET is
      pyposix, posix         a brick on a store of its own
      ctime:LEAF             a brick with features/utime
      pybd:loop[:LEAF]       a brick whose files are on loop devices
      replicate:3:RECIPE     replicas; 2+1 has an arbiter
      disperse:4+2:RECIPE    distribute:2:RECIPE    shard:RECIPE
      FILE.vol               a client's volfile, of an empty volume
      volume:NAME            an empty volume of the glusterd on this machine
      dir:PATH               an empty folder, such as a FUSE mount; on ext4 it finds nothing

    \b
    FAULTS
      kill       bricks die by SIGKILL and are started again; of replicas and fragments one does
      full       the store's reserve is used up, and only 1 MiB is left beyond it
      readonly   the store is read-only, with some files in it
      io         fops fail with EIO above the leaf; of replicas and fragments on one brick

    Exits 0 if nothing was found, 1 if something was, 2 if it could not run. What failed before is
    tried first. Ctrl-C ends it with what was found. A brick that ends by itself is something, too;
    where bricks run in this process, and it crashes, they are searched again over RPC; of a client
    that crashes the calls are shown as they were.

    \b
    Examples, as root:
      glupy fuzz pyposix --time 60
      glupy fuzz pyposix --insert features/glupy,module=/root/mine.py:Mine
      glupy fuzz posix --against pyposix --examples 500
      glupy fuzz posix --faults full              a known defect: discard is refused
      glupy fuzz ctime:posix --out /tmp/found     a known defect: discard sets no times
    """
    if os.geteuid() != 0:
        raise CommandError("fuzz needs root: it makes stores and bricks", status=2)
    try:
        from hypothesis.database import DirectoryBasedExampleDatabase  # noqa: PLC0415
    except ImportError:
        raise CommandError(
            "fuzz needs Hypothesis: pip install 'glupy[testing]'", status=2
        ) from None

    from glupy.testing.fuzz import (  # noqa: PLC0415
        Search,
        TargetError,
        journal,
        targets,
    )
    from glupy_tools import findings  # noqa: PLC0415

    console = Console()
    seed = random.randrange(1 << 32) if seed is None else seed
    console.print(f"seed {seed}")
    words = [target, against or "", *faults, *(f"{type_}{options}" for type_, options in inserts)]
    name = "".join(c if c.isalnum() else "-" for c in "-".join(words))[:200]
    database = DirectoryBasedExampleDatabase(CACHE.expanduser() / name)
    tell = partial(findings.Found, console, target, against, inserts, faults, out=out)
    in_process = any(targets.runs_in_process(each, faults) for each in (target, against) if each)
    search: Search | None = None
    logged: dict[Path, str] = {}
    try:
        with ExitStack() as stack:
            parent, crash = stack.enter_context(
                _sheltered(place or targets.roomy(), in_process and not over_rpc)
            )
            over_rpc |= crash is not None
            found = tell(over_rpc=over_rpc)
            opened = targets.open_targets(
                *(target, against),
                inserts=inserts,
                faults=faults,
                parent=parent,
                over_rpc=over_rpc,
            )
            ground, other = stack.enter_context(opened)
            ground.journal = journal.Journal(parent / JOURNAL)
            both = [ground] if other is None else [ground, other]
            for what, why in sorted({each for one in both for each in one.promises.why.items()}):
                console.print(f"not asserted: {what}: {why}", style="dim")
            progress = stack.enter_context(_progress(console))
            task = progress.add_task("")
            began = last = time.monotonic()

            def show(search: Search) -> None:
                nonlocal last
                text = f"{search.examples:,} sequences, {search.calls:,} calls"
                if search.finding:
                    text += f"; found one of {len(search.finding.done)}"
                progress.update(task, description=text)
                now = time.monotonic()
                if progress.disable and now - last >= BETWEEN_LINES:
                    last = now
                    click.echo(f"{text} {timedelta(seconds=int(now - began))}", err=True)

            search = Search(ground, other, progress=show, database=database)

            def give_up(runner: Runner) -> None:
                progress.stop()
                found.unanswered(runner, patience, logs_below(parent))
                os._exit(ABANDONED)  # the call that does not come back is the main thread's

            try:
                with _stopping(search), findings.watched(search, patience, give_up):
                    _run(search, seconds, examples, steps, seed)
            except KeyboardInterrupt:  # `main` knows
                console.print("interrupted")
            logged = logs_below(parent)
    except TargetError as error:
        if search is None or search.finding is None:
            raise CommandError(str(error), status=2) from error
        console.print(f"and in the end: {str(error).splitlines()[0]}", highlight=False)
    except ClientCrashError as error:
        tell(over_rpc=over_rpc or in_process).crashed(error.crash, f"the client crashed: {error}")
        raise SystemExit(1) from None
    console.print(f"{search.examples:,} sequences, {search.calls:,} calls")
    if search.finding is not None:
        found.tell(search, search.finding, logged)
    elif crash is not None:
        why = f"{crash.signal.name} in one process, and over RPC nothing is found"
        tell(over_rpc=False).crashed(crash, why)
    elif found.complain(logged):
        console.print("wrong: there is a traceback, though no call shows it", style="bold")
    else:
        console.print("nothing found")
        return
    raise SystemExit(1)


@contextmanager
def _sheltered(place: Path, in_process: bool) -> Iterator[tuple[Path, Crash | None]]:
    """A folder for stores, and how a search with its bricks in its own process has crashed."""
    from glupy.testing.fuzz import journal  # noqa: PLC0415

    made = TemporaryDirectory(prefix="glupy-fuzz-", dir=place, ignore_cleanup_errors=True)
    with made as folder:
        parent = Path(folder).resolve()

        def ended() -> Crash | None:
            number = in_a_child(lambda: clear(parent))
            return Crash(number, journal.read(parent / JOURNAL)) if number else None

        crash = ended()
        if crash and in_process:
            name = crash.signal.name
            click.echo(f"{name} in the process of the search; once more, over RPC")
            if again := ended():
                raise ClientCrashError(again)
        elif crash:
            raise ClientCrashError(crash)
        yield parent, crash


@contextmanager
def _stopping(search: Search) -> Iterator[None]:
    """Let signals that end us stop the search: Hypothesis would take SystemExit for a finding."""
    handlers: dict[Signals, Any] = {number: signal.getsignal(number) for number in ENDING}

    def end(number: int, frame: FrameType | None) -> None:
        search.stopped = True
        with suppress(SystemExit):
            handlers[Signals(number)](number, frame)

    for number in ENDING:
        signal.signal(number, end)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _run(
    search: Search, seconds: float | None, examples: int | None, steps: int, seed: int
) -> None:
    """Search until something is found, or the time or the examples are over."""
    if examples is None and seconds is None:
        examples = 1000
    began, chance = time.monotonic(), random.Random(seed)
    further = (chance.randrange(1 << 32) for _ in itertools.count())
    for each in itertools.chain([seed], further):
        if search.finding is not None:
            return
        left = AT_ONCE if examples is None else examples - search.examples
        if seconds is not None and time.monotonic() - began >= seconds:
            return
        if left <= 0:
            return
        if seconds is not None:  # so that it does not take much longer
            left = min(left, 20)
        search.run(examples=min(left, AT_ONCE), seed=each, steps=steps)


def _progress(console: Console) -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
