"""What happens to bricks and stores (`glupy.testing.fuzz.trouble` does it)."""

import errno
import time
from dataclasses import dataclass

from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import base
from glupy.testing.fuzz.steps.base import Plan, Step


@dataclass(frozen=True)
class Kill(Step):
    """SIGKILL for a brick: the first, where others have the same; else all of them."""

    modifies = False

    def plan(self, volume: VolumeModel) -> Plan:
        def change() -> None:
            for _, file in volume.files():
                if not file.stored:
                    file.forget_times("mtime", "ctime")
                    file.since.clear()

        return Plan() if volume.promises.lasting_times else Plan(change=change)

    def call(self, side: Side) -> None:
        side.trouble.kill()


@dataclass(frozen=True)
class Start(Step):
    """What was killed is started again, and clients can use it."""

    modifies = False

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        deadline = time.monotonic() + base.PATIENCE
        while True:
            side.trouble.start()  # one may be found to have ended as late as this
            if side.answers():
                return
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.01)


@dataclass(frozen=True)
class Inject(Step):
    """The next call fails with this errno if it comes to this fop, on the bricks of `Kill`."""

    modifies = False

    fop_name: str
    number: int = errno.EIO

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.inject(self.fop_name, self.number)

    def arguments(self) -> str:
        return f"{errno.errorcode[self.number]} for {self.fop_name}"


@dataclass(frozen=True)
class AsInternal(Step):
    """From here on calls are a GlusterFS process's, as those of heal are: no reserve binds them."""

    modifies = False

    on: bool

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.be_internal(self.on)
