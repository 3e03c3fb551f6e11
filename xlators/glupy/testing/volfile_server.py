"""What glusterd is to a client at first: it asks for a volume's graph, and gets a volfile.

For clients that take their graph from nowhere else, such as QEMU and fio, to reach a brick without
glusterd:

>>> with Brick(graph, folder) as brick, serving({"volume": brick.client_graph()}, socket):
...     stores.run("qemu-img", "info", f"gluster+unix:/volume/image?socket={socket}")
"""

import errno
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import volfiles

# GLUSTER_HNDSK_PROGRAM, GLUSTER_HNDSK_VERSION and GF_HNDSK_GETSPEC of rpc/rpc-lib/src.
_GETSPEC = 14398633, 2, 2
_REPLY, _ACCEPTED, _NO_AUTH = 1, 0, (0, 0)
_SUCCESS, _PROC_UNAVAIL = 0, 3
_LAST = 1 << 31
"""The mark of a record's last fragment (RFC 5531)."""


@contextmanager
def serving(graphs: Mapping[str, volfiles.Graph], socket: Path) -> Iterator[None]:
    """Serve the graphs of volumes by their names on a Unix socket for as long as the block runs.

    ``graphs`` may change meanwhile: whoever asks gets what it has then. A name that is not there is
    ENOENT for the client. Who may connect is up to the socket's folder.
    """
    with _Server(str(socket), _Connection) as server:
        server.graphs = graphs
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        try:
            thread.start()
            yield
        finally:
            server.shutdown()
            socket.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    graphs: Mapping[str, volfiles.Graph]
    daemon_threads = True
    block_on_close = False  # a client keeps its connection


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that ends takes it along
            self._answer_all()

    def _answer_all(self) -> None:
        while len(mark := self.rfile.read(4)) == 4:
            call = _Xdr(self.rfile.read(int.from_bytes(mark) & ~_LAST))
            xid, _, _, *procedure = (call.number() for _ in range(6))
            for _ in "credentials", "verifier":
                call.number()
                call.opaque()
            known = tuple(procedure) == _GETSPEC
            status = _SUCCESS if known else _PROC_UNAVAIL
            reply = struct.pack(">6I", xid, _REPLY, _ACCEPTED, *_NO_AUTH, status)
            if known:
                call.number()  # flags
                reply += self._spec(call.opaque().decode())
            self.wfile.write((_LAST | len(reply)).to_bytes(4) + reply)

    def _spec(self, name: str) -> bytes:
        """The gf_getspec_rsp: op_ret (the length), op_errno, the volfile, no xdata."""
        graph = self.server.graphs.get(name)
        if graph is None:
            return struct.pack(">iiII", -1, errno.ENOENT, 0, 0)
        spec = str(graph).encode()
        padding = bytes(-len(spec) % 4)
        return struct.pack(">iiI", len(spec), 0, len(spec)) + spec + padding + bytes(4)


class _Xdr:
    """Reads one after the other what a record has (RFC 4506)."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self) -> int:
        return int.from_bytes(self._take(4))

    def opaque(self) -> bytes:
        length = self.number()
        return self._take(length + -length % 4)[:length]

    def _take(self, length: int) -> bytes:
        taken, self._data = self._data[:length], self._data[length:]
        return taken
