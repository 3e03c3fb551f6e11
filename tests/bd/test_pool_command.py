"""`glupy pool` beside a brick that uses the pool."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import devices, write


def glupy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", "pool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def pool(brick_dir: Path) -> Iterator[Path]:
    """A pool as the command makes it."""
    folder = brick_dir / "pool"
    assert glupy("create", f"loop:{folder}").returncode == 0
    yield folder


def status(pool: Path, brick: Path) -> list[dict[str, Any]]:
    done = glupy("status", f"loop:{pool}", "--brick", brick, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)["devices"]
    return found


def test_a_mapped_file_keeps_its_device(
    brick: Brick, client: Client, backend: Path, pool: Path
) -> None:
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin")
    (device,) = status(pool, backend)
    assert device["gfid"].replace("-", "") == os.getxattr(backend / "f", "trusted.gfid").hex()
    assert (device["state"], device["size"]) == ("mapped", 4 * MIB)
    assert device["blocks"] * 512 >= MIB
    remove = "remove", f"loop:{pool}", "--device", device["name"]
    done = glupy(*remove, "--force")
    assert (done.returncode, done.stderr) == (
        1,
        f"glupy: {device['name']} is in use: stop its brick first\n",
    )
    client.close()
    brick.stop()
    done = glupy(*remove)
    assert done.stderr == f"glupy: {device['name']}: a file of {backend} is mapped to it\n"
    (backend / ".glusterfs" / device["gfid"][:2] / device["gfid"][2:4] / device["gfid"]).unlink()
    assert [each["state"] for each in status(pool, backend)] == ["orphan"]
    # The kernel lets go of a loop device a little after its last user.
    wait_until(lambda: glupy(*remove).returncode == 0)
    assert devices(pool) == []
