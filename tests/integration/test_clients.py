"""Clients that nobody here wrote, on a mounted pyposix brick."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from glupy.testing.processes import FuseMount

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, timeout: float = 300) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd="/tmp"
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_fio_verifies_what_it_wrote(mount: FuseMount) -> None:
    output = run(
        "fio",
        "--name=verify",
        f"--directory={mount.mountpoint}",
        "--rw=randwrite",
        "--bsrange=512-64k",
        "--size=32m",
        "--numjobs=2",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--group_reporting",
    )
    assert "err= 0" in output


def test_fio_trims(mount: FuseMount) -> None:
    """fio's falloc engine punches holes; what it trimmed must be gone from the brick."""
    file = mount.mountpoint / "trimmed"
    file.write_bytes(b"x" * (16 << 20))
    before = file.stat().st_blocks
    output = run(
        "fio",
        "--name=trim",
        f"--filename={file}",
        "--ioengine=falloc",
        "--rw=randtrim",
        "--bs=64k",
        "--size=16m",
    )
    assert "err= 0" in output
    assert file.stat().st_size == 16 << 20
    assert file.stat().st_blocks < before / 100


@pytest.mark.allow_log("fallocate", "No space left", "seek", "No such device or address")
def test_stress_ng_finds_nothing(mount: FuseMount) -> None:
    stressors = "--fallocate", "1", "--fpunch", "1", "--seek", "1"
    limits = "--fallocate-bytes", "64m", "--seek-size", "16m"
    output = run(
        "stress-ng", *stressors, *limits, "--temp-path", mount.mountpoint, "-t", "60", "--verify"
    )
    assert "successful run completed" in output
    assert "fail:" not in output


def test_rsync_copies_and_agrees(mount: FuseMount) -> None:
    copy = mount.mountpoint / "copy"
    run("rsync", "-aHAX", "--exclude=.venv", "--exclude=.git", f"{ROOT}/", f"{copy}/")
    differing = run(
        "rsync", "-aHAXnic", "--exclude=.venv", "--exclude=.git", f"{ROOT}/xlators", f"{copy}/"
    )
    assert not [line for line in differing.splitlines() if "__pycache__" not in line]


def test_git_clones_and_checks(mount: FuseMount) -> None:
    clone = mount.mountpoint / "clone"
    run("git", "clone", "--no-local", "--no-hardlinks", ROOT, clone)
    run("git", "-C", clone, "fsck", "--full", "--strict")
    assert run("git", "-C", clone, "status", "--porcelain") == ""
