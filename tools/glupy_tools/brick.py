"""`glupy brick`: what an operator does with a brick's directory."""

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from pyposix.check import Finding, Outcome, Scan

CLEAN, FOUND = 0, 1


class CannotRun(click.ClickException):
    """The check could not be made; its text is one line for the operator."""

    exit_code = 2


@click.group()
def brick() -> None:
    """Look after the directory of a brick.

    \b
    Example:
      glupy brick check /srv/brick
    """


@brick.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--volume-id", type=click.UUID, metavar="UUID", help="The volume that the brick must be of."
)
@click.option(
    "--gfid2path/--no-gfid2path",
    "recorded",
    default=None,
    help="Whether gfid2path xattrs must agree with names; unless told, they must if three files "
    "of four have some.",
)
def check(
    *,
    directory: Path,
    repair: bool,
    as_json: bool,
    volume_id: uuid.UUID | None,
    recorded: bool | None,
) -> int:
    """Verify that the brick in DIR is as GlusterFS must find it.

    Every file has its handle in .glusterfs and every handle its file; directories' handles lead
    to them; gfids are unique; what xattrs say of names and times is so. Nothing is changed
    without --repair, and of a brick that is being served nothing ever is.

    \b
    Each finding has a line "KIND PATH", and below it what it means. In paths, what is not
    printable is written \\xNN: printf %b PATH turns it back. Exit status: 0 clean, 1 findings
    (mended or not), 2 the check could not be made.

    \b
    Examples:
      glupy brick check /srv/brick
      glupy brick check /srv/brick --repair
      glupy brick check /srv/brick --json | jq -r '.findings[].kind' | sort | uniq -c
    """
    from pyposix.check import Ground, Repair, Scan, Watch, servers  # noqa: PLC0415

    if os.geteuid() != 0:
        raise CannotRun("a brick is checked by root: only root reads trusted xattrs")
    if not directory.is_dir():
        raise CannotRun(f"{directory}: no such directory")
    wanted = volume_id.bytes if volume_id else None
    try:
        ground = Ground(os.fsencode(directory))
    except (FileNotFoundError, NotADirectoryError):
        raise CannotRun(f"{directory} is no brick: it has no .glusterfs") from None
    try:
        if not ground.is_brick():
            raise CannotRun(f"{directory} is no brick: its .glusterfs has no root, nor has it")
        pids, watch = servers(ground), Watch(ground)
        if repair and pids:
            raise CannotRun(f"{directory} is being served (pid {pids[0]}): stop it for --repair")
        scan = Scan(ground, live=bool(pids), recorded=recorded, volume_id=wanted)
        mender = Repair(ground, volume_id=wanted) if repair else None
        printer = (_Json if as_json else _Lines)(directory, live=bool(pids))
        with _progress(scan) as live:
            for finding in scan.findings():
                if not pids and watch.served():
                    raise CannotRun(f"{directory} began to be served meanwhile: check it again")
                outcome = mender.mend(finding) if mender else None
                with _paused(live):
                    printer.print(finding, outcome)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotRun(f"{directory}: {error.strerror or error}") from None
    finally:
        ground.close()
    printer.end(scan)
    return FOUND if printer.found else CLEAN


class _Lines:
    """Prints findings for people."""

    def __init__(self, directory: Path, *, live: bool) -> None:
        self.found = self.mended = 0
        self._repair = False
        if live:
            click.echo(f"{directory} is being served: leftovers are no findings", err=True)

    def print(self, finding: "Finding", outcome: "Outcome | None") -> None:
        from pyposix.check import shown  # noqa: PLC0415

        self.found += 1
        click.echo(f"{finding.kind.slug} {shown(finding.path)}\n    {finding}")
        if outcome:
            self._repair = True
            self.mended += outcome.mended
            click.echo(f"    {'mended' if outcome.mended else 'left'}: {outcome.what}")

    def end(self, scan: "Scan") -> None:
        counts = scan.counts
        figures = f"{counts.files:,} files, {counts.directories:,} directories, "
        figures += f"{counts.handles:,} handles"
        what = "clean" if not self.found else f"{self.found:,} findings"
        if self._repair:
            what += f", {self.mended:,} mended, {self.found - self.mended:,} left"
        click.echo(f"{what}: {figures}")


class _Json:
    """Prints one JSON object, a finding a line as it is found."""

    def __init__(self, directory: Path, *, live: bool) -> None:
        from pyposix.check import shown  # noqa: PLC0415

        self.found = 0
        head = json.dumps({"brick": shown(os.fsencode(directory)), "live": live})
        click.echo(f'{head[:-1]}, "findings": [', nl=False)

    def print(self, finding: "Finding", outcome: "Outcome | None") -> None:
        from pyposix.check import shown  # noqa: PLC0415

        values: dict[str, str | bool] = {
            "kind": finding.kind.slug,
            "path": shown(finding.path),
            "meaning": finding.kind.meaning,
            "detail": finding.detail,
        }
        if outcome:
            values |= {"mended": outcome.mended, "repair": outcome.what}
        click.echo(f"{',' if self.found else ''}\n{json.dumps(values)}", nl=False)
        self.found += 1

    def end(self, scan: "Scan") -> None:
        click.echo(f'\n], "checked": {json.dumps(asdict(scan.counts))}}}')


@contextmanager
def _progress(scan: "Scan") -> Iterator[Live | None]:
    """Show on a terminal how far the check is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return

    def figures() -> Text:
        counts = scan.counts
        names = f"{counts.files:,} files, {counts.directories:,} directories"
        return Text(f"{names}, {counts.handles:,} handles")

    with Live(
        get_renderable=figures,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield live


@contextmanager
def _paused(live: Live | None) -> Iterator[None]:
    """Take the figures off the terminal while a finding is printed on it."""
    if live is None or not sys.stdout.isatty():
        yield
        return
    live.stop()
    try:
        yield
    finally:
        live.start()
