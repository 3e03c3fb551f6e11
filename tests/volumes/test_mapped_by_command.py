"""Mapped files where `glupy volume` has put pyposix and pybd: all clients, and the way back."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd

from . import filter_log
from .leaves import PARTING, client_of, glupy, volume_on
from .load import Load, mounted_file, whole
from .mapped import KEY, MIB, check_devices, flush, heal, mapped_files, no_device_is_left

IMAGES = Load.MOUNTED, Load.GFAPI


def held(pool: Path) -> int:
    """The blocks that all devices of a pool have."""
    flush(pool)
    return sum(path.stat().st_blocks for path in pool.iterdir())


@pytest.mark.allow_log(*PARTING, r"server_first_lookup|first lookup on root failed")
def test_a_volume_of_pyposix_and_pybd(
    glusterd: Glusterd, store: stores.Store, pool: Path, logs: LogChecker, tmp_path: Path
) -> None:
    load = Load(
        tmp_path / "model",
        "mapped",
        zerofill=True,
        past_end=True,
        appends=True,
        truncates_healing=True,
    )
    with ExitStack() as undo:
        undo.enter_context(filter_log.kept())
        making = volume_on("pyposix", glusterd, store, logs, 2, "replica", "2", start=False)
        volume = undo.enter_context(making)
        name = volume.name

        def done(*words: str) -> None:
            result = glupy("volume", *words)
            assert result.returncode == 0, result

        options = "-o", f"pool=loop:{pool}", "-o", "map=*.img=thin n*0=thin"
        done("add", name, "pybd", *options)
        volume.start()
        with (
            volume.mounted(tmp_path / "mnt") as mnt,
            client_of(volume, glusterd, tmp_path / "gfapi.log") as client,
        ):
            load.change(mnt, client, 40)
            with load.running(mnt, client) as go_on:
                go_on()
            load.check(mnt, client)
            heal(volume, pool)
            for brick in volume.bricks:
                assert {path.name for path in mapped_files(brick).values()} >= set(IMAGES)

            with mounted_file(mnt / IMAGES[0]) as file, client.open(f"/{IMAGES[1]}") as other:
                for target in file, other:
                    target.pwrite(b"A" * 4 * MIB, 0)
                    target.fsync()
                    before = held(pool)
                    target.discard(0, 16 * MIB)
                    target.fsync()
                    assert before - held(pool) >= 2 * 4 * MIB // 512  # on two bricks
            assert not any((mnt / IMAGES[0]).read_bytes())
            assert not any(whole(client, f"/{IMAGES[1]}"))

            refused = glupy("volume", "remove", name, "pybd")
            assert refused.returncode == 1
            assert "are mapped, such as glupy." in refused.stderr
            check_devices(volume, pool)
            (mnt / IMAGES[0]).write_bytes(b"kept" * MIB)
            os.removexattr(mnt / IMAGES[0], KEY)
            (mnt / IMAGES[1]).unlink()
            shutil.rmtree(mnt / Load.FILES)
            no_device_is_left(pool)
        volume.stop()
        done("remove", name, "pybd")
        volume.start()
        with volume.mounted(tmp_path / "mnt") as mnt:
            assert (mnt / IMAGES[0]).read_bytes() == b"kept" * MIB
            assert [path.name for path in mnt.iterdir()] == [IMAGES[0]]
