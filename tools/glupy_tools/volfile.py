"""`glupy volfile`: print what `glusterfsd -N -f` and `glusterfs -f` take as it is."""

from pathlib import Path

import click

import volfiles


@click.group()
def volfile() -> None:
    """Print a volfile: the graph of translators that GlusterFS runs.

    \b
    A brick and its mount by hand, as root:
      glupy volfile brick /srv/brick --leaf posix >brick.vol
      glupy volfile client 127.0.0.1:49152 >client.vol
      glusterfsd -N -f "$PWD/brick.vol" &
      glusterfs -f "$PWD/client.vol" /mnt
    """


def _inserts(
    _ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]
) -> list[volfiles.Insert]:
    return [volfiles.parse_insert(text) for text in texts]


@volfile.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--leaf",
    default="pyposix",
    metavar="TYPE",
    show_default=True,
    help="The storage translator; `storage/` may be omitted.",
)
@click.option(
    "--port",
    default=volfiles.PORT,
    type=click.IntRange(1, 65535),
    metavar="N",
    show_default=True,
    help="The port on 127.0.0.1 that the brick listens on.",
)
@click.option(
    "--insert",
    "inserts",
    multiple=True,
    callback=_inserts,
    metavar="TYPE[,option=value…]",
    help="One more translator above the leaf; may be given again for the next one above it.",
)
def brick(directory: Path, leaf: str, port: int, inserts: list[volfiles.Insert]) -> None:
    """Print the volfile of a brick that serves DIR on the loopback.

    \b
    Examples:
      glupy volfile brick /srv/brick
      glupy volfile brick /srv/brick --leaf posix --port 49200
      glupy volfile brick /srv/brick --insert features/glupy,module=/root/slow.py:Slow
    """
    click.echo(volfiles.brick(directory, leaf=leaf, port=port, inserts=inserts), nl=False)


def _address(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r}, such as 127.0.0.1:{volfiles.PORT} is needed")
    return host.removeprefix("[").removesuffix("]"), int(port)


@volfile.command()
@click.argument("address", metavar="HOST:PORT", callback=_address)
def client(address: tuple[str, int]) -> None:
    """Print the volfile of a client of a brick: for `glusterfs -f`, gfapi and QEMU.

    \b
    Example:
      glupy volfile client 127.0.0.1:49152
    """
    click.echo(volfiles.client(*address), nl=False)
