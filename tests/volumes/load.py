"""A mixed load on a volume, and what must be there afterwards.

`Files` changes a tree of small files, `Image` a file like a virtual machine's disk; each keeps a
model of what was done. `Load` does all of it in one volume, by FUSE and by gfapi.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, Self

from glupy import stores
from glupy.testing.gfapi import Client

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


class Files:
    """Random changes, made in a folder of a volume and in a plain one, the model, alike."""

    def __init__(self, model: Path, seed: object) -> None:
        model.mkdir()
        self.model = model
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
            append,
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

    def pwrite(self, data: bytes, offset: int, /) -> object: ...
    def discard(self, offset: int, length: int, /) -> object: ...
    def zerofill(self, offset: int, length: int, /) -> object: ...
    def ftruncate(self, length: int, /) -> object: ...
    def fsync(self) -> object: ...


class MountedFile:
    """An open file of a mount. FUSE has no zerofill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def pwrite(self, data: bytes, offset: int) -> None:
        assert os.pwrite(self._fd, data, offset) == len(data)

    def discard(self, offset: int, length: int) -> None:
        where = "--offset", str(offset), "--length", str(length)
        stores.run("fallocate", "--punch-hole", *where, self._path)

    def zerofill(self, offset: int, length: int) -> None:
        raise NotImplementedError

    def ftruncate(self, length: int) -> None:
        os.ftruncate(self._fd, length)

    def fsync(self) -> None:
        os.fsync(self._fd)


class Image:
    """Random changes of a file like a virtual machine's disk, and the bytes that it must have."""

    def __init__(
        self, seed: object, *, zerofill: bool, past_end: bool, size: int = 6 * MIB
    ) -> None:
        """`past_end`: discards may reach beyond the end of the file. `size` is its first one."""
        self.data = bytearray()
        self._chance = random.Random(f"image {seed}")
        self._past_end = past_end
        self._size = size
        self._steps = [self._write] * 4 + [self._discard] * 3 + [self._truncate]
        self._steps += [self._zerofill] * 2 if zerofill else []

    def change(self, target: Target, times: int) -> None:
        """Change the file `times` times."""
        if not self.data:
            self.data += self._chance.randbytes(self._size)
            for offset in range(0, self._size, MIB):
                target.pwrite(bytes(self.data[offset : offset + MIB]), offset)
        for _ in range(times):
            self._chance.choice(self._steps)(target)
        target.fsync()

    def _write(self, target: Target) -> None:
        offset = self._chance.randrange(self._size // BLOCK) * BLOCK
        data = self._chance.randbytes(BLOCK)
        target.pwrite(data, offset)
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
        target.zerofill(offset, length)
        self._set(offset, bytes(length))

    def _truncate(self, target: Target) -> None:
        size = self._chance.randrange(self._size // 2, self._size * 3 // 2)
        target.ftruncate(size)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def _set(self, offset: int, data: bytes) -> None:
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data


class Worker(threading.Thread):
    """Does something again and again, for as long as a `with` block runs."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.rounds = 0

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self._work()
                self.rounds += 1
                time.sleep(0.1)  # all of it is to be healed
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        """Raise what ended it too soon, if anything did."""
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


class Load:
    """A tree of files and two images in the root of a volume; one image is changed by gfapi."""

    FILES, MOUNTED, GFAPI = "files", "mounted.img", "gfapi.img"

    def __init__(self, model: Path, seed: object, *, zerofill: bool, past_end: bool) -> None:
        self._files = Files(model, seed)
        # FUSE has no zerofill.
        self._mounted = Image(f"{seed} 1", zerofill=False, past_end=past_end)
        self._gfapi = Image(f"{seed} 2", zerofill=zerofill, past_end=past_end)

    @contextmanager
    def _works(
        self, mnt: Path, client: Client, *, keeps_links: bool = False
    ) -> Iterator[list[Callable[[int], None]]]:
        """What changes each part of it some times. Files stay open for the whole block."""
        (mnt / self.FILES).mkdir(exist_ok=True)
        with (
            MountedFile(mnt / self.MOUNTED) as mounted,
            client.creat(f"/{self.GFAPI}", os.O_RDWR) as file,
        ):
            yield [
                functools.partial(self._files.change, mnt / self.FILES, keeps_links=keeps_links),
                functools.partial(self._mounted.change, mounted),
                functools.partial(self._gfapi.change, file),
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
            works = stack.enter_context(self._works(mnt, client, keeps_links=True))
            workers = [Worker(functools.partial(work, 5)) for work in works]

            def go_on() -> None:
                before = [worker.rounds for worker in workers]
                deadline = time.monotonic() + PATIENCE
                while any(
                    worker.rounds < start + 2 for worker, start in zip(workers, before, strict=True)
                ):
                    assert time.monotonic() < deadline
                    for worker in workers:
                        worker.check()
                    time.sleep(0.05)

            with ExitStack() as threads:
                for worker in workers:
                    threads.enter_context(worker)
                yield go_on
            for worker in workers:
                worker.check()

    def check(self, mnt: Path, client: Client) -> None:
        """Compare all of it with the models, as a mount has it and as gfapi has it."""
        expected = tree(self._files.model)
        assert tree(mnt / self.FILES) == expected
        assert tree_by_gfapi(client, f"/{self.FILES}") == expected
        for name, image in {self.MOUNTED: self._mounted, self.GFAPI: self._gfapi}.items():
            assert digest((mnt / name).read_bytes()) == digest(image.data), name
            assert digest(whole(client, f"/{name}")) == digest(image.data), name
