"""The `glupy` command: its groups, how it ends, and how it reports a failure.

Exit status: 0 done, 1 failed, 2 bad usage, 128 + N ended by signal N. Every failure is one line on
standard error.
"""

import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from glupy.stores import ENDING, StoreError
from glupy.testing.processes import ProcessError
from glupy_tools.bench import bench
from glupy_tools.bench_bd import bd
from glupy_tools.bench_bridge import bridge
from glupy_tools.bench_fuzz import fuzz as bench_fuzz
from glupy_tools.bench_qemu import qemu
from glupy_tools.brick import brick
from glupy_tools.demo import demo
from glupy_tools.failures import CommandError
from glupy_tools.fuzz import fuzz
from glupy_tools.install import install, uninstall
from glupy_tools.pool import pool
from glupy_tools.run import run
from glupy_tools.volfile import volfile
from glupy_tools.volume import volume
from volfiles import VolfileError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="glupy")
def cli() -> None:
    """GlusterFS translators written in Python.

    \b
    A first look, as root:
      glupy install                             let GlusterFS find the translators
      glupy demo                                see a discard give blocks back to the store
      glupy run slow.py:Slow /srv/data /mnt     a translator's file, mounted
    """


bench.add_command(bd)
bench.add_command(bridge)
bench.add_command(bench_fuzz)
bench.add_command(qemu)
for command in (install, uninstall, volfile, volume, run, demo, brick, pool, bench, fuzz):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    for number in ENDING:
        signal.signal(number, _end)
    try:
        status = cli(prog_name="glupy", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "glupy"
        _fail(f"{path}: {error.format_message()} (see {path} --help)", 2)
    except click.ClickException as error:
        _fail(f"glupy: {error.format_message()}", error.exit_code)
    except VolfileError as error:
        _fail(f"glupy: {error}", 2)
    except CommandError as error:
        _fail(f"glupy: {error}", error.status)
    except ProcessError as error:
        first = str(error).splitlines()[0]
        _fail(f"glupy: {first}: {error.reason}" if error.reason else f"glupy: {first}")
    except StoreError as error:
        _fail(f"glupy: {error}")
    except BrokenPipeError:
        sys.stdout = None  # whoever read it has gone: nothing to flush
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"glupy: {where}{error.strerror or error}")
    if _ended:
        sys.exit(_ended[0])
    sys.exit(status if isinstance(status, int) else 0)


_ended: list[int] = []


def _end(number: int, _: FrameType | None) -> NoReturn:
    """Leave, undoing everything on the way; what comes after the first signal is ignored.

    Where Python drops exceptions (in a finalizer, say) the command goes on to its end; the exit
    status tells of the signal all the same.
    """
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    _ended.append(128 + number)
    raise SystemExit(128 + number)


def _fail(text: str, status: int = 1) -> NoReturn:
    click.echo(text.strip().splitlines()[0], err=True)
    sys.exit(status)
