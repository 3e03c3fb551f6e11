"""`glupy run`: from a translator's file to a mounted file system in one command."""

import os
import re
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from glupy import stores
from glupy_tools.failures import CommandError
from glupy_tools.served import served

_GRAPH = re.compile(rb"^Final graph:\n(\+-+\+\n).*?^\1", re.DOTALL | re.MULTILINE)
LEVELS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]


def _module(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    file, _, name = text.rpartition(":")
    if Path(file).suffix != ".py" or not name.isidentifier():
        raise click.BadParameter(f"{text!r}, such as slow.py:Slow is needed")
    if not Path(file).is_file():
        raise click.BadParameter(f"{file}: no such file")
    return f"{Path(file).resolve()}:{name}"


def parsed_options(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """Make a dictionary of the KEY=VALUE of an option that may be given again."""
    options = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key or not value:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        if key in options:
            raise click.BadParameter(f"{key} is given twice")
        options[key] = value
    return options


@click.command()
@click.argument("module", metavar="FILE.py:Class", callback=_module)
@click.argument(
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
)
@click.argument(
    "mountpoint",
    metavar="MOUNTPOINT",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
)
@click.option(
    "--leaf",
    default="posix",
    metavar="TYPE",
    show_default=True,
    help="The storage translator below yours; `storage/` may be omitted.",
)
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    callback=parsed_options,
    metavar="KEY=VALUE",
    help="An option of your translator; may be given again.",
)
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="The least important lines of the brick's and the client's log to print.",
)
def run(
    *,
    module: str,
    directory: Path,
    mountpoint: Path,
    leaf: str,
    options: dict[str, str],
    level: str,
) -> None:
    """Serve DIR through the translator in FILE.py, and mount it on MOUNTPOINT.

    Starts a brick process (your translator above the leaf) and a FUSE client of it, prints their
    log lines, and waits. Ctrl-C unmounts and ends both; what was written stays in DIR.

    \b
    Examples, as root:
      glupy run hello.py:Hello /srv/data /mnt --level INFO
      glupy run slow.py:Slow /srv/data /mnt -o milliseconds=2000 --leaf pyposix
    """
    if "module" in options:
        raise click.UsageError("module is FILE.py:Class, and no option here")
    if directory == mountpoint or mountpoint in directory.parents:
        raise click.UsageError(f"{directory} would be hidden by what is mounted on {mountpoint}")
    if os.geteuid() != 0:
        raise CommandError("run needs root: it mounts a file system")
    insert = ("features/glupy", {"module": module, **options})
    with ExitStack() as undo:
        with stores.held_back():
            folder = Path(undo.enter_context(TemporaryDirectory(prefix="glupy-run-")))
        follow = _Follow(folder / "brick/log", folder / "client/log")
        undo.callback(follow.print)
        serving = served(
            directory, mountpoint, folder, leaf=leaf, inserts=[insert], log_level=level.upper()
        )
        both = undo.enter_context(serving)
        click.echo(f"{mountpoint} is {directory} through {module}; Ctrl-C ends it", err=True)
        while True:
            follow.print()
            both.check(patience=0)
            time.sleep(0.2)


class _Follow:
    """Prints what is added to log files; they need not exist yet."""

    def __init__(self, *paths: Path) -> None:
        self._printed = dict.fromkeys(paths, 0)

    def print(self) -> None:
        for path, printed in self._printed.items():
            with suppress(FileNotFoundError), path.open("rb") as log:
                log.seek(printed)
                # GlusterFS logs its whole graph, whatever the level.
                click.echo(_GRAPH.sub(b"", log.read()), nl=False)
                self._printed[path] = log.tell()
