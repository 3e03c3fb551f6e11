"""A glusterd for the whole run, and volumes with user/pybd on it."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume

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
    """``make_volume(how many bricks, *words of gluster, options=…)``: all of them with pybd."""
    made: list[Volume] = []

    def make(bricks: int, *kind: str, options: dict[str, str] | None = None) -> Volume:
        name = f"v{next(_numbers)}"
        folder = store.folder / name
        chosen = {
            "user.xlator.pybd": "posix",
            "user.xlator.pybd.pool": f"loop:{pool}",
            **(options or {}),
        }
        paths = [folder / str(number) for number in range(bricks)]
        volume = glusterd.create(name, paths, *kind, options=chosen)
        made.append(volume)
        for brick in paths:
            logs.watch(volume.log(brick))
        return volume

    yield make
    for volume in made:
        glusterd.gluster("volume", "stop", volume.name, "force")
        glusterd.gluster("volume", "delete", volume.name)
        shutil.rmtree(volume.bricks[0].parent)
