"""Parts of `glupy.testing.guest` that need no machine: the accelerator, and the kernel."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy.testing import guest
from glupy.testing.guest import GuestError

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"


@pytest.fixture(autouse=True)
def nothing_found_yet() -> Iterator[None]:
    """What is found is kept by the process, and must not be taken from these tests by others."""
    guest.accelerator.cache_clear()
    yield
    guest.accelerator.cache_clear()


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is started as QEMU: a script, to be written; /dev/kvm can be opened."""
    monkeypatch.setattr("os.access", lambda path, _: path == "/dev/kvm")
    monkeypatch.setattr(guest, "_kernel", lambda: tmp_path / "kernel")
    monkeypatch.setattr(guest, "_PROBED_WITHIN", 5.0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script = tmp_path / "qemu-system-x86_64"
    script.touch(mode=0o755)
    return script


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"echo '[    0.9] {PANIC}'", "KVM"),
        (f"echo '{PANIC}'; exit 1", "KVM"),
        ("echo 'Linux version 6.1.0'", "TCG"),  # it ended before
        ("echo 'failed to initialize kvm: Permission denied' >&2; exit 1", "TCG"),
    ],
)
def test_kvm_must_get_a_kernel_as_far_as_to_its_root(qemu: Path, script: str, found: str) -> None:
    started = qemu.with_name("started")
    qemu.write_text(f'#!/bin/sh\necho "$*" >> {started}\n{script}\n')
    assert guest.accelerator() == found
    assert guest.accelerator() == found
    (arguments,) = started.read_text().splitlines()  # the second time it was known
    assert "-accel kvm " in arguments
    assert f"-kernel {qemu.with_name('kernel')}/image " in arguments


def test_kvm_that_hangs_is_none(qemu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "_PROBED_WITHIN", 0.5)
    qemu.write_text(f"#!/bin/sh\necho '{PANIC}'\nexec sleep 60\n")
    assert guest.accelerator() == "TCG"


def test_without_dev_kvm_nothing_is_tried(qemu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != "/dev/kvm")
    started = qemu.with_name("started")
    qemu.write_text(f"#!/bin/sh\ntouch {started}\necho '{PANIC}'\n")
    assert guest.accelerator() == "TCG"
    assert not started.exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "not" / "there yet"
    monkeypatch.setattr(guest, "CACHE", cache)
    return cache


def test_a_kernel_is_downloaded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[Path] = []

    def download(folder: Path) -> Path:
        downloads.append(folder)
        (folder / "package.deb").touch()
        made = folder / "kernel"
        made.mkdir()
        (made / "image").write_text("the kernel")
        return made

    monkeypatch.setattr(guest, "_download", download)
    for _ in range(2):
        kernel = guest._kernel()
        assert (kernel / "image").read_text() == "the kernel"
        assert sorted(cache.iterdir()) == [kernel, cache / "lock"]
    assert len(downloads) == 1


def test_a_download_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(folder: Path) -> Path:
        (folder / "package.deb").write_text("a part")
        raise GuestError("apt-get update: E: Temporary failure resolving 'deb.debian.org'")

    monkeypatch.setattr(guest, "_download", download)
    with pytest.raises(GuestError) as caught:
        guest._kernel()
    assert str(caught.value) == (
        "no kernel could be downloaded, is there a network? "
        "apt-get update: E: Temporary failure resolving 'deb.debian.org'"
    )
    assert list(cache.iterdir()) == [cache / "lock"]
