"""A brick that has mapped files, from its start to its end: options, pool, identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from glupy import Lock, Option, OptionError, Translator
from glupy.enums import Event
from glupy.options import seconds
from glupy.views import Inode
from pybd import pools
from pybd.files import File, Files
from pybd.identity import Identity
from pybd.rules import Rules

ARBITER = "features/arbiter"


class Life(Translator):
    """Starts with a pool, and lets go of what was opened."""

    # Data of plain files is nothing to us.
    passed_fops = (
        "open",
        "readv",
        "writev",
        "ftruncate",
        "flush",
        "fsync",
        "rchecksum",
        "discard",
        "zerofill",
        "fallocate",
        "seek",
        "stat",
        "fstat",
        "setattr",
        "fsetattr",
    )

    options: ClassVar[Sequence[Option]] = (
        Option("pool", description="Where devices come from: loop:DIR, lvm:VG, lvm:VG/THINPOOL."),
        Option(
            "sector-size",
            int,
            default=512,
            minimum=512,
            maximum=4096,
            description="Of loop devices, in bytes: 512 or 4096.",
        ),
        Option(
            "map",
            default=None,
            description="Which new files are mapped: GLOB=thin or GLOB=lv[:SIZE], with spaces "
            "between. The first that fits the name counts; SIZE is the device's at first.",
        ),
        Option(
            "reserve",
            float,
            default=1.0,
            minimum=0,
            maximum=100,
            description="Percent of the pool that stay free: then only what has its space already "
            "is written.",
        ),
        Option(
            "reclaim-interval",
            seconds,
            default=600,
            minimum=1,
            maximum=86400,
            description="How often devices are looked for whose files posix has purged by itself.",
        ),
    )

    def init(self) -> None:
        """Find the pool and the brick's identity. A pool that is missing is no reason to fail:
        files that are not mapped are served."""
        spec = self.option("pool")
        if spec is None:
            raise OptionError("option pool is missing: loop:DIR, lvm:VG or lvm:VG/THINPOOL")
        self.pool = pools.find(spec, sector_size=self.option("sector-size"))
        leaf = self.child
        while leaf.children:
            leaf = leaf.children[0]
        options = leaf.options
        if "directory" not in options:
            raise OptionError(f"pybd needs a storage translator below it, and {leaf.type} is none")
        volume_id = options.get("volume-id", "")
        self.identity = Identity(str(volume_id), str(options["directory"]))
        self.files = Files()
        self.unmappings = 0
        self._to_reclaim: list[File] = []
        self._reclaiming = Lock()
        self.merges = Lock()
        self._file_system = Path(self.identity.directory).stat().st_dev
        self.is_arbiter = ARBITER in self.types_above
        self.rules = Rules.parse(self.option("map"))
        self._room_until = 0.0
        self._doubted = 0.0
        self._is_short = False
        self._says_once: set[str] = set()
        try:
            self.pool.check()
        except OSError as error:
            self.log.error("pool %s: %s: mapped files cannot be used", spec, error.strerror)

    def reconfigure(self) -> None:
        """Option ``map`` may change; another pool needs a restart."""
        self.rules = Rules.parse(self.option("map"))

    def fini(self) -> None:
        """Let go of the devices: their kernel detaches what is a loop device."""
        for file in self.files:
            file.device = None

    def dump_priv(self) -> dict[str, object]:
        """What a statedump shows."""
        known = list(self.files)
        return {
            "pool": self.option("pool"),
            "brick": self.identity.tag,
            "device-prefix": self.identity.name(bytes(16))[:-37],
            "mapped-files": len(known),
            "open-devices": sum(file.device is not None for file in known),
            "pool-is-full": self._is_short,
        }

    def notify(self, event: Event | int, data: Any) -> int:
        """Once the leaf is up, look for devices that have lost their files."""
        if event == Event.CHILD_UP:
            self.spawn(self.patrol())
        return super().notify(event, data)

    async def patrol(self) -> None:
        """Look for devices without files, now and again."""
        raise NotImplementedError

    def say_once(self, key: str, message: str, *arguments: object) -> None:
        """Log an error, but not the same one at each fop."""
        if key not in self._says_once:
            self._says_once.add(key)
            self.log.error(message, *arguments)

    @property
    def root(self) -> Inode | None:
        """The inode of the brick's root, for the table it is in; None before there is a client."""
        table = self._this.itable
        above = self._this
        while not table and above.parents:
            above = above.parents.xlator
            table = above.itable
        if not table:
            return None
        return self._view(Inode, table.root)  # type: ignore[no-any-return]
