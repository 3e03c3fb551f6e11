"""The parts of pyposix that need no brick."""

import errno
import logging
import os
import struct
import threading
from pathlib import Path

import pytest

from glupy import extents, linux
from glupy.constants import (
    GF_XATTROP_ADD_ARRAY,
    GF_XATTROP_ADD_ARRAY64,
    GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT,
    GF_XATTROP_ADD_ARRAY_WITH_DEFAULT,
)
from glupy.enums import FileType
from glupy.gate import Gate
from glupy.views import Gfid
from pyposix import gfid2path
from pyposix.files import File, Files, OpenFile
from pyposix.handles import Handles, dashed
from pyposix.iatt import Stats
from pyposix.metadata import Metadata, Times
from pyposix.reserve import Reserve, overwrites
from pyposix.xattrop import combine

LOG = logging.getLogger("test")
ONE, TWO = Gfid(bytes(range(16))), Gfid(bytes(range(100, 116)))


# ---- times ----


def test_times_on_disk() -> None:
    """57 bytes, as C posix writes them: version, flags, then ctime, mtime, atime."""
    times = Times((1, 2), (3, 4), (5, 6))
    assert times.encode() == b"\1" + struct.pack(">7Q", 0, 1, 2, 3, 4, 5, 6)
    assert len(times.encode()) == 57
    assert Times.decode(times.encode()) == times
    assert Times.of_mdata(times.mdata()) == times


def test_times_before_1970() -> None:
    times = Times((-1, 999_999_999), (-2, 0), (0, 0))
    assert Times.decode(times.encode()) == times


def test_times_cut_short() -> None:
    assert Times.decode(bytes(56)) is None


def test_the_later_of_each_time() -> None:
    one, other = Times((1, 9), (5, 0), (3, 0)), Times((2, 0), (4, 9), (3, 1))
    assert one.later(other) == other.later(one) == Times((2, 0), (5, 0), (3, 1))


def test_merge_never_goes_back(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "file")
    (tmp_path / "file").touch()
    metadata, file = Metadata(LOG, enabled=True), File(ONE)
    for given, expected in [
        (Times((5, 0), (5, 0), (5, 0)), Times((5, 0), (5, 0), (5, 0))),
        (Times((4, 0), (6, 0), (5, 1)), Times((5, 0), (6, 0), (5, 1))),
    ]:
        metadata.merge(file, path, given)
        assert file.times == expected
        assert os.getxattr(path, "trusted.glusterfs.mdata") == expected.encode()
    metadata.set_times(file, path, (7, 0), (1, 0), None)
    assert file.times == Times((7, 0), (1, 0), (5, 1))


# ---- files ----


def test_a_gfid_has_one_file_as_long_as_it_is_remembered() -> None:
    files = Files()
    file = files[ONE]
    assert files[ONE] is file and files[bytes(ONE)] is file
    assert files[TWO] is not file
    file.orphan = True
    del file
    assert not files[ONE].orphan


def test_an_open_file_closes_with_its_last_reference() -> None:
    number = os.open("/dev/null", os.O_RDONLY)
    opened = OpenFile(File(ONE), number, os.O_RDONLY | os.O_SYNC)
    assert opened.sync and not opened.direct
    del opened
    with pytest.raises(OSError):
        os.fstat(number)


# ---- attributes ----


def stats(*, ctime: bool = False) -> tuple[Stats, Files]:
    files = Files()
    return Stats(files, Metadata(LOG, enabled=ctime)), files


def test_what_is_at_a_path(tmp_path: Path) -> None:
    seen, files = stats()
    parent, link = files[ONE], os.fsencode(tmp_path / "link")
    (tmp_path / "link").symlink_to("nowhere")
    os.setxattr(link, "trusted.gfid", TWO, follow_symlinks=False)
    for known in None, files[ONE], files[TWO]:
        iatt, file = seen.look(link, known)
        assert file is files[TWO]
        assert (iatt.ia_gfid, iatt.ia_type, iatt.ia_size) == (TWO, FileType.IFLNK, 7)
        assert iatt.ia_nlink == 0, "the handle, which every file has, is not counted"
    folder = os.fsencode(tmp_path)
    looked = seen.look_in(link, folder, parent)
    assert looked.check() == (iatt, files[TWO])
    assert looked.parent == seen.of_path(folder, parent)


def test_a_file_without_a_gfid(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    iatt, file = stats()[0].look(os.fsencode(tmp_path / "file"))
    assert file is None and not iatt.ia_gfid
    assert (iatt.ia_ino, iatt.ia_nlink) == (2**64 - 1, 0), "as if one link were its handle's"


def test_nothing_at_a_path(tmp_path: Path) -> None:
    seen, files = stats()
    folder = os.fsencode(tmp_path)
    looked = seen.look_in(folder + b"/none", folder, files[ONE])
    assert (looked.error, looked.file) == (errno.ENOENT, None)
    assert looked.parent.ia_gfid == ONE
    with pytest.raises(FileNotFoundError):
        looked.check()
    with pytest.raises(FileNotFoundError):
        seen.look(folder + b"/none")
    with pytest.raises(FileNotFoundError):
        seen.look_in(folder, folder + b"/none", files[ONE])


def test_times_that_are_the_clients_are_shown(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "file")
    (tmp_path / "file").touch()
    os.setxattr(path, "trusted.gfid", TWO)
    os.setxattr(path, "trusted.glusterfs.mdata", Times((1, 2), (3, 4), (5, 6)).encode())
    for ctime in True, False:
        seen, files = stats(ctime=ctime)
        iatt = seen.look(path)[0]
        shown = (iatt.ia_ctime, iatt.ia_ctime_nsec, iatt.ia_mtime_nsec, iatt.ia_atime)
        assert (shown == (1, 2, 4, 5)) is ctime
        assert iatt == seen.of_path(path, files[TWO])


def test_attributes_around_a_discard(tmp_path: Path) -> None:
    seen, files = stats()
    number = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    opened = OpenFile(files[ONE], number, os.O_RDWR)
    os.pwrite(number, b"x" * 65536, 0)
    os.fsync(number)
    full = os.fstat(number).st_blocks
    mode = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
    before, after = seen.fallocate(opened, mode, 0, 65536)
    assert (before.ia_blocks, after.ia_blocks) == (full, os.fstat(number).st_blocks)
    assert after.ia_blocks < full
    assert before.ia_gfid == after.ia_gfid == ONE
    assert before.ia_size == after.ia_size == 65536
    for bad, expected in [(opened, errno.EINVAL), (OpenFile(files[ONE], -1, 0), errno.EBADF)]:
        with pytest.raises(OSError) as caught:
            seen.fallocate(bad, mode, 0, 0)
        assert caught.value.errno == expected


# ---- the gate ----


def test_many_pass_at_once() -> None:
    gate = Gate()
    with gate, gate:
        pass


def test_alone_is_alone() -> None:
    """Each of those alone sees nobody inside and nobody come in; all get their turn."""
    gate, inside, seen = Gate(), [0], []
    counting = threading.Lock()

    def pass_through() -> None:
        for _ in range(2000):
            with gate:
                with counting:
                    inside[0] += 1
                with counting:
                    inside[0] -= 1

    def be_alone() -> None:
        for _ in range(300):
            with gate.alone():
                seen.append(inside[0])
                inside[0] += 1000
                inside[0] -= 1000
                seen.append(inside[0])

    threads = [threading.Thread(target=pass_through) for _ in range(4)]
    threads += [threading.Thread(target=be_alone) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert seen == [0] * 1200


def test_alone_waits_and_lets_in_again() -> None:
    gate, order = Gate(), []
    entered = threading.Event()

    def be_alone() -> None:
        entered.set()
        with gate.alone():
            order.append("alone")

    thread = threading.Thread(target=be_alone)
    with gate:
        thread.start()
        entered.wait()
        order.append("inside")
    thread.join(10)
    with gate:
        order.append("again")
    assert order == ["inside", "alone", "again"]


# ---- xattrop ----


def test_adding_arrays() -> None:
    add32, add64 = GF_XATTROP_ADD_ARRAY, GF_XATTROP_ADD_ARRAY64
    pack32, pack64 = struct.Struct(">3i").pack, struct.Struct(">2q").pack
    assert combine(add32, pack32(1, 2, 3), pack32(10, -2, 0)) == pack32(11, 0, 3)
    assert combine(add64, pack64(1, 1 << 40), pack64(-1, 1)) == pack64(0, (1 << 40) + 1)


def test_what_is_missing_is_zero() -> None:
    assert combine(GF_XATTROP_ADD_ARRAY, b"", b"\0\0\0\1") == b"\0\0\0\1"
    assert combine(GF_XATTROP_ADD_ARRAY, b"", bytes(12)) == bytes(12)


def test_sums_wrap_around() -> None:
    largest, one = struct.pack(">i", 2**31 - 1), struct.pack(">i", 1)
    assert combine(GF_XATTROP_ADD_ARRAY, largest, one) == struct.pack(">i", -(2**31))


@pytest.mark.parametrize(
    ("optype", "kind"),
    [(GF_XATTROP_ADD_ARRAY_WITH_DEFAULT, "i"), (GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT, "q")],
)
def test_defaults_replace_zeros(optype: int, kind: str) -> None:
    two, four = struct.Struct(f">2{kind}"), struct.Struct(f">4{kind}")
    assert combine(optype, b"", four.pack(1, 2, 10, 20)) == two.pack(11, 22)
    assert combine(optype, two.pack(5, 0), four.pack(1, 2, 10, 20)) == two.pack(6, 22)


@pytest.mark.parametrize(
    ("optype", "old", "number"),
    [(99, b"", errno.EINVAL), (GF_XATTROP_ADD_ARRAY, bytes(8), errno.ERANGE)],
)
def test_what_cannot_be_added(optype: int, old: bytes, number: int) -> None:
    with pytest.raises(OSError) as caught:
        combine(optype, old, b"\0\0\0\1")
    assert caught.value.errno == number


# ---- handles ----


@pytest.fixture
def handles(tmp_path: Path) -> Handles:
    made = Handles(os.fsencode(tmp_path), LOG)
    made.set_up()
    return made


def test_the_folders_of_a_brick(handles: Handles, tmp_path: Path) -> None:
    hidden = tmp_path / ".glusterfs"
    assert len(list(hidden.glob("[0-9a-f][0-9a-f]"))) == 256
    root = hidden / "00/00/00000000-0000-0000-0000-000000000001"
    assert root.readlink() == Path("../../..")
    (hidden / "unlink" / "orphan").touch()
    (hidden / "changelogs").mkdir()
    handles.set_up()
    assert not list((hidden / "unlink").iterdir())
    assert (hidden / "changelogs").is_dir()


def test_an_old_landfill_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".landfill" / "old").mkdir(parents=True)
    Handles(os.fsencode(tmp_path), LOG).set_up()
    assert not (tmp_path / ".landfill").exists()
    assert list((tmp_path / ".glusterfs" / "landfill").glob("*/old"))


def test_a_brick_whose_root_handle_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    place = tmp_path / ".glusterfs" / "00" / "00"
    place.mkdir(parents=True)
    (place / "00000000-0000-0000-0000-000000000001").symlink_to("/tmp")
    with pytest.raises(OSError, match="does not lead to"):
        Handles(os.fsencode(tmp_path), LOG).set_up()


def test_a_files_handle_is_a_link(handles: Handles, tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.touch()
    other.touch()
    root = bytes(Gfid.ROOT)
    for _ in range(2):
        handles.add(ONE, os.fsencode(file), root, b"file", file.stat().st_mode)
    assert file.stat().st_nlink == 2
    with pytest.raises(OSError) as caught:
        handles.add(ONE, os.fsencode(other), root, b"other", other.stat().st_mode)
    assert caught.value.errno == errno.ESTALE
    assert handles.path(ONE).endswith(b"/00/01/" + dashed(ONE))
    handles.remove(ONE)
    handles.remove(ONE)
    assert file.stat().st_nlink == 1


def test_directories_deeper_than_the_kernel_follows_links(handles: Handles, tmp_path: Path) -> None:
    parent, path = bytes(Gfid.ROOT), tmp_path
    for level in range(120):
        gfid = Gfid((level + 10).to_bytes(16))
        path /= f"d{level}"
        path.mkdir()
        handles.add(gfid, os.fsencode(path), parent, path.name.encode(), path.stat().st_mode)
        parent = gfid
    assert path.samefile(os.fsdecode(handles.directory(parent)))
    assert handles.names(parent) == [f"d{level}".encode() for level in range(120)]
    assert handles.leads_to(parent, (118 + 10).to_bytes(16), b"d119")


def test_a_link_that_is_no_handle(handles: Handles) -> None:
    handles.add(ONE, b"", TWO, b"name", 0o40755)
    handles.remove(ONE)
    Path(os.fsdecode(handles.path(ONE))).symlink_to("/etc/passwd")
    with pytest.raises(OSError) as caught:
        handles.names(ONE)
    assert caught.value.errno == errno.EINVAL


def test_names_are_recorded(handles: Handles, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    target = os.fsencode(file)
    recorder = gfid2path.Gfid2path(LOG, enabled=True)
    recorder.add(target, Gfid.ROOT, b"a")
    # The key that C posix gives that name.
    recorded = os.getxattr(file, "trusted.gfid2path.5a60200abdac90d9")
    assert recorded == b"00000000-0000-0000-0000-000000000001/a"
    assert gfid2path.paths(handles, target) == [b"/a"]
    recorder.remove(target, Gfid.ROOT, b"a")
    with pytest.raises(OSError) as caught:
        gfid2path.paths(handles, target)
    assert caught.value.errno == errno.ENODATA


# ---- space ----


@pytest.mark.parametrize(
    ("amount", "blocks", "kept"), [(0, 1000, 0), (1, 1000, 10), (99, 1000, 990), (8192, 1000, 2)]
)
def test_a_reserve_is_a_percentage_or_a_size(amount: float, blocks: int, kept: int) -> None:
    assert Reserve(b"/", amount).blocks(blocks, 4096) == kept


def test_a_reserve_larger_than_the_disk_is_used_up() -> None:
    assert Reserve(b"/", 1 << 80).full()
    assert not Reserve(b"/", 0).full()


def test_what_overwrites(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(8192))
        file.flush()
        os.fsync(file.fileno())
        assert overwrites(file.fileno(), 0, 8192)
        assert not overwrites(file.fileno(), 1, 8192)
        os.ftruncate(file.fileno(), 1 << 40)
        assert not overwrites(file.fileno(), 0, 4096)


def test_gaps() -> None:
    ranges = [(0, 10), (20, 30), (30, 40), (90, 200)]
    assert list(extents.gaps(ranges, 5, 100)) == [(10, 20), (40, 90)]
    assert list(extents.gaps([], 5, 100)) == [(5, 100)]
    assert list(extents.gaps([(0, 1000)], 5, 100)) == []
    assert list(extents.gaps([(200, 300)], 5, 100)) == [(5, 100)]
    assert list(extents.gaps([(0, 50)], 5, 5)) == []


def test_where_a_file_has_blocks(tmp_path: Path) -> None:
    """More extents than one question is answered with."""
    with (tmp_path / "file").open("wb") as file:
        number = file.fileno()
        for index in range(200):
            os.pwrite(number, b"x" * 4096, index * 8192)
        found = extents.mapped(number, 0, 200 * 8192)
        holes = list(extents.gaps(found, 0, 200 * 8192))
    assert holes == [(index * 8192 + 4096, (index + 1) * 8192) for index in range(200)]


# ---- attributes ----


def test_times_have_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, ns=(10**18 + 123_456_789, 10**18 + 987_654_321))
    iatt = linux.fstatat(-1, os.fsencode(path))
    assert (iatt.ia_atime, iatt.ia_atime_nsec) == (10**9, 123_456_789)
    assert (iatt.ia_mtime, iatt.ia_mtime_nsec) == (10**9, 987_654_321)
    assert (iatt.ia_ctime, iatt.ia_ctime_nsec) == divmod(path.stat().st_ctime_ns, 10**9)
