"""What a check remembers of a brick: little for each file, more only of what is in doubt."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyposix.check.findings import Finding


class Inodes:
    """A set of inode numbers, as bits: those of files made together lie side by side.

    On ext4 and xfs, whose inodes lie in chunks of 64, it takes 2 to 4 bytes a file; where they are
    scattered, at most 150.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}

    def add(self, ino: int) -> None:
        """Take a number in."""
        chunk = ino >> 6
        self._chunks[chunk] = self._chunks.get(chunk, 0) | 1 << (ino & 63)

    def __contains__(self, ino: int) -> bool:
        return bool(self._chunks.get(ino >> 6, 0) >> (ino & 63) & 1)


@dataclass
class Known:
    """What was learnt from names, for the handles that come after them."""

    sound: Inodes = field(default_factory=Inodes)
    """Handles that names have shown to be theirs; a directory's counts as its link's inode."""
    quiet: Inodes = field(default_factory=Inodes)
    """Handles of what is removed, or in the trash: they are what they are."""
    blamed: set[bytes] = field(default_factory=set)
    """gfids whose handles were said to be wrong: that is enough."""
    lost: set[bytes] = field(default_factory=set)
    """gfids of directories that their handles do not lead to."""
    doubts: dict[int, Finding] = field(default_factory=dict)
    """By inode number: a name's finding that a handle may explain, so held back until then."""
