"""The end of a sequence: all of it is looked at, and goes."""

import contextlib
import errno
import os
from pathlib import Path

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.checks import DYING, Checks
from glupy.testing.fuzz.ground import names_of
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.outcome import Mismatch, difference, not_again
from glupy.testing.fuzz.side import AnyClient, AnyFile, Side
from glupy.testing.processes import ProcessError

READ_SIZE = 1 << 20


class Ending(Checks):
    """What is left when all steps are done."""

    def verify(self) -> None:
        """Look at all there is, as a user: names, and each file's bytes, attributes and xattrs."""
        for side in self.sides:
            side.trouble.be_internal(on=False)
            side.trouble.disarm()
        try:
            with self._waiting():
                self._verify_all()
        except OSError as error:
            self._check_bricks(lost=error.errno == errno.ENOTCONN)
            raise Mismatch(f"in the end: {error}") from None
        self._check_bricks(lost=False)

    def _verify_all(self) -> None:
        for side in self.sides:
            client = side.client(0)
            found, names = names_of(client), set(self.volume.names)
            if found != names:
                raise Mismatch(f"names {sorted(found)}, not {sorted(names)}")
            for where, file in self.volume.files():
                self._verify(side, client, where, file)
        if self.against is None:
            first_is_out = self.ground.redundant and self.ground.mistrusted
            for backend in self.ground.backends[first_is_out:]:
                self._verify_backend(backend)

    def _verify(self, side: Side, client: AnyClient, where: str | int, file: FileModel) -> None:
        if isinstance(where, int):
            if self.volume.handles[where].reads:
                self._verify_bytes(side.files[where], f"file {where}", file)
            return
        opened = client.open("/" + where, os.O_RDONLY)
        try:
            self._verify_bytes(opened, where, file)
        finally:
            opened.close()
        keys = {key for key in client.listxattr("/" + where) if key.startswith(steps.USER)}
        if keys != set(file.xattrs):
            raise Mismatch(f"{where} has xattrs {sorted(keys)}, not {sorted(file.xattrs)}")
        for key, value in file.xattrs.items():
            if client.getxattr("/" + where, key) != value:
                raise Mismatch(f"{where}: xattr {key} is not {value!r}")

    def _verify_bytes(self, opened: AnyFile, where: str, file: FileModel) -> None:
        if self.against is None:
            sized = "fstat" not in self.promises.old_sizes
            self._check_attributes(file, opened.fstat(), f"{where}, at the end", sized=sized)
        for offset in range(0, file.size + 1, READ_SIZE):
            got = opened.pread(READ_SIZE, offset).value
            end = min(offset + READ_SIZE, file.size)
            if len(got) != end - offset or not file.data.startswith(got, offset):
                expected = bytes(file.data[offset:end])
                raise Mismatch(f"{where}: {difference(got, expected, offset)}")

    def _verify_backend(self, backend: Path) -> None:
        for name, file in self.volume.names.items():
            stat = (backend / name).stat()
            if wrong := file.check_backend(stat):
                raise Mismatch(f"{name}: {wrong}")
            if (found := (backend / name).read_bytes()) != file.data:
                what = difference(found, bytes(file.data))
                raise Mismatch(f"{name}: on {backend.name}: {what}")
            if file.handle is None:
                continue
            try:
                handle = (backend / ".glusterfs" / file.handle).stat()
            except FileNotFoundError:
                raise Mismatch(
                    f"{name}: on the brick its handle {file.handle} is missing"
                ) from None
            if handle.st_ino != stat.st_ino:
                raise Mismatch(f"{name}: its handle {file.handle} is another file")
        for file in self.volume.gone:
            if file.handle and (backend / ".glusterfs" / file.handle).exists():
                raise Mismatch(f"on the brick the handle {file.handle} outlives its last name")

    def clean(self) -> None:
        """Close and remove all, whatever has happened; what is kept is emptied.

        Raises Mismatch if that cannot be, or if a brick has ended by itself; the target can be used
        again all the same, unless the ground is ``spoiled``.
        """
        wrong = None
        for side in self.sides:
            side.trouble.be_internal(on=False)
            side.trouble.disarm()
            for file in side.files.values():
                with contextlib.suppress(OSError):
                    file.close()
            side.files.clear()
            try:
                self._check_bricks(lost=False)
                if side.trouble.bricks:
                    steps.Start().call(side)
                if not self.ground.readonly:
                    side.trouble.be_internal(on=self.ground.full)  # is refused nothing
                    with self._waiting():
                        self._empty(side.client(0))
            except (OSError, Mismatch, ProcessError) as error:
                lost = isinstance(error, OSError) and error.errno == errno.ENOTCONN
                wrong = side.trouble.death(DYING if lost else 0) or f"in the end: {error}"
                if isinstance(error, ProcessError):
                    wrong = not_again(error)
                self.ground.spoiled = not self._begin_anew(side)
            finally:
                side.trouble.be_internal(on=False)
        if wrong is not None:
            raise Mismatch(wrong)

    def _begin_anew(self, side: Side) -> bool:
        """Whether bricks could be emptied from below: where fops could not do it."""
        if not side.trouble.bricks:
            return False
        try:
            if not self.ground.readonly:
                side.trouble.begin_anew()
            steps.Start().call(side)
        except (OSError, ProcessError):
            return False
        return True

    def _empty(self, client: AnyClient) -> None:
        kept = set(self.ground.kept)
        for name in names_of(client):
            if name in kept:
                client.truncate("/" + name, 0)
            else:
                client.unlink("/" + name)
        if (left := names_of(client)) != kept:
            raise Mismatch(f"{sorted(left)} cannot be removed")
