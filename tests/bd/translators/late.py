"""Replies that are late: in the meantime others see what they tell of."""

from typing import Any

from glupy import Frame, Option, Translator, fops, sleep
from glupy.views import Loc


class Late(Translator):
    """Keeps the replies of some fops back for a while."""

    options = (
        Option("fops", str, description="Names with commas."),
        Option("milliseconds", int, default=1000, description="How long."),
    )

    def init(self) -> None:
        self.late = frozenset(self.option("fops").split(","))


def _handler(name: str) -> Any:
    async def handler(self: Late, frame: Frame, *arguments: Any) -> Any:
        reply = await getattr(self.child, name)(*arguments)
        about = arguments[0]
        if name in self.late and not (isinstance(about, Loc) and about.path == "/"):
            await sleep(self.option("milliseconds") / 1000)
        return reply

    return handler


for _name in fops.TABLE:
    setattr(Late, _name, _handler(_name))
