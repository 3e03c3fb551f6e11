"""A libgfapi client for tests: every fop that libgfapi sends, by each way there is, nothing hidden.

What has no method is the same fop by the same code of libgfapi, or none:
tests/unit/test_testing_gfapi_headers.py has a list with the reasons.

A call that fails raises `OSError` with the errno that libgfapi gave. Attributes are
`os.stat_result`, so that they compare with `os.stat` of the file on the brick. Where libgfapi
passes on the attributes before and after a fop, so do we, as `Reply.pre` and `Reply.post`; they
are None if the reply carried none, or not all that stat(2) has.

Offsets and lengths are bytes, times are nanoseconds since the epoch. Paths start at the root of
the volume.

**Threads.** Calls may be made from any thread; they release the GIL, so calls overlap. A call
cannot be interrupted: if a translator never answers, an `*_async` call with `result(timeout)` is
the one to use.

**Lifetime.** A `Client` outlives its files and objects, a file its calls. Closing a client closes
those first, closing a file waits for its asynchronous calls: libgfapi drops the answer to a call
whose file was closed. Nothing may be called on a client or file while another thread closes it.
"""

from glupy.testing.gfapi.answers import Copied, Entry, Lock, Reply, Settable
from glupy.testing.gfapi.client import Client, LogLevel, credentials
from glupy.testing.gfapi.files import Directory, File
from glupy.testing.gfapi.leases import LeaseType, holding
from glupy.testing.gfapi.objects import Object
from glupy.testing.gfapi.upcalls import Reason, Upcall

__all__ = [
    "Client",
    "Copied",
    "Directory",
    "Entry",
    "File",
    "LeaseType",
    "Lock",
    "LogLevel",
    "Object",
    "Reason",
    "Reply",
    "Settable",
    "Upcall",
    "credentials",
    "holding",
]
