"""`glupy pool` on pools of real files: every subcommand, what is refused, and the figures."""

import fcntl
import json
import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from glupy import keys, stores
from pybd.identity import Identity
from pybd.mapping import THIN
from pybd.pools.loop import LoopPool

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root reads trusted xattrs")


def glupy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pool."""
    folder = tmp_path / "pool"
    assert glupy("pool", "create", f"loop:{folder}").returncode == 0
    return folder


@pytest.fixture
def brick(tmp_path: Path) -> Path:
    """A directory that looks like a brick's."""
    brick = tmp_path / "brick"
    (brick / ".glusterfs" / "unlink").mkdir(parents=True)
    return brick


def make(folder: Path, brick: Path, *, half: bool = False, gfid: bytes = b"") -> str:
    """Make a device of a brick, and return its name."""
    identity = Identity("", str(brick))
    gfid = gfid or uuid.uuid4().bytes
    name = identity.half(gfid) if half else identity.name(gfid)
    LoopPool(str(folder)).make(name, 4 * MIB, THIN, identity.tag)
    return name


def put(brick: Path, name: str, *, mapped: bool, unlinked: bool = False) -> None:
    """Put the file of a device into its brick: its handle is enough."""
    gfid = name.removesuffix(".half").rpartition(".")[2]
    hidden = brick / ".glusterfs"
    handle = hidden / "unlink" / gfid if unlinked else hidden / gfid[:2] / gfid[2:4] / gfid
    handle.parent.mkdir(parents=True, exist_ok=True)
    handle.touch()
    if mapped:
        os.setxattr(handle, keys.BD, b"thin:4194304")


def status(folder: Path, *options: str | Path) -> dict[str, Any]:
    done = glupy("pool", "status", f"loop:{folder}", "--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(folder: Path, *options: str | Path) -> dict[str, str | None]:
    return {each["name"]: each["state"] for each in status(folder, *options)["devices"]}


def refused(line: str, *arguments: str | Path, code: int = 1) -> None:
    done = glupy("pool", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_pool_is_made_and_removed(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []
    done = glupy("pool", "remove", f"loop:{folder}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["create", "loop"], "Invalid value for 'POOL': 'loop' is not one of loop:…, lvm:…"),
        (["create", "loop:pool"], "Invalid value for 'POOL': 'pool' is not an absolute path"),
        (["status", "zfs:/x"], "Invalid value for 'POOL': 'zfs:/x' is not one of"),
        (["status", "lvm:a/b/c"], "Invalid value for 'POOL': 'a/b/c' is not VG or VG/THINPOOL"),
        (["remove", "lvm:-x"], "Invalid value for 'POOL': '-x' is not VG or VG/THINPOOL"),
        (["remove"], "Missing argument 'POOL'"),
        (["create", "loop:/x", "--device", "/dev/x"], "are for pools of LVM"),
        (["create", "lvm:vg/thin"], "needs --device, or --image and --size"),
        (["create", "lvm:vg/thin", "--image", "/x"], "needs --device, or --image and --size"),
        (["create", "lvm:vg", "--device", "/x", "--size", "1GB"], "needs --device, or --image"),
        (["create", "lvm:vg", "--image", "/x", "--size", "much"], "'much' is no size, such as"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    refused(line, *arguments, code=2)


def test_what_cannot_be_made_or_is_not_there(tmp_path: Path) -> None:
    refused(f"glupy: {tmp_path}: File exists", "create", f"loop:{tmp_path}")
    nowhere = tmp_path / "nowhere"
    for command in "status", "remove":
        refused(f"glupy: there is no directory {nowhere}", command, f"loop:{nowhere}")
    refused("No such file or directory", "create", f"loop:{nowhere}/pool")
    image = tmp_path / "image"
    image.touch()
    words = "--image", image, "--size", "1GB"
    refused(f"glupy: {image}: File exists", "create", "lvm:glupy-none", *words)


def test_status(folder: Path, brick: Path) -> None:
    name = make(folder, brick)
    with (folder / name).open("r+b") as file:
        file.write(bytes(MIB))
        os.fsync(file.fileno())
    found = status(folder)
    assert list(found) == ["pool", "size", "free", "devices"]
    assert found["pool"] == f"loop:{folder}"
    assert 0 < found["free"] < found["size"]
    assert found["devices"] == [
        {
            "name": name,
            "gfid": name.rpartition(".")[2],
            "brick": f":{brick}",
            "size": 4 * MIB,
            "blocks": (folder / name).stat().st_blocks,
            "state": None,
        }
    ]
    done = glupy("pool", "status", f"loop:{folder}")
    assert (done.returncode, done.stderr) == (0, "")
    head, row, last = done.stdout.splitlines()
    assert head.split() == ["device", "gfid", "brick", "size", "blocks", "state"]
    assert row.split()[:4] == [name, name.rpartition(".")[2], f":{brick}", f"{4 * MIB:,}"]
    assert last.endswith(" MiB are free")


@needs_root
def test_what_a_device_is_to_a_brick(folder: Path, brick: Path, tmp_path: Path) -> None:
    mapped, unlinked, lost, unmapped = (make(folder, brick) for _ in range(4))
    put(brick, mapped, mapped=True)
    put(brick, unlinked, mapped=True, unlinked=True)
    put(brick, unmapped, mapped=False)
    half, half_mapped, half_lost = (make(folder, brick, half=True) for _ in range(3))
    put(brick, half, mapped=False)
    put(brick, half_mapped, mapped=True)
    gfid = uuid.UUID(mapped.rpartition(".")[2]).bytes
    half_too_many = make(folder, brick, half=True, gfid=gfid)
    other = make(folder, tmp_path / "other")
    (folder / "notes").touch()
    assert states(folder, "--brick", brick) == {
        mapped: "mapped",
        unlinked: "mapped",
        lost: "orphan",
        unmapped: "orphan",
        half: "half made",
        half_mapped: "mapped",
        half_lost: "orphan",
        half_too_many: "orphan",
        other: "another brick's",
        "notes": "not pybd's",
    }
    unasked = states(folder)
    assert (unasked[mapped], unasked[half], unasked["notes"]) == (None, "half made", "not pybd's")
    # The volume's id is half of who a brick is.
    os.setxattr(brick, keys.VOLUME_ID, uuid.uuid4().bytes)
    assert states(folder, "--brick", brick)[mapped] == "another brick's"


@needs_root
def test_what_is_no_brick(folder: Path, tmp_path: Path) -> None:
    refused(f"{tmp_path} is no brick", "status", f"loop:{folder}", "--brick", tmp_path)


def test_a_pool_with_devices_is_removed_by_force_alone(folder: Path, brick: Path) -> None:
    names = sorted(make(folder, brick) for _ in range(7))
    listed = f"glupy: loop:{folder} has devices: {', '.join(names[:5])} and 2 more (--force"
    refused(listed, "remove", f"loop:{folder}")
    assert len(list(folder.iterdir())) == 7
    assert glupy("pool", "remove", f"loop:{folder}", "--force").returncode == 0
    assert not folder.exists()


def test_what_is_not_ours_stays(folder: Path, brick: Path) -> None:
    name = make(folder, brick)
    (folder / "notes").write_text("mine")
    refused("notes: not of pybd's making", "remove", f"loop:{folder}", "--force")
    refused("notes: not of pybd's", "remove", f"loop:{folder}", "--device", "notes", "--force")
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "notes"])
    (folder / "notes").unlink()
    (folder / "more").mkdir()
    refused(f"{folder}: Directory not empty", "remove", f"loop:{folder}", "--force")


def test_a_device_that_is_in_use_stays(folder: Path, brick: Path) -> None:
    name = make(folder, brick)
    one = "remove", f"loop:{folder}", "--device", name, "--force"
    with (folder / name).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the pool does while it has it attached
        refused(f"{name} is in use", *one)
        refused(f"{name} is in use", "remove", f"loop:{folder}", "--force")
    assert glupy("pool", *one).returncode == 0
    assert states(folder) == {}


@needs_root
def test_a_device_that_is_mapped_stays(folder: Path, brick: Path, tmp_path: Path) -> None:
    name, lost = make(folder, brick), make(folder, brick)
    put(brick, name, mapped=True)
    one = "remove", f"loop:{folder}", "--device", name
    refused(f"{name}: a file of {brick} is mapped to it", *one, "--brick", brick)
    refused(f"{name}: a file of {brick} is mapped to it", *one)  # its tag tells whose it is
    other = tmp_path / "other"
    (other / ".glusterfs").mkdir(parents=True)
    refused(f"{name} belongs to :{brick}, not to", *one, "--brick", other)
    assert glupy("pool", "remove", f"loop:{folder}", "--device", lost).returncode == 0
    assert list(states(folder)) == [name]
    away = brick.rename(tmp_path / "away")  # as when its file system is not mounted
    refused(f"{name}: its brick (:{brick}) is not there to say whether", *one)
    away.rename(brick)
    assert glupy("pool", *one, "--force").returncode == 0
    refused(f"loop:{folder} has no device {name}", *one)
    refused("has no device ../brick", "remove", f"loop:{folder}", "--device", "../brick")


@needs_root
def test_an_image_goes_if_no_pool_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "vgcreate").write_text("#!/bin/sh\necho no, thanks >&2\nexit 5\n")
    (commands / "vgcreate").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    image = tmp_path / "image"
    words = "--image", image, "--size", "10MB"
    refused("glupy: vgcreate: no, thanks", "create", "lvm:vg/thin", *words)
    assert not image.exists()
    assert stores.devices_of(image) == []


def test_help_has_it_and_examples() -> None:
    assert "\n  pool " in glupy("--help").stdout
    for command in "create", "status", "remove":
        assert f"\n    glupy pool {command} " in glupy("pool", command, "--help").stdout
