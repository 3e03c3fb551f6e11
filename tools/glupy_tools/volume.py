"""`glupy volume`: leaf and translators of ours in volumes that gluster made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

import volfiles
from glupy import stores
from glupy.testing import logs
from glupy.testing.processes import Brick, ProcessError
from glupy_tools import gluster, rolling, volume_state
from glupy_tools.failures import CommandError
from glupy_tools.pool import MAPPED, WIDE
from glupy_tools.pool import Brick as Directory
from glupy_tools.run import parsed_options
from glupy_tools.volume_state import VolumeState
from volfiles import filter as volfilter
from volfiles.filter import Request

PYBD = "user/pybd"
LONGEST = 3000
"""Bytes of one setting's value: glusterd 10.3 refuses 5,000, and aborts on 8,000."""
_AT_START = "module", "pool", "sector-size"
"""Options that are read at a brick's start only."""
_UNKNOWN_OPTION = re.compile(r"_log_if_unknown_option\] \d+-(\S+): option '(.*)' is not")


@click.group()
def volume() -> None:
    """Put a leaf and translators of Glupy's under a volume of glusterd's, and take them back.

    \b
    Examples, as root:
      glupy volume use images --leaf pyposix --rolling
      glupy volume add images pybd --option pool=loop:/srv/pool --rolling
      glupy volume status images
      glupy volume restart images
      glupy volume remove images pybd --rolling
      glupy volume use images --leaf posix --rolling
    """


_name = click.argument("name", metavar="VOL")
_translator = click.argument("translator", metavar="TRANSLATOR")
_rolling = click.option(
    "--rolling",
    "is_rolling",
    is_flag=True,
    help="Restart this host's bricks of a started volume, one at a time, waiting for heal.",
)


@volume.command()
@click.argument("name", metavar="[VOL]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def status(*, name: str | None, as_json: bool) -> None:
    """Show what is asked for, what volfiles have, what bricks run, and what is wrong.

    Volfiles and processes of other hosts are seen from those only: run it there, too.

    \b
    Examples:
      glupy volume status
      glupy volume status images --json
    """
    _require_root()
    install = volume_state.installation()
    states = volume_state.states(name)
    if as_json:
        click.echo(
            json.dumps({"install": install, "volumes": list(map(_as_json, states))}, indent=2)
        )
        return
    if install:
        click.echo(f"glupy install: {install}")
    for state in states:
        _print(state)


def _as_json(state: VolumeState) -> dict[str, object]:
    """Convert a state; named tuples become objects, too."""

    def stack(of: volume_state.Stack | None) -> dict[str, object] | None:
        return of._asdict() if of else None

    bricks = [
        {
            **asdict(brick),
            "asked": stack(brick.asked),
            "volfile": stack(brick.volfile),
            "running": stack(brick.running),
        }
        for brick in state.bricks
    ]
    return {**asdict(state), "bricks": bricks}


def _print(state: VolumeState) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    click.echo(f"{state.volume} ({'started' if state.started else 'stopped'})")
    table = Table("brick", "asked for", "volfile", "running", box=None, padding=(0, 2, 0, 0))
    for brick in state.bricks:
        runs = str(brick.running or "?") if brick.online else "no"
        table.add_row(brick.brick, str(brick.asked), str(brick.volfile or "?"), runs)
    console.print(table, markup=False)
    if state.problem:
        click.echo(f"{state.volume}: {state.problem}")
    for brick in state.bricks:
        if brick.problem:
            click.echo(f"{brick.brick}: {brick.problem}")


@volume.command()
@_name
@click.option("--leaf", required=True, metavar="TYPE", help="`storage/` may be omitted.")
@click.option(
    "--brick",
    "bricks",
    multiple=True,
    metavar="HOST:PATH",
    help="Only this brick, as `gluster volume info` has it; may be given again.",
)
@_rolling
def use(*, name: str, leaf: str, bricks: Sequence[str], is_rolling: bool) -> None:
    """Set the storage translator of VOL's bricks: pyposix, or posix to go back.

    The volume must be stopped, or replicated or dispersed, with --rolling.

    \b
    Examples, as root:
      glupy volume use images --leaf pyposix --rolling
      glupy volume use images --leaf posix --brick host2:/bricks/two
    """
    before = _volume(name)
    request = volume_state.request(before)
    type_ = volfilter.leaf_type(leaf)
    known = [brick.name for brick in before.bricks]
    for brick in bricks:
        if brick not in known:
            raise CommandError(f"{name} has no brick {brick}: it has {', '.join(known)}")
    if bricks:
        chosen = {**request.bricks, **dict.fromkeys(bricks, type_)}
        kept = {brick: chosen[brick] for brick in known if brick in chosen}
        others = {brick: each for brick, each in kept.items() if each != request.leaf}
        request = replace(request, bricks=others)
    else:
        request = replace(request, leaf=type_, bricks={})
    _change(before, request, is_rolling=is_rolling)


@volume.command()
@_name
@_translator
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    callback=parsed_options,
    metavar="KEY=VALUE",
    help="An option of the translator; may be given again.",
)
@_rolling
def add(*, name: str, translator: str, options: dict[str, str], is_rolling: bool) -> None:
    """Put TRANSLATOR into VOL's bricks, above the leaf and what was added before.

    TRANSLATOR is a type; `user/` may be omitted. If it is there already, its options are set
    anew (say all of them: others go back to their defaults), and bricks that run take that as they
    take a `volume set`: no restart is needed, but for module, pool and sector-size.

    \b
    Examples, as root:
      glupy volume add images pybd --option pool=lvm:vg0/thin --option 'map=*.img=thin'
      glupy volume add images features/glupy --option module=/root/slow.py:Slow --rolling
    """
    before = _volume(name)
    request = volume_state.request(before)
    chosen = dict(request.translators) | {_type(translator): options}
    _change(before, replace(request, translators=list(chosen.items())), is_rolling=is_rolling)


@volume.command()
@_name
@_translator
@_rolling
@click.option("--force", is_flag=True, help="Remove pybd although files are, or may be, mapped.")
def remove(*, name: str, translator: str, is_rolling: bool, force: bool) -> None:
    """Take TRANSLATOR out of VOL's bricks again.

    pybd is left where it is while files are mapped: without it they have no data.

    \b
    Example, as root:
      glupy volume remove images pybd --rolling
    """
    before = _volume(name)
    request = volume_state.request(before)
    chosen = dict(request.translators)
    type_ = _type(translator)
    if type_ not in chosen:
        # Another host may have taken it out, or a run that did not come to its end.
        if before.started and is_rolling and _runs(before, type_):
            if reason := volume_state.installation():
                raise CommandError(reason)
            rolling.refuse_unfit(before)
            _restart(before)
            return
        raise CommandError(f"{type_} is not among what glupy volume added to {name}")
    if type_ == PYBD and not force:
        _refuse_mapped(before, chosen[type_])
        if before.started and chosen[type_].get("map"):
            raise CommandError(
                f"{name} maps new files: set {type_} anew without map first (glupy volume add)"
            )
    del chosen[type_]
    _change(before, replace(request, translators=list(chosen.items())), is_rolling=is_rolling)


@volume.command()
@_name
def restart(*, name: str) -> None:
    """Restart this host's bricks of VOL, one at a time, waiting for heal.

    For what a brick reads at its start only: the changed file of a translator, pybd's pool.

    \b
    Example, as root, on each host:
      glupy volume restart images
    """
    before = _volume(name)
    if not before.started:
        raise CommandError(f"{name} is not started")
    rolling.refuse_unfit(before)
    _restart(before, everything=True)


def _restart(volume: gluster.Volume, *, everything: bool = False) -> None:
    name, here = volume.name, gluster.own_id()
    # Settings are the whole cluster's: once they are set, only this command sees what is left.
    again = f"glupy volume restart {name}" if everything else "the same"
    try:
        for line in rolling.restart(name, here, everything=everything):
            click.echo(f"{name}: {line}")
    except (CommandError, stores.StoreError) as error:
        raise CommandError(f"{error} (then run {again} again)") from None
    elsewhere = [brick.name for brick in volume.bricks if brick.host != here]
    if elsewhere:
        click.echo(f"{name}: run {again} on the hosts of {', '.join(elsewhere)}")
    click.echo(f"{name}: done")


def _runs(volume: gluster.Volume, type_: str) -> bool:
    """Say whether a brick of this host runs a translator, as far as that can be told."""
    here = gluster.own_id()
    runs = [volume_state.running(each, [type_]) for each in volume.bricks if each.host == here]
    return any(stack is not None and type_ in stack.translators for stack in runs)


def _type(translator: str) -> str:
    return translator if "/" in translator else f"user/{translator}"


def _require_root() -> None:
    if os.geteuid() != 0:
        raise CommandError("this needs root: glusterd's folders and bricks are root's")


def _volume(name: str) -> gluster.Volume:
    _require_root()
    (found,) = gluster.volumes(name)
    return found


def _change(before: gluster.Volume, request: Request, *, is_rolling: bool) -> None:
    """Make a volume's bricks what is requested."""
    name = before.name
    if reason := volume_state.installation():
        raise CommandError(reason)
    was = volume_state.request(before)
    live = before.started and _shape(request) == _shape(was)
    if before.started and (is_rolling or not live):
        if not is_rolling:
            raise CommandError(f"{name} is started: stop it first, or let --rolling restart bricks")
        rolling.refuse_unfit(before)
    settings = volume_state.written(request)
    for key, value in settings.items():
        if (length := len(value.encode())) > LONGEST:
            raise CommandError(f"{key}: {length:,} bytes, glusterd takes no more than {LONGEST:,}")
    for leaf in sorted({request.leaf_of(brick.name) for brick in before.bricks}):
        _try(leaf, request.translators)
    gluster.run("volume", "set", name, *(word for pair in settings.items() for word in pair))
    volume_state.remember(name, settings)
    work = gluster.working_directory()
    (after,) = gluster.volumes(name)
    for brick in after.bricks:
        _refuse_unfiltered(volume_state.volfile(after, brick, work / "vols" / name))
    if not before.started:
        click.echo(f"{name}: its bricks have it from the next start on")
        return
    waiting = _at_start(request) != _at_start(was)
    if live and not is_rolling:
        click.echo(f"{name}: its bricks take the options as they run")
        if waiting:
            words = ", ".join(_AT_START)
            click.echo(f"{name}: but for {words}: glupy volume restart {name}")
        if others := rolling.waiting(after, gluster.own_id()):
            click.echo(
                f"{name}: run something else, or nobody knows what, until they are restarted "
                f"(--rolling): {', '.join(brick.name for brick in others)}"
            )
        return
    _restart(after, everything=waiting)


def _at_start(request: Request) -> list[tuple[str, str | None]]:
    """What translators read at their start only."""
    return [
        (type_, options.get(key)) for type_, options in request.translators for key in _AT_START
    ]


def _shape(request: Request) -> tuple[object, ...]:
    """What bricks have to be restarted for: all but options."""
    return request.leaf, dict(request.bricks), [type_ for type_, _ in request.translators]


def _refuse_unfiltered(volfile: Path) -> None:
    if any(volfilter.asking(volfiles.read(volfile))):
        reason = volume_state.filter_failure(volfile)
        raise CommandError(f"the filter failed: {reason}: bricks that run keep what they have")


def _try(leaf: str, translators: Sequence[volfiles.Insert]) -> None:
    """Start a brick of this kind on an empty directory; CommandError if GlusterFS refuses it."""
    if (leaf, list(translators)) == (volfilter.POSIX, []):
        return
    with TemporaryDirectory(prefix="glupy-volume-", dir="/var/tmp") as made:
        folder = Path(made)
        directory = folder / "directory"
        directory.mkdir()
        graph = volfiles.brick(directory, leaf=leaf, inserts=translators, socket=folder / "socket")
        # Options that nobody declares are told at this level only.
        brick = Brick(graph, folder / "brick", log_level="DEBUG")
        try:
            with brick:
                pass
        except ProcessError as error:
            log = brick.log_text() if brick.log.exists() else ""
            line = logs.complaint(log) or str(error).splitlines()[0]
            raise CommandError(line.partition(": ")[2] or line) from None
        asked = {type_ for type_, _ in translators}
        for name, option in _UNKNOWN_OPTION.findall(brick.log_text()):
            if (type_ := graph[name].type) in asked and option != "module":
                raise CommandError(f"{type_} has no option {option!r}")


def _refuse_mapped(of: gluster.Volume, options: Mapping[str, str]) -> None:
    """Raise CommandError if files are mapped in a volume's bricks, or may be."""
    from glupy.errors import OptionError  # noqa: PLC0415
    from pybd import pools  # noqa: PLC0415
    from pybd.identity import Identity  # noqa: PLC0415

    here = gluster.own_id()
    try:
        devices = pools.find(options.get("pool", "")).devices()
    except (OptionError, OSError) as error:
        raise CommandError(f"the pool of {of.name} cannot be looked into: {error}") from None
    names = [known.name for known in devices]
    for brick in of.bricks:
        if brick.host != here:
            raise CommandError(
                f"{brick.name} is on another host: see `glupy pool status` there, then use --force"
            )
        directory = Directory(brick.path)
        tag = Identity(of.id, str(brick.path)).tag
        for known in devices:
            if known.tag == tag and directory.state(known, names) == MAPPED:
                raise CommandError(
                    f"files of {brick.name} are mapped, such as {known.name}: unmap them first "
                    "(setfattr -x user.glusterfs.bd)"
                )
