# SPDX-License-Identifier: MIT
"""The page "Replicas of the authority": every command on it in its order, on a real PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live.manual_page import Shell, commands
from live.safe_server import safe_server

pytestmark = [pytest.mark.live, pytest.mark.soak]

PAGE = "operations-replicas"
SYSTEMCTL = re.compile(r"systemctl (start|stop) gmesh-authority(@second)?")


@pytest.fixture
def database() -> Iterator[str]:
    with safe_server() as server:
        yield server.database()


def test_every_command_of_the_page_about_replicas(
    start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path, database: str
) -> None:
    """From a file to PostgreSQL, a second replica, backup and restore, adoption, and the way back."""
    port, second = free_port(), free_port()
    shell, daemons = Shell(tmp_path), dict[str, Any]()
    seen: dict[str, str] = {}
    shared = False

    def obey(verb: str, which: str) -> None:
        if verb == "stop":
            daemons.pop(which).stop()
            return
        state, listen = ("second", second) if which else ("net/authority", port)
        options = ["--database", database] if shared else []
        place = ["--state", tmp_path / state, "--listen", f"tcp:{listen}:interface=127.0.0.1"]
        daemons[which] = start("gmesh-authority", *place, *options)
        daemons[which].wait_for(" ready,")

    try:
        for command in commands(PAGE):
            systemctl = SYSTEMCTL.fullmatch(command)
            if systemctl is not None:
                obey(systemctl[1], systemctl[2] or "")
                continue
            assert not command.startswith("systemctl"), command
            if command.startswith("export DATABASE="):
                command = f'export DATABASE="{database}"'
            seen[command] = shell.run(command.replace("127.0.0.1:8440", f"127.0.0.1:{port}"))
            if command.startswith("gmesh database copy"):
                shared = not shared
        invites = json.loads(shell.run("gmesh admin invites --json"))
    finally:
        shell.close()
    assert [invite["name"] for invite in invites] == ["pump-1"]
    (check,) = (told for command, told in seen.items() if command.startswith("gmesh database check"))
    assert "BAD" not in check

    assert "adopted: epoch" in "".join(seen.values())
