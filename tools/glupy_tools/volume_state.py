"""What a volume's settings ask for, what its volfiles have, what its bricks run, and why not."""

from __future__ import annotations

import json
import mmap
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import volfiles
from glupy.testing import logs
from glupy_tools import gluster
from glupy_tools.failures import CommandError
from glupy_tools.install import due
from volfiles import filter as volfilter

SETTING = f"{gluster.OPTIONS}glupy"
"""The setting that puts the node into volfiles which asks; its options are settings below it."""
_MEMORY = "glupy-settings.json"
_BRICK_LOGS = Path("/var/log/glusterfs/bricks")
_GRAPH = re.compile(rb"^Final graph:\n\+-+\+\n(.*?)^\+-+\+$", re.DOTALL | re.MULTILINE)
_TYPE = re.compile(r"^ *\d+: +type (\S+)$", re.MULTILINE)
_START = re.compile(r"^.*: Started running .*$", re.MULTILINE)


class Stack(NamedTuple):
    """What a brick consists of, as far as somebody chose it: types."""

    leaf: str
    translators: list[str]
    """Above the leaf, from below."""

    def __str__(self) -> str:
        return " + ".join([self.leaf, *self.translators])

    def same(self, other: Stack) -> bool:
        """Whether both have the same. Two settings of glusterd's own have no order."""
        return self.leaf == other.leaf and sorted(self.translators) == sorted(other.translators)


@dataclass(frozen=True)
class BrickState:
    """A brick, as `glupy volume status --json` prints it."""

    brick: str
    online: bool
    asked: Stack
    volfile: Stack | None
    """None if there is none that can be read."""
    running: Stack | None
    """None if it does not run, or runs on another host, or its log does not tell."""
    problem: str | None


@dataclass(frozen=True)
class VolumeState:
    """A volume, as `glupy volume status --json` prints it."""

    volume: str
    started: bool
    settings: Mapping[str, str]
    """What is asked for, as ``volfiles.filter`` writes it."""
    problem: str | None
    bricks: list[BrickState]


def request(volume: gluster.Volume) -> volfilter.Request:
    """Return what a volume's settings ask for; CommandError if they make no sense."""
    if SETTING not in volume.options:
        return volfilter.Request()
    prefix = f"{SETTING}."
    options = {key.removeprefix(prefix): value for key, value in _ours(volume.options).items()}
    try:
        return volfilter.Request.parse(options)
    except volfiles.VolfileError as error:
        raise CommandError(
            f"{volume.name}: {SETTING}.*: {error}: set it right by gluster"
        ) from None


def written(request: volfilter.Request) -> dict[str, str]:
    """Return the settings that ask for this."""
    options = request.options()
    return {SETTING: "posix"} | {f"{SETTING}.{key}": value for key, value in options.items()}


def _ours(options: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if f"{key}.".startswith(f"{SETTING}.")}


def asked(volume: gluster.Volume, brick: gluster.Brick) -> Stack:
    """Return what the settings ask for a brick; a translator may have a setting of its own."""
    whole = request(volume)
    translators = [type_ for type_, _ in whole.translators]
    others = [
        "user/" + key.removeprefix(gluster.OPTIONS)
        for key in volume.options
        if key != SETTING and re.fullmatch(rf"{re.escape(gluster.OPTIONS)}[^.]+", key)
    ]
    return Stack(whole.leaf_of(brick.name), [*translators, *others])


def states(name: str | None) -> list[VolumeState]:
    """Return the states of all volumes, or of the one of this name; CommandError if it is none.

    The settings that are seen are remembered: a snapshot that is restored brings its own.
    """
    volumes = gluster.volumes(name)
    work, here = gluster.working_directory(), gluster.own_id()
    for volume in volumes:
        if SETTING in volume.options:
            remember(volume.name, _ours(volume.options))
    return [state(volume, work, here) for volume in volumes]


def state(volume: gluster.Volume, work: Path, here: str) -> VolumeState:
    """Return the state of a volume. ``here``: the id of this host's glusterd."""
    folder = work / "vols" / volume.name
    try:
        settings = request(volume).options()
    except CommandError as error:
        return VolumeState(volume.name, volume.started, {}, str(error), [])
    return VolumeState(
        volume=volume.name,
        started=volume.started,
        settings=settings,
        problem=_wiped(volume, folder),
        bricks=[
            _brick(volume, brick, folder, is_here=brick.host == here) for brick in volume.bricks
        ],
    )


def _brick(
    volume: gluster.Volume, brick: gluster.Brick, folder: Path, *, is_here: bool
) -> BrickState:
    wanted = asked(volume, brick)
    path = volfile(volume, brick, folder)
    graph: volfiles.Graph | None = None
    problem: str | None = None
    try:
        graph = volfiles.read(path)
    except (OSError, volfiles.VolfileError) as error:
        problem = f"{path} cannot be read: {error}"
    has = stack([xlator.type for xlator in graph], wanted.translators) if graph else None
    runs = running(brick, wanted.translators) if is_here else None
    unfiltered = None
    if graph and any(volfilter.asking(graph)):
        problem = unfiltered = f"the filter has not done its work: {filter_failure(path)}"
    elif has and not has.same(wanted):
        problem = f"its volfile has {has}"
    if volume.started and brick.pid is None:
        problem = f"does not run: {unfiltered or why(brick)}" if is_here else "does not run"
    elif problem is None and runs and not runs.same(wanted):
        problem = f"runs {runs} until it is restarted"
    return BrickState(brick.name, brick.pid is not None, wanted, has, runs, problem)


def volfile(volume: gluster.Volume, brick: gluster.Brick, folder: Path) -> Path:
    """Return the path of a brick's volfile; ``folder``: of the volume's state."""
    host = brick.name.partition(":/")[0]
    return folder / f"{volume.name}.{host}.{_dashed(brick.path)}.vol"


def stack(types: Sequence[str], chosen: Sequence[str]) -> Stack:
    """Return what was chosen of the types of a graph, from the leaf up."""
    leaf, *above = types
    first = list(chosen) if above[: len(chosen)] == list(chosen) else []
    others = [
        type_
        for type_ in above[len(first) :]
        if type_ == "features/glupy" or type_.startswith("user/")
    ]
    return Stack(leaf, [*first, *others])


def running(brick: gluster.Brick, chosen: Sequence[str]) -> Stack | None:
    """Return what a brick of this host runs: the graph that its process logged at its start.

    None if it does not run, or the log does not tell: it was rotated, or the brick was attached to
    another one's process (cluster.brick-multiplex).
    """
    if brick.pid is None:
        return None
    with suppress(OSError, ValueError):
        words = Path(f"/proc/{brick.pid}/cmdline").read_bytes().split(b"\0")
        with (
            Path(os.fsdecode(words[words.index(b"-l") + 1])).open("rb") as log,
            mmap.mmap(log.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            begin = text.rfind(b"Pid of current running process is %d\n" % brick.pid)
            graph = _GRAPH.search(text, begin) if begin >= 0 else None
            lines = os.fsdecode(graph[1]) if graph else ""
            if re.search(rf"^ *\d+: +option directory {re.escape(str(brick.path))}$", lines, re.M):
                return stack(_TYPE.findall(lines), chosen)
    return None


def why(brick: gluster.Brick) -> str:
    """Return in a line why a brick of this host does not run, by its log."""
    log = _BRICK_LOGS / f"{_dashed(brick.path)}.log"
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return f"there is no log {log}"
    starts = list(_START.finditer(text))
    text = text[starts[-1].start() :] if starts else text
    return logs.complaint(text) or f"see {log}"


def filter_failure(path: Path) -> str:
    """Return what the filter said last of a volfile that it did not filter."""
    if reason := installation():
        return reason
    with suppress(OSError):
        mark = f" E {path}: "
        for line in reversed(volfilter.LOG.read_text(errors="replace").splitlines()):
            if mark in line:
                return line.partition(mark)[2]
    return f"{volfilter.LOG} does not say why"


def installation() -> str | None:
    """Return in a line what is wrong with what `glupy install` did, if anything is."""
    try:
        return due()
    except CommandError as error:
        return str(error)


def remember(volume: str, settings: Mapping[str, str]) -> None:
    """Keep what was set last where a `volume reset` does not reach; it goes with the volume."""
    path = gluster.working_directory() / "vols" / volume / _MEMORY
    if _remembered(path) == settings:
        return
    beside = path.with_name(f".{_MEMORY}")
    beside.write_text(json.dumps(dict(settings)) + "\n")
    beside.replace(path)


def _wiped(volume: gluster.Volume, folder: Path) -> str | None:
    settings = _remembered(folder / _MEMORY)
    if SETTING in volume.options or settings is None:
        return None
    if settings.items() <= written(volfilter.Request()).items():
        return None  # they asked for nothing
    words = shlex.join(word for pair in settings.items() for word in pair)
    return (
        "its settings are gone, by `gluster volume reset`? "
        f"To have them again: gluster volume set {volume.name} {words}"
    )


def _remembered(path: Path) -> dict[str, str] | None:
    with suppress(OSError, ValueError):
        settings = json.loads(path.read_text())
        if isinstance(settings, dict):
            return settings
    return None


def _dashed(path: Path) -> str:
    return str(path).lstrip("/").replace("/", "-")
