# SPDX-License-Identifier: MIT
"""The page "Moving": every command on it in its order, and a mesh that follows while it runs."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from live.manual_page import SYSTEMCTL, Daemons, Shell, commands
from live.node_rig import ask, until

pytestmark = pytest.mark.live

PAGE = "operations-moving"


class Moving(Daemons):
    """The authority and the anchor are restarted at their next address; the authority where its state is."""

    def __init__(self, start: Callable[..., Any], directory: Path, here: dict[str, str]) -> None:
        super().__init__(start, directory, int(here["8440"]), int(here["7443"]))
        self._here = here

    def obey(self, verb: str, unit: str) -> None:
        if verb == "restart" and unit == "authority":
            self._authority = int(self._here["8450"])
        if verb == "restart" and unit == "node@b":
            self._anchor = int(self._here["7444"])
        if verb == "reload" and unit.startswith("node@"):
            daemon = self._running[unit]
            seen = len(daemon.log.splitlines())
            daemon.signal(signal.SIGHUP)
            daemon.wait_for("reload: reading", seen)
        else:
            super().obey(verb, unit)

    def _begin(self, unit: str) -> Any:
        moved = self._directory / "new-host"
        if unit == "authority" and moved.exists() and not (self._directory / "net/authority").exists():
            shutil.copytree(moved / "authority", self._directory / "net/authority", symlinks=True)
            shutil.rmtree(moved)
        return super()._begin(unit)


def test_b1_b21_the_page_about_moving(
    start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """What runs follows each move, except for what the page says to restart."""
    here = {port: str(free_port()) for port in ("8440", "8450", "7443", "7444")}
    daemons, shell = Moving(start, tmp_path, here), Shell(tmp_path)
    a, b = tmp_path / "a", tmp_path / "b"

    def status(state: Path) -> dict[str, Any]:
        value: dict[str, Any] = ask(state, "GET", "/v1/status")[1]
        return value

    def holds(version: int) -> Callable[[], bool]:
        return lambda: {status(state)["genesis_version"] for state in (a, b)} == {version}

    def linked(port: str) -> bool:
        peers = ask(a, "GET", "/v1/peers")[1]
        return [peer["address"] for peer in peers] == [f"127.0.0.1:{here[port]}"]

    def asks_at_the_new_address() -> bool:
        told = ask(b, "GET", "/v1/doctor")[1]["authority"]
        return bool(told["reachable"] and told["urls"][0] == f"http://127.0.0.1:{here['8450']}")

    def revoked() -> bool:
        return bool(status(a)["certificate"]["standing"] == "revoked")

    before: dict[str, Callable[[], bool]] = {
        "systemctl restart gmesh-authority": holds(2),
        "systemctl stop gmesh-authority": asks_at_the_new_address,
        "systemctl restart gmesh-node@b": holds(3),
        "gmesh peers --state a": lambda: linked("7444"),
        "gmesh join pump-1.invite --state a": revoked,
        "gmesh join again.invite --state a": revoked,
    }
    seen: dict[str, str] = {}
    try:
        for command in commands(PAGE):
            if command in before:
                until(before.pop(command), partial("(before {})".format, command))
            systemctl = SYSTEMCTL.fullmatch(command)
            if systemctl is not None:
                daemons.obey(systemctl[1], systemctl[2])
                continue
            assert not command.startswith("systemctl"), command
            seen[command] = shell.run(re.sub("|".join(here), lambda found: here[found[0]], command))
        until(lambda: status(a)["certificate"]["standing"] == "valid" and linked("7444"))
        nodes = json.loads(shell.run("gmesh admin nodes --json"))
    finally:
        shell.close()
    assert not before, "the page has these commands"
    assert status(a)["name"] == "pump-1"
    assert {row["name"] for row in nodes if not row["revoked"]} == {"b", "pump-1"}
    assert "A daemon runs there" in seen["gmesh join pump-1.invite --state a"]
