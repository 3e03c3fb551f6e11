"""Devices that nobody has any more."""

from __future__ import annotations

import contextlib

from pybd import identity
from pybd.by_gfid import ByGfid
from pybd.files import File

_ROOT_SECONDS = 0.5
_CLOSED_SECONDS = 5.0


class Orphans(ByGfid):
    """Removes the devices of files that are gone, and reports what nobody has recorded."""

    def lost(self, file: File) -> None:
        """The last name of a file is gone: remove its device, or look again later.

        Nobody tells when an anonymous fd is given back. No inode is held meanwhile; with the last
        of a file ``forget`` removes its device.
        """
        file.gone = True
        self._reclaim_once_closed(file)

    def _reclaim_once_closed(self, file: File) -> None:
        if not self._is_open(file):
            self.spawn(self.reclaim(file))
            return
        if file.watched:
            return
        file.watched = True

        def again(translator: Orphans) -> None:
            file.watched = False
            if file.gone:
                translator._reclaim_once_closed(file)

        self.call_later(_CLOSED_SECONDS, again)

    def _is_open(self, file: File) -> bool:
        root = self.root
        inode = root.find(file.gfid) if root is not None else None
        return inode is not None and inode.active_fd_count > 0

    async def reclaim(self, file: File) -> None:
        """The last name of a file is gone, and nobody uses it: remove its device.

        Once that is on the disk, or a power cut would bring back the file, and not what was in it.
        Until then it may get a name again, which takes ``gone`` back. Who comes meanwhile shares
        the next sync with all who do.
        """
        if not file.mapped or not file.gone:
            return  # done, or it has a name again
        self._to_reclaim.append(file)
        async with self._reclaiming:
            waiting, self._to_reclaim = self._to_reclaim, []
            # Ours, too: it may have been added to a list that another had taken.
            files = [each for each in {file, *waiting} if each.mapped and each.gone]
            names = [self.identity.name(each.gfid) for each in files]
            if names and self._is_on_disk(names):
                for each in files:
                    if await self._is_unused(each) and self._drop(each):
                        self._remove_owned(self.identity.name(each.gfid))

    async def _is_unused(self, file: File) -> bool:
        """Look again, after the sync: an open may have been on its way as the last name went, and
        heal may have given it one since."""
        if self.root is None:
            return True  # all of it ends
        if self._is_open(file):
            self._reclaim_once_closed(file)
            return False
        try:
            is_mapped = await self._state_of(file.gfid)
        except OSError as error:
            self._left_for_later([self.identity.name(file.gfid)], error)
            return False
        if is_mapped:
            file.gone = False
        return not is_mapped

    async def replace(self, file: File) -> bool:
        """Another file has a removed one's gfid: nobody finds this one any more, and its device is
        removed once that is on the disk. False: it is left for later.

        Until then it is half a device, which a kill leaves as nobody's, not as the new file's.
        """
        file.gone = True
        name, half = self.identity.name(file.gfid), self.identity.half(file.gfid)
        async with file.resizing:  # who has it open may be about to resize what has this name
            if not self._drop(file):
                return True
            try:
                if self.pool.find(name) is None:
                    return True  # it was lost
                self.pool.remove(half)  # of an attempt that was killed
                self.pool.rename(name, half)
            except OSError as error:
                self._left_for_later([name], error)
                return False
        async with self._reclaiming:
            return self._is_on_disk([half]) and self._remove_device(half)

    def _drop(self, file: File) -> bool:
        """A file is gone: it is none of the mapped ones any more. False: it has a name again."""
        with file.gate.alone():
            if not file.mapped or not file.gone:
                return False
            file.mapped = False
            file.device = None
        self.files.drop(file)
        return True

    def _is_on_disk(self, names: list[str]) -> bool:
        """Have it on the disk that files are gone; False leaves their devices, by name, for
        later: ``forget``, or ``patrol`` once nobody knows the file any more."""
        try:
            self.sync_brick()
        except OSError as error:
            self._left_for_later(names, error)
            return False
        return True

    def _remove_owned(self, name: str) -> None:
        with contextlib.suppress(OSError):  # `patrol` will see
            known = self.pool.find(name)
            if known is not None and known.tag == self.identity.tag:
                self._remove_device(name)

    def _remove_device(self, name: str) -> bool:
        try:
            self.pool.remove(name)
        except OSError as error:
            self._left_for_later([name], error)
            return False
        return True

    def _left_for_later(self, names: list[str], error: OSError) -> None:
        for name in names:
            self.log.warning("device %s is left for later: %s", name, error.strerror)

    async def patrol(self) -> None:
        """Look for devices without files at the start, and now and again.

        posix purges files by itself: what was open when the brick ended (unlink/), and trees that
        rmdir has moved to landfill/.
        """
        if self.root is None:  # until the first client comes
            self._patrol_later(_ROOT_SECONDS)
            return
        try:
            await self.look_for_orphans()
        except OSError as error:
            self.log.warning("devices cannot be looked through: %s", error.strerror or error)
        self._patrol_later(self.option("reclaim-interval"))

    def _patrol_later(self, seconds: float) -> None:
        self.call_later(seconds, lambda translator: translator.spawn(translator.patrol()))

    async def look_for_orphans(self) -> list[str]:
        """Remove devices whose file is gone; report those whose file is there but not mapped.

        Return the names of those that are reported.
        """
        reported, lost = [], []
        for known in self.pool.devices():
            name = identity.parse(known.name)
            if name is None or known.tag != self.identity.tag:
                continue
            if self.identity.brick != name.brick:
                continue
            file = self.files.find(name.gfid)
            if file is not None and name.half:
                await self._name_whole(file, known.name)
                continue
            if file is not None and file.gone:
                self._reclaim_once_closed(file)  # if that has failed before
                continue
            if self._closing:
                break
            state = await self._state_of(name.gfid)
            if file is not None and state is not None:
                continue
            if file is None and self.files.find(name.gfid) is not None:
                continue  # mapped meanwhile
            if state is None:
                lost.append((known.name, name.gfid, file))
            elif name.half and not state:
                self.give_up(name.gfid)
                self.log.info("device %s removed: it never was its file's", known.name)
            elif name.half:
                with contextlib.suppress(OSError):  # told of
                    _, found = await self._mapped_by_gfid(name.gfid)  # that ends a merge
                    if found is not None:
                        await self._name_whole(found, known.name)
            elif not state:
                reported.append(known.name)
                self.say_once(
                    known.name,
                    "device %s: its file is not mapped to it; it is kept "
                    "(glupy pool remove --device removes it)",
                    known.name,
                )
        if not lost:
            return reported
        # Of a brick that was restored without .glusterfs, or has lost a handle, posix finds files
        # by their names only.
        there = {gfid for _, gfid in self._mapped_names()}
        async with self._reclaiming:
            if not self._is_on_disk([device for device, *_ in lost]):
                return reported
            for device, gfid, file in lost:
                if self._closing:
                    break
                if gfid in there:
                    reported.append(device)
                    self.say_once(
                        device,
                        "device %s: its file is there, but has no handle in .glusterfs; it is kept "
                        "(glupy brick check --repair makes handles)",
                        device,
                    )
                elif self.files.find(gfid) is not file or await self._state_of(gfid) is not None:
                    continue  # it is there again: heal makes files with the gfids that they had
                elif file is not None:
                    self.lost(file)
                elif self._remove_device(device):
                    self.log.info("device %s removed: its file is gone", device)
        return reported

    async def _name_whole(self, file: File, half: str) -> None:
        """A command that outlived a killed brick may have given a device its half form since."""
        async with file.resizing:
            if not file.mapped or file.merging or self.pool.find(half) is None:
                return  # of a merge it says how far that has come
            whole = self.identity.name(file.gfid)
            if self.pool.find(whole) is None:
                self.pool.rename(half, whole)
            else:
                self._remove_device(half)
