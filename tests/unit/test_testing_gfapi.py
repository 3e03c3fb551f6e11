"""Every call of the gfapi client, compared with what the brick's folder shows (stock C posix)."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import volfiles
from glupy.testing import stock
from glupy.testing._gfapi import ffi
from glupy.testing.gfapi import Client, Directory, File, Reply, answers, credentials, files
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect


@pytest.fixture
def leaf() -> str:
    return "posix"


NS = 10**9


@pytest.fixture
def file(client: Client) -> Iterator[File]:
    with client.creat("/file") as file:
        yield file


def raises(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def same(reply: os.stat_result | None, backend: Path) -> None:
    """Attributes that came through gfapi are those of the file on the brick."""
    assert reply is not None
    real = backend.lstat()
    for name in ("mode", "nlink", "uid", "gid", "size", "blksize", "mtime_ns", "ctime_ns"):
        expected = getattr(real, f"st_{name}")
        if name == "nlink" and not stat.S_ISDIR(real.st_mode):
            expected -= 1  # the handle in .glusterfs
        assert getattr(reply, f"st_{name}") == expected, name
    assert reply.st_blocks == min(real.st_blocks, -(-real.st_size // 512))
    assert reply.st_rdev == real.st_rdev
    assert reply.st_mtime == pytest.approx(real.st_mtime)


def test_data(file: File, backend: Path) -> None:
    written = file.pwrite(b"0123456789", 4096)
    assert written.value == 10
    assert written.pre is not None and written.pre.st_size == 0
    assert written.post is not None and written.post.st_size == 4106
    same(written.post, backend / "file")

    read = file.pread(100, 4090)
    assert read.value == bytes(6) + b"0123456789"
    assert read.pre is None
    same(read.post, backend / "file")
    assert file.pread(1, 5000).value == b""

    assert file.pwritev([b"ab", bytearray(b"cde"), memoryview(b"f")], 0) == 6
    assert file.preadv([1, 4, 2], 0) == [b"a", b"bcde", b"f\0"]
    assert file.preadv([8, 8, 8], 4096) == [b"01234567", b"89", b""]
    assert (backend / "file").read_bytes() == b"abcdef" + bytes(4090) + b"0123456789"


def test_space(file: File, backend: Path) -> None:
    xattrs = (backend / "file").stat().st_blocks
    file.pwrite(b"x" * 65536, 0)
    file.discard(4096, 8192)
    assert file.lseek(0, os.SEEK_HOLE) == 4096
    assert file.lseek(4096, os.SEEK_DATA) == 12288
    assert (backend / "file").stat().st_blocks == xattrs + (65536 - 8192) // 512
    file.zerofill(0, 10)
    assert file.pread(11, 0).value == bytes(10) + b"x"
    file.fallocate(65536, 4096, keep_size=True)
    assert file.fstat().st_size == 65536
    assert (backend / "file").stat().st_blocks == xattrs + (65536 - 8192 + 4096) // 512
    file.fallocate(65536, 4096)
    assert file.fstat().st_size == 69632
    for reply in (file.ftruncate(100), file.fsync(), file.fdatasync()):
        assert reply.value == 0 and reply.pre is not None
        same(reply.post, backend / "file")
    same(file.fstat(), backend / "file")
    with raises(errno.ENXIO):
        file.lseek(100, os.SEEK_DATA)


def test_answered_later(file: File, backend: Path) -> None:
    before = 0

    def answer(fop: str, future: Future[Reply[int]], value: int, size: int) -> None:
        nonlocal before
        reply = future.result(10)
        assert reply.value == value
        assert (reply.pre is None) == (fop in stock.without_pre()), fop
        assert reply.pre is None or reply.pre.st_size == before
        assert reply.post is not None and reply.post.st_size == size
        same(reply.post, backend / "file")
        before = size

    answer("write", file.pwrite_async(b"y" * 8192, 0), 8192, 8192)
    answer("discard", file.discard_async(0, 4096), 0, 8192)
    answer("zerofill", file.zerofill_async(8000, 1000), 0, 9000)
    answer("ftruncate", file.ftruncate_async(8100), 0, 8100)
    answer("fsync", file.fsync_async(), 0, 8100)
    answer("fdatasync", file.fdatasync_async(), 0, 8100)
    read = file.pread_async(5000, 4095).result(10)
    assert read.value == b"\0" + b"y" * (8000 - 4096) + bytes(100)
    same(read.post, backend / "file")


def test_many_answers_at_once(file: File) -> None:
    file.pwrite(b"z" * 400 * 4096, 0)
    answers = [file.discard_async(n * 8192, 4096) for n in range(200)]
    assert all(answer.result(10).value == 0 for answer in answers)
    metadata = 2 * 8  # extents and extended attributes
    assert 200 * 8 <= file.fstat().st_blocks <= 200 * 8 + metadata


def test_errors_have_their_errno_and_path(client: Client, backend: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        client.stat("/none")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "/none"
    with pytest.raises(FileNotFoundError) as caught:
        client.rename("/none", "/other")
    assert (caught.value.filename, caught.value.filename2) == ("/none", "/other")
    with pytest.raises(FileNotFoundError):
        client.open("/none")
    with pytest.raises(FileNotFoundError):
        client.opendir("/none")
    client.creat("/file").close()
    with pytest.raises(FileExistsError):
        client.creat("/file", os.O_RDWR | os.O_EXCL)
    assert (backend / "file").exists()


@pytest.mark.expect_log(r"posix_do_fallocate.*Invalid argument", r"DISCARD info")
def test_an_error_that_comes_later(file: File) -> None:
    future = file.discard_async(0, 0)
    with raises(errno.EINVAL):
        future.result(10)


def test_names(client: Client, backend: Path) -> None:
    client.mkdir("/dir", 0o750)
    assert stat.S_IMODE((backend / "dir").stat().st_mode) == 0o750
    client.creat("/dir/a", mode=0o640).close()
    client.link("/dir/a", "/dir/b")
    assert client.stat("/dir/b").st_nlink == 2
    client.symlink("a", "/dir/c")
    assert client.readlink("/dir/c") == "a" == str((backend / "dir/c").readlink())
    client.mknod("/dir/pipe", stat.S_IFIFO | 0o600)
    client.mknod("/dir/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert client.stat("/dir/null").st_rdev == os.makedev(1, 3)
    client.rename("/dir/b", "/dir/d")
    for name in ("a", "c", "d", "pipe", "null"):
        same(client.lstat(f"/dir/{name}"), backend / "dir" / name)
        client.unlink(f"/dir/{name}")
    assert list((backend / "dir").iterdir()) == []
    client.rmdir("/dir")
    assert not (backend / "dir").exists()


def test_directories(client: Client, backend: Path) -> None:
    names = {f"name-{n:03}-{'x' * 200}" for n in range(300)}
    client.mkdir("/dir")
    for name in names:
        (client.mkdir if name.startswith("name-1") else client.mknod)(
            f"/dir/{name}", *(() if name.startswith("name-1") else (stat.S_IFREG,))
        )
    plain = client.readdir("/dir")
    assert {entry.name for entry in plain} == names | {".", ".."}
    assert all(entry.stat is None for entry in plain)
    for entry in client.readdir("/dir", plus=True):
        if entry.name in names:
            same(entry.stat, backend / "dir" / entry.name)
            assert entry.stat is not None and entry.stat.st_ino == entry.ino
    with client.opendir("/dir") as directory:
        assert isinstance(directory, Directory)
        same(directory.fstat(), backend / "dir")
        directory.fchmod(0o711)
    assert stat.S_IMODE((backend / "dir").stat().st_mode) == 0o711


@pytest.mark.expect_log(r"posix_access.*Permission denied")
def test_attributes(client: Client, file: File, backend: Path) -> None:
    real = backend / "file"
    client.symlink("file", "/soft")
    client.chmod("/file", 0o604)
    assert stat.S_IMODE(real.stat().st_mode) == 0o604
    file.fchmod(0o640)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    client.chown("/soft", 11, 12)
    client.chown("/soft", 13, 14, follow=False)
    assert (real.stat().st_uid, real.stat().st_gid) == (11, 12)
    assert ((backend / "soft").lstat().st_uid, (backend / "soft").lstat().st_gid) == (13, 14)
    file.fchown(15, 16)
    assert (real.stat().st_uid, real.stat().st_gid) == (15, 16)
    client.utimens("/soft", 5 * NS + 1, 6 * NS + 2)
    client.utimens("/soft", 7 * NS + 3, 8 * NS + 4, follow=False)
    assert (real.stat().st_atime_ns, real.stat().st_mtime_ns) == (5 * NS + 1, 6 * NS + 2)
    assert (backend / "soft").lstat().st_mtime_ns == 8 * NS + 4
    file.futimens(9 * NS + 5, 10 * NS + 6)
    assert (real.stat().st_atime_ns, real.stat().st_mtime_ns) == (9 * NS + 5, 10 * NS + 6)
    client.truncate("/file", 12345)
    same(client.stat("/soft"), real)
    client.access("/file", os.R_OK | os.W_OK)
    with raises(errno.EACCES):
        client.access("/file", os.X_OK)

    here, there = client.statvfs(), os.statvfs(backend)
    assert (here.f_bsize, here.f_blocks, here.f_namemax) == (
        there.f_bsize,
        there.f_blocks,
        there.f_namemax,
    )


def test_credentials(client: Client, backend: Path) -> None:
    client.chmod("/", 0o777)
    with credentials(21, 22, [23, 24]):
        client.creat("/theirs").close()
        client.chown("/theirs", 21, 24)  # only because of the group list
    client.creat("/ours").close()
    theirs = (backend / "theirs").stat()
    assert (theirs.st_uid, theirs.st_gid) == (21, 24)
    assert (backend / "ours").stat().st_uid == os.geteuid()


@pytest.mark.allow_log(r"posix_fhandle_pair.*File exists")
@pytest.mark.parametrize("by_fd", [False, True])
def test_xattrs(client: Client, file: File, backend: Path, by_fd: bool) -> None:
    value = b"value\0with zero"
    if by_fd:
        file.fsetxattr("user.one", value)
        assert file.fgetxattr("user.one") == value
        assert "user.one" in file.flistxattr()
    else:
        client.setxattr("/file", "user.one", value)
        assert client.getxattr("/file", "user.one") == value
        assert "user.one" in client.listxattr("/file")
    assert os.getxattr(backend / "file", "user.one") == value
    if by_fd:
        with raises(errno.EEXIST):
            file.fsetxattr("user.one", b"", os.XATTR_CREATE)
        file.fremovexattr("user.one")
    else:
        with raises(errno.EEXIST):
            client.setxattr("/file", "user.one", b"", os.XATTR_CREATE)
        client.removexattr("/file", "user.one")
    with raises(errno.ENODATA):
        file.fgetxattr("user.one")
    assert "user.one" not in client.listxattr("/file")


def test_xattrs_of_a_symlink_itself(client: Client, file: File, backend: Path) -> None:
    client.symlink("file", "/soft")
    client.setxattr("/soft", "trusted.it", b"link", follow=False)
    assert os.getxattr(backend / "soft", "trusted.it", follow_symlinks=False) == b"link"
    assert client.getxattr("/soft", "trusted.it", follow=False) == b"link"
    assert "trusted.it" in client.listxattr("/soft", follow=False)
    assert "trusted.it" not in client.listxattr("/soft")
    client.removexattr("/soft", "trusted.it", follow=False)
    with raises(errno.ENODATA):
        client.getxattr("/soft", "trusted.it", follow=False)


def test_an_xattr_larger_than_the_buffer(
    client: Client, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.fsetxattr("user.long", b"v" * 3000)
    monkeypatch.setattr(answers, "XATTR_SIZE", 16)
    assert file.fgetxattr("user.long") == b"v" * 3000
    assert "user.long" in client.listxattr("/file")
    assert "user.long" in file.flistxattr()


def test_copy_file_range(client: Client, file: File, backend: Path) -> None:
    file.pwrite(bytes(range(256)), 0)
    with client.creat("/copy") as target:
        copied = file.copy_file_range(0, target, 5, 20)
    assert copied.value == 20
    assert (backend / "copy").read_bytes() == bytes(5) + bytes(range(20))
    assert copied.source is not None and copied.source.st_size == 256
    assert copied.pre is not None and copied.pre.st_size == 0
    assert copied.post is not None and copied.post.st_size == 25


def test_copy_file_range_leaves_its_thread_as_it_was(client: Client) -> None:
    libglusterfs = ctypes.CDLL("libglusterfs.so.0")
    location = libglusterfs["__glusterfs_this_location"]
    location.restype = ctypes.POINTER(ctypes.c_void_p)
    before = location()[0]
    with client.creat("/one") as one, client.creat("/other") as other:
        one.pwrite(b"x", 0)
        one.copy_file_range(0, other, 0, 1)
    assert location()[0] == before


def test_locks(client: Client, file: File) -> None:
    with client.open("/file") as other:
        file.set_lk_owner(b"one")
        other.set_lk_owner(b"two")
        file.lock(fcntl.F_WRLCK, 100, 50)
        with raises(errno.EAGAIN):
            other.lock(fcntl.F_RDLCK, 149, 1)
        conflict = other.conflicting_lock(fcntl.F_RDLCK, 0)
        assert conflict is not None and conflict[:3] == (fcntl.F_WRLCK, 100, 50)
        assert other.conflicting_lock(fcntl.F_WRLCK, 150, 1) is None
        file.lock(fcntl.F_UNLCK, 100, 50)
        other.lock(fcntl.F_WRLCK, 149, 1, wait=True)


def test_vectors_later(file: File, backend: Path) -> None:
    written = file.pwritev_async([b"a", b"bcde", b"f"], 4094).result(10)
    assert written.value == 6
    assert written.pre is not None and written.pre.st_size == 0
    same(written.post, backend / "file")
    read = file.preadv_async([1, 4096, 100], 4094).result(10)
    assert read.value == [b"a", b"bcdef", b""]
    same(read.post, backend / "file")


def test_a_file_by_its_gfid(client: Client, connect: Connect, brick: Brick, backend: Path) -> None:
    with client.find("/") as root, root.create("file", 0o640) as made:
        assert made.write(b"0123456789", 4090) == 10
        gfid = made.gfid
        assert gfid == os.getxattr(backend / "file", "trusted.gfid")
        same(made.stat(), backend / "file")
        made.setxattr("user.x", b"1", os.XATTR_CREATE)
        with raises(errno.EEXIST):
            made.setxattr("user.x", b"2", os.XATTR_CREATE)
        assert made.getxattr("user.x") == b"1" and "user.x" in made.listxattr()
        made.removexattr("user.x")
        assert "user.x" not in os.listxattr(backend / "file")
        root.link(made, "other")
        root.rename("file", root, "third")
        made.truncate(4095)
        assert made.read(100, 4090) == b"01234"
        with made.open(os.O_RDONLY) as opened:
            assert opened.pread(1, 4094).value == b"4"
        made.access(os.R_OK)
    assert {entry.name for entry in client.readdir("/")} - {".", ".."} == {"other", "third"}
    with connect(brick).by_gfid(gfid) as found:  # without a name
        assert found.read(5, 4090) == b"01234"
        same(found.look(), backend / "third")
    with raises(errno.ENOENT):
        client.by_gfid(b"1" * 16)


def test_a_directory_by_its_gfid(client: Client, backend: Path) -> None:
    with client.find("/") as root, root.mkdir("folder", 0o700) as folder:
        folder.symlink("elsewhere", "link").close()
        folder.mknod("pipe", stat.S_IFIFO | 0o600).close()
        with folder.find("link") as link:
            assert link.readlink() == "elsewhere"
        with folder.opendir() as opened:
            assert {entry.name for entry in opened.readdir()} - {".", ".."} == {"link", "pipe"}
        assert (backend / "folder" / "pipe").is_fifo()
        with raises(errno.ENOENT):
            folder.find("nothing")
        for name in "link", "pipe":
            folder.unlink(name)
        root.unlink("folder")
    assert not (backend / "folder").exists()


def test_attributes_tell_files_apart(client: Client, file: File) -> None:
    reply = file.pwrite(b"1", 0)
    by_path = client.stat("/file")
    assert reply.post is not None
    assert (reply.post.st_dev, reply.post.st_ino) == (by_path.st_dev, by_path.st_ino)
    with client.creat("/other") as other:
        assert other.fstat().st_ino != by_path.st_ino


def test_closing(client: Client) -> None:
    with client.creat("/file") as file:
        pass
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.fstat()
    with pytest.raises(ValueError, match="closed"):
        file.discard_async(0, 1)
    left_open = client.open("/file")
    client.find("/file")
    started = time.monotonic()
    client.close()
    client.close()
    assert time.monotonic() - started < 1  # glfs_fini takes its 10 s elsewhere
    for call in (left_open.fstat, lambda: client.stat("/")):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_closing_waits_for_answers(client: Client) -> None:
    file = client.creat("/file")
    answers = [file.pwrite_async(bytes([n]) * 100_000, n * 100_000) for n in range(50)]
    file.close()
    assert all(answer.done() for answer in answers)
    assert client.stat("/file").st_size == 5_000_000


def test_a_call_without_an_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ANSWER_TIMEOUT", 0.01)
    file = client.creat("/file")
    future = file._later(lambda answer: 0, int)  # libgfapi never hears of this call
    (call,) = file._calls
    with pytest.raises(TimeoutError):
        file.close()
    assert isinstance(future.exception(0), TimeoutError)
    call.answer(0, 0, ffi.NULL, ffi.NULL)  # it does answer after all
    assert isinstance(future.exception(0), TimeoutError)


def test_the_graph_may_be_a_path_or_text(brick: Brick, tmp_path: Path) -> None:
    graph, path = brick.client_graph(), tmp_path / "client.vol"
    graph.write(path)
    for source in (graph, str(graph), path):
        with Client(source, background_fini=True) as client:
            assert client.stat("/").st_ino == 1


@pytest.mark.parametrize("asked", [{}, {"event-threads": "2"}])
def test_event_threads(asked: dict[str, str], brick: Brick) -> None:
    """One, which glfs_fini waits for, unless more are asked for."""

    def event_threads() -> set[Path]:
        found = set()
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # clients before this one end
                if "epoll" in (task / "comm").read_text():
                    found.add(task)
        return found

    before = event_threads()
    with Client(brick.client_graph(options=asked), background_fini=True) as client:
        client.stat("/")
        assert len(event_threads() - before) == int(asked.get("event-threads", 1))


def test_a_client_that_cannot_start(brick: Brick, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(tmp_path / "none.vol")
    with pytest.raises(volfiles.VolfileError):
        Client("volume x\nend-volume\n")
    brick.stop()
    log = tmp_path / "client.log"
    with pytest.raises(OSError, match="glfs_init") as caught:
        Client(brick.client_graph(), log=log)
    assert caught.value.filename == str(log)
    assert (caught.value.errno, log.exists()) == (errno.EIO, True)  # libgfapi does not say why


_FAILED_START = """
import time
from glupy.testing.gfapi import Client

for _ in range(3):
    try:
        Client("volume a\\n type storage/pyposix\\n option directory /missing\\nend-volume\\n")
    except OSError:
        pass
    else:
        raise SystemExit("it started")
time.sleep(125)
"""


@pytest.mark.long
def test_a_client_that_does_not_start_harms_nobody_later() -> None:
    """Its timer for the log fires after two minutes; glfs_fini would have freed what that reads."""
    environment = os.environ | {"MALLOC_PERTURB_": "165"}  # what is freed is overwritten
    subprocess.run([sys.executable, "-c", _FAILED_START], env=environment, check=True, timeout=200)
