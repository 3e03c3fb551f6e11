"""What bricks have of a volume's files, and in what two of them differ."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .load import digest


class Copy(NamedTuple):
    """What a brick has of a file or folder; its copies are the same."""

    mode: int
    size: int | None
    contents: str | None
    xattrs: dict[str, bytes]


_TIMES = "trusted.glusterfs.mdata"

# Each brick has its own, or counts by itself. Records of names (gfid2path) are not healed: a kill
# may come before one is made, and C posix keeps some of names that are gone (docs/differences.md).
_OWN = (
    "trusted.gfid2path.",
    "trusted.glusterfs.volume-id",
    _TIMES,
    "trusted.glusterfs.quota.",
    "trusted.bit-rot.",
)
_PENDING = "trusted.afr.", "trusted.ec.dirty"


_VERSION = "trusted.ec.version"  # zeros are as good as none


def copies(brick: Path, *, data: bool) -> dict[str, Copy]:
    """All that a brick has. AssertionError if it says that something is to be healed."""
    found = {}
    for path in sorted(brick.rglob("*")):
        name = path.relative_to(brick)
        # with what is healed there, by names of its own
        if name.parts[0].startswith((".glusterfs", ".trashcan")):
            continue
        status = path.lstat()
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        pending = {key: value for key, value in xattrs.items() if key.startswith(_PENDING)}
        assert not any(map(any, pending.values())), f"{path}: {pending}"
        is_file = stat.S_ISREG(status.st_mode)
        found[str(name)] = Copy(
            status.st_mode,
            status.st_size if is_file else None,
            digest(path.read_bytes()) if is_file and data else None,
            {
                key: value
                for key, value in xattrs.items()
                if not key.startswith(_OWN + _PENDING) and (key != _VERSION or any(value))
            },
        )
    return found


def differences(first: dict[str, Copy], other: dict[str, Copy]) -> list[str]:
    """What two bricks have otherwise, a line each."""
    found = [f"{name}: on one of them only" for name in sorted(first.keys() ^ other.keys())]
    for name in sorted(first.keys() & other.keys()):
        one, two = (
            copy._asdict() | copy.xattrs | {"xattrs": None} for copy in (first[name], other[name])
        )
        for key in one.keys() | two.keys():
            if one.get(key) != two.get(key):
                found.append(f"{name}: {key}: {one.get(key)!r}, {two.get(key)!r}")
    return found


def times_differ(bricks: Sequence[Path], name: str | Path) -> bool:
    """Whether bricks have other times for clients of a file or folder."""
    paths = [brick / name for brick in bricks]
    times = {
        os.getxattr(path, _TIMES, follow_symlinks=False)
        if _TIMES in os.listxattr(path, follow_symlinks=False)
        else None
        for path in paths
    }
    return len(times) > 1


def told_of(path: Path) -> str:
    """What a brick has of a file or folder, for who reads of a heal that failed."""
    try:
        status = path.lstat()
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False).hex()
            for key in os.listxattr(path, follow_symlinks=False)
        }
    except OSError as error:
        return str(error)
    return f"{stat.filemode(status.st_mode)}, {status.st_size} bytes, {xattrs}"
