"""Whose a device is: its name and its tag hold the brick, and the name the file's gfid."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import NamedTuple
from urllib.parse import quote, unquote

_PREFIX = "glupy"
_NAME = re.compile(
    rf"{_PREFIX}\.(?P<brick>[0-9a-f]{{16}})\.(?P<gfid>[0-9a-f-]{{36}})(?P<half>\.half)?"
)
_TAG_BYTES = 900  # LVM takes 1024


class Identity(NamedTuple):
    """A brick: the id of its volume (empty in a test brick) and its directory.

    Replicas on one host differ by the directory; so do a restored snapshot and a copied brick from
    what they were made of. Their devices have other names, and other tags.
    """

    volume_id: str
    directory: str

    @property
    def tag(self) -> str:
        """What a device says of its owner: ``VOLUME-ID:DIRECTORY``, as LVM's tags may be."""
        path = quote(self.directory, safe="/", errors="surrogateescape")
        whole = f"{self.volume_id}:{path}".replace("~", "%7E").replace("%", "=")
        if len(whole) <= _TAG_BYTES:
            return whole
        return f"{self.volume_id}:{hashlib.sha256(whole.encode()).hexdigest()}"

    @property
    def brick(self) -> str:
        """16 hexadecimal digits that stand for the brick in the names of its devices."""
        return hashlib.sha256(self._words).hexdigest()[:16]

    @property
    def _words(self) -> bytes:
        return f"{self.volume_id}\0{self.directory}".encode("utf-8", "surrogateescape")

    def name(self, gfid: bytes) -> str:
        """Return the name of the device of a file."""
        return f"{_PREFIX}.{self.brick}.{uuid.UUID(bytes=bytes(gfid))}"

    def half(self, gfid: bytes) -> str:
        """Return the name it has while it is being made or given up.

        Whether it is then the file's, the file's xattr says: with it a device under this name is
        the file's (and gets its real name), without it is nobody's.
        """
        return f"{self.name(gfid)}.half"


def directory(tag: str) -> str | None:
    """Return the brick's directory that a tag tells of; None if it was too long for a tag."""
    found = unquote(tag.partition(":")[2].replace("=", "%"), errors="surrogateescape")
    return found if found.startswith("/") else None


class Name(NamedTuple):
    """The parts of a device's name."""

    brick: str
    gfid: bytes
    half: bool


def parse(name: str) -> Name | None:
    """Return the parts of a device's name; None if it is none of ours."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    try:
        gfid = uuid.UUID(found["gfid"]).bytes
    except ValueError:
        return None
    return Name(found["brick"], gfid, bool(found["half"]))
