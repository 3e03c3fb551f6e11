"""What a node of type user/glupy is that asks for something, if nobody has done it."""

from glupy.errors import OptionError
from glupy.options import Option
from glupy.translator import Translator

_NONE = "none"
_SEE = "was not filtered, see /var/log/glusterfs/glupy-filter.log and glupy volume status"


class Unfiltered(Translator):
    """Lets everything pass: so a brick whose volfile was not filtered serves as it did before.

    If translators were asked for it does not start: the data may be theirs, such as pybd's, and
    without them clients would read zeros, or change what is not theirs to change.
    """

    options = (Option("translators", default=_NONE, description="What was asked for."),)

    def init(self) -> None:
        """Say so."""
        translators = self.option("translators")
        if translators != _NONE:
            raise OptionError(f"the volfile asks for {translators}, but {_SEE}")
        self.log.error("the volfile asks for a leaf, but %s: everything passes", _SEE)
