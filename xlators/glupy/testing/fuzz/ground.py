"""A target that is up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glupy.testing.fuzz.journal import Journal
from glupy.testing.fuzz.model import FileModel, Promises
from glupy.testing.fuzz.side import AnyClient
from glupy.testing.fuzz.trouble import Trouble

HIDDEN = {".", "..", ".trashcan", ".shard", ".glusterfs", "lost+found"}
"""Names in a root that are not a user's."""


@dataclass
class Ground:
    """A target that is up: clients of its root, and what it promises.

    ``backends`` are folders in which each file is as it is on the target, on this machine.
    ``kept`` are the files that a sequence finds and leaves as they were (empty, unless it is
    read-only); apart from them the root is empty. ``faults`` are those of `glupy fuzz` that it was
    opened with, ``trouble`` makes them. ``redundant``: the first brick may fail unnoticed; then it
    is ``mistrusted``, and no backend any more. ``spoiled``: what a sequence has left could not be
    removed. ``boundaries`` are worth trying, beside those of `strategies`. ``journal`` is told of
    each call.
    """

    clients: Sequence[AnyClient]
    promises: Promises
    block_size: int
    backends: Sequence[Path] = ()
    kept: Mapping[str, FileModel] = field(default_factory=dict)
    faults: frozenset[str] = frozenset()
    trouble: Trouble = field(default_factory=Trouble)
    redundant: bool = False
    mistrusted: bool = False
    spoiled: bool = False
    boundaries: Sequence[int] = ()
    journal: Journal | None = None

    @property
    def full(self) -> bool:
        return "full" in self.faults

    @property
    def readonly(self) -> bool:
        return "readonly" in self.faults


def names_of(client: AnyClient) -> set[str]:
    """The names in a root that a user could have made."""
    return {entry.name for entry in client.readdir("/")} - HIDDEN
