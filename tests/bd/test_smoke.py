import time
from typing import Any

import pytest

from .conftest import KEY, MIB


@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_smoke(client: Any, pool: Any, backend: Any, leaf: str) -> None:
    f = client.creat("/f")
    f.pwrite(b"x" * 10000, 0)
    client.setxattr("/f", KEY, b"thin:3MB")
    assert client.stat("/f").st_size == 3 * MIB
    got = f.pread(20000, 0).value
    print(len(got), got.count(b"x"), got.rindex(b"x"))
    assert got == b"x" * 10000 + bytes(10000)
    print(f.fstat().st_blocks, list(pool.iterdir()))
    f.pwrite(b"y" * MIB, MIB)
    f.fsync()
    print(f.fstat())
    assert f.fstat().st_blocks >= 2048
    f.discard(MIB + 5, MIB - 10)
    print(f.fstat())
    assert f.fstat().st_blocks < 100
    assert f.pread(MIB, MIB).value == b"y" * 5 + bytes(MIB - 10) + b"y" * 5
    f.ftruncate(5 * MIB + 3)
    f.pwrite(b"z" * 10, 5 * MIB)
    assert f.fstat().st_size == 5 * MIB + 10
    f.close()
    assert KEY not in client.listxattr("/f")
    print(client.getxattr("/f", KEY))
    client.removexattr("/f", KEY)
    assert not list(pool.iterdir())
    with client.open("/f") as f:
        assert f.pread(MIB, MIB).value == b"y" * 5 + bytes(MIB - 10) + b"y" * 5
        assert f.pread(100, 5 * MIB).value == b"z" * 10
    client.setxattr("/f", KEY, b"thin")
    assert len(list(pool.iterdir())) == 1
    client.unlink("/f")

    time.sleep(0.3)
    assert not list(pool.iterdir())
