"""What sequences are made of: rules for names, for the bytes of open files, for xattrs."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st
from hypothesis.stateful import rule

from glupy.testing import strategies
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.machine import (
    ALIGNED,
    LONGEST,
    NAMES,
    WHOLE,
    Origin,
    Place,
    SequenceMachine,
)
from glupy.testing.fuzz.model import FileModel
from glupy.testing.strategies import KIB, create_flags, deltas, open_flags

HANDLES = 3
KEYS = "user.x", "user.x", "user.y"


class Part(NamedTuple):
    """One of two calls at once."""

    fop: str
    length: int

    def call(self, handle: int, offset: int, length: int, seed: int) -> steps.OnRange:
        match self.fop:
            case "write":
                return steps.Write(handle, offset, length, seed)
            case "read":
                return steps.Read(handle, offset, length)
            case "discard":
                return steps.Discard(handle, offset, length)
        return steps.Zerofill(handle, offset, length)


places = (
    st.builds(Place, st.just(Origin.START), st.integers(0, 15), deltas)
    | st.builds(Place, st.sampled_from(Origin), st.integers(0, 2), deltas)
    | st.just(Place(Origin.LAST, 0, 0))
)
lengths = strategies.lengths() | st.just(WHOLE)
names = strategies.names(len(NAMES))
which = st.integers(0, HANDLES - 1)
seeds = st.integers(0, 250)
later = st.booleans()
clients = st.integers(0, 1)
keys = st.sampled_from(KEYS)
xattr_calls = st.tuples(
    st.sampled_from(["set", "set", "get", "remove"]),
    strategies.xattr_flags,
    strategies.xattr_values,
)
parts = st.builds(Part, st.sampled_from(["write", "write", "read", "discard", "zerofill"]), lengths)
modes = st.sampled_from([0o600, 0o644, 0o755, 0o4711, 0o6770, 0])
owners = st.sampled_from([0, 0, 1000])
one_of_eight = st.integers(0, 7).map(lambda number: number == 7)


def on_handle(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A rule for an open file: its handle is the first argument, and what is drawn follows."""

    make_rule = cast("Callable[..., Any]", rule)(which=which, **drawn)

    def decorate(function: Callable[..., None]) -> Any:
        def act(self: SequenceMachine, which: int, **arguments: Any) -> None:
            handle = self._handle(which)
            if handle is not None:
                function(self, handle, **arguments)

        act.__name__ = function.__name__  # by which Hypothesis leaves some rules out of a sequence
        return make_rule(act)

    return decorate


class NameRules(SequenceMachine):
    """Names, and who has a file open."""

    @rule(handle=which, name=names, flags=create_flags)
    def create(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        flags &= self._flags()
        self._do(steps.Create(handle, name, flags))

    @rule(handle=which, name=names, flags=open_flags)
    def open(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        flags &= self._flags()
        self._do(steps.Open(handle, self._name(name), flags))

    def _flags(self) -> int:
        """Those that a target knows."""
        promises = self.runner.promises
        unknown = 0 if promises.appends else os.O_APPEND
        return ~(unknown | (0 if promises.truncating_opens else os.O_TRUNC))

    @rule(handle=which)
    def close(self, handle: int) -> None:
        self._free(handle)

    @rule(client=clients, old=names, new=names)
    def link(self, client: int, old: str, new: str) -> None:
        old = self._name(old)
        if self._may_take(old, new):
            self._mark(steps.Link(client, old, new))

    def _may_take(self, old: str, new: str) -> bool:
        """Whether a file can have a name more that is free."""
        file = self.runner.volume.names.get(old)
        return self.runner.promises.links_again or file is None or new not in file.taken

    @rule(client=clients, old=names, new=names)
    def rename(self, client: int, old: str, new: str) -> None:
        old, names = self._name(old), self.runner.volume.names
        if names.get(old) is names.get(new) and not self.runner.promises.same_names:
            return
        if new not in names and not self._may_take(old, new):
            return  # to cluster/distribute it may be a link
        if old in names and names[old] is not names.get(new):
            self._let_go(new, usable=self.runner.promises.replaced)
        self._mark(steps.Rename(client, old, new))

    @rule(client=clients, name=names)
    def unlink(self, client: int, name: str) -> None:
        self._let_go(name, usable=self.runner.promises.unlinked)
        self._mark(steps.Unlink(client, name))

    def _let_go(self, name: str, *, usable: bool) -> None:
        """Close a file that loses its last name, unless it is usable without.

        Or ask for its size by what it is open as, so that whoever has it stores it.
        """
        file = self.runner.volume.names.get(name)
        if (
            file is None
            or file.links > 1
            or (usable and "stat" not in self.runner.promises.old_sizes)
        ):
            return
        for number, handle in list(self.runner.volume.handles.items()):
            if handle.file is file:
                self._do(steps.Fstat(number) if usable else steps.Close(number))

    @rule(client=clients, name=names)
    def stat(self, client: int, name: str) -> None:
        self._do(steps.Stat(client, self._name(name)))

    @rule(
        client=clients,
        name=names,
        mode=modes | st.none(),
        uid=owners,
        gid=owners,
        aged=st.booleans(),
    )
    def rights(
        self, client: int, name: str, mode: int | None, uid: int, gid: int, aged: bool
    ) -> None:
        """Sometimes its times are set then, by who has it open."""
        name = self._name(name)
        if mode is None:
            self._mark(steps.Chown(client, name, uid, gid))
        else:
            self._mark(steps.Chmod(client, name, mode))
        for handle, opened in self.runner.volume.handles.items() if aged else ():
            if opened.file is self.runner.volume.names.get(name):
                self._age(handle)
                break

    @rule(client=clients, name=names, place=places)
    def truncate_path(self, client: int, name: str, place: Place) -> None:
        name = self._name(name)
        file = self.runner.volume.names.get(name)
        self._do(steps.TruncatePath(client, name, self._size(file, place) if file else 0))


class DataRules(SequenceMachine):
    """The bytes of open files."""

    @on_handle(place=places, length=lengths, seed=seeds, later=later)
    def write(self, handle: int, place: Place, length: int, seed: int, later: bool) -> None:
        offset, length = self._range(handle, place, length)
        self._do(steps.Write(handle, offset, length, seed, later=later))

    @on_handle(place=places, length=lengths, seed=seeds, pieces=st.integers(2, 4), later=later)
    def write_vector(
        self, handle: int, place: Place, length: int, seed: int, pieces: int, later: bool
    ) -> None:
        offset, length = self._range(handle, place, length)
        if self._is_direct(handle):
            pieces = 1
        self._do(steps.Write(handle, offset, length, seed, pieces, later))

    @on_handle(seed=seeds)
    def write_all(self, handle: int, seed: int) -> None:
        """Over all there is: then what goes wrong anywhere in a file shows. Whoever else has it
        open looks at it before and after that."""
        length = min(max(self._file(handle).size, 64 * KIB), LONGEST)
        length -= length % ALIGNED if self._is_direct(handle) else 0
        others = [each for each in self._open_as(handle) if each != handle]
        others = [each for each in others if not self._is_direct(each)]
        for other in others:
            self._do(steps.Read(other, 0, length))
        self._do(steps.Write(handle, 0, length, seed))
        for other in others:
            self._do(steps.Read(other, 0, length, pieces=3))

    @on_handle(place=places, length=lengths, pieces=st.sampled_from([1, 3]), later=later)
    def read(self, handle: int, place: Place, length: int, pieces: int, later: bool) -> None:
        if self._is_direct(handle):
            pieces = 1
        self._do(steps.Read(handle, *self._range(handle, place, length), pieces, later))

    @rule(client=clients, name=names, place=places, length=lengths, seed=seeds | st.none())
    def anonymous(
        self, client: int, name: str, place: Place, length: int, seed: int | None
    ) -> None:
        name = self._name(name)
        where = client, name, *self._range_by_name(name, place, length)
        if seed is None:
            self._do(steps.AnonymousRead(*where))
        else:
            self._do(steps.AnonymousWrite(*where, seed))

    @on_handle(place=places, length=lengths, later=later, before=st.booleans(), after=st.booleans())
    def discard(
        self, handle: int, place: Place, length: int, later: bool, before: bool, after: bool
    ) -> None:
        """Sometimes of what was just read, so that caches have it, and sometimes it is read then,
        with what is around it."""
        offset, length = self._offset(handle, place), self._length(length)
        flags = self.runner.volume.handles[handle].flags
        if flags & os.O_APPEND and not self.runner.promises.append_discards:
            return
        if self.runner.against is not None and not self.runner.promises.discard_ends:
            length = min(length, max(self._file(handle).size - offset, 0))  # one may grow
            if not length:
                return
        if before:
            self._do(steps.Read(handle, *self._range(handle, place, length)))
        self._do(steps.Discard(handle, offset, length, later))
        if after and not self._is_direct(handle):
            self._do(steps.Read(handle, max(offset - 1, 0), length + 2))

    @on_handle(place=places, length=lengths, later=later)
    def zerofill(self, handle: int, place: Place, length: int, later: bool) -> None:
        offset, length = self._offset(handle, place), self._length(length)
        self._do(steps.Zerofill(handle, offset, length, later))

    @on_handle(place=places, length=lengths, keep_size=st.booleans())
    def fallocate(self, handle: int, place: Place, length: int, keep_size: bool) -> None:
        offset, length = self._offset(handle, place), self._length(length)
        if self.runner.promises.far_fallocates or offset <= self._file(handle).size:
            self._mark(steps.Fallocate(handle, offset, length, keep_size))

    @on_handle(place=places, how=st.sampled_from(["discard", "later", "zerofill", "fallocate"]))
    def nothing(self, handle: int, place: Place, how: str) -> None:
        """A range without a length is nothing to discard, to zero or to allocate."""
        offset = self._offset(handle, place)
        if not self.runner.promises.empty_ranges:
            return
        if how == "zerofill":
            self._do(steps.Zerofill(handle, offset, 0))
        elif how == "fallocate":
            self._do(steps.Fallocate(handle, offset, 0))
        else:
            self._do(steps.Discard(handle, offset, 0, how == "later"))

    @on_handle(place=places, later=later)
    def truncate(self, handle: int, place: Place, later: bool) -> None:
        self._do(steps.Truncate(handle, self._size(self._file(handle), place), later))

    @on_handle(data_only=st.booleans(), later=later)
    def sync(self, handle: int, data_only: bool, later: bool) -> None:
        self._do(steps.Sync(handle, data_only, later))

    @on_handle()
    def fstat(self, handle: int) -> None:
        self._do(steps.Fstat(handle))

    @on_handle(sleep=one_of_eight)
    def age(self, handle: int, sleep: bool) -> None:
        """What sets times shows in an old mtime at once, in ctime when the clock has ticked."""
        if not sleep:
            self._age(handle)
        elif self.runner.promises.times:
            self._do(steps.Wait())

    @on_handle(place=places, hole=st.booleans())
    def seek(self, handle: int, place: Place, hole: bool) -> None:
        if self.runner.promises.seeks:
            self._do(steps.Seek(handle, self._offset(handle, place), hole))

    @on_handle(place=places, into=which, to=places, length=lengths)
    def copy(self, handle: int, place: Place, into: int, to: Place, length: int) -> None:
        target = self._handle(into)
        if not self.runner.promises.copies or target is None:
            return
        if any((handle ^ target) % len(side.clients) for side in self.runner.sides):
            return  # there is no call on files of two clients
        if self._is_direct(handle) or self._is_direct(target):
            return  # the kernel takes some, and some not
        offset, target_offset = self._offset(handle, place), self._offset(target, to)
        if not self.runner.promises.source_offsets:
            offset = 0
        self._do(steps.Copy(handle, offset, target, target_offset, self._length(length)))

    @on_handle(other=which, place=places, first=parts, second=parts, seed=seeds)
    def together(
        self, handle: int, other: int, place: Place, first: Part, second: Part, seed: int
    ) -> None:
        """Two calls on a file, by two clients if they have it: where one ends the other begins."""
        if not self.runner.promises.together or self.runner.may_fail:
            return  # and which of them did?
        file, opened = self._file(handle), self.runner.volume.handles
        name = next((n for n, f in self.runner.volume.names.items() if f is file), None)
        free = next((n for n in range(HANDLES) if n not in opened and (n ^ handle) % 2), None)
        if name is not None and free is not None and len(self._open_as(handle)) == 1:
            self._do(steps.Open(free, name, os.O_RDWR))
        same = self._open_as(handle)
        offset = self._offset(handle, place)
        calls: list[steps.OnRange] = []
        for number, part in (handle, first), (same[other % len(same)], second):
            flags = opened[number].flags & (os.O_ACCMODE | os.O_APPEND | os.O_DIRECT)
            length = self._length(part.length)
            if part.fop == "read":
                length = min(length, file.size - offset)
            if flags != os.O_RDWR or length <= 0 or part.fop in self.runner.promises.unsupported:
                return
            calls.append(part.call(number, offset, length, seed))
            offset += length
        self._do(steps.Together(*calls))


class XattrRules(SequenceMachine):
    """Extended attributes."""

    @rule(
        client=clients,
        name=names,
        key=keys,
        calls=st.lists(xattr_calls, min_size=1, max_size=3),
    )
    def xattr(self, client: int, name: str, key: str, calls: list[tuple[str, int, bytes]]) -> None:
        """Several calls on one of a file's: what it does depends on whether it is there."""
        name, names = self._name(name), self.runner.volume.names
        for what, flags, value in calls:
            if name in names and (what != "set" or flags):
                key = self._key(names[name], key)
            if what == "set":
                self._mark(steps.Setxattr(client, name, key, value, flags))
            else:
                kind = steps.Getxattr if what == "get" else steps.Removexattr
                self._do(kind(client, name, key))

    @on_handle(
        what=st.sampled_from(["set", "get", "list", "remove"]),
        key=keys,
        value=strategies.xattr_values,
        flags=strategies.xattr_flags,
    )
    def xattr_of_open(self, handle: int, what: str, key: str, value: bytes, flags: int) -> None:
        if not self.runner.promises.nameless and not self._file(handle).links:
            return
        if what == "set":
            self._mark(steps.Fsetxattr(handle, key, value, flags))
        elif what == "list":
            self._do(steps.Flistxattr(handle))
        else:
            key = self._key(self._file(handle), key)
            self._do((steps.Fgetxattr if what == "get" else steps.Fremovexattr)(handle, key))

    def _key(self, file: FileModel, key: str) -> str:
        """One that it has, most often."""
        return key if key in file.xattrs or key == KEYS[-1] else next(iter(file.xattrs), key)


RULES: tuple[type[SequenceMachine], ...] = NameRules, DataRules, XattrRules
