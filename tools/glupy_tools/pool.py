"""`glupy pool`: make, look into and remove what user/pybd takes its devices from."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from glupy import keys, stores
from glupy_tools.failures import CommandError

if TYPE_CHECKING:
    from pybd.pools import Known, Pool
    from pybd.pools.loop import LoopPool
    from pybd.pools.lvm import LvmPool

# pybd is imported where it is used: the other commands must run where the bridge is not built.

MIB = 1 << 20
NAMED_AT_MOST = 5
"""How many devices a complaint names."""
WIDE = 300
"""Columns of a table that nobody looks at on a terminal."""

MAPPED, HALF, ORPHAN = "mapped", "half made", "orphan"
OTHERS, FOREIGN = "another brick's", "not pybd's"

# Of volume groups that `create` has made, and of those whose device is an image that it has made:
# no others are ever removed.
MADE_TAG, IMAGE_TAG = "glupy.pool", "glupy.image"


class Chosen(NamedTuple):
    """The pool that the operator names, and how he does."""

    spec: str
    pool: Pool


@dataclass(frozen=True)
class Device:
    """A device of a pool."""

    name: str
    gfid: str | None
    """Of its file; None if it is not pybd's."""
    brick: str
    """The tag of its owner."""
    size: int
    blocks: int
    """In use, of 512 bytes."""
    state: str | None
    """None: that takes a look at its brick."""


@dataclass(frozen=True)
class Status:
    """A pool, as `glupy pool status --json` prints it."""

    pool: str
    size: int
    free: int
    devices: list[Device]


class Brick:
    """A brick's directory, as far as it says which of its files are mapped."""

    def __init__(self, directory: Path) -> None:
        """CommandError if it is no brick's."""
        from pybd.identity import Identity  # noqa: PLC0415

        if os.geteuid() != 0:
            raise CommandError("a brick is looked into by root: only root reads trusted xattrs")
        self.directory = directory.absolute()
        self._hidden = self.directory / keys.HIDDEN
        if not self._hidden.is_dir():
            raise CommandError(f"{directory} is no brick: it has no {keys.HIDDEN}")
        value = _xattr(self.directory, keys.VOLUME_ID)
        volume_id = str(uuid.UUID(bytes=value)) if value and len(value) == 16 else ""
        self.identity = Identity(volume_id, str(self.directory))

    def state(self, known: Known, names: Sequence[str]) -> str:
        """Say what a device is to this brick; ``names``: those of all devices of the pool."""
        from pybd import identity  # noqa: PLC0415

        name = identity.parse(known.name)
        if name is None:
            return FOREIGN
        if known.tag != self.identity.tag or name.brick != self.identity.brick:
            return OTHERS
        is_mapped = self._is_mapped(name.gfid)
        if name.half:
            if is_mapped:  # killed just before it got its name, unless another one has that
                return ORPHAN if self.identity.name(name.gfid) in names else MAPPED
            return ORPHAN if is_mapped is None else HALF
        return MAPPED if is_mapped else ORPHAN

    def _is_mapped(self, gfid: bytes) -> bool | None:
        """Say whether the file of a gfid is mapped; None if there is no such file."""
        text = str(uuid.UUID(bytes=gfid))
        # A file that is open while its last name goes is moved to unlink/.
        for handle in Path(text[:2], text[2:4], text), Path("unlink", text):
            with suppress(FileNotFoundError):
                return _xattr(self._hidden / handle, keys.BD) is not None
        return None


def _xattr(path: Path, key: str) -> bytes | None:
    try:
        return os.getxattr(path, key, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            return None
        raise


def _owner(known: Known) -> Brick | None:
    """Return the brick that a device's tag names (``pybd.identity``), if that can be found here."""
    from pybd import identity  # noqa: PLC0415

    directory = identity.directory(known.tag)
    with suppress(CommandError, OSError):
        if directory is not None:
            return Brick(Path(directory))
    return None


@contextmanager
def _unused(pool: Pool, name: str) -> Iterator[None]:
    """Keep a device from being opened while the block runs; CommandError if it is open."""
    try:
        with pool.unused(name):
            yield
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise CommandError(f"{name} is in use: stop its brick first") from None


def _chosen(_ctx: click.Context, _param: click.Parameter, spec: str) -> Chosen:
    from glupy.errors import OptionError  # noqa: PLC0415
    from pybd import pools  # noqa: PLC0415

    try:
        return Chosen(spec, pools.find(spec))
    except OptionError as error:
        raise click.BadParameter(str(error).removeprefix("option pool: ")) from None


def _size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    from glupy.constants import bytesize  # noqa: PLC0415

    try:
        return None if text is None else bytesize(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_argument = click.argument("chosen", metavar="POOL", callback=_chosen)
_brick = click.option(
    "--brick",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Look at the files of this brick.",
)


@click.group()
def pool() -> None:
    """Look after the pool that user/pybd takes block devices from.

    POOL is what its option `pool` says: loop:DIR, lvm:VG or lvm:VG/THINPOOL.

    \b
    Examples:
      glupy pool create loop:/srv/pool
      glupy pool status loop:/srv/pool --brick /srv/brick
    """


# ---- create ----


@pool.command()
@_argument
@click.option("--device", metavar="DEV", help="LVM: the empty block device to make it on.")
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="LVM, for tests: a sparse file to make, and a loop device over it, to make it on.",
)
@click.option("--size", metavar="SIZE", callback=_size, help="Of the image, such as 10GB.")
@click.option(
    "--chunk-size",
    default="64k",
    metavar="SIZE",
    show_default=True,
    help="LVM: what the thin pool gives space by, and the least that a discard frees.",
)
def create(
    *, chosen: Chosen, device: str | None, image: Path | None, size: int | None, chunk_size: str
) -> None:
    """Make a pool.

    \b
    loop:DIR         a directory that only root may enter
    lvm:VG           a volume group
    lvm:VG/THINPOOL  a volume group, and a thin pool that takes all of it

    \b
    Examples, as root:
      glupy pool create loop:/srv/pool
      glupy pool create lvm:vg/thin --device /dev/sdb
      glupy pool create lvm:vg/thin --image /var/tmp/image --size 10GB
    """
    from pybd.pools.loop import LoopPool  # noqa: PLC0415
    from pybd.pools.lvm import LvmPool  # noqa: PLC0415

    made = chosen.pool
    if isinstance(made, LoopPool):
        if device or image or size is not None:
            raise click.UsageError("--device, --image and --size are for pools of LVM")
        _create_loop(made.folder, made)
    elif isinstance(made, LvmPool):
        if bool(device) == bool(image) or bool(image) != (size is not None):
            raise click.UsageError("a pool of LVM needs --device, or --image and --size")
        with ExitStack() as undo:
            tags = [MADE_TAG]
            if image is not None and size is not None:
                device = str(_attached(undo, image, size))
                tags.append(IMAGE_TAG)
            _create_lvm(undo, made, str(device), tags, chunk_size)
            undo.pop_all()
    else:
        raise CommandError(f"{chosen.spec}: such pools are not made by this command")


def _create_loop(folder: Path, made: LoopPool) -> None:
    """Make the directory, if devices can be made in it: their owners are in xattrs."""
    with stores.held_back():
        folder.mkdir(mode=0o700)
        try:
            made.make("probe", made.extent, made.kinds[0], "")
            made.remove("probe")
        except OSError as error:
            folder.rmdir()
            raise CommandError(
                f"{folder}: no devices can be made there: {error.strerror}"
            ) from None


def _attached(undo: ExitStack, image: Path, size: int) -> Path:
    with stores.held_back():
        image.touch(mode=0o600, exist_ok=False)
        undo.callback(image.unlink, missing_ok=True)
    os.truncate(image, size)
    undo.callback(stores.detach, image)
    return stores.attach(image)


def _create_lvm(
    undo: ExitStack, made: LvmPool, device: str, tags: Sequence[str], chunk_size: str
) -> None:
    words = [word for tag in tags for word in ("--addtag", tag)]
    with stores.held_back():  # or it is there, and not undone
        stores.run("vgcreate", *words, made.group, device)
        undo.callback(_remove_group, made.group)
    if made.thin_pool:
        words = ["--type", "thin-pool", "--chunksize", chunk_size, "--extents", "100%FREE"]
        stores.run("lvcreate", *words, "--name", made.thin_pool, made.group)


# ---- status ----


@pool.command()
@_argument
@_brick
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def status(*, chosen: Chosen, directory: Path | None, as_json: bool) -> None:
    """List the devices of a pool, and how much room it has.

    \b
    With --brick, what each of them is to that brick:
      mapped           a file of the brick is mapped to it
      half made        its file is just being mapped or unmapped, or a kill has left it so
      orphan           its file is gone, or not mapped to it
      another brick's  its tag is another one
      not pybd's       a file or volume that something else has made

    \b
    Examples:
      glupy pool status loop:/srv/pool
      glupy pool status lvm:vg/thin --brick /srv/brick
      glupy pool status loop:/srv/pool --brick /srv/brick --json |
        jq -r '.devices[] | select(.state == "orphan").name'
    """
    brick = Brick(directory) if directory is not None else None
    chosen.pool.check()
    room = chosen.pool.room()
    found = Status(chosen.spec, room.size, room.free, _devices(chosen.pool, brick))
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(_table(found.devices))
    console.print(f"{room.free / MIB:,.0f} of {room.size / MIB:,.0f} MiB are free", highlight=False)


def _devices(of: Pool, brick: Brick | None) -> list[Device]:
    from pybd import identity  # noqa: PLC0415

    devices = []
    found = of.devices()
    names = [known.name for known in found]
    for known in found:
        try:
            blocks = of.blocks(known.name)
        except FileNotFoundError:
            continue  # removed this very moment
        name = identity.parse(known.name)
        state: str | None
        if brick is not None:
            state = brick.state(known, names)
        elif name is None:
            state = FOREIGN
        else:
            state = HALF if name.half else None
        gfid = str(uuid.UUID(bytes=name.gfid)) if name is not None else None
        devices.append(Device(known.name, gfid, known.tag, known.size, blocks, state))
    return devices


def _table(devices: Sequence[Device]) -> Table:
    table = Table("device", "gfid", "brick", "size", "blocks", "state", box=None)
    for column in table.columns:
        column.overflow = "fold"
    table.columns[3].justify = table.columns[4].justify = "right"
    for each in devices:
        figures = f"{each.size:,}", f"{each.blocks:,}"
        table.add_row(each.name, each.gfid or "-", each.brick or "-", *figures, each.state or "")
    return table


# ---- remove ----


@pool.command()
@_argument
@click.option("--device", "name", metavar="NAME", help="Remove only this device.")
@_brick
@click.option(
    "--force", is_flag=True, help="Also devices that files are, or may be, mapped to: their data."
)
def remove(*, chosen: Chosen, name: str | None, directory: Path | None, force: bool) -> None:
    """Remove a device, or a pool that `glupy pool create` has made.

    A pool goes when it has no devices. A device goes when no file is mapped to it: that is looked
    up in the brick that its tag names, or else in that of --brick. --force removes those too, but
    nothing removes what is in use or is not pybd's.

    \b
    Examples:
      glupy pool remove loop:/srv/pool --device glupy.0525c94e44dca343.c6d4b25a-…
      glupy pool remove loop:/srv/pool
    """
    brick = Brick(directory) if directory is not None else None
    chosen.pool.check()
    if name is not None:
        _remove_device(chosen, name, brick, force=force)
    else:
        _remove_pool(chosen, force=force)


def _remove_device(chosen: Chosen, name: str, brick: Brick | None, *, force: bool) -> None:
    devices = {known.name: known for known in chosen.pool.devices()}
    if name not in devices:
        raise CommandError(f"{chosen.spec} has no device {name}")
    known = devices[name]
    owner = brick or _owner(known)
    _refuse_foreign([known])
    state = owner.state(known, list(devices)) if owner is not None else OTHERS
    if state == OTHERS and brick is not None:
        raise CommandError(f"{name} belongs to {known.tag or 'nobody'}, not to this brick")
    if state == OTHERS and not force:
        raise CommandError(
            f"{name}: its brick ({known.tag or 'nobody'}) is not there to say whether a file is "
            "mapped to it (--force removes it)"
        )
    if owner is not None and state == MAPPED and not force:
        raise CommandError(f"{name}: a file of {owner.directory} is mapped to it")
    with _unused(chosen.pool, name):
        chosen.pool.remove(name)


def _refuse_foreign(devices: Sequence[Known]) -> None:
    from pybd import identity  # noqa: PLC0415

    others = [known.name for known in devices if identity.parse(known.name) is None]
    if others:
        raise CommandError(f"{_listed(others)}: not of pybd's making, nothing is removed")


def _remove_pool(chosen: Chosen, *, force: bool) -> None:
    from pybd.pools.loop import LoopPool  # noqa: PLC0415
    from pybd.pools.lvm import LvmPool  # noqa: PLC0415

    gone = chosen.pool
    devices = gone.devices()
    _refuse_foreign(devices)
    if isinstance(gone, LvmPool):
        if MADE_TAG not in (tags := _tags(gone.group)):
            raise CommandError(f"{chosen.spec} was not made by glupy pool create")
        if IMAGE_TAG in tags and len(below := _physical(gone.group)) > 1:
            raise CommandError(f"{gone.group} has devices beside its image: {', '.join(below)}")
    elif not isinstance(gone, LoopPool):
        raise CommandError(f"{chosen.spec}: such pools are not removed by this command")
    if devices and not force:
        names = _listed([known.name for known in devices])
        raise CommandError(f"{chosen.spec} has devices: {names} (--force removes them)")
    with ExitStack() as undo:
        for known in devices:
            undo.enter_context(_unused(gone, known.name))
        for known in devices:
            gone.remove(known.name)
    if isinstance(gone, LoopPool):
        gone.folder.rmdir()
    else:
        _remove_group(gone.group)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more


def _tags(group: str) -> list[str]:
    return stores.run("vgs", "--noheadings", "--options", "vg_tags", group).strip().split(",")


def _physical(group: str) -> list[str]:
    """Return the devices that a volume group is on."""
    return stores.run("vgs", "--noheadings", "--options", "pv_name", group).split()


def _remove_group(group: str) -> None:
    """Remove a volume group of ours, and the image under it if that is ours too."""
    is_image = IMAGE_TAG in _tags(group)
    devices = _physical(group)
    stores.run("vgremove", "--yes", group)
    for device in devices:
        stores.run("pvremove", "--yes", device)
        if is_image:
            words = "losetup", "--noheadings", "--output", "BACK-FILE", device
            image = Path(stores.run(*words).strip())
            stores.detach(image)
            with suppress(FileNotFoundError):
                image.unlink()
