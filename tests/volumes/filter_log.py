"""The log of glusterd's filter, which is the machine's: a test leaves it as it was."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from volfiles.filter import LOG


@contextlib.contextmanager
def kept() -> Iterator[Path]:
    """Take away what is logged while the block runs."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    size = LOG.stat().st_size if LOG.exists() else None
    try:
        yield LOG
    finally:
        if size is None:
            LOG.unlink(missing_ok=True)
        else:
            os.truncate(LOG, size)
