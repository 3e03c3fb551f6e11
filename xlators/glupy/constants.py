"""Numbers and small functions of GlusterFS's headers and library, for translators."""

from __future__ import annotations

from glupy._bridge import ffi, lib

GF_SET_ATTR_MODE: int = lib.GF_SET_ATTR_MODE
GF_SET_ATTR_UID: int = lib.GF_SET_ATTR_UID
GF_SET_ATTR_GID: int = lib.GF_SET_ATTR_GID
GF_SET_ATTR_SIZE: int = lib.GF_SET_ATTR_SIZE
GF_SET_ATTR_ATIME: int = lib.GF_SET_ATTR_ATIME
GF_SET_ATTR_MTIME: int = lib.GF_SET_ATTR_MTIME
GF_SET_ATTR_CTIME: int = lib.GF_SET_ATTR_CTIME
GF_ATTR_ATIME_NOW: int = lib.GF_ATTR_ATIME_NOW
GF_ATTR_MTIME_NOW: int = lib.GF_ATTR_MTIME_NOW
MDATA_CTIME: int = lib.MDATA_CTIME
MDATA_MTIME: int = lib.MDATA_MTIME
MDATA_ATIME: int = lib.MDATA_ATIME
MDATA_PAR_CTIME: int = lib.MDATA_PAR_CTIME
MDATA_PAR_MTIME: int = lib.MDATA_PAR_MTIME
MDATA_PAR_ATIME: int = lib.MDATA_PAR_ATIME
EVENT_POSIX_SAME_GFID: int = lib.EVENT_POSIX_SAME_GFID
EVENT_POSIX_ALREADY_PART_OF_VOLUME: int = lib.EVENT_POSIX_ALREADY_PART_OF_VOLUME
EVENT_POSIX_BRICK_NOT_IN_VOLUME: int = lib.EVENT_POSIX_BRICK_NOT_IN_VOLUME
EVENT_POSIX_BRICK_VERIFICATION_FAILED: int = lib.EVENT_POSIX_BRICK_VERIFICATION_FAILED
EVENT_POSIX_ACL_NOT_SUPPORTED: int = lib.EVENT_POSIX_ACL_NOT_SUPPORTED
EVENT_POSIX_HEALTH_CHECK_FAILED: int = lib.EVENT_POSIX_HEALTH_CHECK_FAILED
GF_SEEK_DATA: int = lib.GF_SEEK_DATA
GF_SEEK_HOLE: int = lib.GF_SEEK_HOLE
GD_OP_VERSION_MAX: int = lib.GD_OP_VERSION_MAX
"""The installed GlusterFS: 100000 is 10.0, 110000 is 11.0."""
IATT_GFID: int = lib.IATT_GFID
IATT_INO: int = lib.IATT_INO
GF_XATTROP_ADD_ARRAY: int = lib.GF_XATTROP_ADD_ARRAY
GF_XATTROP_ADD_ARRAY64: int = lib.GF_XATTROP_ADD_ARRAY64
GF_XATTROP_ADD_ARRAY_WITH_DEFAULT: int = lib.GF_XATTROP_ADD_ARRAY_WITH_DEFAULT
GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT: int = lib.GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT
GF_XATTROP_GET_AND_SET: int = lib.GF_XATTROP_GET_AND_SET
GF_CLIENT_PID_MAX: int = lib.GF_CLIENT_PID_MAX
GF_SERVER_PID_TRASH: int = lib.GF_SERVER_PID_TRASH


def xxh64(data: bytes, seed: int = 0) -> str:
    """Return the xxHash64 of ``data`` as 16 hexadecimal digits (gf_xxh64_wrapper)."""
    digits = ffi.new("char[]", 17)
    lib.quick_xxh64(data, len(data), seed, digits)
    return str(ffi.string(digits).decode("ascii"))


def bytesize(text: str) -> int:
    """Return the bytes that ``10GB``, ``1.5MB`` or ``4096`` mean, KB being 2¹⁰.

    By libglusterfs's own gf_string2bytesize_uint64; ValueError for what it does not take.
    """
    found = ffi.new("uint64_t *")
    if not text or lib.gf_string2bytesize_uint64(text.encode(), found):
        raise ValueError(f"{text!r} is no size, such as 10GB")
    return int(found[0])
