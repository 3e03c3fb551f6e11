"""The words of a volfile: the half of the syntax that is libglusterfs's lexer (graph.l).

A word is bare, or in double quotes, where a backslash makes the next character literal. ``#``
begins a comment where a word could begin, not inside one. Text between backticks is a command
that GlusterFS runs before it reads the file, even in a comment: it is refused here, and so is
what the lexer would drop without a word (line breaks in quotes, backslashes outside them).
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class VolfileError(ValueError):
    """What is wrong with a volfile or a graph, and where: ``str()`` is one line.

    ``source`` (a file's name), ``line`` (counted from 1) and ``volume`` (a volume's name) are
    None where there is none.
    """

    def __init__(self, reason: str, *, volume: str | None = None, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.volume = volume
        self.line = line
        self.source: str | None = None

    def __str__(self) -> str:
        where = [
            self.source,
            None if self.line is None else f"line {self.line}",
            None if self.volume is None else f"volume {self.volume!r}",
        ]
        return ": ".join([*filter(None, where), self.reason])


class Keyword(StrEnum):
    """The words that mean something to the grammar, unless they are quoted."""

    VOLUME = "volume"
    TYPE = "type"
    OPTION = "option"
    SUBVOLUMES = "subvolumes"
    END_VOLUME = "end-volume"


class Token(NamedTuple):
    """One word: its text without quotes, its line, the offsets where it begins and ends, and the
    keyword that it is, if it is one."""

    text: str
    line: int
    start: int
    end: int
    keyword: Keyword | None = None


_KEYWORDS = {str(keyword): keyword for keyword in Keyword} | {"subvolumeS": Keyword.SUBVOLUMES}

# Only these four characters are space: a form feed, say, belongs to a word.
_TOKEN = re.compile(
    r"""
      (?P<skip>  [ \t\r\n]+ | \#[^\n]* )
    | (?P<bare>  [^ \t\r\n"\\]+ )
    | "(?P<quoted> (?: [^\n"\\] | \\[^\n] )* )"
    """,
    re.VERBOSE,
)
_NEEDS_NO_QUOTES = re.compile(r'(?!#)[^ \t\r\n"\\`]+')


def quote(word: str) -> str:
    """The word as a volfile has it: bare, as glusterd writes it, wherever it can be."""
    if _NEEDS_NO_QUOTES.fullmatch(word) and word not in _KEYWORDS:
        return word
    return '"' + re.sub(r'["\\`]', r"\\\g<0>", word) + '"'


def unfit(word: object) -> str | None:
    """Why GlusterFS cannot read `word` back from a volfile, or None if it can.

    It drops an empty word, and line breaks in a quoted one; a NUL ends its C strings.
    """
    if not isinstance(word, str):
        return f"{word!r} is not a string"
    if not word:
        return "it is empty"
    if "\n" in word or "\0" in word:
        return f"{word!r} has a line break or a NUL"
    return None


def tokens(text: str) -> Iterator[Token]:
    """Split a volfile's text into its words; VolfileError names the line of what is not one."""
    # As in GlusterFS, a backslash anywhere keeps a backtick from being one.
    for special in re.finditer(r"\\.|`", text, re.DOTALL):
        if special[0] == "`":
            line = text.count("\n", 0, special.start()) + 1
            raise VolfileError("a command in backticks, which GlusterFS would run", line=line)

    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            quote_is_open = text[position] == '"'
            reason = "a quote is not closed" if quote_is_open else "a backslash outside quotes"
            raise VolfileError(reason, line=line)
        match found.lastgroup:
            case "bare":
                yield Token(found["bare"], line, *found.span(), _KEYWORDS.get(found["bare"]))
            case "quoted":
                yield Token(re.sub(r"\\(.)", r"\1", found["quoted"]), line, *found.span())
        line += found[0].count("\n")
        position = found.end()
