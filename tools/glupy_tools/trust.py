"""Whether anybody but root can change files: bricks run as root, and load what they find there."""

import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_LINKS = 40  # the kernel's limit for one path (path_resolution(7))


def changeable(path: Path) -> str | None:
    """Say in a line how others than root can change this file, or what is in this folder.

    Looks at everything on the way from / (through symbolic links), and at everything below. None
    if only root can; a path that does not exist is as safe as what is on the way to it.
    """
    for reason in _reasons(path):
        return reason
    return None


def _reasons(path: Path) -> Iterator[str]:
    yield from _on_the_way(path)
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            entry = Path(folder, name)
            if entry.is_symlink():
                yield from _on_the_way(entry)
            else:
                yield from _reason(entry)


def _on_the_way(path: Path) -> Iterator[str]:
    """Walk a path as the kernel does, looking at each name on it."""
    here, links = Path("/"), 0
    todo = deque((Path.cwd() / path).parts)
    while todo:
        here = here.parent if (part := todo.popleft()) == ".." else here / part
        yield from _reason(here, holds_more=bool(todo))
        if here.is_symlink():
            links += 1
            if links > _LINKS:
                yield f"{path}: too many symbolic links"
                return
            todo.extendleft(reversed(here.readlink().parts))
            here = here.parent


def _reason(path: Path, *, holds_more: bool = False) -> Iterator[str]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if status.st_uid != 0:
        yield f"{path}: belongs to uid {status.st_uid}"
    if stat.S_ISLNK(status.st_mode):
        return  # nobody can write to a link
    # In a sticky folder such as /tmp others cannot take away what belongs to root, but they can
    # add to it.
    kept = holds_more and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept:
        who = "everybody" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
        yield f"{path}: {who} can write to it"
