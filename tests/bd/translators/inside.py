"""Fops that no client of a test can send: protocol/client loses an offset of copy_file_range, and
rchecksum is heal's own."""

from glupy import Dict, Fd, Frame, Translator, fops


class Inside(Translator):
    """``fsetxattr("user.do")`` does a fop on the first page of a file: it fails as that does."""

    async def fsetxattr(
        self, frame: Frame, fd: Fd, dict: Dict, flags: int, xdata: Dict | None
    ) -> fops.Fsetxattr:
        match dict.get_bytes("user.do"):
            case b"rchecksum":
                await self.child.rchecksum(fd, 0, 4096)
            case b"copy_file_range":
                await self.child.copy_file_range(fd, 0, fd, 4096, 4096, 0)
            case _:
                return await self.child.fsetxattr(fd, dict, flags, xdata)
        return fops.Fsetxattr()
