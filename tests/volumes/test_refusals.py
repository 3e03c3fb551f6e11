"""What `glupy volume` refuses is one line, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume

from . import filter_log
from .leaves import PARTING, glupy, volume_on

pytestmark = pytest.mark.allow_log(*PARTING)


@pytest.fixture(autouse=True)
def filter_log_kept() -> Iterator[None]:
    with filter_log.kept():
        yield


@pytest.fixture
def volume(glusterd: Glusterd, store: stores.Store, logs: LogChecker) -> Iterator[Volume]:
    with volume_on("pyposix", glusterd, store, logs, 1) as volume:
        yield volume


def volfiles_of(glusterd: Glusterd, volume: Volume) -> dict[str, bytes]:
    folder = glusterd.folder / "work" / "vols" / volume.name
    return {path.name: path.read_bytes() for path in folder.glob("*.vol")}


def test_what_cannot_be_is_one_line_and_changes_nothing(
    glusterd: Glusterd, store: stores.Store, volume: Volume
) -> None:
    name, pool = volume.name, f"pool=loop:{store.folder}"
    before = glusterd.gluster("volume", "info", name), volfiles_of(glusterd, volume)
    started = f"{name} is started: stop it first, or let --rolling restart bricks"
    unknown = "nothing: Volume does not exist"
    refused = {
        ("use", "nothing", "--leaf", "pyposix"): unknown,
        ("add", "nothing", "pybd", "-o", pool): unknown,
        ("remove", "nothing", "pybd"): unknown,
        ("status", "nothing"): unknown,
        ("use", name, "--leaf", "posix"): started,
        ("add", name, "pybd", "-o", pool): started,
        ("remove", name, "pybd"): "user/pybd is not among what glupy volume added to",
    }
    pybd = "add", name, "pybd", "-o", pool, "-o"
    in_stopped = {
        ("use", name, "--leaf", "gone"): "type 'storage/gone' is not valid or not found",
        ("add", name, "gone"): "type 'user/gone' is not valid or not found",
        (*pybd, "colour=red"): "user/pybd has no option 'colour'",
        (*pybd, "sector-size=100"): "sector-size: 100 is below 512",
        (*pybd, "sector-size=x"): "option sector-size: invalid number",
        ("add", name, "pybd"): "option pool",
        (*pybd, f"map={'a' * 4000}=thin"): "no more than 3,000",
    }
    for stop, cases in (False, refused), (True, in_stopped):
        if stop:
            volume.stop()
            assert volfiles_of(glusterd, volume) == before[1]
            before = glusterd.gluster("volume", "info", name), before[1]
        for words, line in cases.items():
            done = glupy("volume", *words)
            assert done.returncode == 1, done
            assert done.stderr.startswith("glupy: "), done
            assert line in done.stderr
            assert done.stdout == ""
            assert len(done.stderr.splitlines()) == 1, done
        assert glusterd.gluster("volume", "info", name) == before[0]
        assert volfiles_of(glusterd, volume) == before[1]
