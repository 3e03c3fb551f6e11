"""The text of a volfile that somebody wrote, changed no more than a change of its graph takes."""

import os
from dataclasses import replace
from pathlib import Path

from .graph import Graph
from .syntax import Volume, volumes
from .words import quote
from .xlator import Xlator


def revise(text: str, graph: Graph) -> str:
    """The volfile `text`, changed to define `graph`.

    A volume that stays as it is keeps its spelling and its comments: those before it and those
    inside. One with as many subvolumes, but others, keeps the rest. Of one that changes otherwise
    the comments before it are kept; a volume that goes takes them along. VolfileError if `text` is
    no volfile.
    """
    pieces: dict[str, tuple[int, Volume]] = {}
    begin = 0
    for volume in volumes(text):
        pieces[volume.xlator.name] = begin, volume
        begin = volume.end
    revised = ""
    follows = 0  # where the text goes on behind what was taken of it
    for xlator in graph:
        start, old = pieces.get(xlator.name, (-1, None))
        if start != follows and revised and not revised.endswith("\n"):
            revised += "\n"
        if old is None:
            revised += ("\n" if revised else "") + str(xlator)
        else:
            revised += _piece(text, start, old, xlator)
            follows = old.end
    if begin != follows and not revised.endswith("\n"):
        revised += "\n"
    return revised + text[begin:]


def _piece(text: str, begin: int, old: Volume, new: Xlator) -> str:
    """What stood for a volume since `begin`, saying what the volume is now."""
    changed = replace(old.xlator, subvolumes=new.subvolumes) != new
    if changed or len(old.subvolumes) != len(new.subvolumes):
        return text[begin : old.start] + str(new)
    piece = ""
    for word, subvolume in zip(old.subvolumes, new.subvolumes, strict=True):
        spelled = text[word.start : word.end] if word.text == subvolume else quote(subvolume)
        piece += text[begin : word.start] + spelled
        begin = word.end
    return piece + text[begin : old.end]


def replace_file(path: Path, text: str) -> None:
    """Give a file another text in one step: whoever reads it finds the old one or the new one.

    Its mode and owner stay; a link stays a link. Raises OSError and leaves the file as it was.
    """
    path = path.resolve(strict=True)
    status = path.stat()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o7777)
            os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        beside.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
