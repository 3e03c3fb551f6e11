"""A glusterd for the whole run, and volumes with user/pybd on it."""

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume

from . import filter_log
from .leaves import volume_on

MakeVolume = Callable[..., Volume]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def glusterd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glusterd]:
    with Glusterd(tmp_path_factory.mktemp("glusterd")) as glusterd:
        yield glusterd


@pytest.fixture
def pool(store: stores.Store) -> Iterator[Path]:
    """A pool of loop files that all bricks share."""
    folder = store.folder / f"pool-{next(_numbers)}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_volume(
    glusterd: Glusterd, store: stores.Store, pool: Path, logs: LogChecker
) -> Iterator[MakeVolume]:
    """``make_volume(how many bricks, *words of gluster, leaf=…, options=…)``: all with pybd."""
    with contextlib.ExitStack() as undo:
        undo.enter_context(filter_log.kept())

        def make(
            bricks: int,
            *kind: str,
            leaf: str = "posix",
            options: dict[str, str] | None = None,
            start: bool = True,
        ) -> Volume:
            chosen = {
                "user.xlator.pybd": "posix",
                "user.xlator.pybd.pool": f"loop:{pool}",
                **(options or {}),
            }
            making = volume_on(
                leaf, glusterd, store, logs, bricks, *kind, options=chosen, start=start
            )
            return undo.enter_context(making)

        yield make
