"""The calls that a sequence is made of. Each says what it should do, and does it on a side.

A step has all that it needs in its fields, so a sequence is a list of steps: it can be printed,
stored and done again, on the same target or another.
"""

from glupy.testing.fuzz.steps.base import (
    FLAGS,
    NOTHING,
    ImpossibleError,
    OnHandle,
    Plan,
    Step,
)
from glupy.testing.fuzz.steps.data import (
    Copy,
    Discard,
    Fallocate,
    Fstat,
    OnRange,
    Read,
    Seek,
    Sync,
    Truncate,
    Write,
    Zerofill,
)
from glupy.testing.fuzz.steps.names import (
    Close,
    Create,
    Link,
    Open,
    Rename,
    Stat,
    TruncatePath,
    Unlink,
)
from glupy.testing.fuzz.steps.rights import Chmod, Chown
from glupy.testing.fuzz.steps.times import LONG_AGO, Age, Wait, coarse_time
from glupy.testing.fuzz.steps.together import Together
from glupy.testing.fuzz.steps.trouble import AsInternal, Inject, Kill, Start
from glupy.testing.fuzz.steps.unopened import AnonymousRead, AnonymousWrite
from glupy.testing.fuzz.steps.xattrs import (
    USER,
    Fgetxattr,
    Flistxattr,
    Fremovexattr,
    Fsetxattr,
    Getxattr,
    Removexattr,
    Setxattr,
)

Writing = Write | AnonymousWrite
"""What returns how many of its bytes were written."""

__all__ = [
    "FLAGS",
    "LONG_AGO",
    "NOTHING",
    "USER",
    "Age",
    "AnonymousRead",
    "AnonymousWrite",
    "AsInternal",
    "Chmod",
    "Chown",
    "Close",
    "Copy",
    "Create",
    "Discard",
    "Fallocate",
    "Fgetxattr",
    "Flistxattr",
    "Fremovexattr",
    "Fsetxattr",
    "Fstat",
    "Getxattr",
    "ImpossibleError",
    "Inject",
    "Kill",
    "Link",
    "OnHandle",
    "OnRange",
    "Open",
    "Plan",
    "Read",
    "Removexattr",
    "Rename",
    "Seek",
    "Setxattr",
    "Start",
    "Stat",
    "Step",
    "Sync",
    "Together",
    "Truncate",
    "TruncatePath",
    "Unlink",
    "Wait",
    "Write",
    "Writing",
    "Zerofill",
    "coarse_time",
]
