"""What `glupy fuzz` makes of a volume's graph: how many clients there can be, what they try."""

import pytest

from glupy import stores
from glupy.testing.fuzz import Search, open_target
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd

from .leaves import PARTING, volume_on

pytestmark = pytest.mark.allow_log(*PARTING, r"\[MSGID: \d+\] \[(server-rpc-fops_v2|posix)")

CACHES = (
    *("write-behind", "quick-read", "io-cache", "read-ahead", "stat-prefetch", "open-behind"),
    *("readdir-ahead", "nl-cache"),
)
MIB = 1 << 20


def test_two_clients_of_a_volume_that_neither_caches_nor_has_shards(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker
) -> None:
    """Nothing is found by them: they see the same."""
    options = {f"performance.{each}": "off" for each in CACHES}
    with volume_on("pyposix", glusterd, store, logs, 2, "replica", "2", options=options) as volume:
        with open_target(f"volume:{volume.name}") as ground:
            assert len(ground.clients) == 2
            assert Search(ground).run(examples=5, seed=1) is None
        volume.set("features.shard", "on", "features.shard-block-size", "16MB")
        with open_target(f"volume:{volume.name}") as ground:
            assert len(ground.clients) == 1
            assert "shard keeps" in ground.promises.why["clients"]
            assert ground.boundaries == (16 * MIB, 32 * MIB)
