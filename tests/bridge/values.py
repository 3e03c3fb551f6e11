"""Views as the JSON that the two ends write (`describe`), and back again (`build`).

`describe` reads everything that a view shows; `build` makes a value of a handler's own from it.
Kinds are those of `glupy.fops`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from glupy import Dict, Dirent, Fd, Flock, Frame, Gfid, Iatt, Inode, IoBuffer, Loc, Statvfs
from glupy._bridge import ffi
from glupy.enums import DataType
from glupy.views import Lease, Lock, Mdata

IATT_NUMBERS = [
    "ia_flags",
    "ia_ino",
    "ia_dev",
    "ia_rdev",
    "ia_size",
    "ia_nlink",
    "ia_uid",
    "ia_gid",
    "ia_blksize",
    "ia_blocks",
    "ia_atime",
    "ia_mtime",
    "ia_ctime",
    "ia_btime",
    "ia_atime_nsec",
    "ia_mtime_nsec",
    "ia_ctime_nsec",
    "ia_btime_nsec",
    "ia_attributes",
    "ia_attributes_mask",
]
STATVFS_NUMBERS = [
    "f_bsize",
    "f_frsize",
    "f_blocks",
    "f_bfree",
    "f_bavail",
    "f_files",
    "f_ffree",
    "f_favail",
    "f_fsid",
    "f_flag",
    "f_namemax",
]
FLOCK_NUMBERS = ["l_type", "l_whence", "l_start", "l_len", "l_pid"]
LEASE_NUMBERS = ["cmd", "lease_type", "lease_flags"]
FILE_TYPES = [0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK]
FILE_TYPES += [stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK]

Json = Any


def address_of(c: Any) -> int:
    """Return a cffi pointer as a number."""
    return int(ffi.cast("uintptr_t", c))


def _numbers(view: Any, names: list[str]) -> dict[str, Json]:
    return {name: getattr(view, name) for name in names}


def _string(value: str | None) -> Json:
    return None if value is None else os.fsencode(value).hex()


def describe_frame(frame: Frame) -> Json:
    seconds, nanoseconds = frame.ctime
    return {
        "unique": frame.unique,
        "uid": frame.uid,
        "gid": frame.gid,
        "pid": frame.pid,
        "groups": list(frame.groups),
        "lk_owner": frame.lk_owner.hex(),
        "client": None if frame.client is None else _string(frame.client.uid),
        "flags": frame.flags,
        "op": frame.op,
        "seconds": seconds,
        "nanoseconds": nanoseconds,
    }


def _inode(inode: Inode | None) -> Json:
    if inode is None:
        return None
    return {"address": address_of(inode.c), "gfid": inode.gfid.hex(), "ia_type": inode.ia_type}


def _fd(fd: Fd) -> Json:
    return {
        "address": address_of(fd.c),
        "inode": _inode(fd.inode),
        "flags": fd.flags,
        "pid": fd.pid,
        "anonymous": int(fd.anonymous),
    }


def _loc(loc: Loc) -> Json:
    return {
        "path": _string(loc.path),
        "name": _string(loc.name),
        "inode": _inode(loc.inode),
        "parent": _inode(loc.parent),
        "gfid": loc.gfid.hex(),
        "pargfid": loc.pargfid.hex(),
    }


def _iatt(iatt: Iatt) -> Json:
    assert iatt.mode & ~0o7777 == FILE_TYPES[iatt.ia_type]
    return {
        **_numbers(iatt, IATT_NUMBERS),
        "ia_gfid": iatt.ia_gfid.hex(),
        "ia_type": iatt.ia_type,
        "ia_prot": iatt.mode & 0o7777,
    }


def _dict(value: Dict) -> Json:
    pairs = {}
    for key, it in value.items():
        shown: Json = it
        if isinstance(it, str):
            shown = _string(it)
        elif isinstance(it, bytes):  # Gfid too
            shown = it.hex()
        elif isinstance(it, Iatt):
            shown = _iatt(it)
        elif isinstance(it, Mdata):
            shown = it._asdict()
        stored = value.get_bytes(key)
        assert stored is not None
        pairs[key] = {"type": value.type_of(key), "value": shown, "bytes": stored.hex()}
    return {"address": address_of(value.c), "pairs": pairs}


def _flock(flock: Flock) -> Json:
    return {**_numbers(flock, FLOCK_NUMBERS), "l_owner": flock.l_owner.hex()}


def _lock(lock: Lock) -> Json:
    return {
        "flock": _flock(lock.flock),
        "client_uid": _string(lock.client_uid),
        "lk_flags": lock.lk_flags,
    }


def _dirent(entry: Dirent) -> Json:
    return {
        "d_name": _string(entry.d_name),
        "d_ino": entry.d_ino,
        "d_off": entry.d_off,
        "d_len": len(os.fsencode(entry.d_name)),
        "d_type": entry.d_type,
        "d_stat": None if entry.d_stat is None else _iatt(entry.d_stat),
        "dict": None if entry.dict is None else _dict(entry.dict),
        "inode": _inode(entry.inode),
    }


_DESCRIBE: dict[str, Callable[[Any], Json]] = {
    "checksum": bytes.hex,
    "dict": _dict,
    "dirents": lambda entries: [_dirent(each) for each in entries],
    "fd": _fd,
    "flock": _flock,
    "iatt": _iatt,
    "inode": _inode,
    "iobref": lambda iobref: {"address": address_of(iobref.c), "used": iobref.used},
    "lease": lambda it: {**_numbers(it, LEASE_NUMBERS), "lease_id": it.lease_id.hex()},
    "loc": _loc,
    "locks": lambda locks: [_lock(each) for each in locks],
    "opaque": address_of,
    "scalar": int,
    "statvfs": lambda it: _numbers(it, STATVFS_NUMBERS),
    "string": _string,
    "vector": lambda vector: [
        {"address": address, "data": bytes(part).hex()}
        for address, part in zip(vector.addresses(), vector, strict=True)
    ],
}


def describe(fields: list[tuple[str, str]], values: Any) -> dict[str, Json]:
    """Return what `values`, of the names and kinds `fields`, show."""
    return {
        name: None if value is None and kind != "opaque" else _DESCRIBE[kind](value)
        for (name, kind), value in zip(fields, values, strict=True)
    }


def _filled(view: Any, json: Json, names: list[str]) -> Any:
    for name in names:
        setattr(view, name, json[name])
    return view


def _text(json: Json) -> str | None:
    return None if json is None else os.fsdecode(bytes.fromhex(json))


def _build_iatt(json: Json) -> Iatt:
    iatt: Iatt = _filled(Iatt(), json, IATT_NUMBERS)
    iatt.ia_gfid = bytes.fromhex(json["ia_gfid"])
    iatt.mode = FILE_TYPES[json["ia_type"]] | json["ia_prot"]
    return iatt


def _build_dict(json: Json) -> Dict:
    made = Dict()
    for key, pair in json["pairs"].items():
        value = pair["value"]
        match pair["type"]:
            case DataType.INT:
                made[key] = value
            case DataType.UINT:
                made.set_uint(key, value, 64)
            case DataType.DOUBLE:
                made[key] = float(value)
            case DataType.STR:
                made[key] = os.fsdecode(bytes.fromhex(value))
            case DataType.GFUUID:
                made[key] = Gfid(bytes.fromhex(value))
            case DataType.IATT:
                made[key] = _build_iatt(value)
            case DataType.MDATA:
                made[key] = Mdata(**value)
            case _:
                made[key] = bytes.fromhex(value)
    return made


def _build_flock(json: Json) -> Flock:
    flock: Flock = _filled(Flock(), json, FLOCK_NUMBERS)
    flock.l_owner = bytes.fromhex(json["l_owner"])
    return flock


def _build_lease(json: Json) -> Lease:
    lease: Lease = _filled(Lease(), json, LEASE_NUMBERS)
    lease.lease_id = bytes.fromhex(json["lease_id"])
    return lease


def _known(kind: str) -> Callable[[Json], Any]:
    """Return what makes a view of an inode or fd that an end has made, and still holds."""
    cls, ctype = {"inode": (Inode, "inode_t *"), "fd": (Fd, "fd_t *")}[kind]

    def build(json: Json) -> Any:
        return None if json is None else cls(ffi.cast(ctype, json["address"]))

    return build


_known_inode = _known("inode")


def _build_loc(json: Json) -> Loc:
    return Loc(
        path=_text(json["path"]),
        name=_text(json["name"]),
        inode=_known_inode(json["inode"]),
        parent=_known_inode(json["parent"]),
        gfid=bytes.fromhex(json["gfid"]),
        pargfid=bytes.fromhex(json["pargfid"]),
    )


def _build_dirent(json: Json) -> Dirent:
    return Dirent(
        os.fsdecode(bytes.fromhex(json["d_name"])),
        json["d_ino"],
        json["d_off"],
        json["d_type"],
        _build_iatt(json["d_stat"]),
        None if json["dict"] is None else _build_dict(json["dict"]),
        _known_inode(json["inode"]),
    )


def _build_lock(json: Json) -> Lock:
    return Lock(_build_flock(json["flock"]), _text(json["client_uid"]), json["lk_flags"])


def _build_vector(json: Json) -> list[Any]:
    """Bytes for every second element, an IoBuffer for the others: both ways of giving them."""
    parts: list[Any] = []
    for each in json:
        data = bytes.fromhex(each["data"])
        if len(parts) % 2:
            parts.append(data)
        else:
            buffer = IoBuffer(len(data))
            buffer.data[:] = data
            parts.append(buffer)
    return parts


_BUILD: dict[str, Callable[[Json], Any]] = {
    "checksum": bytes.fromhex,
    "dict": _build_dict,
    "dirents": lambda json: [_build_dirent(each) for each in json],
    "fd": _known("fd"),
    "flock": _build_flock,
    "iatt": _build_iatt,
    "inode": _known_inode,
    "iobref": lambda _: None,  # the vector's buffers bring theirs
    "lease": _build_lease,
    "loc": _build_loc,
    "locks": lambda json: [_build_lock(each) for each in json],
    "opaque": lambda json: ffi.cast("void *", json),
    "scalar": int,
    "statvfs": lambda json: _filled(Statvfs(), json, STATVFS_NUMBERS),
    "string": _text,
    "vector": _build_vector,
}


def build(fields: list[tuple[str, str]], json: Json) -> dict[str, Any]:
    """Return a value of the translator's own for each of `fields`."""
    return {name: None if json[name] is None else _BUILD[kind](json[name]) for name, kind in fields}


def without_addresses(json: Json) -> Json:
    """Return the same without what differs between two copies of one value."""
    if isinstance(json, list):
        return [without_addresses(each) for each in json]
    if isinstance(json, dict):
        return {key: without_addresses(it) for key, it in json.items() if key != "address"}
    return json
