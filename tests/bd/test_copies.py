"""copy_file_range between plain and mapped files, without RPC: protocol/client loses an offset."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker

from .conftest import KEY, MIB
from .mapped import SLOW


@pytest.fixture
def slow() -> str:
    """A fop that takes 100 ms below pybd."""
    return ""


@pytest.fixture
def client(
    brick_dir: Path, pool: Path, tmp_path: Path, logs: LogChecker, slow: str
) -> Iterator[Client]:
    folder, log = brick_dir / "brick", tmp_path / "log"
    folder.mkdir()
    logs.watch(log)
    inserts: list[volfiles.Insert] = [("user/pybd", {"pool": f"loop:{pool}"})]
    if slow:
        inserts.insert(0, ("features/glupy", {"module": SLOW, "fops": slow}))
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


@pytest.mark.parametrize("slow", ["readv"])
def test_a_source_that_is_mapped_meanwhile(client: Client) -> None:
    """What is read after that is not the stub's."""
    data = b"first" * 1000 + bytes(14 * MIB) + b"last" * 1000
    with client.creat("/from") as there, client.creat("/to") as here:
        there.pwrite(b"first" * 1000, 0)
        there.pwrite(b"last" * 1000, len(data) - 4000)
        here.fsetxattr(KEY, b"thin")
        with ThreadPoolExecutor() as pool:
            copying = pool.submit(there.copy_file_range, 0, here, 0, len(data))
            time.sleep(0.15)
            client.setxattr("/from", KEY, b"thin")
            assert not copying.done()
            assert copying.result(60)[0] == len(data)
        assert here.pread(16 * MIB, 0).value == data


@pytest.mark.parametrize("kinds", ["plain plain", "mapped plain", "plain mapped", "mapped mapped"])
def test_edges(client: Client, kinds: str) -> None:
    """As the kernel has it of plain files."""
    data = bytes(range(250)) * 40  # 10,000
    with client.creat("/from") as there, client.creat("/to") as here:
        for file, kind in zip((there, here), kinds.split(), strict=True):
            file.pwrite(data, 0)
            if kind == "mapped":
                file.fsetxattr(KEY, b"thin")
        assert there.copy_file_range(0, here, 0, 0)[0] == 0
        assert there.copy_file_range(10_000, here, 0, 100)[0] == 0
        assert there.copy_file_range(20_000, here, 30_000, 100)[0] == 0
        assert here.fstat().st_size == 10_000
        for overlapping in 0, 1, 4_999:
            with pytest.raises(OSError, match="Errno"):  # libgfapi loses its errno
                there.copy_file_range(0, there, overlapping, 5_000)
        assert there.copy_file_range(0, there, 5_000, 5_000)[0] == 5_000
        assert there.copy_file_range(0, there, 10_000, 100_000)[0] == 10_000
        assert there.pread(MIB, 0).value == 2 * (data[:5_000] * 2)
        assert here.pread(MIB, 0).value == data
