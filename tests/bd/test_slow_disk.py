"""That a file is gone is not on the disk yet: its device is about to go.

Over C posix: pyposix asks whether user/pybd is above, and this one has another type.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .mapped import devices, inserted
from .test_made_again import check_again, make_again, opened, ways
from .test_races import HEAL

pytestmark = [
    pytest.mark.parametrize("leaf", ["posix"]),
    pytest.mark.allow_log(r"is not mapped to thin: File exists"),
]


@ways(("mknod", "by-xattr"), ("create", "by-name"))
def test_a_file_that_is_made_again(
    make_brick: Callable[..., Brick],
    connect: Connect,
    backend: Path,
    pool: Path,
    tmp_path: Path,
    rules: dict[str, str],
    by: str,
    mapped: str,
) -> None:
    """A file with its gfid is made meanwhile."""
    held = tmp_path / "held"
    mapping = inserted("late_sync:LateSync", pool=f"loop:{pool}", held=str(held), **rules)

    def make() -> Brick:
        return make_brick(backend, inserts=[mapping, HEAL])

    brick = make()
    client = connect(brick)
    file = opened(client, rules)
    gfid = os.getxattr(backend / "f", "trusted.gfid").hex()
    client.unlink("/f")
    held.touch()
    file.close()
    time.sleep(0.5)
    with ThreadPoolExecutor() as thread:
        path = thread.submit(make_again, client, gfid, by)
        time.sleep(0.5)
        held.unlink()
        path.result()
    client = check_again(make, connect, client, brick, path.result())
    assert len(devices(pool)) == 1
    client.unlink(path.result())
    wait_until(lambda: not devices(pool))
