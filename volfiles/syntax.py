"""The grammar of a volfile: what libglusterfs's parser (graph.y) accepts, one volume at a time.

Whether the volumes make a graph is not asked here, but in `rules`.
"""

from collections import deque
from typing import NamedTuple

from .words import Keyword, Token, VolfileError, tokens
from .xlator import Xlator


class Volume(NamedTuple):
    """A volume of a text: what it says, and where it stands there."""

    xlator: Xlator
    start: int
    """The offset of its keyword `volume`."""
    end: int
    """The offset behind its end-volume and what else is on that line."""
    subvolumes: list[Token]
    """The words that name its subvolumes."""


def volumes(text: str) -> list[Volume]:
    """The volumes of a volfile in their order; VolfileError says what is wrong where.

    An option that is given twice has its last value, as in GlusterFS.
    """
    words = deque(tokens(text))
    found = []
    while words:
        found.append(_volume(text, words))
    return found


def _volume(text: str, words: deque[Token]) -> Volume:
    begin = words.popleft()
    if begin.keyword is not Keyword.VOLUME:
        raise VolfileError(f"{begin.text!r} where 'volume' is expected", line=begin.line)
    name = _word(words, begin).text
    type_ = ""
    options: dict[str, str] = {}
    subvolumes: list[Token] = []

    def error(reason: str) -> VolfileError:
        return VolfileError(reason, volume=name, line=statement.line)

    statement = begin
    while words:
        statement = words.popleft()
        if not type_ and statement.keyword is not Keyword.TYPE:
            raise error("its type is missing, or does not come first")
        match statement.keyword:
            case Keyword.TYPE:
                if type_:
                    raise error("a second type")
                type_ = _word(words, statement, name).text
            case Keyword.OPTION:
                key = _word(words, statement, name).text
                options[key] = _word(words, statement, name).text
            case Keyword.SUBVOLUMES:
                if subvolumes:
                    raise error("a second line of subvolumes")
                subvolumes.append(_word(words, statement, name))
                while words and words[0].keyword is None:
                    subvolumes.append(words.popleft())
            case Keyword.END_VOLUME:
                below = [word.text for word in subvolumes]
                xlator = Xlator(name, type_, options, below, begin.line)
                end = _end(text, statement.end)
                return Volume(xlator, begin.start, end, subvolumes)
            case Keyword.VOLUME:
                break
            case None:
                raise error(f"{statement.text!r} where a keyword is expected")
    raise error("its end-volume is missing")


def _end(text: str, offset: int) -> int:
    """Where a volume ends: with the line of its end-volume, unless more than a comment follows."""
    next_line = text.find("\n", offset) + 1 or len(text)
    rest = text[offset:next_line].strip(" \t\r\n")
    return offset if rest and not rest.startswith("#") else next_line


def _word(words: deque[Token], statement: Token, volume: str | None = None) -> Token:
    """Take the next word of a statement."""
    if not words or words[0].keyword:
        reason = f"a word is missing after {statement.text!r}"
        raise VolfileError(reason, volume=volume, line=statement.line)
    return words.popleft()
