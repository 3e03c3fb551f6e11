"""What glusterd says of its volumes: the command `gluster`, and glusterd's own files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import volfiles
from glupy import stores
from glupy_tools.failures import CommandError

OPTIONS = "user.xlator."
"""Settings by which glusterd puts translators into bricks."""
_GLUSTERD = Path("/etc/glusterfs/glusterd.vol")
_WORK = Path("/var/lib/glusterd")
_TIMEOUT = 120


@dataclass(frozen=True)
class Brick:
    """A brick of a volume, as glusterd knows it."""

    name: str
    """``HOST:PATH``"""
    host: str
    """The id of the host's glusterd."""
    pid: int | None = None
    """Its process; None if it does not run."""

    @property
    def path(self) -> Path:
        """Its directory, on its host."""
        return Path("/" + self.name.partition(":/")[2])


@dataclass(frozen=True)
class Volume:
    """A volume, as glusterd knows it."""

    name: str
    id: str
    started: bool
    redundant: bool
    """Whether it serves, and heals, while one of its bricks is away."""
    bricks: list[Brick]
    options: Mapping[str, str]


def run(*words: str) -> str:
    """Return what ``gluster WORDS`` prints; StoreError with its complaint."""
    try:
        return stores.run("gluster", "--mode=script", *words, timeout=_TIMEOUT)
    except stores.StoreError as error:
        # That it cannot connect it says on standard output.
        if str(error).startswith("gluster: failed with status"):
            raise stores.StoreError("gluster: no answer, does glusterd run?") from None
        raise


def xml(*words: str) -> ElementTree.Element:
    """Return the same as XML; CommandError with its complaint."""
    try:
        tree = ElementTree.fromstring(run(*words, "--xml"))
    except ElementTree.ParseError:
        raise CommandError(f"`gluster {' '.join(words)} --xml` prints no XML") from None
    if _text(tree, "opRet") != "0":
        raise CommandError(_text(tree, "opErrstr") or f"`gluster {' '.join(words)}` failed")
    return tree


def volumes(name: str | None = None) -> list[Volume]:
    """Return all volumes, or the one of this name; CommandError if there is none."""
    try:
        tree = xml("volume", "info", *([name] if name else []))
    except CommandError as error:
        raise CommandError(f"{name}: {error}" if name else str(error)) from None
    # `volume info` takes no name, and "all", for every volume.
    found = [each for each in tree.iter("volume") if name in (None, _text(each, "name"))]
    if name is not None and not found:
        raise CommandError(f"{name!r}: there is no volume of that name")
    return [_volume(node) for node in found]


def _volume(node: ElementTree.Element) -> Volume:
    name, started = _text(node, "name"), _text(node, "statusStr") == "Started"
    running = pids(name) if started else {}
    bricks = [
        Brick(brick := _text(each, "name"), _text(each, "hostUuid"), running.get(brick))
        for each in node.iterfind("bricks/brick")
    ]
    return Volume(
        name=name,
        id=_text(node, "id"),
        started=started,
        redundant=any(kind in _text(node, "typeStr") for kind in ("Replicate", "Disperse")),
        bricks=bricks,
        options={
            _text(each, "name"): _text(each, "value") for each in node.iterfind("options/option")
        },
    )


def pids(volume: str) -> dict[str, int]:
    """Return the processes of those bricks of a started volume that run."""
    found = {name: _text(node, "pid") for name, node in _nodes(volume)}
    return {name: int(pid) for name, pid in found.items() if pid.isdigit() and int(pid) > 0}


def clients(volume: str) -> dict[str, int]:
    """Return how many clients each brick of a started volume has."""
    return {
        name: int(_text(node, "clientsStatus/clientCount") or 0)
        for name, node in _nodes(volume, "clients")
    }


def _nodes(volume: str, *words: str) -> Iterator[tuple[str, ElementTree.Element]]:
    for node in xml("volume", "status", volume, *words).iter("node"):
        yield f"{_text(node, 'hostname')}:{_text(node, 'path')}", node


def pending(volume: str) -> int | None:
    """Return how many entries are to be healed; None while that is not known of each brick."""
    numbers = [
        _text(brick, "numberOfEntries")
        for brick in xml("volume", "heal", volume, "info").iter("brick")
    ]
    return sum(map(int, numbers)) if numbers and all(map(str.isdigit, numbers)) else None


def own_id() -> str:
    """Return the id of this host's glusterd."""
    found = re.search(r"^UUID=(\S+)$", (working_directory() / "glusterd.info").read_text(), re.M)
    return found[1] if found else ""


def working_directory() -> Path:
    """Return where glusterd keeps its state, if it runs; else where it would."""
    with suppress(stores.StoreError):
        return Path(run("system::", "getwd").strip())
    with suppress(OSError, volfiles.VolfileError):
        return Path(volfiles.read(_GLUSTERD).top.options["working-directory"])
    return _WORK


def volumes_with(types: Collection[str]) -> list[str]:
    """Return the volumes and snapshots with settings that put one of these types into bricks.

    From glusterd's files: it need not run.
    """
    return sorted(
        file.parent.name
        for file in _infos(working_directory())
        if any(
            f"user/{name}" in types
            for name in _INSERTED.findall(file.read_text(errors="surrogateescape"))
        )
    )


_INSERTED = re.compile(rf"^{re.escape(OPTIONS)}([^.=\n]+)=", re.MULTILINE)


def _infos(work: Path) -> Iterator[Path]:
    for pattern in "vols/*/info", "snaps/*/*/info":
        yield from work.glob(pattern)


def _text(node: ElementTree.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()
