"""Stores on real loop devices."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from glupy import stores
from glupy.stores import loops
from glupy.testing.waiting import wait_until

MIB = 1024 * 1024
SIZE = 300 * MIB  # what mkfs.xfs wants at least


@pytest.mark.parametrize("kind", list(stores.FileSystem))
def test_a_discard_gives_blocks_back(kind: stores.FileSystem, tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    with stores.store(image, SIZE, folder, kind=kind) as store:
        mount = stores.mount_of(folder)
        assert mount is not None
        assert (mount.source, mount.type) == (str(store.device), kind)
        assert stores.find(image) == store
        before = store.settled_blocks()
        file = folder / "file"
        file.write_bytes(os.urandom(40 * MIB))
        full = store.settled_blocks()
        assert (full - before) * 512 >= 0.95 * 40 * MIB
        file.unlink()
        after = stores.settled(lambda: store.blocks, folder, quiet=2)
        assert full - after >= 0.95 * (full - before)
    assert_nothing_left(image, folder)


def test_without_discard_the_store_keeps_its_blocks(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    with stores.store(image, SIZE, folder, options=["nodiscard"]) as store:
        (folder / "file").write_bytes(os.urandom(10 * MIB))
        full = store.settled_blocks()
        (folder / "file").unlink()
        assert store.settled_blocks() >= full


def test_a_store_stays_until_it_is_unmade(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    try:
        made = stores.make(image, SIZE, folder)
        assert stores.find(image) == made
        with pytest.raises(stores.StoreError, match="is attached already"):
            stores.attach(image)
        with pytest.raises(stores.StoreError, match="mounted there already"):
            stores.mount(made.device, folder)
    finally:
        stores.unmake(image)
    assert_nothing_left(image, folder)


@pytest.mark.parametrize("options", [["no-such-option"], ["discard", "no-such-option=1"]])
def test_a_store_that_cannot_be_mounted_leaves_nothing(options: list[str], tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    with pytest.raises(stores.StoreError, match="mount"):
        stores.make(image, SIZE, folder, options=options)
    assert_nothing_left(image, folder)


def test_a_file_system_that_does_not_exist_leaves_nothing(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    with pytest.raises(stores.StoreError, match="ext3: not one of ext4, xfs, btrfs"):
        stores.make(image, SIZE, folder, kind="ext3")
    assert_nothing_left(image, folder)


def test_a_busy_store_is_unmade_when_its_last_user_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glupy.stores.mounts._BUSY_FOR", 0.2)
    monkeypatch.setattr("glupy.stores.loops._RELEASED_WITHIN", 0.2)
    image, folder = tmp_path / "image", tmp_path / "folder"
    stores.make(image, SIZE, folder)
    device = stores.devices_of(image)[0]
    with (folder / "file").open("w"), pytest.raises(stores.StoreError, match="last user"):
        stores.unmake(image)
    assert stores.mount_of(folder) is None
    # Another may have it at once.
    wait_until(lambda: str(image) not in backing_file(device))
    assert_nothing_left(image, folder)


def test_a_name_with_blanks_is_found_again(tmp_path: Path) -> None:
    image, folder = tmp_path / "an image\twith ü", tmp_path / "a folder"
    with stores.store(image, SIZE, folder) as store:
        assert stores.find(image) == store
    assert_nothing_left(image, folder)


def test_a_missing_device_node_is_made(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, SIZE)
    with stores.loop_device(image) as device:
        status = device.stat()
        device.unlink()  # as in a container; the device itself is ours and in use
        loops._make_node(int(device.name.removeprefix("loop")))
        assert device.is_block_device()
        assert device.stat().st_rdev == status.st_rdev
    assert stores.devices_of(image) == []


def test_more_stores_than_the_first_eight_devices(tmp_path: Path) -> None:
    images = [tmp_path / f"image{number}" for number in range(10)]
    try:
        for image in images:
            image.write_bytes(b"")
            os.truncate(image, MIB)
        devices = {stores.attach(image) for image in images}
        assert len(devices) == len(images)
        assert all(device.is_block_device() for device in devices)
    finally:
        for image in images:
            stores.detach(image)
    assert [device for image in images for device in stores.devices_of(image)] == []


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_an_interrupt_at_any_moment_leaves_nothing(delay: float, tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    program = f"""
        import time
        from pathlib import Path
        from glupy.stores import store
        print("ready", flush=True)
        with store(Path({str(image)!r}), {SIZE}, Path({str(folder)!r})):
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
    assert_nothing_left(image, folder)


def backing_file(device: Path) -> str:
    path = Path("/sys/block", device.name, "loop/backing_file")
    return path.read_text() if path.exists() else ""


def assert_nothing_left(image: Path, folder: Path) -> None:
    assert not image.exists()
    assert stores.devices_of(image) == []
    assert stores.mount_of(folder) is None
