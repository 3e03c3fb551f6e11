"""Volumes whose bricks keep a rebalance waiting, so that files change while they are moved."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from glupy import stores
from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.processes import ProcessError
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from volfiles import Insert
from volfiles.filter import Request

from . import filter_log
from .leaves import client_of, volume_on

_HELD = Path(__file__).parent / "translators" / "held.py"


class Moving:
    """A volume of one brick, where moments of a rebalance are held as translators/held.py does."""

    def __init__(self, volume: Volume, glusterd: Glusterd, folder: Path) -> None:
        self.volume = volume
        self._glusterd = glusterd
        self._folder = folder

    @contextlib.contextmanager
    def opened(
        self, names: Iterable[str], prepare: Callable[[File], object]
    ) -> Iterator[tuple[Client, dict[str, File]]]:
        """Files that are made, and may be moved from then on: a client that knows a second brick
        has them open."""
        log = self._folder.with_suffix(".log")
        with client_of(self.volume, self._glusterd, log) as client:
            for name in names:
                with client.creat(f"/{name}") as file:
                    prepare(file)
        self.volume.add_bricks(self.volume.bricks[0].with_name("second"))
        with (
            client_of(self.volume, self._glusterd, log) as client,
            contextlib.ExitStack() as files,
        ):
            yield (
                client,
                {name: files.enter_context(client.open(f"/{name}")) for name in names},
            )

    def rebalance(self, moment: str, change: Callable[[str], object]) -> set[str]:
        """Rebalance, and change each file while it is held. Return the names of those.

        When it has ended nothing is held any more.
        """
        files = [path for brick in self.volume.bricks for path in brick.iterdir() if path.is_file()]
        names = {_gfid(path): path.name for path in files}

        def rebalance() -> None:
            with contextlib.suppress(ProcessError):  # what was changed may not be moved
                self.volume.rebalance()

        changed: set[str] = set()
        rebalancing = threading.Thread(target=rebalance)
        rebalancing.start()
        try:
            while rebalancing.is_alive():
                for held in self._folder.glob(f"*.{moment}"):
                    name = names[held.stem]
                    if name not in changed:
                        changed.add(name)
                        change(name)
                    held.unlink()
                time.sleep(0.02)
        finally:
            shutil.rmtree(self._folder)
            rebalancing.join()
        return changed

    def wait(self, name: str, moment: str) -> Path:
        """Wait until a file of the first brick is held; remove what is returned to let it go on."""
        held = self._folder / f"{_gfid(self.volume.bricks[0] / name)}.{moment}"
        wait_until(held.exists, f"{name} at {moment}")
        return held


def _gfid(path: Path) -> str:
    return os.getxattr(path, "trusted.gfid").hex()


@contextlib.contextmanager
def moving_volume(
    leaf: str,
    glusterd: Glusterd,
    store: stores.Store,
    logs: LogChecker,
    folder: Path,
    moments: str,
    *below: Insert,
) -> Iterator[Moving]:
    """Such a volume, for as long as the block runs; the folder is made."""
    folder.mkdir()
    options = {"module": f"{_HELD}:Held", "folder": str(folder), "moments": moments}
    request = Request(f"storage/{leaf}", translators=[*below, ("features/glupy", options)])
    asked = {f"user.xlator.glupy.{key}": value for key, value in request.options().items()}
    asked["user.xlator.glupy"] = "posix"
    with (
        filter_log.kept(),
        volume_on("posix", glusterd, store, logs, 1, options=asked) as volume,
    ):
        yield Moving(volume, glusterd, folder)
