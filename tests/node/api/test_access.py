# SPDX-License-Identifier: MIT
"""Who may ask what of the local API: real sockets, and the credentials the kernel tells."""

from __future__ import annotations

import grp
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from gmesh.daemon.listen import ListenService
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.api.access import AccessControl, Credentials, Permission, find_group, peer_credentials
from gmesh.node.api.http import local_site
from gmesh.node.api.routes import LocalApi

READERS, WRITERS, OTHERS = 61001, 61002, 61003
STRANGER = 61000


class Node:
    """Says one thing and takes everything."""

    def status(self) -> dict[str, Any]:
        return {"name": "pump-07"}

    async def send(
        self, name: str, service: str, data: bytes, timeout: float, key: str
    ) -> tuple[float, bytes]:
        return 1.0, b""


def test_the_kernel_tells_who_connected() -> None:
    """The process, its user and all its groups; nothing of a socket that is no unix socket."""

    class Transport:
        def __init__(self, handle: socket.socket) -> None:
            self._handle = handle

        def getHandle(self) -> socket.socket:
            return self._handle

    one, other = socket.socketpair()
    with one, other, socket.socket() as tcp:
        transport = Transport(one)
        found = peer_credentials(transport)
        assert found == Credentials(os.getpid(), os.getuid(), frozenset({os.getgid(), *os.getgroups()}))
        assert peer_credentials(Transport(tcp)) is None
    assert peer_credentials(Transport(one)) is None
    assert peer_credentials(transport) == found, "it is asked once: a connection stays that of its process"
    assert peer_credentials(object()) is None


def who(*groups: int, uid: int = STRANGER) -> Credentials:
    return Credentials(1, uid, frozenset(groups))


@pytest.mark.parametrize(
    ("read", "write", "asks", "may"),
    [
        ("", "", who(OTHERS), "rw"),
        ("", "", None, "rw"),
        (READERS, "", who(READERS), "r"),
        (READERS, "", who(OTHERS), ""),
        (READERS, WRITERS, who(OTHERS, READERS), "r"),
        (READERS, WRITERS, who(WRITERS), "rw"),
        (READERS, WRITERS, who(OTHERS), ""),
        (READERS, WRITERS, who(OTHERS, uid=0), "rw"),
        (READERS, WRITERS, who(OTHERS, uid=os.geteuid()), "rw"),
        (READERS, WRITERS, None, ""),
        ("", WRITERS, who(WRITERS), "rw"),
        ("", WRITERS, who(READERS), ""),
    ],
)
def test_who_may_what(read: int | str, write: int | str, asks: Credentials | None, may: str) -> None:
    """The table of the reference, row by row."""
    gate = AccessControl(str(read), str(write))
    for access in Permission:
        if access.value[0] in may:
            gate.admit(asks, access)
        else:
            with pytest.raises(RequestRefused) as refused:
                gate.admit(asks, access)
            assert refused.value.reason == "forbidden"


def test_a_refusal_says_who_lacks_what() -> None:
    """So that the reader knows which group to join."""
    with pytest.raises(RequestRefused, match=r"uid 61000 may not write here: that takes the group 61002"):
        AccessControl("61001", "61002").admit(who(READERS), Permission.WRITE)
    with pytest.raises(RequestRefused, match=r"read here: that takes the group 61001 or 61002"):
        AccessControl("61001", "61002").admit(who(), Permission.READ)
    with pytest.raises(RequestRefused, match=r"only root and the daemon's own user may"):
        AccessControl("61001").admit(who(READERS), Permission.WRITE)


def test_groups_by_name_and_number() -> None:
    """As the host names them; an unknown one is told at start."""
    first = grp.getgrall()[0]
    assert find_group(first.gr_name) == first.gr_gid
    assert find_group("61001") == 61001
    with pytest.raises(ConfigurationError, match="there is no group 'nobody-has-this'"):
        AccessControl(write="nobody-has-this")


ASK = """
import http.client, json, os, socket, sys
path, uid, groups, method, target, body = json.loads(sys.argv[1])
if uid is not None:
    os.setgroups(groups)
    os.setgid(groups[0])
    os.setuid(uid)
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
try:
    connection.sock.connect(path)
except PermissionError:
    print(json.dumps(["no entry", None]))
    sys.exit()
other = connection.sock.dup()
connection.request(method, target, body, {"Connection": "close"})
answer = connection.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
other.recv(1)
"""

SEND = json.dumps({"node": "c", "service": "log", "data": ""})
RECEIVES = (
    "/v1/receive",
    "/v1/%72eceive",
    "/v1%2Freceive",
    "//v1/receive",
    "/%2Fv1/receive",
    "///v1//receive",
)
"""Spellings that Klein takes for one route."""


@asynccontextmanager
async def served(gate: AccessControl) -> AsyncIterator[str]:
    """
    The local API behind a gate on a real unix socket; its path.

    Not below C{tmp_path}: every pytest that starts closes the directory above it to other users.
    """
    with TemporaryDirectory(prefix="gmesh-") as directory:
        os.chmod(directory, 0o755)
        path = f"{directory}/node.sock"
        site = local_site(LocalApi(Node()).resource(), gate)  # type: ignore[arg-type]  # the parts asked for
        service = ListenService(reactor, f"unix:{path}:mode=660", site, "local API", "gmesh-node", gate.group)
        try:
            service.privilegedStartService()
            yield path
        finally:
            await service.stopService()


async def asked(path: str, uid: int | None, groups: list[int], method: str, target: str, body: Any) -> Any:
    """What a process of this user with these groups is answered; it ends when the daemon has hung up."""
    arguments = json.dumps([path, uid, groups, method, target, body])
    command = [sys.executable, "-c", ASK, arguments]
    run = await deferToThread(
        subprocess.run, command, capture_output=True, text=True, timeout=180, check=True
    )
    return json.loads(run.stdout)


async def test_own_user_may_everything() -> None:
    """Whatever groups are asked for."""
    own = str(os.getgid())
    async with served(AccessControl(own, own)) as path:
        assert await asked(path, None, [], "GET", "/v1/status", None) == [200, {"name": "pump-07"}]
        assert (await asked(path, None, [], "POST", "/v1/send", SEND))[0] == 200


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_by_his_groups() -> None:
    """A reader reads, a writer does all, a stranger does not get in; each refusal is a problem document."""
    async with served(AccessControl(str(READERS), str(WRITERS))) as path:
        assert os.stat(path).st_gid == READERS
        reader, writer = [OTHERS, READERS], [OTHERS, READERS, WRITERS]
        assert (await asked(path, STRANGER, reader, "GET", "/v1/status", None))[0] == 200
        status, problem = await asked(path, STRANGER, reader, "POST", "/v1/send", SEND)
        assert (status, problem["status"], problem["type"]) == (403, 403, "urn:gmesh:problem:forbidden")
        assert problem["detail"] == "uid 61000 may not write here: that takes the group 61002"
        for spelling in RECEIVES:
            status, _ = await asked(path, STRANGER, reader, "GET", f"{spelling}?service=log", None)
            assert status == 403, spelling
        assert (await asked(path, STRANGER, writer, "POST", "/v1/send", SEND))[0] == 200
        assert (await asked(path, STRANGER, [OTHERS], "GET", "/v1/status", None))[0] == "no entry"
        os.chmod(path, 0o666)
        assert (await asked(path, STRANGER, [OTHERS], "GET", "/v1/status", None))[0] == 403


async def test_a_group_that_is_not_ours_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line that says what to do."""

    def refused(path: bytes, user: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", refused)
    with pytest.raises(SystemExit, match=r"given to group 61001 \(Operation not permitted\): start with"):
        async with served(AccessControl(str(READERS))):
            pass
