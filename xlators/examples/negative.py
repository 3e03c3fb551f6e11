"""Remember names that do not exist, and answer their lookups without asking below.

    glupy run xlators/examples/negative.py:Negative DIR MOUNTPOINT -o limit=10000

A search path, a build, a web server that looks for .htaccess: most of what they look up is not
there, and says so again each time. This translator must see every fop that makes a name, so DIR
belongs to the brick alone while it runs.

What to see here: an ``async def`` handler winds and awaits the reply; a failed fop is an exception,
which is the one that Python has for its errno. Handlers run on many threads at once, so what they
share has a lock, which is never held across an ``await``.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from threading import Lock
from typing import Any

from glupy import PASS, Dict, Frame, Loc, Option, Pass, Translator, fops


class Recent:
    """A set of at most ``limit`` things, which forgets the one that was longest of no use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, thing: Hashable) -> bool:
        if thing not in self._kept:
            return False
        self._kept.move_to_end(thing)
        return True

    def add(self, thing: Hashable) -> None:
        self._kept[thing] = None
        self._kept.move_to_end(thing)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)

    def discard(self, thing: Hashable) -> None:
        self._kept.pop(thing, None)


def _makes(fop: str, position: int = 0) -> Callable[..., Awaitable[object]]:
    """Return the handler of a fop that makes a name: its loc is the argument at ``position``."""

    async def handler(self: "Negative", _frame: Frame, *arguments: Any) -> object:
        try:
            return await getattr(self.child, fop)(*arguments)
        finally:
            self.is_made(arguments[position])  # even if it failed: EEXIST, or half done

    return handler


class Negative(Translator):
    """Answer ENOENT for a name that had it before, unless it was made since."""

    options = (
        Option("limit", int, default=1000, minimum=1, description="How many names to remember."),
    )

    def init(self) -> None:
        self.missing = Recent(self.option("limit"))
        self.made = 0  # how many fops that make a name have ended
        self.spared = 0
        self.lock = Lock()

    def reconfigure(self) -> None:
        self.missing.limit = self.option("limit")

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup | Pass:
        if not loc.name:
            return PASS  # by gfid alone
        name = loc.directory(), loc.name
        with self.lock:
            if name in self.missing:
                self.spared += 1
                raise FileNotFoundError
            made = self.made
        try:
            return await self.child.lookup(loc, xdata)
        except FileNotFoundError:
            with self.lock:
                if made == self.made:  # else it may have been made since it was not there
                    self.missing.add(name)
            raise

    create = _makes("create")
    mkdir = _makes("mkdir")
    mknod = _makes("mknod")
    namelink = _makes("namelink")
    put = _makes("put")
    symlink = _makes("symlink", 1)
    link = _makes("link", 1)
    rename = _makes("rename", 1)

    def is_made(self, loc: Loc) -> None:
        """Forget that a name is missing; lookups that are on their way may not say so either."""
        with self.lock:
            self.made += 1
            self.missing.discard((loc.directory(), loc.name))

    def dump_priv(self) -> dict[str, object]:
        return {"missing": len(self.missing), "spared": self.spared}
