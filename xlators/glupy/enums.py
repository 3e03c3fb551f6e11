"""Names for numbers that GlusterFS's headers define; the values are the compiler's.

``Event`` is what ``notify`` gets (GF_EVENT_CHILD_UP is ``Event.CHILD_UP``), ``LogLevel`` what
GlusterFS logs with, ``DataType`` how a dict value is typed, ``FileType`` an iatt's ``ia_type``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from glupy._bridge import ffi


def _enum(name: str, ctype: str, prefix: str) -> Any:
    members = ffi.typeof(ctype).relements
    return IntEnum(name, {key.removeprefix(prefix): value for key, value in members.items()})


class FileType(IntEnum):
    """``ia_type_t`` of iatt.h."""

    INVAL = 0
    IFREG = 1
    IFDIR = 2
    IFLNK = 3
    IFBLK = 4
    IFCHR = 5
    IFIFO = 6
    IFSOCK = 7


if TYPE_CHECKING:

    class Event(IntEnum):
        PARENT_UP = 1
        PARENT_DOWN = 17
        CHILD_UP = 5
        CHILD_DOWN = 6
        CHILD_CONNECTING = 7
        CLEANUP = 9
        AUTH_FAILED = 15
        UPCALL = 19
        SOME_DESCENDENT_DOWN = 21
        SOME_DESCENDENT_UP = 23
        CHILD_PING = 24

    class LogLevel(IntEnum):
        NONE = 0
        EMERG = 1
        ALERT = 2
        CRITICAL = 3
        ERROR = 4
        WARNING = 5
        NOTICE = 6
        INFO = 7
        DEBUG = 8
        TRACE = 9

    class DataType(IntEnum):
        UNKNOWN = 0
        STR_OLD = 1
        INT = 2
        UINT = 3
        DOUBLE = 4
        STR = 5
        PTR = 6
        GFUUID = 7
        IATT = 8
        MDATA = 9

    class OptionType(IntEnum):
        ANY = 0
        STR = 1
        INT = 2
        SIZET = 3
        PERCENT = 4
        PERCENT_OR_SIZET = 5
        BOOL = 6
        PATH = 8
        TIME = 9
        DOUBLE = 10

else:
    Event = _enum("Event", "glusterfs_event_t", "GF_EVENT_")
    LogLevel = _enum("LogLevel", "gf_loglevel_t", "GF_LOG_")
    DataType = _enum("DataType", "gf_dict_data_type_t", "GF_DATA_TYPE_")
    OptionType = _enum("OptionType", "volume_option_type_t", "GF_OPTION_TYPE_")
