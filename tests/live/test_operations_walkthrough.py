# SPDX-License-Identifier: MIT
"""The page "Operations, step by step": every command on it, in its order, in a real shell."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.manual_page import SYSTEMCTL, Daemons, Shell, commands
from live.node_rig import until_time

pytestmark = pytest.mark.live

PAGE = "operations-walkthrough"
#: What cannot be as on the page in a test: the port numbers of others, and two days.
DAYS, IN_A_TEST = "--overlap 48h", "--overlap 1s"


def test_the_page_has_commands() -> None:
    """The page shows what it promises, or the next test would say nothing."""
    found = "\n".join(commands(PAGE))
    for word in (
        "genesis create", "genesis sign", "genesis verify", "genesis rotate", "init ", "admin invite ",
        "enrolments approve", "revoke", "policy publish", "policy explain", "operators add",
        "recover-operator", "audit --verify", "admin backup", "restore ", "restart",
    ):  # fmt: skip
        assert word in found


def test_walk_through(start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path) -> None:
    """Every command succeeds, and the network is what the page says it is."""
    authority, anchor = free_port(), free_port()
    daemons = Daemons(start, tmp_path, authority, anchor)
    shell = Shell(tmp_path)
    here = {"8440": str(authority), "7443": str(anchor), DAYS: IN_A_TEST}
    new_key_signs = 0.0
    seen: dict[str, str] = {}
    try:
        for command in commands(PAGE):
            systemctl = SYSTEMCTL.fullmatch(command)
            if systemctl is not None:
                daemons.obey(systemctl[1], systemctl[2])
                continue
            assert not command.startswith("systemctl"), command
            if "--drop" in command:
                until_time(new_key_signs)
            seen[command] = shell.run(re.sub("|".join(here), lambda found: here[found[0]], command))
            if DAYS in command:
                new_key_signs = time.time() + 1
        nodes = json.loads(shell.run("gmesh admin nodes --json"))
        certificates = json.loads(shell.run("gmesh admin certificates --node a --json"))
    finally:
        shell.close()
    assert {row["name"]: row["revoked"] for row in nodes} == {"a": False, "b": False, "c": False}
    assert any("has to wait" in text for text in seen.values())
    assert "may reach chat on b" in seen["gmesh admin policy explain a chat b"]
    assert certificates
