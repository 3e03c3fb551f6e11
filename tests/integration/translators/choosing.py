"""A translator with an option of every type."""

from __future__ import annotations

from glupy import Option, OptionError, Translator
from glupy.options import path, percent, percent_or_size, seconds, size


class Choosing(Translator):
    """Has limits where there can be some, one end of them alone too."""

    options = (
        Option("flag", bool, default=True),
        Option("number", int, default=5, minimum=-3, maximum=7),
        Option("ratio", float, default=0.5, minimum=0.25, maximum=2.5),
        Option("interval", float, default=60.0, minimum=0.1),
        Option("share", percent, default=12.5, minimum=0.5),
        Option("reserve", percent_or_size, default=10, minimum=1, maximum=1 << 30),
        Option("at-least", percent_or_size, minimum=4096),
        Option("pause", seconds, default=90, minimum=10, maximum=3600),
        Option("patience", seconds, default=600, minimum=10),
        Option("block", size, default=4096, minimum=512, maximum=1 << 20),
        Option("room", size, default=1 << 30, minimum=4096),
        Option("most", size, default=4096, maximum=1 << 20),
        Option("place", path, default="/var/tmp"),
        Option("word", str),
    )

    def reconfigure(self) -> None:
        """Refuse a word that its type lets pass."""
        if self.option("word") == "odd":
            raise OptionError("option word: is odd")
