"""A translator that counts what GlusterFS tells it beside fops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from glupy import Client, Fd, Translator


class Told(Translator):
    """Its statedump has how often it was told what, and of which client last."""

    def init(self) -> None:
        """Begin to count."""
        names = "client_disconnect", "client_destroy", "fdclose", "fdclosedir"
        self.told = Counter(dict.fromkeys(names, 0))
        self.clients: dict[str, str | None] = {}

    def client_disconnect(self, client: Client) -> None:
        self._of_client("client_disconnect", client)

    def client_destroy(self, client: Client) -> None:
        self._of_client("client_destroy", client)

    def _of_client(self, what: str, client: Client) -> None:
        self.told[what] += 1
        self.clients[f"{what} of"] = client.uid

    def fdclose(self, fd: Fd) -> None:
        assert not fd.anonymous
        self.told["fdclose"] += 1

    def fdclosedir(self, fd: Fd) -> None:
        self.told["fdclosedir"] += 1

    def dump_priv(self) -> Mapping[str, object]:
        return {**self.told, **self.clients}
