"""What of a range is discarded and what is zeroed: arithmetic alone, for every kind of device."""

from __future__ import annotations

from mmap import PAGESIZE
from typing import NamedTuple

Range = tuple[int, int]
"""First byte, and the byte behind the last."""

MOST = (1 << 63) - 1
"""The largest offset that the kernel knows."""
_ZEROS = memoryview(bytes(PAGESIZE))


class Plan(NamedTuple):
    """How a range of a file comes to read as zeros: ``discard`` whole, the ``edges`` by writing.

    Together they are the range, as far as it is inside the file, and disjoint. Only ``discard`` may
    reach beyond the file, where the device has nobody's data.
    """

    discard: Range | None
    edges: tuple[Range, ...]


def plan(
    offset: int, length: int, size: int, granule: int, room: int, unit: int | None = None
) -> Plan:
    """Return what to do about ``length`` bytes from ``offset`` on, of a file of ``size`` bytes.

    ``granule`` is the least that the device discards, its multiples are the only places where a
    discard begins and ends; ``room`` is the size of the device. What is beyond the file needs
    nothing, so nothing is done about it, but that a discard up to the end of the file takes with it
    the whole of the last ``unit`` that the pool gives space by (a multiple of ``granule``).
    """
    end = min(offset + length, size)
    if offset >= end:
        return Plan(None, ())
    first = -(-offset // granule) * granule
    behind = end // granule * granule
    if end == size:
        behind = max(behind, min(rounded_up(end, unit or granule), room // granule * granule))
    if first >= behind:
        # Two pieces where a granule ends: what is zero of them is left as it is, each for itself.
        cut = first if offset < first < end else end
        return Plan(None, ((offset, cut), (cut, end)) if cut < end else ((offset, end),))
    edges = [(offset, first)] if offset < first else []
    if behind < end:
        edges.append((behind, end))
    return Plan((first, behind), tuple(edges))


def union(ranges: list[Range], size: int) -> list[Range]:
    """Return what ranges cover of the first ``size`` bytes, in order, without overlaps."""
    found: list[Range] = []
    for first, behind in sorted((first, min(behind, size)) for first, behind in ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], behind)
        elif first < behind:
            found.append((first, behind))
    return found


def not_zero(data: bytes, at: int) -> list[Range]:
    """Return the pages that are not all zeros, or the parts of pages, of data from ``at`` on."""
    found: list[Range] = []
    view, first, behind = memoryview(data), at, at + len(data)
    while first < behind:
        end = min((first // PAGESIZE + 1) * PAGESIZE, behind)
        if view[first - at : end - at] != _ZEROS[: end - first]:
            # those that follow each other are one
            found.append((found.pop()[0] if found and found[-1][1] == first else first, end))
        first = end
    return found


def rounded_up(number: int, unit: int) -> int:
    """Return the least multiple of a unit that is not below a number."""
    return -(-number // unit) * unit
