"""A statedump, as glusterfs processes write it on SIGUSR1, read back."""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

_SECTION = re.compile(r"\[(?P<name>.*)\]")


class Section(NamedTuple):
    """One `[name]` and its `key=value` lines; the values of a key that comes again are kept too."""

    name: str
    pairs: list[tuple[str, str]]

    def __str__(self) -> str:
        return "\n".join([f"[{self.name}]", *(f"{key}={value}" for key, value in self.pairs)])


@dataclass(frozen=True)
class Statedump:
    """The sections of a statedump in their order; a name may occur more than once."""

    sections: list[Section]

    @classmethod
    def parse(cls, text: str) -> Self:
        sections: list[Section] = []
        for line in text.splitlines():
            if header := _SECTION.fullmatch(line):
                sections.append(Section(header["name"], []))
            elif sections and "=" in line:
                key, _, value = line.partition("=")
                sections[-1].pairs.append((key.strip(), value.strip()))
        return cls(sections)

    def __getitem__(self, name: str) -> dict[str, str]:
        """The values of the first section of this name; KeyError if there is none."""
        for section in self.sections:
            if section.name == name:
                return dict(section.pairs)
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(section.name == name for section in self.sections)

    @property
    def pending_calls(self) -> int:
        """Calls that have not been unwound: the call pool's count."""
        return int(self["global.callpool"]["callpool.cnt"])

    def calls(self, xlator: str) -> dict[str, int]:
        """How often this xlator (a volume's name) has answered each fop (READ, DISCARD…) since the
        last statedump, which sets the counts back; fops that it has not answered are missing."""
        prefix = f"{xlator}.latency."
        counts = {}
        for key, value in self[f"{xlator}.latency"].items():
            if count := re.search(r"CNT:(\d+)", value):
                counts[key.removeprefix(prefix)] = int(count[1])
        return counts

    @property
    def pools(self) -> dict[tuple[str, str], int]:
        """Objects in use, by xlator and memory pool: `("brick-server", "fd_t")`."""
        active: dict[tuple[str, str], int] = {}
        pool: dict[str, str] = {}
        for section in self.sections:
            if section.name != "mempool":
                continue
            for key, value in section.pairs:
                pool[key] = value
                if key == "active-count":
                    active[pool["xlator-name"], pool["pool-name"]] = int(value)
        return active
