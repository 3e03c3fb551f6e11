"""Options that change while a brick runs: which ones C takes over, and ours."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glupy import keys
from glupy.testing.processes import Brick
from glupy.views import Mdata

from .asking import UUID, Running, check, packed, run, told, until
from .scenarios import MODE, with_mode
from .sides import xattrs

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

OTHER_UUID = "87654321-1234-1234-1234-123456789abc"
DELAY = 0.15
REFUSED = "far-too-long"

# A probe makes files whose names begin with what it is given, and returns what shows the option.
Probe = Callable[[Running, str], Any]


def modes(side: Running, name: str) -> Any:
    file = side.created(f"{name} file", mode=0o777)
    side.do("mknod", f"{name} node", stat.S_IFREG | 0o777, 0, 0)
    side.do("mkdir", f"{name} folder", 0o777, 0)
    made = [side.real(f"{name} {kind}") for kind in ("file", "node", "folder")]
    found = [path.stat().st_mode for path in made]
    side.do("fsetattr", file, with_mode(0o717), MODE)
    for kind in "node", "folder":
        side.do("setattr", f"{name} {kind}", with_mode(0o717), MODE)
    return found + [path.stat().st_mode for path in made]


def links(side: Running, name: str) -> Any:
    side.created(f"{name} file")
    return [side.do("link", f"{name} file", f"{name} link {number}") for number in range(3)]


def checksums(side: Running, name: str) -> Any:
    file = side.held(f"{name} file")
    return side.do("rchecksum", file, 0, 10, keep=lambda reply: reply.strong_checksum)


def sizes(side: Running, name: str) -> Any:
    """Blocks and files of the file system, and how many per cent of it are kept free."""

    def look(reply: Any) -> Any:
        told, real = reply.buf, os.statvfs(side.folder)
        shares = real.f_blocks // told.f_blocks if told.f_blocks else 1
        kept = real.f_bfree // shares - told.f_bfree
        return told.f_blocks, told.f_files, round(100 * kept / (real.f_blocks // shares))

    return side.do("statfs", "/", keep=look)


def owner_of_root(side: Running, name: str) -> Any:
    status = side.folder.stat()
    return status.st_uid, status.st_gid


def names(side: Running, name: str) -> Any:
    """What is recorded of names: xattrs of files that lose and get some; and paths from those."""
    for kind in "1", "2":
        side.created(f"{name} {kind}")
        side.do("link", f"{name} {kind}", f"{name}-{kind}")  # as long: row shorter-after-longer
    side.do("rename", f"{name} 2", f"{name} 3")
    side.do("unlink", f"{name}-2", 0)
    stored = [sorted(key[:16] for key in xattrs(side.real(f"{name} {kind}"))) for kind in "13"]
    told = [
        side.do("getxattr", f"{name} {kind}", key, keep=lambda reply: side.plain(reply.dict))
        for kind in "13"
        for key in (keys.GFID_TO_PATH, keys.ANCESTRY_PATH)
    ]
    return stored, [re.findall(r"(?<=\d)\W+(?=/)", str(each)) if each else None for each in told]


def pathinfo(side: Running, name: str) -> Any:
    return [
        side.do("getxattr", "/", key, keep=lambda reply: side.plain(reply.dict))
        for key in (keys.PATHINFO[0], keys.NODE_UUID)
    ]


def clock(side: Running, name: str) -> Any:
    """Whether the times that a client has sent are shown, with a new file and later."""

    def shown(reply: Any) -> bool:
        return bool(reply.buf.ia_mtime == 20)

    given = {"gfid-req": side.gfid_req(name), keys.MDATA: packed(30, 3, 20, 2, 10, 1)}
    new = side.do("mknod", f"{name} new", stat.S_IFREG | 0o644, 0, 0, xdata=given, keep=shown)
    side.created(f"{name} file")
    side.do("setxattr", f"{name} file", {keys.SET_MDATA: Mdata(10, 20, 30, 1, 2, 3)}, 0)
    return new, [side.do("stat", f"{name} {each}", keep=shown) for each in ("new", "file")]


def unaligned(side: Running, name: str) -> Any:
    made = side.created(f"{name} file")
    opened = side.opened(f"{name} file", os.O_RDWR)
    return [side.do("writev", each, b"w" * 10, 1, 3, 0, None) for each in (made, opened)]


def is_served(side: Running, name: str) -> Any:
    side.created(f"{name} file")
    return side.real(f"{name} file").exists()


def delay(side: Running, name: str) -> Any:
    """Whether an fsync that may wait for others does; twice, for the disk may be slow."""
    file = side.created(f"{name} file")
    took = []
    for _ in range(2):
        time.sleep(1.5 * DELAY)  # the last batch has ended: who comes before that joins
        began = time.monotonic()
        side.do("fsync", file, 0, xdata={keys.BATCH_FSYNC: 1})
        took.append(time.monotonic() - began)
        side.outcomes.pop()  # row batch-fsync-attributes
    return min(took) >= DELAY


def synced(side: Running, name: str) -> Any:
    """By which system calls such an fsync is carried out."""
    file = side.created(f"{name} file")
    with traced(side.brick, SYNCS) as calls:
        side.do("fsync", file, 0, xdata={keys.BATCH_FSYNC: 1})
    side.outcomes.pop()  # row batch-fsync-attributes
    return calls


def opened_to_unlink(side: Running, name: str) -> Any:
    """Whether a file is held while it is unlinked, so that others need not wait for its blocks."""
    side.created(f"{name} file")
    with traced(side.brick, ["openat"], f"/{name} file") as calls:
        side.do("unlink", f"{name} file", 0)
    return calls


SYNCS = "fsync", "fdatasync", "syncfs"


@contextlib.contextmanager
def traced(brick: Brick, calls: Sequence[str], text: str = "") -> Iterator[list[str]]:
    """The names of those system calls that the brick makes meanwhile, with a text in them."""
    found: list[str] = []
    with brick.strace(calls) as trace:
        yield found
    lines = [line for line in trace.read_text().splitlines() if text in line]
    found += re.findall(rf" ({'|'.join(calls)})\(", "\n".join(lines))


class Setting(NamedTuple):
    """Another value of an option, what shows it, and who takes it over without a restart."""

    option: str
    value: str
    probe: Probe
    others: Mapping[str, str] = {}
    by_c: bool = True
    by_ours: bool = True


SETTINGS = [
    Setting("create-mask", "0750", modes),
    Setting("force-create-mode", "0040", modes, others={"create-mask": "0"}),
    Setting("create-directory-mask", "0750", modes),
    Setting("force-directory-mode", "0040", modes, others={"create-directory-mask": "0"}),
    Setting("max-hardlinks", "2", links),
    Setting("fips-mode-rchecksum", "on", checksums),
    Setting("shared-brick-count", "3", sizes),
    Setting("reserve", "10", sizes),
    Setting("brick-uid", "1000", owner_of_root),
    Setting("brick-gid", "1001", owner_of_root),
    Setting("gfid2path", "off", names),
    Setting("gfid2path-separator", ";;", names),
    Setting("update-link-count-parent", "on", names),
    Setting("node-uuid-pathinfo", "on", pathinfo),
    Setting("ctime", "on", clock),
    Setting("batch-fsync-delay-usec", f"{DELAY * 1e6:.0f}", delay),
    Setting("batch-fsync-mode", "syncfs", synced),
    Setting(
        "batch-fsync-mode", "none", delay, others={"batch-fsync-delay-usec": f"{DELAY * 1e6:.0f}"}
    ),
    Setting("linux-aio", "on", is_served, by_c=False, by_ours=False),  # row aio, as the next one
    Setting("linux-io_uring", "on", is_served, by_c=False, by_ours=False),
    Setting("directory", "/tmp", is_served, by_c=False, by_ours=False),
    Setting("volume-id", UUID, is_served, by_c=False, by_ours=False),
    Setting("export-statfs-size", "off", sizes, by_c=False),
    Setting("background-unlink", "on", opened_to_unlink, by_c=False),
    Setting("o-direct", "on", unaligned, by_c=False),
    Setting("hostname", "elsewhere", pathinfo, by_c=False),
    Setting("glusterd-uuid", OTHER_UUID, pathinfo, by_c=False),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(setting[:2]).strip("/"))
def test_options_of_a_running_brick(setting: Setting, running: list[Running]) -> None:
    """One is set, and then again not; the probe shows which value the brick goes by."""
    option, value, probe, others, *taken_over = setting
    row = None if len({*taken_over}) == 1 else "options-restart"
    steps = {"before": {}, "after": {option: value}, "reset": {}}

    def scenario(side: Running) -> None:
        for step, options in steps.items():
            side.set({**others, **options})
            done = len(side.outcomes)
            shown = probe(side, step)
            if row and step == "after":
                del side.outcomes[done:]
                side.disk_rows["/after file"] = row
            side.note(step, shown, differs=row if step == "after" else None)

    pairs = check(running, f"{option} {value}".replace("/", " "), scenario)
    before, after, _ = (pair for pair in pairs if pair[0].label in steps)
    changed = [old.answer != new.answer for old, new in zip(before, after, strict=True)]
    assert changed == taken_over, (before, after)


@pytest.mark.parametrize("option", ["gfid2path-separator", "batch-fsync-mode"])
def test_options_that_a_running_brick_refuses(option: str, running: list[Running]) -> None:
    """The brick goes on, with those that it had before; C with the first of the new ones."""
    row = "refused-options"
    others = {"brick-uid": "1000", "max-hardlinks": "2", "create-mask": "0750"}

    def scenario(side: Running) -> None:
        side.set({"brick-uid": "0", "brick-gid": "0"})
        side.offer({option: REFUSED, **others})
        side.ask(REFUSED, 4)  # all lines of the first time, and one of the next
        side.note("owner", owner_of_root(side, "refused"), differs=row)
        side.note("links", links(side, "refused"))
        side.note("modes", modes(side, "refused"))
        side.set({"brick-uid": "0"})
        side.set({})

    assert told(check(running, f"refused {option}", scenario), row) == [((1000, 0), (0, 0))]


def test_a_fresh_file_while_clients_have_the_time(running: list[Running]) -> None:
    """What somebody has put there, with option ctime: is it given a gfid at once?"""

    row = "fresh-file"

    def scenario(side: Running) -> None:
        side.set({"ctime": "on"})
        side.real("file").touch()
        side.do("lookup", "file", xdata={"gfid-req": side.gfid_req("file")}, differs=row)
        side.set({})
        side.disk_rows["disk: fresh/file"] = side.disk_rows["handle"] = row

    (c, ours), *_ = told(check(running, "fresh", scenario), row)
    assert (c["op_ret"], ours["op_errno"]) == (0, "ENOENT")


def test_a_durable_xattr_is_on_the_disk(running: list[Running]) -> None:
    def scenario(side: Running) -> None:
        file = side.created("file")
        for xdata in None, {keys.DURABLE_OP: 1}:
            with traced(side.brick, SYNCS) as calls:
                side.do("fsetxattr", file, {"user.a": b"1"}, 0, xdata=xdata)
            side.note(f"syncs {xdata}", calls)

    pairs = check(running, "durable", scenario)
    assert [c.answer for c, _ in pairs if c.label.startswith("syncs")] == [[], ["fsync"]]


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_the_landfill_of_a_running_brick(running: list[Running]) -> None:
    """Trees in it stay or go, as the option is now."""
    for side in running:
        side.begin("landfill")
        side.set({"disable-landfill-purge": "on"})
        side.do("mkdir", "tree", 0o755, 0)
        side.do("rmdir", "tree", 1)
    time.sleep(2.5)  # some ticks of the janitor; C purges at every other: row landfill-tick
    for side in running:
        landfill = side.folder / ".glusterfs" / "landfill"
        assert not is_empty(landfill), side.leaf
        side.set({})
        until(functools.partial(is_empty, landfill))


def test_the_health_check_of_a_running_brick(running: list[Running]) -> None:
    """It begins with the option; that it does not end with it in C: row health-interval."""
    for side in running:
        file = side.folder / ".glusterfs" / "health_check"
        file.unlink(missing_ok=True)
        side.set({"health-check-interval": "1"})
        until(file.exists)
        side.set({})


def test_the_timeout_of_a_running_brick(tmp_path: Path) -> None:
    """Ours only: C waits for ever in open(2), whatever it is set to (row health-hang)."""
    folder = tmp_path / "brick"
    with run("pyposix", folder, tmp_path) as side:
        os.mkfifo(folder / ".glusterfs" / "health_check")
        hangs = {"health-check-interval": "1", "health-check-timeout": "0"}
        side.set(hangs)
        time.sleep(2)
        assert "going down" not in side.brick.log_text()
        side.set({**hangs, "health-check-timeout": "1"})
        until(lambda: "going down" in side.brick.log_text())
        side.brick.kill()  # it would wait half a minute
