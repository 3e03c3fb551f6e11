"""Hypothesis strategies for fops: offsets and lengths that love boundaries, names, flags, xattrs.

@given(offset=strategies.offsets(), length=strategies.lengths())
def test_mine(offset, length): ...
"""

import os
from collections.abc import Sequence

from hypothesis import strategies as st

KIB, MIB = 1 << 10, 1 << 20
BOUNDARIES = (0, 512, 4 * KIB, 8 * KIB, 64 * KIB, 128 * KIB, MIB)
"""Of sectors, blocks, pages, a loop device's and a thin pool's granules, GlusterFS's buffers."""
deltas = st.sampled_from([0, 0, 1, -1])

access_flags = st.sampled_from([os.O_RDWR] * 6 + [os.O_RDONLY, os.O_WRONLY])
more_flags = st.sampled_from([0] * 4 + [os.O_APPEND, os.O_SYNC, os.O_DSYNC, os.O_DIRECT])
open_flags = st.builds(int.__or__, access_flags, more_flags)
"""Of open(2), mostly for both reading and writing."""
create_flags = st.builds(
    lambda more, create: os.O_RDWR | more | create,
    more_flags,
    st.sampled_from([0, 0, os.O_EXCL, os.O_TRUNC]),
)
"""Of creat: always for both."""
xattr_flags = st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])
xattr_values = st.sampled_from([b"", b"1", b"x" * 300])


def _near(boundary: int, delta: int) -> int:
    return max(0, boundary + delta)


def offsets(boundaries: Sequence[int] = BOUNDARIES) -> st.SearchStrategy[int]:
    """Offsets in bytes, at a boundary or one byte beside it."""
    return st.builds(_near, st.sampled_from(boundaries), deltas)


def lengths(boundaries: Sequence[int] = BOUNDARIES) -> st.SearchStrategy[int]:
    """Lengths in bytes, at least 1; the longest boundary is not taken as often as the others."""
    chosen = [each for each in sorted(boundaries)[:-1] for _ in range(2)] + [max(boundaries)]
    return st.builds(_near, st.sampled_from(chosen), deltas).map(lambda length: length or 1)


sizes = offsets
"""Sizes of files are what offsets are."""


def names(count: int = 3) -> st.SearchStrategy[str]:
    """One of a few names, so that they meet each other."""
    return st.sampled_from([chr(ord("a") + number) for number in range(count)])
