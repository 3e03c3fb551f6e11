"""What can be wrong with a brick: the kinds, and a finding of one of them at a path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """A kind of damage: its stable name, what it means, and what ``--repair`` does about it."""

    slug: str
    meaning: str
    repair: str

    def __new__(cls, slug: str, meaning: str, repair: str) -> Kind:
        kind = object.__new__(cls)
        kind._value_ = kind.slug = slug
        kind.meaning, kind.repair = meaning, repair
        return kind

    VOLUME_ID = (
        "volume-id",
        "The brick's directory does not say to which volume it belongs; it does not start.",
        "set, if `--volume-id` says which; left, if another volume's is there",
    )
    ROOT_GFID = (
        "root-gfid",
        "The brick's directory has not the gfid of a volume's root.",
        "set, if there is none; left, if it is another",
    )
    ROOT_HANDLE = (
        "root-handle",
        "The root's handle does not lead to the brick's directory; the brick does not start.",
        "rewritten",
    )
    GFID_MISSING = (
        "gfid-missing",
        "A file in the brick has no gfid: it was put there behind GlusterFS's back, or lost it.",
        "set, if a handle tells it; else left: the first lookup through the volume gives it one",
    )
    GFID_MALFORMED = (
        "gfid-malformed",
        "A file's gfid is not 16 bytes, all zeros, or the root's: no client can use the file.",
        "set, if a handle tells it; else left",
    )
    GFID_MISMATCH = (
        "gfid-mismatch",
        "A file's gfid and its handle's name differ: one of them was changed.",
        "left: another replica, or a backup, knows which is right",
    )
    GFID_DUPLICATE = (
        "gfid-duplicate",
        "A second file has a gfid that is another file's: it was copied with its xattrs.",
        "left: only you know which is the copy. Removing the copy's `trusted.gfid` is enough",
    )
    HANDLE_MISSING = (
        "handle-missing",
        "A file or directory has no handle: it is not found by its gfid.",
        "made",
    )
    HANDLE_ORPHAN = (
        "handle-orphan",
        "A handle of a file that has no name in the brick: it takes space, and nobody sees it.",
        "moved to `.glusterfs/lost+found`, data and xattrs as they are",
    )
    HANDLE_MISMATCH = (
        "handle-mismatch",
        "A handle is a link to another file than the one with that gfid.",
        "replaced by the right link; another file's only link goes to `.glusterfs/lost+found`",
    )
    HANDLE_KIND = (
        "handle-kind",
        "A handle is of the wrong kind: a directory's is a symbolic link, any other a hard link.",
        "replaced by the right one; what had its place goes to `.glusterfs/lost+found`",
    )
    HANDLE_MISPLACED = (
        "handle-misplaced",
        "A handle lies in a hash directory that its gfid does not begin with: nobody finds it.",
        "removed if the file has other links; else moved to its place",
    )
    HANDLE_MALFORMED = (
        "handle-malformed",
        "A directory's handle is not of the form ../../xx/yy/PARENT-GFID/NAME.",
        "rewritten; removed, if there is no directory with that gfid",
    )
    HANDLE_DANGLING = (
        "handle-dangling",
        "A directory's handle leads to a place where there is no directory.",
        "rewritten; removed, if there is no directory with that gfid",
    )
    HANDLE_LOOP = (
        "handle-loop",
        "A directory's handle leads, through its ancestors' handles, back to itself.",
        "rewritten; removed, if there is no directory with that gfid",
    )
    HANDLE_ASTRAY = (
        "handle-astray",
        "A directory's handle leads to a directory with another gfid.",
        "rewritten; removed, if there is no directory with that gfid",
    )
    GFID2PATH_MALFORMED = (
        "gfid2path-malformed",
        "A trusted.gfid2path xattr is not PARENT-GFID/NAME, or its key is not that value's hash.",
        "removed",
    )
    GFID2PATH_STALE = (
        "gfid2path-stale",
        "A trusted.gfid2path xattr records a name that is not the file's.",
        "removed",
    )
    GFID2PATH_MISSING = (
        "gfid2path-missing",
        "A name of a file is not recorded in a trusted.gfid2path xattr, as names here are.",
        "set",
    )
    MDATA_MALFORMED = (
        "mdata-malformed",
        "The xattr trusted.glusterfs.mdata cannot be times: clients are shown nonsense.",
        "removed: the file shows the times of the file system",
    )
    MAPPING_MALFORMED = (
        "mapping-malformed",
        "The xattr user.glusterfs.bd names no kind of device: the file is taken for a plain one.",
        "left: set it anew, or remove it, through the volume",
    )
    MAPPED_DATA = (
        "mapped-data",
        "A file that is mapped to a block device has data of its own, which nobody reads.",
        "left: if it was written while user/pybd was away, only you know which data is right",
    )
    UNLINK_LEFTOVER = (
        "unlink-leftover",
        "A file without names that was open when the brick stopped still takes space.",
        "removed, as the brick does when it starts",
    )
    LANDFILL_LEFTOVER = (
        "landfill-leftover",
        "A tree that was removed waits in the landfill and still takes space.",
        "removed with its handles, as the brick's janitor does",
    )
    UNEXPECTED_ENTRY = (
        "unexpected-entry",
        "Something lies among the handles that is none.",
        "moved to `.glusterfs/lost+found`",
    )
    OTHER_FILE_SYSTEM = (
        "other-file-system",
        "Another file system is mounted inside the brick: its files cannot have handles.",
        "left: unmount it",
    )
    UNREADABLE = (
        "unreadable",
        "Something could not be examined: the kernel reports an error.",
        "left: see the kernel's log, and check the file system",
    )


class Finding(NamedTuple):
    """One thing that is wrong. Equal findings are the same thing seen twice."""

    kind: Kind
    path: bytes
    """From the brick's directory; ``.`` is the directory itself."""
    detail: str = ""
    """What the kind's meaning does not say: which gfid, which other path. May be empty."""
    gfid: bytes | None = None
    """The file's; with the kinds of handles, the one that the handle is for."""
    record: tuple[str, bytes] | None = None
    """The name and the value of the gfid2path xattr that is meant."""
    parent: bytes | None = None
    """The gfid of the directory that ``path`` is in, where the repair needs it."""

    def __str__(self) -> str:
        return f"{self.kind.meaning} ({self.detail})" if self.detail else self.kind.meaning


def shown(path: bytes) -> str:
    r"""Return a path as text that every terminal and JSON reader takes.

    Bytes that are not printable UTF-8 are written ``\xNN``, a backslash ``\\``: ``printf %b``
    turns it back into the very bytes.
    """
    text = path.decode("utf-8", "surrogateescape")
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def path_of(parts: Iterable[bytes]) -> bytes:
    """Return the path of some names, ``.`` if there are none."""
    return b"/".join(parts) or os.fsencode(os.curdir)
