"""Greet whoever makes a file, in the brick's log.

    glupy run xlators/examples/hello.py:Hello DIR MOUNTPOINT --level INFO

Then ``touch MOUNTPOINT/file``. Another greeting: ``-o greeting=salve``.

What to see here: a handler is a method named after its fop, with the fop's own arguments. A ``def``
handler answers at once; with ``PASS`` the fop goes on to the translator below as if we were not
there. Fops without a handler (here: all but one) never enter Python.
"""

from glupy import PASS, Dict, Fd, Frame, Loc, Option, Pass, Translator


class Hello(Translator):
    """Log each create, and pass it on."""

    options = (Option("greeting", str, default="hello", description="How to greet."),)

    def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Dict | None
    ) -> Pass:
        """A file is opened and made if need be, as open(2) does with O_CREAT."""
        self.log.info("%s, user %d: %s is yours", self.option("greeting"), frame.uid, loc.path)
        return PASS
