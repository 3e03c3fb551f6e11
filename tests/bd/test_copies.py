"""copy_file_range between plain and mapped files, without RPC: protocol/client loses an offset."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker

from .conftest import KEY, MIB


@pytest.fixture
def client(brick_dir: Path, pool: Path, tmp_path: Path, logs: LogChecker) -> Iterator[Client]:
    folder, log = brick_dir / "brick", tmp_path / "log"
    folder.mkdir()
    logs.watch(log)
    inserts = [("user/pybd", {"pool": f"loop:{pool}"})]
    graph = volfiles.leaf_graph(folder, leaf="pyposix", inserts=inserts)
    with Client(graph, log=log) as client:
        yield client


@pytest.mark.parametrize("source", ["plain", "mapped"])
@pytest.mark.parametrize("target", ["plain", "mapped"])
def test_a_copy(client: Client, source: str, target: str) -> None:
    data = bytes(range(256)) * 40  # 10,240
    with client.creat("/from") as there, client.creat("/to") as here:
        for file, kind, content in (there, source, data), (here, target, b"old" * 1000):
            file.pwrite(content, 0)
            if kind == "mapped":
                file.fsetxattr(KEY, b"thin")
        copied = there.copy_file_range(100, here, 2_000, 9_000)
        assert copied[0] == 9_000
        wanted = (b"old" * 1000)[:2_000] + data[100:9_100]
        assert here.pread(MIB, 0).value == wanted
        assert here.fstat().st_size == 11_000
        assert there.copy_file_range(10_000, here, 0, 1_000)[0] == 240  # up to its end
        assert here.pread(MIB, 0).value == data[10_000:] + wanted[240:]
        assert there.pread(MIB, 0).value == data
