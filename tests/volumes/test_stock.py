"""What volumes of stock GlusterFS do, with C posix under all bricks: why tests here avoid it."""

from __future__ import annotations

import functools
import os
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.processes import ProcessError
from glupy.testing.volumes import Glusterd
from glupy.testing.waiting import wait_until
from glupy_tools import gluster

from .copies import times_differ
from .leaves import MIB, PARTING, client_of, volume_on
from .load import Image, Worker, mounted_file, whole
from .moving import moving_volume

FILES = 20
DISPERSED = "disperse", "6", "redundancy", "2"
DELAY = 2.5  # seconds; disperse.eager-lock-timeout is 1
LONG = 20.0  # seconds; a rebalance of these files takes about 3


@pytest.mark.long
@pytest.mark.allow_log(*PARTING)
def test_a_rebalance_of_healed_files_that_end_in_a_hole_never_ends(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md; and what docs/volumes.md says against it.

    Where a file's hole is, is asked of the brick that is read: this one is no healed one.
    """
    first = {"cluster.read-subvolume-index": "0", "cluster.choose-local": "off"}
    with (
        volume_on("posix", glusterd, store, logs, 3, "replica", "3", options=first) as volume,
        volume.mounted(tmp_path / "mnt") as mnt,
    ):
        paths = [mnt / str(number) for number in range(FILES)]
        for path in paths:
            path.write_bytes(os.urandom(MIB))
        volume.kill(volume.bricks[1])
        for path in paths:
            with mounted_file(path) as file:
                file.discard(MIB // 2, MIB // 2)
        volume.start_bricks()
        volume.heal()
        ends = [(brick / "0").stat().st_blocks for brick in volume.bricks]
        assert ends[1] > ends[0] == ends[2], "heal writes zeros where the others have a hole"

        volume.add_bricks(*(volume.bricks[0].with_name(f"more-{n}") for n in range(3)))
        with pytest.raises(ProcessError, match="rebalance does not end"):
            volume.rebalance(LONG)
        for path in paths:
            with path.open("ab") as at_end:
                at_end.write(b"data")
        volume.rebalance(LONG)
        assert any(path.is_file() and path.stat().st_size for path in volume.bricks[3].iterdir())


@pytest.mark.long
@pytest.mark.allow_log(*PARTING)
def test_a_dispersed_file_with_a_discard_past_its_end_is_not_healed(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md: its fragments are longer than its size says, until a truncate."""
    with (
        volume_on("posix", glusterd, store, logs, 6, *DISPERSED) as volume,
        volume.mounted(tmp_path / "mnt") as mnt,
    ):
        paths = [mnt / "inside", mnt / "past"]
        for path, length in zip(paths, (1000, MIB), strict=True):
            path.write_bytes(b"A" * 10_000)
            with mounted_file(path) as file:
                file.discard(9_000, length)
        volume.kill(volume.bricks[1])
        for path in paths:
            with mounted_file(path) as file:
                file.pwrite(b"B" * 4096, 0)
                file.fsync()
        volume.start_bricks()
        with pytest.raises(ProcessError, match="is not healed"):
            volume.heal(LONG)
        listed = glusterd.gluster("volume", "heal", volume.name, "info")
        assert "/past" in listed
        assert "/inside" not in listed
        os.truncate(mnt / "past", 10_000)
        volume.heal(LONG)
        for path in paths:
            assert path.read_bytes() == b"B" * 4096 + b"A" * 4904 + bytes(1000)


@pytest.mark.long
@pytest.mark.allow_log(*PARTING)
def test_a_dispersed_file_that_was_truncated_before_an_unmount_has_the_old_size(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md; and what docs/volumes.md says against it."""

    def sizes(name: str) -> set[tuple[int, int]]:
        """What the bricks have of a file: its size, and that of its fragment."""
        paths = [brick / name for brick in volume.bricks]
        key = "trusted.ec.size"
        return {(int.from_bytes(os.getxattr(path, key)), path.stat().st_size) for path in paths}

    with volume_on("posix", glusterd, store, logs, 6, *DISPERSED) as volume:
        with volume.mounted(tmp_path / "1") as mnt:
            for name in "cut", "synced":
                (mnt / name).write_bytes(b"A" * 13_000)
            time.sleep(DELAY)
        with volume.mounted(tmp_path / "2") as mnt:
            os.truncate(mnt / "synced", 3_000)
            with mounted_file(mnt / "synced") as file:
                file.fsync()
            os.truncate(mnt / "cut", 3_000)
        assert sizes("synced") == {(3_000, 1024)}
        assert sizes("cut") == {(13_000, 1024)}
        with pytest.raises(ProcessError, match="is not healed"):
            volume.heal(LONG)
        with volume.mounted(tmp_path / "3") as mnt:
            assert (mnt / "cut").read_bytes() == b"A" * 3_000 + bytes(1096)
            os.truncate(mnt / "cut", 3_000)
            time.sleep(DELAY)
        volume.heal(LONG)
        with volume.mounted(tmp_path / "4") as mnt:
            for name in "cut", "synced":
                assert (mnt / name).read_bytes() == b"A" * 3_000


@pytest.mark.long
@pytest.mark.allow_log(*PARTING, r"posix_open\] .*No such file")  # bricks that come back
def test_a_dispersed_folder_that_changes_in_its_heal_is_not_healed_the_next_time(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md: its atime is another one where it was healed."""
    with (
        volume_on("posix", glusterd, store, logs, 6, *DISPERSED) as volume,
        volume.mounted(tmp_path / "mnt") as mnt,
    ):
        first, second = volume.bricks[:2], volume.bricks[2:4]
        for brick in first:
            volume.kill(brick)
        folders = [mnt / str(number) for number in range(FILES)]
        for folder in folders:
            folder.mkdir()
        volume.start_bricks()
        while not all((brick / folder.name).exists() for folder in folders for brick in first):
            for folder in folders:
                (folder / "file").touch()
                (folder / "file").unlink()
        volume.heal()
        odd = [folder for folder in folders if times_differ(volume.bricks, folder.name)]
        assert odd, "whether it happens is a matter of time: nearly all of them, here"

        for brick in second:
            volume.kill(brick)
        for folder in folders:
            (folder / "file").touch()
        volume.start_bricks()
        with pytest.raises(ProcessError, match="is not healed"):
            volume.heal(LONG)
        listed = glusterd.gluster("volume", "heal", volume.name, "info").split()
        assert {f"/{folder.name}" for folder in odd} & set(listed)
        for folder in odd:
            os.utime(folder)
        volume.heal()
        assert not any(times_differ(volume.bricks, folder.name) for folder in folders)


SHARDED = {"features.shard": "on", "features.shard-block-size": "4MB"}
ROUNDS = 25


@pytest.mark.long
@pytest.mark.allow_log(
    *PARTING,
    r"Matching lock not found for unlock|unlock on .* attempted but no matching lock found",
    r"server4_\w+_cbk\] ",
    r"posix_\w+\] .*(No such file or directory|File exists)|Failed to get anonymous fd",
    r"buf->ia_gfid is null for .*/\.shard/",
)
def test_truncates_of_sharded_files_may_be_lost(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md: while bricks come back, what was cut off is there again.

    In 1 of 1 to 11 rounds; without truncates in none of 13.
    """
    images = [Image(number, zerofill=False, past_end=False) for number in range(4)]

    def a_round(brick: Path) -> bool:
        """A brick goes and comes back while images are changed; say whether one is wrong then."""
        with client_of(volume, glusterd, tmp_path / "log") as client, ExitStack() as stack:
            workers = []
            for number, image in enumerate(images):
                file = stack.enter_context(client.creat(f"/{number}", os.O_RDWR))
                work = nullcontext(functools.partial(image.change, file, 5))
                workers.append(stack.enter_context(Worker(work, 0.02)))

            def go_on() -> None:
                for worker in workers:
                    worker.go_on(3)

            go_on()
            wait_until(connected, "the client at all bricks")
            volume.kill(brick)
            go_on()
            volume.start_bricks()
            go_on()
        for worker in workers:
            worker.raise_error()
        volume.heal()
        with client_of(volume, glusterd, tmp_path / "log") as client:
            return any(whole(client, f"/{n}") != image.data for n, image in enumerate(images))

    def connected() -> bool:
        return len(set(gluster.clients(volume.name).values())) == 1

    with volume_on("posix", glusterd, store, logs, 3, "replica", "3", options=SHARDED) as volume:
        assert any(a_round(volume.bricks[number % 3]) for number in range(ROUNDS))


@pytest.mark.long
@pytest.mark.allow_log(*PARTING, r"posix_open\] .*No such file|posix_getxattr\] .*dht.linkto")
def test_a_rebalance_keeps_the_size_that_a_file_had(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md: between its lookup and its mark on the file only data counts."""
    changes = {
        "longer": lambda file: file.ftruncate(3 * MIB),
        "zerofilled": lambda file: file.zerofill(2 * MIB, MIB),
        "shorter": lambda file: file.ftruncate(MIB),
    }
    names = [f"{how}-{number}" for how in changes for number in range(4)]

    def prepare(file: File) -> None:
        file.pwrite(b"A" * MIB, 0)
        file.ftruncate(2 * MIB)

    with (
        moving_volume("posix", glusterd, store, logs, tmp_path / "held", "mark") as moving,
        moving.opened(names, prepare) as (_, files),
    ):
        changed = moving.rebalance("mark", lambda name: changes[name[:-2]](files[name]))
        assert {name[:-2] for name in changed} == set(changes)
        second = moving.volume.bricks[1]
        assert {(second / name).stat().st_size for name in changed} == {2 * MIB}


@pytest.mark.long
@pytest.mark.allow_log(*PARTING)
def test_a_client_does_not_find_what_a_rebalance_has_moved(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """docs/upstream-defects.md; and what docs/volumes.md says against it."""
    names = [str(number) for number in range(FILES)]

    def missing(client: Client) -> set[str]:
        def is_missing(name: str) -> bool:
            try:
                client.stat(f"/{name}")
            except FileNotFoundError:
                return True
            return False

        return set(filter(is_missing, names))

    with volume_on("posix", glusterd, store, logs, 2) as volume:
        with client_of(volume, glusterd, tmp_path / "log") as client:
            for name in names:
                client.creat(f"/{name}").close()
        volume.rebalance()  # from the first one on clients trust what it has noted
        third = volume.bricks[0].with_name("third")
        volume.add_bricks(third)
        with client_of(volume, glusterd, tmp_path / "log") as before:
            before.stat("/")
            volume.rebalance()
            moved = {path.name for path in third.iterdir() if path.is_file()}
            assert moved
            assert missing(before) == moved
            with client_of(volume, glusterd, tmp_path / "log") as since:
                assert missing(since) == set()
            volume.set("cluster.lookup-optimize", "off")
            wait_until(lambda: not missing(before), "the option's effect")
