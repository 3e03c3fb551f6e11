"""Keep two directories alike: what changes something goes to both, the rest to the first.

A graph with two leaves is more than ``glupy run`` builds. This prints one for ``glusterfsd -N -f``,
once both directories are there; ``glupy volfile client`` prints its client, as for every brick:

    from dataclasses import replace
    from volfiles import Graph, Xlator, brick

    one, *above = brick("/srv/one", leaf="posix")
    two = replace(one, name="two", options={**one.options, "directory": "/srv/two"})
    module = {"module": "/ABSOLUTE/PATH/OF/mirror.py:Mirror"}
    mirror = Xlator("mirror", "features/glupy", module, [one.name, two.name])
    above[0] = replace(above[0], subvolumes=[mirror.name])
    print(Graph([one, two, mirror, *above]))

Both directories must be empty, or copies of each other with all xattrs, at the start. Files have
equal gfids, since the client chooses the gfid of what it makes (``gfid-req`` in xdata) and both
children see it. Changes go one at a time, so that both get them in one order.
Times are each child's own unless the graph has features/utime.

A child that fails where another does not, or writes less, is *out*: an error in the brick's log
says so, and the statedump; the client gets the reply of the one that did it; and nothing more goes
to the one that did not, reads included. A fop that fails on all fails, with the error of the first.

**What it is not.** There is no heal: nothing brings a child back, or even looks for differences.
Nothing is remembered: a brick that is started again takes all children for good and reads from the
first, so copy the good directory over before. A brick that dies within a change leaves it done here
and not there, and nobody knows. A read that fails is not tried on the next child. A file that is
removed while its last fd closes may live a moment longer on one child, and a client that still uses
it then puts the other one out for no good reason. For all that there is cluster/replicate.

What to see here: ``gather`` winds to several children at once and waits for all of them. A ``Lock``
is held meanwhile, by the coroutine: fops that wait for it hold no thread.
"""

from collections.abc import Callable
from typing import Any

from glupy import PASS, Dict, Frame, Lock, OptionError, Translator, fops, gather

# What changes a file, its name or its attributes. What opens and closes, too: an fd must be known
# to each child that is to write to it. And lookup, with which posix mends handles and gfids.
# fmt: off
EVERYWHERE = {
    "create", "mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir", "put", "icreate",
    "namelink", "writev", "truncate", "ftruncate", "fallocate", "discard", "zerofill",
    "copy_file_range", "setattr", "fsetattr", "setxattr", "fsetxattr", "removexattr",
    "fremovexattr", "xattrop", "fxattrop", "open", "opendir", "flush", "fsync", "fsyncdir",
    "lookup",
}
# fmt: on


class Mirror(Translator):
    """Change all children, read from the first."""

    def init(self) -> None:
        if len(self.children) < 2:
            raise OptionError("a mirror needs at least two subvolumes")
        self.good = self.children
        self.turn = Lock()

    async def everywhere(self, fop: fops.Fop, arguments: tuple[Any, ...]) -> object:
        """Wind to all good children; return the reply of the first that did most."""
        async with self.turn:
            winds = [getattr(child, fop.name)(*map(_own, arguments)) for child in self.good]
            outcomes = await gather(*winds, return_exceptions=True)
            done = [-1 if isinstance(each, BaseException) else each.op_ret for each in outcomes]
            most = max(done)
            for child, outcome, length in zip(self.good, outcomes, done, strict=True):
                if length < most:
                    self.put_out(child, fop, outcome)
        outcome = outcomes[done.index(most)]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def anywhere(self, fop: fops.Fop, arguments: tuple[Any, ...]) -> object:
        """Wind to the first good child."""
        return await getattr(self.good[0], fop.name)(*arguments)

    def put_out(self, child: Any, fop: fops.Fop, outcome: Any) -> None:
        """Use a child no more: it lacks what another one has."""
        why = outcome if isinstance(outcome, BaseException) else f"{outcome.op_ret} bytes only"
        self.log.error("%s is out: %s: %s, but another child did it", child.name, fop.name, why)
        self.good = tuple(each for each in self.good if each is not child)

    def dump_priv(self) -> dict[str, object]:
        good = self.good
        return {child.name: "good" if child in good else "out" for child in self.children}


def _own(argument: Any) -> Any:
    """Return what one child may have for itself: posix takes keys out of the dicts it gets."""
    return argument.copy() if isinstance(argument, Dict) else argument


def _handler(fop: fops.Fop) -> Callable[..., object]:
    def change(self: Mirror, _frame: Frame, *arguments: Any) -> object:
        return self.everywhere(fop, arguments)

    def read(self: Mirror, _frame: Frame, *arguments: Any) -> object:
        if self.good == self.children:
            return PASS
        return self.anywhere(fop, arguments)

    return change if fop.name in EVERYWHERE else read


for _fop in fops.TABLE.values():
    setattr(Mirror, _fop.name, _handler(_fop))
