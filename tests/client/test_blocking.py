# SPDX-License-Identifier: MIT
"""L{gmesh.client.blocking}: a socket for programs without Twisted."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import HOST, PEER, FakeDaemon, fields, problem
from twisted.internet.threads import deferToThread

from gmesh.client.blocking import SocketRefused, open_socket

CONNECTED = f"HTTP/1.1 200 Connected\r\n{fields(peer=PEER, host=HOST)}\r\n".encode()


@pytest.mark.parametrize("cut", [1, 20, len(CONNECTED) - 2, len(CONNECTED), len(CONNECTED) + 3])
@pytest_twisted.ensureDeferred
async def test_what_is_behind_the_answer_is_the_streams(daemon: FakeDaemon, cut: int) -> None:
    """However it arrives; and a half-close is one."""
    opening = deferToThread(open_socket, "pump-07.gmesh", "web", daemon.path)
    seat = await daemon.asked()
    assert seat.head[0] == "CONNECT pump-07:web HTTP/1.1"
    answer = CONNECTED + b"hello"
    seat.say(answer[:cut])
    await deferToThread(lambda: None)
    seat.say(answer[cut:])
    opened: socket.socket = await opening
    with opened:
        assert opened.gettimeout() is None
        assert await deferToThread(opened.recv, 5, socket.MSG_WAITALL) == b"hello"
        opened.sendall(b"bye")
        opened.shutdown(socket.SHUT_WR)
        await daemon.until(lambda: seat.closed)
    assert seat.body == b"bye"


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_an_error_of_the_operating_systems_kind(daemon: FakeDaemon) -> None:
    opening = deferToThread(open_socket, "pump-07", "web", daemon.path)
    (await daemon.asked()).say(problem(403, "denied", "rule 3 forbids it"))
    with pytest.raises(ConnectionError) as caught:
        await opening
    assert isinstance(caught.value, SocketRefused)
    assert (caught.value.reason, str(caught.value)) == ("denied", "rule 3 forbids it")


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n", b"x" * 20_000])
@pytest_twisted.ensureDeferred
async def test_who_does_not_answer_is_no_daemon(daemon: FakeDaemon, octets: bytes) -> None:
    opening = deferToThread(open_socket, "pump-07", "web", daemon.path)
    seat = await daemon.asked()
    seat.say(octets)
    seat.close()
    with pytest.raises(SocketRefused) as caught:
        await opening
    assert caught.value.reason == "bad-answer"


@pytest_twisted.ensureDeferred
async def test_it_waits_so_long_and_no_longer(daemon: FakeDaemon) -> None:
    with pytest.raises(TimeoutError):
        await deferToThread(open_socket, "pump-07", "web", daemon.path, 0.05)


def test_it_waits_its_turn_where_too_many_wait(tmp_path: Any) -> None:
    path = f"{tmp_path}/busy.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        with pytest.raises(TimeoutError, match="too many wait"):
            open_socket("pump-07", "web", path, 0.1)


def test_without_a_daemon_it_is_an_error_of_files(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        open_socket("pump-07", "web", f"{tmp_path}/none.sock")
