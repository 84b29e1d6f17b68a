# SPDX-License-Identifier: MIT
"""What SIGHUP puts into force: setting by setting, and the groups of the local API on a real socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs

from gmesh.daemon.listen import ListenService
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.api.access import AccessControl, Credentials, Permission
from gmesh.node.configuration import Configuration
from gmesh.node.reload import Reload, regroup
from gmesh.node.tap import UNIT

OTHER_GROUP = 61001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to a group takes root")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[ListenService]:
    """The socket of a local API."""
    made = ListenService(reactor, f"unix:{tmp_path / 'node.sock'}:mode=660", Factory(), "local API", UNIT)
    made.startService()
    yield made


def may(gate: AccessControl, group: int) -> bool:
    try:
        gate.admit(Credentials(1, 65533, frozenset({group})), Permission.READ)
    except RequestRefused:
        return False
    return True


@needs_root
async def test_another_group(local: ListenService, tmp_path: Path) -> None:
    """The socket and the gate are of the new group, and of the daemon's own when none is named any more."""
    gate, socket_file = AccessControl(), tmp_path / "node.sock"
    regroup(gate, local, Configuration(tmp_path, read_group=str(OTHER_GROUP)))
    assert socket_file.stat().st_gid == OTHER_GROUP
    assert (may(gate, OTHER_GROUP), may(gate, OTHER_GROUP + 1)) == (True, False)
    regroup(gate, local, Configuration(tmp_path))
    assert socket_file.stat().st_gid == os.getegid()
    assert may(gate, OTHER_GROUP + 1)
    await local.stopService()


async def test_a_group_that_cannot_have_it(
    local: ListenService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may ask is who might before."""

    def forbidden(path: bytes, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbidden)
    gate = AccessControl("7")
    with pytest.raises(ConfigurationError, match="Operation not permitted"):
        regroup(gate, local, Configuration(tmp_path, write_group=str(OTHER_GROUP)))
    assert (may(gate, 7), may(gate, OTHER_GROUP)) == (True, False)
    await local.stopService()


class Following:
    """A L{Reload} without a node: what it put into force, setting by setting."""

    def __init__(self) -> None:
        self.now = Configuration(Path("/s"))
        self.in_force: list[tuple[str, ...]] = []
        self.wrong: set[str] = set()
        nothing: Any = None
        self.reload = Reload(
            nothing,
            nothing,
            nothing,
            self.now,
            lambda: self.now,
            {("peer",): self._peer, ("read_group", "write_group"): self._groups},
        )

    def _peer(self, new: Configuration) -> None:
        if self.wrong:
            raise ConfigurationError("no", "it cannot be")
        self.in_force.append(new.peer)

    async def _groups(self, new: Configuration) -> None:
        self.in_force.append((new.read_group, new.write_group))

    async def told(self, **settings: Any) -> list[str]:
        return await self.reload._configure(Configuration(Path("/s"), **settings))


async def test_each_setting_by_itself() -> None:
    """One that cannot be put into force stays, is told, is tried again, and keeps no other back."""
    following = Following()
    following.wrong = {"peer"}
    with capturedLogs() as lines:
        assert await following.told(peer=("a:1",), write_group="7") == [
            "peer stays what it was: it cannot be"
        ]
    assert [event["log_level"].name for event in lines] == ["error"]
    assert following.in_force == [("", "7")]
    following.wrong = set()
    assert await following.told(peer=("a:1",), write_group="7") == []
    assert await following.told(peer=("a:1",), write_group="7") == []
    assert following.in_force == [("", "7"), ("a:1",)]


async def test_what_takes_a_restart() -> None:
    """It is told in one line each, at each reload until the restart."""
    following = Following()
    for _ in range(2):
        with capturedLogs() as lines:
            assert await following.told(stub=True, control="unix:/x") == [
                "control takes a restart",
                "stub takes a restart",
            ]
        assert [event["name"] for event in lines] == ["control", "stub"]
    assert await following.told() == []
