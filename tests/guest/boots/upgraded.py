"""The third boot: GlusterFS was upgraded while the machine was off."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from glupy.testing.waiting import wait_until
from glupy_tools import install
from glupy_tools.install import RECORD, Record
from glupy_tools.volume_state import Stack

from .kept import (
    NAME,
    PATIENCE,
    WANTED,
    assert_well,
    glupy,
    glusterd,
    names,
    stacks,
    status,
    switch_on,
    volume,
)

OLDER = "10.2"
UNFILTERED = Stack("storage/posix", ["user/glupy"])
NOT_FILTERED = "the filter has not done its work: "


def upgrade() -> Path:
    """Let the folder of GlusterFS be a new one; return the old one's.

    The package manager has taken its own files from there, and leaves ours, and their folders.
    """
    new = install.xlator_folder()
    old = new.parents[1] / OLDER / "xlator"
    record = Record.read(new)
    assert record is not None
    install.take_away(new, record)
    for folder in "features", "storage":
        (old / folder).mkdir(parents=True)
    install.put(old, replace(record, glusterfs=OLDER))
    assert not list(ours(new))
    assert len(list(ours(old))) == len(record.links) + 1
    return old


def ours(xlatordir: Path) -> Iterator[Path]:
    """What `glupy install` has put into the folders of a version of GlusterFS."""
    record = install.planned()
    for path in xlatordir.parent.rglob("*"):
        if path.name == RECORD or (
            path.is_symlink() and str(path.readlink()) in record.links.values()
        ):
            yield path


def all_down(why: str, *others: str) -> bool:
    """Whether status has these lines, and then of each brick that it does not run, and this why."""
    lines = status()
    heads = [*others, *(f"{name}: does not run: " for name in names)]
    return len(lines) == len(heads) and all(
        line == head or (line.startswith(head) and why in line)
        for line, head in zip(lines, heads, strict=True)
    )


def test_an_upgrade_is_told_and_mended(tmp_path: Path) -> None:
    old = upgrade()
    version = install.planned().glusterfs
    upgraded = f"since the last install GlusterFS was upgraded from {OLDER} to {version}"
    due = f"{upgraded}: run glupy install"
    told = f"glupy install: {due}"
    switch_on()
    not_found = "type 'storage/pyposix' is not valid or not found on this machine"
    wait_until(lambda: all_down(not_found, told), "bricks without their leaf", PATIENCE)
    assert stacks() == [(WANTED, WANTED, None)] * 2
    refused = glupy("volume", "use", NAME, "--leaf", "posix")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"glupy: {due}\n")

    # There is no filter: whatever is set now, volfiles get the leaf of C. It must not be served.
    volume.set("performance.readdir-ahead", "off")
    assert stacks() == [(WANTED, UNFILTERED, None)] * 2
    glusterd.gluster("volume", "start", NAME, "force")
    asked = f"{NOT_FILTERED}{due}"
    wait_until(lambda: all_down(asked, told), "bricks that ask for the filter", PATIENCE)

    installed = glupy("install")
    assert (installed.returncode, installed.stderr) == (0, f"{upgraded}\n")
    assert not list(ours(old))
    glusterd.restart()
    wait_until(lambda: all_down(NOT_FILTERED), "bricks that miss the filter's work", PATIENCE)
    volume.set("performance.readdir-ahead", "on")  # any `volume set` writes the volfiles again
    volume.start_bricks()
    assert_well(tmp_path / "mnt", "third", "first", "second")
