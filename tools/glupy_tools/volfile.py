"""`glupy volfile`: print, check, look at, change and compare what GlusterFS runs."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text
from rich.tree import Tree

import volfiles
from glupy_tools.failures import CommandError
from glupy_tools.install import xlator_folder

STDIN = Path("-")


@click.group()
def volfile() -> None:
    """Print and check volfiles: the graphs of translators that GlusterFS runs.

    \b
    A brick and its mount by hand, as root:
      glupy volfile brick /srv/brick --leaf posix >brick.vol
      glupy volfile client 127.0.0.1:49152 >client.vol
      glusterfsd -N -f "$PWD/brick.vol" &
      glusterfs -f "$PWD/client.vol" /mnt
    """


def insert_option(text: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """`--insert`, which may be given again: `inserts` is a list of volfiles.Insert."""

    def parsed(
        _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
    ) -> list[volfiles.Insert]:
        return [volfiles.parse_insert(each) for each in texts]

    metavar = "TYPE[,option=value…]"
    text += " A comma in a value is written \\,."
    return click.option(
        "--insert", "inserts", multiple=True, callback=parsed, metavar=metavar, help=text
    )


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
@insert_option("One more translator above the leaf; may be given again for the next one above it.")
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


# ---- files ----

_file = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


def _text(path: Path) -> str:
    data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    return data.decode("utf-8", "surrogateescape")


def _parsed(path: Path, text: str) -> volfiles.Graph:
    """The graph; CommandError names the file and the line."""
    try:
        return volfiles.parse(text)
    except volfiles.VolfileError as error:
        raise CommandError(_line(path, error)) from None


def _line(path: Path, error: volfiles.VolfileError) -> str:
    where = "" if error.line is None else f"{error.line}:"
    volume = "" if error.volume is None else f" volume {error.volume!r}:"
    return _shown(f"{path}:{where}{volume} {error.reason}")


def _shown(text: str) -> str:
    """What is not printable, or not UTF-8, as Python would write it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@volfile.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=_file)
@click.option(
    "--any-type", is_flag=True, help="Do not ask whether the installed GlusterFS has each type."
)
def check(*, files: tuple[Path, ...], any_type: bool) -> int:
    """Find what GlusterFS would refuse in volfiles, or accept and then do wrongly.

    A line "FILE:LINE: volume 'NAME': …" for each finding; - is standard input. Exit status: 0 no
    findings, 1 findings. Nothing is started, and what options mean to a type is not looked at.

    \b
    Examples:
      glupy volfile check brick.vol client.vol
      glupy volfile check /var/lib/glusterd/vols/*/*.vol
      glupy volfile brick /srv/brick | glupy volfile check -
    """
    types = None if any_type else volfiles.installed_types(xlator_folder())
    found = False
    for path in files:
        for error in volfiles.check(_text(path), types):
            found = True
            click.echo(_line(path, error))
    return 1 if found else 0


# ---- show ----


@volfile.command()
@click.argument("path", metavar="FILE", type=_file)
@click.option("--options", is_flag=True, help="Also what is set for each translator.")
@click.option("--svg", is_flag=True, help="Print an SVG, a picture for a browser or a page.")
def show(*, path: Path, options: bool, svg: bool) -> None:
    """Draw the graph of a volfile as a tree, the top first.

    What has several parents is drawn under the first of them, and named under the others. - is
    standard input.

    \b
    Examples:
      glupy volfile show brick.vol --options
      glupy volfile show brick.vol --svg >brick.svg
    """
    trees = _trees(_parsed(path, _text(path)), options=options)
    if svg:
        click.echo(_svg(trees, _shown(str(path))), nl=False)
        return
    for tree in trees:
        Console().print(tree, soft_wrap=True)


def _trees(graph: volfiles.Graph, *, options: bool) -> list[Tree]:
    """The tree of each xlator that has no parent: the top, and what the top does not lead to."""
    below = {subvolume for xlator in graph for subvolume in xlator.subvolumes}
    roots = [xlator.name for xlator in reversed(graph.xlators) if xlator.name not in below]
    drawn: set[str] = set()
    trees = []
    for root in roots:
        tree = Tree("", hide_root=True)
        todo = [(tree, root)]
        while todo:
            parent, name = todo.pop()
            xlator = graph[name]
            label = Text.assemble((_shown(name), "bold"), "  ", (_shown(xlator.type), "cyan"))
            if name in drawn:
                parent.add(label.append("  (see above)", "dim"))
                continue
            drawn.add(name)
            if options:
                for key, value in xlator.options.items():
                    label.append(f"\n{_shown(key)} = {_shown(value)}", "dim")
            node = parent.add(label)
            todo += [(node, subvolume) for subvolume in reversed(xlator.subvolumes)]
        trees.append(tree)
    return trees


def _svg(trees: list[Tree], title: str) -> str:
    console = Console(record=True, file=io.StringIO(), width=1 << 16)
    width = max(Measurement.get(console, console.options, tree).maximum for tree in trees)
    console.width = max(width, len(title) + 10)  # the title is centred, with buttons on its left
    for tree in trees:
        console.print(tree)
    text = console.export_svg(title=title, unique_id="volfile")
    # It would be drawn with fonts from the Internet.
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)


# ---- insert ----


def _insert(_ctx: click.Context, _param: click.Parameter, text: str) -> volfiles.Insert:
    return volfiles.parse_insert(text)


@volfile.command()
@click.argument("path", metavar="FILE", type=_file)
@click.argument("new", metavar="TYPE[,option=value…]", callback=_insert)
@click.option("--above", metavar="NAME", help="The volume that it has below it.")
@click.option("--below", metavar="NAME", help="The volume that has it in place of its subvolume.")
@click.option("--name", metavar="NAME", help="What it is called, else as the other and its type.")
@click.option("--in-place", is_flag=True, help="Change the file, in one step, and print nothing.")
def insert(
    *,
    path: Path,
    new: volfiles.Insert,
    above: str | None,
    below: str | None,
    name: str | None,
    in_place: bool,
) -> None:
    """Print a volfile with one more translator; comments, layout and all else stay.

    Options as for `glupy volfile brick --insert`. Refused if `glupy volfile check` would find
    something in the result that it does not find now. - is standard input.

    \b
    Examples:
      glupy volfile insert brick.vol features/read-only,read-only=on --above brick-locks
      glupy volfile insert client.vol debug/trace --above brick-client --name spy --in-place
    """
    if (above is None) == (below is None):
        raise click.UsageError("one of --above and --below is needed")
    if in_place and path == STDIN:
        raise click.UsageError("standard input cannot be changed in place")
    text = _text(path)
    graph = _parsed(path, text)
    try:
        changed = graph.insert(new, above=above, below=below, name=name)
    except volfiles.VolfileError as error:
        raise CommandError(_line(path, error)) from None
    known = {(finding.volume, finding.reason) for finding in graph.check()}
    for finding in changed.check():
        if (finding.volume, finding.reason) not in known:
            reason = f"{path}: with it, volume {finding.volume!r}: {finding.reason}"
            raise CommandError(_shown(reason))
    revised = volfiles.revise(text, changed)
    if in_place:
        volfiles.replace_file(path, revised)
    else:
        click.echo(revised.encode("utf-8", "surrogateescape"), nl=False)


# ---- diff ----


@volfile.command()
@click.argument("old", metavar="OLD", type=_file)
@click.argument("new", metavar="NEW", type=_file)
def diff(*, old: Path, new: Path) -> int:
    """Compare two volfiles by what they say, not by how it is written.

    A line for each volume and option that is otherwise: "+" only in NEW, "-" only in OLD, "->"
    changed. Exit status: 0 the same, 1 different, or a file is no volfile.

    \b
    Examples:
      glupy volfile diff before.vol after.vol
      glupy volfile diff before.vol - <after.vol
    """
    if old == new == STDIN:
        raise click.UsageError("only one of them can be standard input")
    differences = volfiles.diff(_parsed(old, _text(old)), _parsed(new, _text(new)))
    for difference in differences:
        click.echo(_shown(str(difference)))
    return 1 if differences else 0
