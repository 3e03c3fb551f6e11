"""`glupy pool` on pools of LVM: what it makes, shows and removes, and what it refuses."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glupy import stores
from glupy.stores.loops import loop_device
from glupy.testing.gfapi import Client
from glupy_tools import cli

from .volumes import KEY, MIB, Open, command, read, volumes, write

FRESH = "fresh"


class Done(NamedTuple):
    """How a command has ended."""

    status: int
    output: str
    errors: str


Glupy = Callable[..., Done]


@pytest.fixture
def glupy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Glupy]:
    """`glupy(word, …)`: `glupy pool`, in this very process: to start Python takes seconds here."""
    handlers = {number: signal.getsignal(number) for number in stores.ENDING}

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["glupy", "pool", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        status = ended.value.code
        assert isinstance(status, int)
        return Done(status, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(100 * MIB)
    with loop_device(image) as device:
        yield device
        if FRESH in groups():
            command("vgremove", "--force", "--yes", FRESH)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """The name of one that is to be made."""
    image = tmp_path / "image"
    yield image
    if FRESH in groups():
        command("vgremove", "--force", "--yes", FRESH)
    stores.detach(image)


def groups() -> list[str]:
    return command("vgs", "--noheadings", "-o", "vg_name").split()


def disks() -> list[str]:
    """What LVM has its mark on."""
    return command("pvs", "--noheadings", "-o", "pv_name").split()


def refuses(done: Done, line: str) -> None:
    """One line for the operator."""
    assert (done.status, done.output) == (1, "")
    assert line in done.errors
    assert done.errors.startswith("glupy: ")
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize(("where", "kind"), [(f"{FRESH}/thin", "thin"), (FRESH, "lv")])
@pytest.mark.long
def test_a_pool_from_its_beginning_to_its_end(
    glupy: Glupy, disk: Path, in_this_process: Open, brick_dir: Path, where: str, kind: str
) -> None:
    pool = f"lvm:{where}"
    assert glupy("create", pool, "--device", disk) == (0, "", "")
    refuses(glupy("create", pool, "--device", disk), "already exists")
    other = f"{FRESH}/nothing"
    refuses(glupy("remove", f"lvm:{other}"), f"there is no thin pool {other}")
    client: Client = in_this_process(pool)
    for name in "/f", "/g":
        write(client, name, b"x" * MIB)
        client.setxattr(name, KEY, kind.encode())

    def status() -> dict[str, Any]:
        done = glupy("status", pool, "--brick", brick_dir, "--json")
        assert (done.status, done.errors) == (0, "")
        found: dict[str, Any] = json.loads(done.output)
        return found

    found = status()
    assert 0 < found["free"] < found["size"] < 100 * MIB
    names = {}
    for each in found["devices"]:
        assert (each["state"], each["size"], each["brick"]) == ("mapped", 4 * MIB, f":{brick_dir}")
        assert each["blocks"] * 512 == (MIB if kind == "thin" else 4 * MIB)
        names[each["gfid"].replace("-", "")] = each["name"]
    first, second = (names[os.getxattr(brick_dir / n, "trusted.gfid").hex()] for n in "fg")
    lines = glupy("status", pool).output.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == sorted([first, second])

    one = "remove", pool, "--device", first
    refuses(glupy(*one, "--force"), f"{first} is in use: stop its brick first")
    refuses(glupy("remove", pool, "--force"), "is in use: stop its brick first")
    assert read(client, "/f") == b"x" * MIB
    client.close()
    refuses(glupy(*one), f"{first}: a file of {brick_dir} is mapped to it")
    refuses(glupy("remove", pool), f"{pool} has devices: ")
    assert glupy(*one, "--force") == (0, "", "")
    assert [each["name"] for each in status()["devices"]] == [second]
    refuses(glupy(*one), f"{pool} has no device {first}")
    assert glupy("remove", pool, "--force") == (0, "", "")
    assert FRESH not in groups()
    assert str(disk) not in disks()


def test_an_image_that_is_made_for_a_pool(glupy: Glupy, image: Path) -> None:
    """It goes with the pool."""
    pool = f"lvm:{FRESH}/thin"
    words = "create", pool, "--image", image, "--size", "64MB"
    assert glupy(*words) == (0, "", "")
    refuses(glupy(*words), "File exists")
    status = glupy("status", pool)
    assert (status.status, status.errors) == (0, "")
    assert status.output.endswith(" MiB are free\n")
    assert glupy("remove", pool) == (0, "", "")
    assert not image.exists()
    assert FRESH not in groups()
    assert stores.devices_of(image) == []


@pytest.mark.long
def test_an_image_of_which_no_pool_came(glupy: Glupy, group: str, image: Path) -> None:
    for where, size, more, line in (
        (FRESH, "2MB", (), "0 extents"),
        (FRESH, "64MB", ("--chunk-size", "7k"), "chunk size"),
        (group, "64MB", (), "already exists"),
    ):
        words = "create", f"lvm:{where}/thin", "--image", image, "--size", size
        refuses(glupy(*words, *more), line)
        assert not image.exists()
        assert FRESH not in groups()
    assert stores.devices_of(image) == []


@pytest.mark.long
def test_what_is_no_pool(glupy: Glupy, group: str, disk: Path) -> None:
    """And groups that something else has made stay, whatever is asked."""
    command("lvcreate", "--yes", "--size", "4m", "--name", "plain", group)
    for where, line in (
        ("nothing", 'Volume group "nothing" not found'),
        ("nothing/thin", 'Volume group "nothing" not found'),
        (f"{group}/nothing", f"there is no thin pool {group}/nothing"),
        (f"{group}/plain", f"{group}/plain is no thin pool"),
    ):
        for words in ("status",), ("remove",), ("remove", "--force"):
            refuses(glupy(words[0], f"lvm:{where}", *words[1:]), line)
    refuses(glupy("remove", f"lvm:{group}", "--force"), "plain, pool: not of pybd's making")
    one = "remove", f"lvm:{group}", "--device", "plain", "--force"
    refuses(glupy(*one), "plain: not of pybd's making")
    assert volumes() == ["plain"]
    command("lvremove", "--yes", f"{group}/plain")
    for whole in f"lvm:{group}/pool", f"lvm:{group}":
        done = glupy("remove", whole, "--force")
        assert (done.status, done.errors.count("\n")) == (1, 1)
    assert group in groups()
    refuses(glupy("create", f"lvm:{group}/pool", "--device", disk), "already exists")
    assert str(disk) not in disks()


@pytest.mark.long
def test_a_disk_that_is_not_empty_or_not_there(glupy: Glupy, disk: Path, group: str) -> None:
    create = "create", f"lvm:{FRESH}/thin", "--device"
    refuses(glupy(*create, "/dev/nothing"), "/dev/nothing")
    stores.make_file_system(disk)
    before = disk.read_bytes()[:MIB]
    refuses(glupy(*create, disk), "signature")
    assert disk.read_bytes()[:MIB] == before
    (taken,) = command("vgs", "--noheadings", "-o", "pv_name", group).split()
    refuses(glupy(*create, taken), f"already in volume group '{group}'")
    assert FRESH not in groups()
    assert str(disk) not in disks()
