"""Statedumps read back."""

import pytest

from glupy.testing.statedump import Statedump

DUMP = """DUMP-START-TIME: 2026-01-02 03:04:05.000006 +0000
[Warning]:None of the options matched key : path

[mempool]
-----=-----
pool-name=fd_t
xlator-name=brick-server
active-count=2
-----=-----
pool-name=dict_t
xlator-name=glusterfs
active-count=7

[global.callpool]
callpool_address=0x55802e1dc758
callpool.cnt=3

[brick-posix.latency]
brick-posix.latency.READ=AVG:19319.000000 CNT:2 TOTAL:38638 MIN:16525 MAX:22113
brick-posix.latency.DISCARD=AVG:17920.970765 CNT:4002 TOTAL:71719725 MIN:8482 MAX:15083010

[conn.1]
ref=1
[conn.1]
ref=2

DUMP-END-TIME: 2026-01-02 03:04:05.000007 +0000"""


def test_statedump() -> None:
    dump = Statedump.parse(DUMP)
    assert dump.pending_calls == 3
    assert dump.calls("brick-posix") == {"READ": 2, "DISCARD": 4002}
    assert dump.pools == {("brick-server", "fd_t"): 2, ("glusterfs", "dict_t"): 7}
    assert "conn.1" in dump and "conn.2" not in dump
    assert dump["conn.1"] == {"ref": "1"}
    assert [str(section) for section in dump.sections[-2:]] == [
        "[conn.1]\nref=1",
        "[conn.1]\nref=2",
    ]
    with pytest.raises(KeyError):
        dump["conn.2"]
