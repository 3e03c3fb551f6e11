"""Options of the volfile: declared by a class, parsed by libglusterfs itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from glupy._bridge import ffi, lib
from glupy.enums import OptionType
from glupy.errors import OptionError
from glupy.views.base import encoded, text


class size(int):  # noqa: N801  (used as a type beside int, str, bool)
    """Type of an option: a number of bytes, written as ``10GB`` (GB is 2³⁰)."""


class percent(float):  # noqa: N801
    """Type of an option: a percentage, written as ``10`` or ``10%``."""


class percent_or_size(float):  # noqa: N801
    """Type of an option: a percentage (``10%``) or a number of bytes (``10GB``).

    The value does not tell which, to no limits either: C posix takes what is below 100 for a
    percentage.
    """


class seconds(int):  # noqa: N801
    """Type of an option: a time, written as ``90`` or ``1min``."""


class path(str):  # noqa: N801
    """Type of an option: an absolute path."""


# How libglusterfs types and parses each: GF_OPTION_TYPE_*, xlator_option_init_*, C type.
_TYPES: dict[type, tuple[int, str, str]] = {
    str: (OptionType.STR, "str", "char **"),
    path: (OptionType.PATH, "str", "char **"),
    int: (OptionType.INT, "int64", "int64_t *"),
    float: (OptionType.DOUBLE, "double", "double *"),
    bool: (OptionType.BOOL, "bool", "gf_boolean_t *"),
    size: (OptionType.SIZET, "size_uint64", "uint64_t *"),
    percent: (OptionType.PERCENT, "percent", "double *"),
    percent_or_size: (OptionType.PERCENT_OR_SIZET, "percent_or_size", "double *"),
    seconds: (OptionType.TIME, "time", "time_t *"),
}


class Option(NamedTuple):
    """One option of a translator: ``Option("limit", int, default=1000, minimum=1)``.

    ``type`` is str, int, float, bool, or ``glupy.options.size``, ``percent``,
    ``percent_or_size``, ``seconds``, ``path``.
    ``default`` is a value of that type, or None: ``self.option(name)`` is None then if it is not
    set. ``minimum`` and ``maximum`` are limits of numbers, ``choices`` the only allowed strings;
    they are enforced at init and at each change.
    """

    name: str
    type: type = str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[str] = ()
    description: str = ""

    def written(self, value: Any) -> str:
        """Return a value as a volfile has it."""
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value)


class Declared:
    """The options of one class, as libglusterfs knows them. Lives as long as the process."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = {option.name: option for option in options}
        # A last one without a name ends the array.
        self._c = ffi.new("volume_option_t[]", len(options) + 1)
        self._keep: list[Any] = []
        for c, option in zip(self._c, options, strict=False):
            self._fill(c, option)

    def _string(self, value: str) -> Any:
        kept = ffi.new("char[]", encoded(value))
        self._keep.append(kept)
        return kept

    def _fill(self, c: Any, option: Option) -> None:
        if option.type not in _TYPES:
            raise OptionError(f"option {option.name}: {option.type} is not a type of option")
        c.key[0] = self._string(option.name)
        c.type = _TYPES[option.type][0]
        c.description = self._string(option.description or option.name)
        if option.default is not None:
            c.default_value = self._string(option.written(option.default))
        for index, choice in enumerate(option.choices):
            c.value[index] = self._string(choice)

    def declare(self, this: Any) -> None:
        """Tell libglusterfs that these are this translator's options."""
        if lib.glupy_declare_options(this, self._c):
            raise MemoryError

    def read(self, this: Any, options: Any) -> dict[str, Any]:
        """Return the value of every option, from a C dict or else its default.

        OptionError says in one line which value is wrong, and why.
        """
        return {
            name: self._read(this, options, self._c + index, option)
            for index, (name, option) in enumerate(self.options.items())
        }

    def _read(self, this: Any, options: Any, c: Any, option: Option) -> Any:
        _, reader, ctype = _TYPES[option.type]
        key = c.key[0]
        written = ffi.new("char **")
        lib.xlator_option_init_str(this, options, key, written)
        if not written[0]:
            return None
        why = ffi.new("char **")
        if lib.xlator_option_validate(this, key, written[0], c, why):
            reason = text(why[0]) or f"'{text(written[0])}' is not valid"
            lib.glupy_free(why[0])
            raise OptionError(f"option {option.name}: {reason}")
        value = ffi.new(ctype)
        if getattr(lib, f"xlator_option_init_{reader}")(this, options, key, value):
            raise OptionError(f"option {option.name}: '{text(written[0])}' is not valid")
        return text(value[0]) if ctype == "char **" else _limited(option, option.type(value[0]))


def _limited(option: Option, value: Any) -> Any:
    """Return the value if it is within its limits.

    Not left to options.c: that has none for a percentage, only logs what a percent_or_size exceeds,
    and without a maximum holds sizes and times against 0.
    """
    if option.minimum is not None and not value >= option.minimum:  # nan is neither
        raise OptionError(f"option {option.name}: {value} is below {option.minimum}")
    if option.maximum is not None and not value <= option.maximum:
        raise OptionError(f"option {option.name}: {value} is above {option.maximum}")
    return value
