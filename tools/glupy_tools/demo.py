"""`glupy demo`: a discard on its way from a guest's file system down to the store of a brick.

The figures are the well-known walkthrough's: the blocks that the image uses, as its user sees it
through the FUSE mount, and the blocks that the loop file under the brick uses. The guest is this
machine, with a loop device over the image, or a virtual one (`image_users`).
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import click
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

import volfiles
from glupy import stores
from glupy.testing.qemu import Images
from glupy.testing.volfile_server import serving
from glupy_tools import image_users
from glupy_tools.failures import CommandError
from glupy_tools.served import Served, served

MIB = 1024 * 1024
STORE_SIZE = 1024 * MIB
IMAGE_SIZE = 450 * MIB
WRITTEN = 400 * MIB
IMAGE = "image"
_VOLUME = "demo"
CAME_BACK = 0.95
"""The share of the written blocks that must come back to call it so."""
STAYED = 0.05
"""The share up to which they stayed, as on a store that takes no discards."""


@dataclass(frozen=True)
class Way:
    """The way that a discard goes."""

    bd: bool
    """Whether the image is on a device of user/pybd."""
    discard: bool
    """Whether the store's file system passes it on."""
    disk: image_users.Disk | None = None
    """How a guest has the image; None: it is a loop device on this machine."""

    def steps(self) -> dict[str, str]:
        """Return the steps in their order, and what each does."""
        loop = "loop device on it"
        return {
            "store": "a 1 GiB file, loop device, ext4, mounted",
            "brick": "glusterfsd serves it, FUSE mounts it",
            "image": f"a sparse {'mapped ' if self.bd else ''}image of 450 MiB in the mount",
            "mkfs": f"{self.disk or loop}, ext4, mounted -o discard",
            "write": "400 MiB written to a file in it",
            "rm": "the file removed",
            "fstrim": "fstrim",
        }


@dataclass(frozen=True)
class Step:
    """The blocks in use (of 512 bytes) after a step."""

    name: str
    image_blocks: int
    store_blocks: int


@dataclass
class Report:
    """What the demo found; its shares are of the blocks that the write had taken."""

    leaf: str
    steps: list[Step] = field(default_factory=list)

    def after(self, name: str) -> Step | None:
        """Return the figures after a step, if it was taken."""
        return next((step for step in self.steps if step.name == name), None)

    def reclaimed(self, name: str) -> tuple[float, float]:
        """Return the shares of image and store that were free again after a step: 0 to 1.

        All steps up to that one must have been taken.
        """
        before, peak, now = (self._taken(step) for step in ("mkfs", "write", name))
        return (
            _share(before.image_blocks, peak.image_blocks, now.image_blocks),
            _share(before.store_blocks, peak.store_blocks, now.store_blocks),
        )

    def wrong(self, *, discard: bool, ignored: bool = False) -> str | None:
        """Return what is not as it must be on a store with or without discard, or None.

        `ignored`: no discard of the guest's may have got to the image, not even by fstrim.
        """
        before, peak = self._taken("mkfs"), self._taken("write")
        taken = min(
            peak.image_blocks - before.image_blocks, peak.store_blocks - before.store_blocks
        )
        if taken * 512 < CAME_BACK * WRITTEN:
            return f"{WRITTEN // MIB} MiB were written, but only {taken * 512 // MIB} MiB in use"
        if ignored:
            image, store = self.reclaimed("fstrim")
            if max(image, store) > STAYED:
                return f"{max(image, store):.1%} of the written blocks came back without discards"
            return None
        image, store = self.reclaimed("rm")
        if image < CAME_BACK:
            return f"only {image:.1%} of the written blocks came back to the image"
        if discard and store < CAME_BACK:
            return f"only {store:.1%} of the written blocks came back to the store"
        if not discard and store > STAYED:
            return f"{store:.1%} of the written blocks came back to a store without discard"
        return None

    def as_json(self) -> str:
        """Return the report as one JSON object; the shares are those after rm alone."""
        image, store = self.reclaimed("rm")
        shares = {"image_reclaimed": round(image, 4), "store_reclaimed": round(store, 4)}
        return json.dumps({**asdict(self), **shares})

    def as_table(self, does: Mapping[str, str]) -> Table:
        """Return the steps so far, what each does, and the shares as far as they are known."""
        table = Table("", "image", "loop file", "", box=None, padding=(0, 2, 0, 0))
        table.title = f"Blocks of 512 bytes in use, {self.leaf}"
        table.title_justify = "left"
        table.columns[1].justify = table.columns[2].justify = "right"
        for step in self.steps:
            figures = f"{step.image_blocks:,}", f"{step.store_blocks:,}"
            table.add_row(step.name, *figures, does[step.name])
        for name in ("rm", "fstrim"):
            if self.after(name):
                shares = (f"{share:.1%}" for share in self.reclaimed(name))
                table.add_row("", *shares, f"came back after {name}", style="bold")
        return table

    def _taken(self, name: str) -> Step:
        step = self.after(name)
        if step is None:
            raise ValueError(f"step {name} was not taken")
        return step


def _share(before: int, peak: int, after: int) -> float:
    return min(1.0, max(0.0, (peak - after) / (peak - before))) if peak > before else 0.0


class Walk:
    """The walkthrough: takes its steps one after the other, and the figures after each."""

    def __init__(self, report: Report, way: Way, screen: Live) -> None:
        self._report = report
        self._way = way
        self._does = way.steps()
        self._screen = screen
        self._served: Served | None = None
        self._folders: list[Path] = []  # of mounted file systems, the upper one first
        self._image: Path | None = None
        self._store: stores.Store | None = None
        self._user: image_users.User | None = None

    def take(self, parent: Path, undo: ExitStack) -> None:
        """Take all steps in a new folder below `parent`; `undo` undoes them."""
        with stores.held_back():
            made = TemporaryDirectory(prefix="glupy-demo-", dir=parent)
            folder = Path(undo.enter_context(made))
        mountpoint = folder / "mount"
        mountpoint.mkdir()

        with self._step("store"):
            options = ["discard" if self._way.discard else "nodiscard"]
            making = stores.store(folder / "store", STORE_SIZE, folder / "brick", options=options)
            self._store = undo.enter_context(making)
            self._folders.insert(0, self._store.folder)
        with self._step("brick"):
            directory = self._store.folder / "data"
            directory.mkdir()
            inserts = []
            if self._way.bd:
                pool = self._store.folder / "pool"
                pool.mkdir(mode=0o700)
                inserts = [("user/pybd", {"pool": f"loop:{pool}", "map": f"{IMAGE}=thin"})]
            leaf = self._report.leaf
            self._served = undo.enter_context(
                served(directory, mountpoint, folder, leaf=leaf, inserts=inserts, cached=False)
            )
            self._folders.insert(0, mountpoint)
        with self._step("image"):
            self._image = mountpoint / IMAGE
            stores.run("truncate", f"--size={IMAGE_SIZE}", self._image)
        with self._step("mkfs"):
            if disk := self._way.disk:
                socket = folder / "volfiles"
                undo.enter_context(serving({_VOLUME: self._served.brick.client_graph()}, socket))
                images = Images(_VOLUME, socket)
                using = image_users.in_guest(images, IMAGE, folder / "guest", disk)
            else:
                using = image_users.by_loop(self._image, folder / "guest")
            user = undo.enter_context(using)
            self._user = user
        with self._step("write"):
            size = ["bs=4M", f"count={WRITTEN // MIB // 4}", "oflag=direct", "conv=fsync"]
            user.run("dd", f"if={user.source}", f"of={user.folder / 'file'}", *size, "status=none")
        with self._step("rm"):
            user.run("rm", user.folder / "file")
        with self._step("fstrim"):
            user.run("fstrim", user.folder)

    def keep(self) -> NoReturn:
        """Say what there is, and leave it there until a signal ends the command."""
        assert self._image
        assert self._store
        assert self._user
        for path, what in (
            (self._image, "the image, on the volume's mount"),
            (self._store.folder, "the store: the brick's data, the pool"),
            (self._store.image, "the loop file under it"),
            (self._store.image.parent, "volfiles and logs"),
        ):
            click.echo(f"{path}  {what}", err=True)
        click.echo("Ctrl-C ends it", err=True)
        self._user.keep()
        while True:
            signal.pause()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._show(self._does[name])
        try:
            yield
            self._report.steps.append(stores.settled(lambda: self._figures(name), *self._folders))
        except (CommandError, stores.StoreError):
            if self._served:
                self._served.check()  # that one of the two has ended says more
            raise
        self._show()

    def _figures(self, name: str) -> Step:
        if self._user:
            self._user.run("sync", "--file-system", self._user.folder)
        # A stat of the image could hang with its brick: a command can be given up.
        image = stores.run("stat", "--format=%b", self._image) if self._image else 0
        return Step(name, int(image), self._store.blocks if self._store else 0)

    def _show(self, doing: str | None = None) -> None:
        table = self._report.as_table(self._does)
        self._screen.update(Group(table, Spinner("dots", f"{doing} …")) if doing else table)


@click.command()
@click.option(
    "--leaf",
    default="pyposix",
    metavar="TYPE",
    show_default=True,
    help="The brick's storage translator; `storage/` may be omitted.",
)
@click.option(
    "--store",
    type=click.Choice(["discard", "nodiscard"]),
    default="discard",
    show_default=True,
    help="How the file system under the brick is mounted.",
)
@click.option(
    "--dir",
    "parent",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/var/tmp"),
    show_default=True,
    metavar="DIR",
    help="Where the loop file is put; it takes up to 500 MiB.",
)
@click.option("--bd", is_flag=True, help="The image is on a device of user/pybd: a loop file.")
@click.option("--guest", "in_guest", is_flag=True, help="A virtual machine uses the image.")
@click.option(
    "--disk",
    type=click.Choice(list(image_users.DISKS)),
    help="The guest's disk; virtio-scsi unless told otherwise.",
)
@click.option(
    "--discard",
    type=click.Choice(["unmap", "ignore"]),
    help="What QEMU does with the guest's discards; unmap unless told otherwise.",
)
@click.option("--keep", is_flag=True, help="Leave it all there to look around, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def demo(
    *,
    leaf: str,
    store: str,
    parent: Path,
    bd: bool,
    in_guest: bool,
    disk: str | None,
    discard: str | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Remove a file in an image on a brick, and see its blocks come back to the store.

    A 1 GiB loop file with ext4 is the store under a brick; a FUSE mount of the brick holds a
    450 MiB image; a loop device over the image has an ext4 of its own. Removing a file there makes
    ext4 discard its blocks, and the discard passes loop device, FUSE, RPC and the brick's
    translators down to the store. After each step you see the blocks that the image and the loop
    file use.

    With --guest the ext4 is a virtual machine's: QEMU's gluster driver takes its discards to the
    brick. The machine has Debian's kernel, which is downloaded once.

    Exits 0 if at least 95 % of the written blocks came back to both after rm alone; with
    --store nodiscard, if they came back to the image and stayed in the loop file; with
    --discard ignore, if they stayed in both, after fstrim too. Whatever happens, Ctrl-C too: no
    mount, loop device, process or file is left behind.

    \b
    Examples, as root:
      glupy demo                          storage/pyposix serves the brick
      glupy demo --leaf posix             the same with GlusterFS's own storage/posix
      glupy demo --store nodiscard        the counter-proof: the store keeps its blocks
      glupy demo --guest                  a guest of QEMU, with a SCSI disk
      glupy demo --guest --bd             its image on a block device (user/pybd)
      glupy demo --guest --discard ignore the counter-proof: QEMU drops the discards
      glupy demo --json | jq .store_reclaimed
    """
    if not in_guest and (disk or discard):
        raise click.UsageError("--disk and --discard are for --guest")
    if keep and as_json:
        raise click.UsageError("--keep is for looking around, --json for programs")
    if os.geteuid() != 0:
        raise CommandError("the demo needs root: it makes loop devices and mounts")
    report = Report(volfiles.brick("/", leaf=leaf).xlators[0].type)  # its whole name
    # With --json the table is only for who looks on.
    console = Console(stderr=as_json, quiet=as_json and not Console(stderr=True).is_terminal)
    ignored = discard == "ignore"
    way = Way(bd=bd, discard=store == "discard")
    try:
        with (
            Live(console=console, auto_refresh=console.is_terminal, transient=not keep) as screen,
            ExitStack() as undo,
        ):
            if in_guest:
                screen.update(Spinner("dots", "Debian's kernel is downloaded, once …"))
                way = replace(way, disk=image_users.disk(disk or "virtio-scsi", discard or "unmap"))
            walk = Walk(report, way, screen)
            walk.take(parent, undo)
            if keep:
                screen.stop()
                if wrong := report.wrong(discard=way.discard, ignored=ignored):
                    click.echo(f"glupy: {wrong}", err=True)
                walk.keep()
    finally:
        if report.steps and not keep:
            console.print(report.as_table(way.steps()))
    if as_json:
        click.echo(report.as_json())
    if wrong := report.wrong(discard=way.discard, ignored=ignored):
        raise CommandError(wrong)
