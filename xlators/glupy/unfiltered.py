"""What a node of type user/glupy is that asks for something, if nobody has done it."""

from glupy.translator import Translator


class Unfiltered(Translator):
    """Lets everything pass: so a brick whose volfile was not filtered serves as it did before."""

    def init(self) -> None:
        """Say so."""
        self.log.error(
            "the volfile asks for a leaf or translators, but was not filtered: everything passes, "
            "see /var/log/glusterfs/glupy-filter.log and glupy volume status"
        )
