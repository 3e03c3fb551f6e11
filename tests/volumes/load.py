"""A mixed load on a volume, and what must be there afterwards.

`Files` changes a tree of small files, `Image` a file like a virtual machine's disk; each keeps a
model of what was done. `Load` does all of it in one volume, by FUSE and by gfapi; `FileLoad` goes
on in one file, by gfapi alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, Self

from glupy.testing.fuzz.folder import LocalFile
from glupy.testing.gfapi import Client, Reply
from glupy.testing.waiting import wait_until

MIB = 1 << 20
BLOCK = 4096
PATIENCE = 120.0


class Entry(NamedTuple):
    """What clients must see of a file, a folder or a symbolic link."""

    mode: int
    links: int | None
    """None for a folder: file systems differ in that."""
    contents: str | None
    """A digest, or a link's target."""
    xattrs: dict[str, bytes]


Tree = dict[str, Entry]


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(folder: Path) -> Tree:
    """What is below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        contents = None
        if stat.S_ISLNK(status.st_mode):
            contents = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            contents = digest(path.read_bytes())
        keys = [key for key in os.listxattr(path, follow_symlinks=False) if key.startswith("user.")]
        found[str(path.relative_to(folder))] = _entry(
            status, contents, {key: os.getxattr(path, key) for key in keys}
        )
    return found


def unlike(found: Tree, expected: Tree) -> dict[str, tuple[Entry | None, Entry | None]]:
    """What two trees have otherwise, of each."""
    return {
        name: (found.get(name), expected.get(name))
        for name in found.keys() | expected.keys()
        if found.get(name) != expected.get(name)
    }


def tree_by_gfapi(client: Client, top: str) -> Tree:
    """What is below a folder, as libgfapi has it."""
    found: Tree = {}
    folders = [PurePosixPath(top)]
    for folder in folders:
        for name in {entry.name for entry in client.readdir(folder)} - {".", ".."}:
            path = folder / name
            status = client.lstat(path)
            contents = None
            keys: list[str] = []
            if stat.S_ISLNK(status.st_mode):
                contents = client.readlink(path)
            else:
                keys = [key for key in client.listxattr(path) if key.startswith("user.")]
            if stat.S_ISREG(status.st_mode):
                contents = digest(whole(client, str(path)))
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            found[str(path.relative_to(top))] = _entry(
                status, contents, {key: client.getxattr(path, key) for key in keys}
            )
    return found


def _entry(status: os.stat_result, contents: str | None, xattrs: dict[str, bytes]) -> Entry:
    is_folder = stat.S_ISDIR(status.st_mode)
    return Entry(status.st_mode, None if is_folder else status.st_nlink, contents, xattrs)


def whole(client: Client, path: str) -> bytes:
    """The contents of a file, as libgfapi has them."""
    with client.open(path, os.O_RDONLY) as file:
        size = file.fstat().st_size
        return b"".join(file.pread(MIB, offset).value for offset in range(0, size, MIB))[:size]


def different(found: bytes, expected: bytes | bytearray) -> list[str]:
    """In which blocks two files differ: a line each, and one if their sizes do."""
    sizes = len(found), len(expected)
    lines = [] if len(set(sizes)) == 1 else [f"{sizes[0]} bytes, not {sizes[1]}"]
    for offset in range(0, min(sizes), BLOCK):
        one, other = (data[offset : offset + BLOCK] for data in (found, expected))
        if one != other:
            kind = "zeros" if not any(one) else "zeros expected" if not any(other) else "other data"
            lines.append(f"{offset}: {kind}")
    return lines


class Files:
    """Random changes, made in a folder of a volume and in a plain one, the model, alike."""

    def __init__(self, model: Path, seed: object, *, appends: bool) -> None:
        model.mkdir()
        self.model = model
        self._appends = appends
        self._chance = random.Random(f"files {seed}")
        self._made = 0

    def change(self, folder: Path, times: int, *, keeps_links: bool = False) -> None:
        """Change something `times` times in `folder`, which is what the model is.

        With `keeps_links` a file that has several names keeps them.
        """
        for _ in range(times):
            step = self._step(keeps_links)
            for root in folder, self.model:
                step(root)

    def end_in_data(self, folder: Path) -> None:
        """Let each file end in data, not in a hole."""
        for path in sorted(self.model.rglob("*")):
            if path.is_file() and not path.is_symlink():
                # A mount of a dispersed volume may say for a while that it is longer.
                end = path.stat().st_size
                for root in folder, self.model:
                    with (root / path.relative_to(self.model)).open("r+b") as file:
                        file.seek(end)
                        file.write(b"end")

    def _step(self, keeps_links: bool) -> Callable[[Path], object]:
        """One change, as a function of the folder that it is made in."""
        chance = self._chance
        paths = sorted(self.model.rglob("*"))
        files = [path for path in paths if path.is_file() and not path.is_symlink()]
        if keeps_links:
            files = [path for path in files if path.stat().st_nlink == 1]
        folders = [self.model, *(path for path in paths if path.is_dir() and not path.is_symlink())]
        new = chance.choice(folders).relative_to(self.model) / self._name()
        data = chance.randbytes(chance.randrange(20_000))
        if len(files) < 8:
            return lambda root: (root / new).write_bytes(data)
        one, other = (path.relative_to(self.model) for path in chance.sample(files, 2))
        size = (self.model / one).stat().st_size
        offset = chance.randrange(size + 5_000)
        mode = chance.choice([0o600, 0o640, 0o755])
        key = f"user.{chance.randrange(3)}"
        leaves = [path for path in folders[1:] if not any(path.iterdir())]
        leaf = chance.choice(leaves).relative_to(self.model) if leaves else None

        def append(root: Path) -> None:
            with (root / one).open("ab") as file:
                file.write(data)

        def overwrite(root: Path) -> None:
            with (root / one).open("r+b") as file:
                file.seek(offset)
                file.write(data)

        def remove_xattr(root: Path) -> None:
            if key in os.listxattr(root / one):
                os.removexattr(root / one, key)

        def remove_folder(root: Path) -> None:
            if leaf is not None:
                (root / leaf).rmdir()

        steps: list[Callable[[Path], object]] = [
            lambda root: (root / new).write_bytes(data),
            append if self._appends else overwrite,
            overwrite,
            remove_xattr,
            remove_folder,
            lambda root: os.truncate(root / one, offset),
            lambda root: (root / one).rename(root / new),
            lambda root: (root / one).rename(root / other),
            lambda root: (root / one).unlink(),
            lambda root: (root / new).hardlink_to(root / one),
            lambda root: (root / new).symlink_to(one.name),
            lambda root: (root / new).mkdir(),
            lambda root: os.setxattr(root / one, key, data[:100]),
            lambda root: (root / one).chmod(mode),
        ]
        return chance.choice(steps)

    def _name(self) -> str:
        self._made += 1
        return f"n{self._made}"


class Target(Protocol):
    """What an image is changed through. A gfapi `File` is one."""

    def pwrite(self, data: bytes, offset: int, /) -> Reply[int]: ...
    def discard(self, offset: int, length: int, /) -> object: ...
    def zerofill(self, offset: int, length: int, /) -> object: ...
    def ftruncate(self, length: int, /) -> object: ...
    def fsync(self) -> object: ...


def mounted_file(path: Path) -> LocalFile:
    """A file of a mount, made if need be. FUSE has no zerofill."""
    return LocalFile(path, os.O_RDWR | os.O_CREAT)


class Image:
    """Random changes of a file like a virtual machine's disk, and the bytes that it must have."""

    def __init__(
        self,
        seed: object,
        *,
        zerofill: bool,
        past_end: bool,
        grows: bool = True,
        size: int = 6 * MIB,
    ) -> None:
        """`past_end`: discards may reach beyond the end of the file. `grows`: so may zerofills, and
        it is longer then. `size` is its first one."""
        self.data = bytearray()
        self._chance = random.Random(f"image {seed}")
        self._past_end = past_end
        self._grows = grows
        self._size = size
        self._steps = [self._write] * 4 + [self._discard] * 3 + [self._truncate]
        self._steps += [self._zerofill] * 2 if zerofill else []

    def change(self, target: Target, times: int, *, truncates: bool = True) -> None:
        """Change the file `times` times, without truncates if need be."""
        if not self.data:
            self.data += self._chance.randbytes(self._size)
            for offset in range(0, self._size, MIB):
                target.pwrite(bytes(self.data[offset : offset + MIB]), offset)
        steps = [step for step in self._steps if truncates or step != self._truncate]
        for _ in range(times):
            self._chance.choice(steps)(target)
        target.fsync()

    def append(self, target: Target, behind: int = 0) -> None:
        """Let the file end in a block of data, so many bytes behind its end."""
        data, offset = self._chance.randbytes(BLOCK), len(self.data) + behind
        assert target.pwrite(data, offset).value == BLOCK
        self._set(offset, data)
        target.fsync()

    def truncated(self, size: int) -> None:
        """The file was given another size."""
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def _write(self, target: Target) -> None:
        offset = self._chance.randrange(self._size // BLOCK) * BLOCK
        data = self._chance.randbytes(BLOCK)
        assert target.pwrite(data, offset).value == len(data)
        self._set(offset, data)

    def _range(self) -> tuple[int, int]:
        """Where a discard or a zerofill goes: any alignment, from a byte on."""
        length = self._chance.choice([1, 511, BLOCK, 5_000, 65_536, 100_000, 700_001])
        return self._chance.randrange(len(self.data)), length

    def _discard(self, target: Target) -> None:
        offset, length = self._range()
        inside = min(length, len(self.data) - offset)
        target.discard(offset, length if self._past_end else inside)
        self._set(offset, bytes(inside))

    def _zerofill(self, target: Target) -> None:
        offset, length = self._range()
        if not self._grows:
            length = min(length, len(self.data) - offset)
        target.zerofill(offset, length)
        self._set(offset, bytes(length))

    def _truncate(self, target: Target) -> None:
        size = self._chance.randrange(self._size // 2, self._size * 3 // 2)
        target.ftruncate(size)
        self.truncated(size)

    def _set(self, offset: int, data: bytes) -> None:
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data


class Worker(threading.Thread):
    """Does something again and again, for as long as a `with` block runs, or until it fails.

    `work` yields what is to be done, and is entered and left on this thread; `pause` is in seconds.
    """

    def __init__(self, work: AbstractContextManager[Callable[[], object]], pause: float) -> None:
        super().__init__()
        self._work, self._pause = work, pause
        self._ended = threading.Event()
        self._between_rounds = threading.Lock()
        self._error: BaseException | None = None
        self.rounds = 0

    def run(self) -> None:
        try:
            with self._work as work:
                while not self._ended.is_set():
                    with self._between_rounds:
                        work()
                    self.rounds += 1
                    time.sleep(self._pause)  # a lock is not fair
        except BaseException as error:
            self._error = error

    def go_on(self, rounds: int = 50, patience: float = PATIENCE) -> None:
        """Wait until it has done more, but no more than so many seconds."""
        before = self.rounds

        def has_done_more() -> bool:
            self.raise_error()
            return self.rounds >= before + rounds

        wait_until(has_done_more, f"{rounds} more rounds", patience)

    def raise_error(self) -> None:
        """Raise what ended it too soon, if anything did."""
        if self._error is not None:
            raise self._error

    def paused(self) -> threading.Lock:
        """No round is on its way while this is held."""
        return self._between_rounds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


class FileLoad(Worker):
    """Writes, reads and discards in a file, and makes, moves, lists and removes others, by gfapi.
    What is read must be what was written."""

    SIZE = 4 * MIB

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(self._opened(), pause=0.001)
        self.client = client
        self._path = f"/{name}"
        self._chance = random.Random(name)
        self._expected = bytearray(self.SIZE)
        self._uncertain = slice(0, 0)
        self.discards = 0

    @contextmanager
    def _opened(self) -> Iterator[Callable[[], object]]:
        with self.client.creat(self._path, os.O_RDWR | os.O_TRUNC) as self._file:
            self._file.ftruncate(self.SIZE)
            yield self._round

    def _round(self) -> None:
        offset = self._chance.randrange(self.SIZE)
        length = min(self._chance.choice([1, 511, 4096, 5000, 100_000]), self.SIZE - offset)
        place = slice(offset, offset + length)
        match self._chance.choice(["write", "discard", "read", "names"]):
            case "write":
                data = self._chance.randbytes(length)
                self._uncertain = place
                self._file.pwrite(data, offset)
                self._expected[place] = data
            case "discard":
                self._uncertain = place
                self._file.discard(offset, length)
                self._expected[place] = bytes(length)
                self.discards += 1
            case "read":
                assert self._file.pread(length, offset).value == self._expected[place]
            case "names":
                self._move(self._chance.randbytes(1000))
        self._uncertain = slice(0, 0)

    def _move(self, data: bytes) -> None:
        folder = f"{self._path}-folder"
        self.client.mkdir(folder)
        with self.client.creat(f"{folder}/first") as file:
            file.pwrite(data, 0)
        self.client.rename(f"{folder}/first", f"{folder}/second")
        self.client.readdir(folder)  # without names on a brick that has just gone
        with self.client.open(f"{folder}/second", os.O_RDONLY) as file:
            assert file.pread(len(data) + 1, 0).value == data
        self.client.unlink(f"{folder}/second")
        self.client.rmdir(folder)

    def check(self, client: Client) -> None:
        """The file is what the calls have made of it; the one that failed may be done, or not."""
        with client.open(self._path, os.O_RDONLY) as file:
            found = bytearray(file.pread(self.SIZE + 1, 0).value)
        assert len(found) == self.SIZE
        found[self._uncertain] = self._expected[self._uncertain]
        assert found == self._expected


class Load:
    """A tree of files and two images in the root of a volume; one image is changed by gfapi."""

    FILES, MOUNTED, GFAPI = "files", "mounted.img", "gfapi.img"

    def __init__(
        self,
        model: Path,
        seed: object,
        *,
        zerofill: bool,
        past_end: bool,
        appends: bool,
        truncates_healing: bool,
    ) -> None:
        """`truncates_healing`: images are truncated while bricks may go and come, too."""
        self._truncates_healing = truncates_healing
        self._files = Files(model, seed, appends=appends)
        # FUSE has no zerofill.
        self._mounted = Image(f"{seed} 1", zerofill=False, past_end=past_end)
        self._gfapi = Image(f"{seed} 2", zerofill=zerofill, past_end=past_end)

    @contextmanager
    def _works(
        self, mnt: Path, client: Client, *, keeps_links: bool = False, truncates: bool = True
    ) -> Iterator[list[Callable[[int], None]]]:
        """What changes each part of it some times. Files stay open for the whole block."""
        (mnt / self.FILES).mkdir(exist_ok=True)
        with (
            mounted_file(mnt / self.MOUNTED) as mounted,
            client.creat(f"/{self.GFAPI}", os.O_RDWR) as file,
        ):
            yield [
                functools.partial(self._files.change, mnt / self.FILES, keeps_links=keeps_links),
                functools.partial(self._mounted.change, mounted, truncates=truncates),
                functools.partial(self._gfapi.change, file, truncates=truncates),
            ]

    def change(self, mnt: Path, client: Client, times: int = 60) -> None:
        """Change each part of it, one after the other."""
        with self._works(mnt, client) as works:
            for work in works:
                work(times)

    @contextmanager
    def running(self, mnt: Path, client: Client) -> Iterator[Callable[[], None]]:
        """Change all parts at once for as long as the block runs.

        Yields a function that returns when each of them was changed some more times. Bricks may
        be killed meanwhile: of names that one file loses while a brick is away, cluster/replicate
        removes the first one there (docs/upstream-defects.md), so it loses none.
        """
        with ExitStack() as stack:
            truncates = self._truncates_healing
            works = stack.enter_context(
                self._works(mnt, client, keeps_links=True, truncates=truncates)
            )
            pause = 0.1  # all of it is to be healed
            workers = [Worker(nullcontext(functools.partial(work, 5)), pause) for work in works]

            def go_on() -> None:
                for worker in workers:
                    worker.go_on(2, PATIENCE)

            with ExitStack() as threads:
                for worker in workers:
                    threads.enter_context(worker)
                yield go_on
            for worker in workers:
                worker.raise_error()

    def end_in_data(self, mnt: Path) -> None:
        """Let all files end in data: a rebalance of one that was healed and ends in a hole may
        never end (docs/upstream-defects.md)."""
        self._files.end_in_data(mnt / self.FILES)
        for name, image in {self.MOUNTED: self._mounted, self.GFAPI: self._gfapi}.items():
            with mounted_file(mnt / name) as file:
                image.append(file)

    def check(self, mnt: Path, client: Client) -> None:
        """Compare all of it with the models, as a mount has it and as gfapi has it."""
        expected = tree(self._files.model)
        for found in tree(mnt / self.FILES), tree_by_gfapi(client, f"/{self.FILES}"):
            assert found == expected, unlike(found, expected)
        for name, image in {self.MOUNTED: self._mounted, self.GFAPI: self._gfapi}.items():
            for data in (mnt / name).read_bytes(), whole(client, f"/{name}"):
                assert data == image.data, (name, different(data, image.data))
