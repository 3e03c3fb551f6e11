"""`glupy install` and `glupy uninstall`: links by which GlusterFS finds translators and the filter.

GlusterFS loads `XLATORDIR/TYPE.so` for a type. Each is a symbolic link to the environment's one
bridge: a copy would be a second file, with a second state. `XLATORDIR/glupy-python` links to the
environment's python: the bridge reads it to know which environment to start. `FILTERDIR/glupy`,
beside XLATORDIR, links to the filter of volfiles that glusterd runs. What was linked is recorded in
`XLATORDIR/glupy-install.json`.
"""

import json
import os
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata, util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Self

import click

import volfiles
from glupy_tools import gluster
from glupy_tools.failures import CommandError
from glupy_tools.trust import changeable

GROUP = "glupy.translators"
"""The entry points by which a package registers its types."""
OWN_TYPES = ("features/glupy", "user/glupy")
"""The types that are the bridge's own and need no class."""
PYTHON = "glupy-python"
RECORD = "glupy-install.json"
FILTER = "../filter/glupy"

_TYPE = re.compile(r"[a-z0-9-]+/[\w-]+")
_OUR_TARGET = re.compile(r"/(glupy/_bridge[^/]*\.so|volfiles/glusterd-filter)$")


@dataclass(frozen=True)
class Record:
    """What an install did. All but the record itself is taken away by an uninstall."""

    environment: str
    """The prefix of the Python environment."""
    python_version: str
    glusterfs: str
    """The version of GlusterFS."""
    bridge: str
    """The path of the extension that the types are links to."""
    links: dict[str, str]
    """What is linked to what; the links are relative to the folder of the record."""
    folders: list[str]
    """Folders that an install made; empty in what is only planned."""

    @classmethod
    def read(cls, xlatordir: Path) -> Self | None:
        """Return the record in this folder, or None; CommandError if it is not one."""
        path = xlatordir / RECORD
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise CommandError(f"{path}: is not a record of glupy install; remove it") from None

    def write(self, xlatordir: Path) -> None:
        """Put the record into this folder, atomically."""
        beside = xlatordir / f".{RECORD}.{os.getpid()}"
        beside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        beside.replace(xlatordir / RECORD)


def xlator_folder() -> Path:
    """Return the folder from which the installed GlusterFS loads translators."""
    return Path(_glusterfsd("--print-xlatordir"))


def planned() -> Record:
    """Return what an install of this environment would record."""
    bridge = str(_bridge())
    types = sorted({*OWN_TYPES, *_registered()})
    links = {f"{type_}.so": bridge for type_ in types}
    return Record(
        environment=sys.prefix,
        python_version=sysconfig.get_python_version(),
        glusterfs=_glusterfsd("--version").splitlines()[0].removeprefix("glusterfs "),
        bridge=bridge,
        links={PYTHON: str(_python()), FILTER: str(_filter()), **links},
        folders=[],
    )


def built_for() -> str:
    """Return the version of GlusterFS that the bridge was built for; "" if that is not known."""
    # Only here: the other commands run where the bridge is not built, or GlusterFS is gone.
    try:
        from glupy._bridge import ffi, lib  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(f"the bridge cannot be loaded: {error}: run tools/setup") from None
    return str(ffi.string(lib.glupy_built_for()).decode())


def outdated(built_for: str, installed: str) -> str | None:
    """Say in a line that the bridge is of another GlusterFS; None if it is not, or cannot tell."""
    if not built_for or built_for == installed:
        return None
    return (
        f"the bridge was built for GlusterFS {built_for}, and this is {installed}: run tools/setup"
        " (or pip install --force-reinstall --no-cache-dir, and then glupy install)"
    )


def changes(old: Record, new: Record) -> Iterator[str]:
    """Say what changed in the system since the last install, a line each."""
    if old.environment != new.environment:
        yield f"the environment has moved from {old.environment} to {new.environment}"
    if old.glusterfs != new.glusterfs:
        yield f"GlusterFS was upgraded from {old.glusterfs} to {new.glusterfs}"
    if old.python_version != new.python_version:
        yield f"Python was upgraded from {old.python_version} to {new.python_version}"


def put(xlatordir: Path, new: Record) -> list[str]:
    """Make the links and the record; return the links that were not right before.

    Refuses, before it changes anything, to replace a file that is not a link of ours.
    """
    old = Record.read(xlatordir)
    recorded = old.links if old else {}
    for name in new.links:
        path = xlatordir / name
        if not _is_free(path) and not _is_ours(path, recorded.get(name)):
            raise CommandError(f"{path}: is there and not a link of glupy's; it is left alone")
    parents = {str(Path(name).parent) for name in new.links}
    missing = [folder for folder in parents if not (xlatordir / folder).is_dir()]
    folders = sorted({*missing, *(old.folders if old else [])})
    everything = Record(**{**asdict(new), "links": {**recorded, **new.links}, "folders": folders})
    # First, so that whatever happens an uninstall knows of it.
    everything.write(xlatordir)
    for folder in missing:
        (xlatordir / folder).mkdir(mode=0o755, exist_ok=True)
    wrong = [name for name, target in new.links.items() if _target(xlatordir / name) != target]
    for name in wrong:
        _link(xlatordir / name, new.links[name])
    for name in recorded.keys() - new.links.keys():  # a type that is not registered any more
        _unlink(xlatordir / name, recorded[name])
    Record(**{**asdict(new), "folders": folders}).write(xlatordir)
    return wrong


def take_away(xlatordir: Path, record: Record) -> None:
    """Remove what was recorded, as far as it is still what was recorded, and the record."""
    for name, target in record.links.items():
        _unlink(xlatordir / name, target)
    for folder in record.folders:
        with suppress(OSError):  # somebody else's files are in it, or it has gone
            (xlatordir / folder).rmdir()
    (xlatordir / RECORD).unlink(missing_ok=True)


def earlier_folders(xlatordir: Path) -> list[Path]:
    """Return folders of other GlusterFS versions that have a record of ours."""
    records = xlatordir.parents[1].glob(f"*/xlator/{RECORD}")
    return sorted(path.parent for path in records if path.parent != xlatordir)


def loaded_by_bricks(bridge: Path) -> Iterator[Path]:
    """Yield what a brick loads from this environment: files and whole folders."""
    yield _python()
    yield Path(sys.prefix, "pyvenv.cfg")
    yield bridge.parent
    yield Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    for scheme in ("stdlib", "platstdlib"):
        yield Path(sysconfig.get_path(scheme))
    for folder in site.getsitepackages():
        yield Path(folder)
    for distribution in metadata.distributions(path=site.getsitepackages()):
        if '"editable": true' in (distribution.read_text("direct_url.json") or ""):
            for name in (distribution.read_text("top_level.txt") or "").split():
                yield from _folders_of(name)


def _folders_of(package: str) -> Iterator[Path]:
    spec = util.find_spec(package)
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or [spec.origin or "/"])


def _python() -> Path:
    """The environment's interpreter, not resolved: its path is what names the environment."""
    python = Path(sys.prefix, "bin", "python")
    return python if python.exists() else Path(sys.executable)


def _bridge() -> Path:
    """Find the extension without importing it, or the package that it is in."""
    package = util.find_spec("glupy")
    folders = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("glupy._bridge", folders)
    if spec is None or not spec.origin:
        raise CommandError(f"the bridge is not built in {sys.prefix}: run tools/setup")
    return Path(spec.origin)


def _filter() -> Path:
    path = Path(volfiles.__file__).with_name("glusterd-filter")
    if not os.access(path, os.X_OK):  # glusterd would say nothing
        raise CommandError(f"{path}: is missing, or cannot be executed")
    return path


def _registered() -> list[str]:
    names = [entry.name for entry in metadata.entry_points(group=GROUP)]
    for name in names:
        if not _TYPE.fullmatch(name):
            raise CommandError(f"entry point {name!r} of {GROUP} is not a type like storage/name")
    return names


def _glusterfsd(option: str) -> str:
    command = ["glusterfsd", option]
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
        )
    except FileNotFoundError:
        raise CommandError(
            "glusterfsd is not installed (apt-get install glusterfs-server)"
        ) from None
    except subprocess.CalledProcessError as error:
        raise CommandError(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from None
    return done.stdout.strip()


def _is_free(path: Path) -> bool:
    return not os.path.lexists(path)


def _target(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


def _is_ours(path: Path, recorded: str | None) -> bool:
    target = _target(path)
    if target is None:
        return False
    return target == recorded or path.name == PYTHON or bool(_OUR_TARGET.search(target))


def _link(path: Path, target: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def _unlink(path: Path, target: str) -> None:
    if _target(path) == target:
        path.unlink()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise CommandError("this needs root: GlusterFS's folders and bricks are root's")


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; say whether an install is due.")
def install(check: bool) -> None:
    """Let GlusterFS find this environment's translators.

    Links the bridge into GlusterFS's folder of translators under each type that an installed
    package registers (entry points glupy.translators), and under features/glupy and user/glupy;
    and into glusterd's folder of filters what `glupy volume` needs. May be repeated: it says if the
    environment has moved, or if GlusterFS or Python was upgraded since, and puts the links right.
    An environment that others than root can write to is refused, since bricks run as root.

    \b
    Examples:
      glupy install             as root, after each change of the environment
      glupy install --check     exits 1 and says in a line why, if an install is due
    """
    xlatordir = xlator_folder()
    if check:
        if reason := due():
            raise CommandError(reason)
        click.echo(f"in place in {xlatordir}")
        return
    new = planned()
    if reason := outdated(built_for(), new.glusterfs):
        raise CommandError(reason)
    earlier = {folder: Record.read(folder) for folder in earlier_folders(xlatordir)}
    old = Record.read(xlatordir) or next((record for record in earlier.values() if record), None)
    changed = "; ".join(changes(old, new)) if old else ""
    _require_root()
    for path in loaded_by_bricks(Path(new.bridge)):
        if reason := changeable(path):
            raise CommandError(f"refused, since bricks run as root: {reason}")
    if changed:
        click.echo(f"since the last install {changed}", err=True)
    linked = put(xlatordir, new)
    for folder, record in earlier.items():
        if record:
            take_away(folder, record)
    types = ", ".join(_types(new))
    click.echo(f"{'linked' if linked else 'in place'} in {xlatordir}: {types}")


def due() -> str | None:
    """Say in a line why `glupy install` is due; None if it is not."""
    xlatordir = xlator_folder()
    new = planned()
    if reason := outdated(built_for(), new.glusterfs):
        return reason
    earlier = (Record.read(folder) for folder in earlier_folders(xlatordir))
    old = Record.read(xlatordir) or next((record for record in earlier if record), None)
    if old is None:
        return "not installed: run glupy install"
    if changed := "; ".join(changes(old, new)):
        return f"since the last install {changed}: run glupy install"
    wrong = [name for name, target in new.links.items() if _target(xlatordir / name) != target]
    if wrong:
        return f"not linked in {xlatordir}: {', '.join(wrong)}: run glupy install"
    return None


def _types(record: Record) -> list[str]:
    return [name.removesuffix(".so") for name in record.links if name.endswith(".so")]


@click.command()
def uninstall() -> None:
    """Take away what `glupy install` put into GlusterFS's folders, and nothing else.

    Refused while volumes of glusterd's have settings of ours: their bricks would not start any
    more. `gluster volume reset VOL` takes all settings of a volume back. Bricks that run keep
    running; a volfile of your own that names one of the types fails from then on.
    """
    _require_root()
    xlatordir = xlator_folder()
    records = {folder: Record.read(folder) for folder in [xlatordir, *earlier_folders(xlatordir)]}
    types = {name for record in records.values() if record for name in _types(record)}
    if needing := gluster.volumes_with(types):
        names = ", ".join(needing)
        raise CommandError(f'volumes need what would go (docs/volumes.md, "Back"): {names}')
    for folder, record in records.items():
        if record:
            take_away(folder, record)
            click.echo(f"taken away from {folder}")
    if not any(records.values()):
        click.echo("nothing is installed")
