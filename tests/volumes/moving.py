"""Volumes whose bricks keep a rebalance waiting, so that files change while they are moved."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.processes import ProcessError
from glupy.testing.volumes import Glusterd, Volume
from volfiles import Insert
from volfiles.filter import Request

from . import filter_log
from .leaves import volume_on

HELD = Path(__file__).parent / "translators" / "held.py"


@contextlib.contextmanager
def held_volume(
    leaf: str,
    glusterd: Glusterd,
    store: stores.Store,
    logs: LogChecker,
    folder: Path,
    *below: Insert,
) -> Iterator[Volume]:
    """A volume of one brick that holds a rebalance, as translators/held.py does, in a folder that
    is made."""
    folder.mkdir()
    held = "features/glupy", {"module": f"{HELD}:Held", "folder": str(folder)}
    asked = Request(f"storage/{leaf}", translators=[*below, held]).options()
    options = {f"user.xlator.glupy.{key}": value for key, value in asked.items()}
    options["user.xlator.glupy"] = "posix"
    making = volume_on("posix", glusterd, store, logs, 1, options=options)
    with filter_log.kept(), making as volume:
        yield volume


def rebalance_held(volume: Volume, folder: Path, change: Callable[[str], object]) -> set[str]:
    """Rebalance, and change each file while it is held. Return the names of those."""
    files = [path for brick in volume.bricks for path in brick.iterdir() if path.is_file()]
    names = {os.getxattr(path, "trusted.gfid").hex(): path.name for path in files}

    def rebalance() -> None:
        with contextlib.suppress(ProcessError):  # what was changed may not be moved
            volume.rebalance()

    changed: set[str] = set()
    rebalancing = threading.Thread(target=rebalance)
    rebalancing.start()
    try:
        while rebalancing.is_alive():
            for held in folder.iterdir():
                name = names[held.name]
                if name not in changed:
                    changed.add(name)
                    change(name)
                held.unlink()
            time.sleep(0.02)
    finally:
        shutil.rmtree(folder)  # nobody waits any more
        rebalancing.join()
    return changed
