# SPDX-License-Identifier: MIT
"""What stands between a daemon and its database, and breaks as a network does."""

from __future__ import annotations

import contextlib
import queue
import shutil
import socket
import tempfile
import threading
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
_FIELDS = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0"
FULL = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS
"""What a server says that has no room (ErrorResponse, PostgreSQL's manual, "Message Formats")."""


class Proxy:
    """
    A socket of its own in front of a server's.

    @param server: the directory of the server's socket.
    @ivar plan: what happens next: C{""} nothing, C{gone} nobody gets through, C{begin} the next group is
        cut off before it begins, C{before} as its commit is sent, C{after} when that is done, C{hang} nothing
        is passed on any more, C{full} there is no room for another connection.
    @ivar hung: gets an item for each piece that is swallowed.
    """

    def __init__(self, server: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxy"))
        self.directory.chmod(0o755)
        self.plan = ""
        self.hung: queue.Queue[bytes] = queue.Queue()
        self._server = server / SOCKET
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / SOCKET))
        self._listener.listen()
        self._start(self._accept)

    def url(self, url: str) -> str:
        """As C{url}, through here."""
        return url.replace(str(self._server.parent), str(self.directory))

    def go(self) -> None:
        """Nobody gets through from now on."""
        self.plan = "gone"
        self._cut(*(one for pair in self._pairs for one in pair))

    def close(self) -> None:
        self._cut(self._listener)
        self._threads[0].join()  # nobody comes any more
        self.go()
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *(one for pair in self._pairs for one in pair)):
            one.close()
        shutil.rmtree(self.directory)

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]  # called so
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.plan == "gone":
                client.close()
                continue
            if self.plan == "full":
                client.recv(65536)
                client.sendall(FULL)
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._pairs.append((client, server))
            lost = threading.Event()
            self._start(self._asks, client, server, lost)
            self._start(self._answers, client, server, lost)

    def _asks(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        deciding = False
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                deciding = deciding or b"FOR UPDATE" in data
                if self.plan == "hang":
                    self.hung.put(data)
                    continue
                if self.plan == "begin" and b"FOR UPDATE" in data:
                    break
                if deciding and self.plan in ("before", "after") and b"COMMIT\0" in data:
                    if self.plan == "before":
                        break
                    self.plan = ""
                    lost.set()
                server.sendall(data)
        if self.plan in ("begin", "before"):
            self.plan = ""
        self._cut(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lost.is_set():
                    break
                client.sendall(data)
        self._cut(client, server)

    def _cut(self, *ends: socket.socket) -> None:
        for one in ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
