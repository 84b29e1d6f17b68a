# SPDX-License-Identifier: MIT
"""Sixty hosts behind one address come in at once: real commands, and an authority with its own limits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.conftest import Daemon, know_keys_of, warned

pytestmark = [pytest.mark.live, pytest.mark.soak]

HOSTS = 60
WITHIN = 240.0
"""Seconds, on two cores that start sixty interpreters; the limit of the authority takes five of them."""


def test_sixty_hosts_at_once(
    gmesh: Callable[..., Any], start: Callable[..., Daemon], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """As the unit of the package calls it: each ends with 0, and each is a member of its own."""
    port = free_port()
    gmesh("init", "net", "--network", "lab", "--authority-url", f"http://127.0.0.1:{port}")
    listen = f"tcp:{port}:interface=127.0.0.1"
    start("gmesh-authority", "--state", tmp_path / "net/authority", "--listen", listen).wait_for("ready")
    names = [f"pump-{number:02}" for number in range(HOSTS)]
    invites = [
        gmesh("admin", "--operator", "net/operator", "invite", "--name", name, "--role", "client").stdout
        for name in names
    ]
    began = time.monotonic()
    running = []
    for name, invite in zip(names, invites, strict=True):
        (tmp_path / f"{name}.invite").write_text(invite)
        with (tmp_path / f"{name}.invite").open("rb") as seed:
            command = [sys.executable, "-m", "gmesh.cli.main", "join", "-", "--state", name]
            running.append(
                subprocess.Popen(
                    [*command, "--timeout", "45s"],
                    cwd=tmp_path,
                    env=warned(),
                    stdin=seed,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
    ends = [process.communicate(timeout=WITHIN) for process in running]
    took = time.monotonic() - began
    know_keys_of(tmp_path)
    assert [process.returncode for process in running] == [0] * HOSTS, ends
    waited = sum("again in" in err for _, err in ends)
    listed = json.loads(gmesh("admin", "--operator", "net/operator", "nodes", "--json").stdout)
    assert sorted(row["name"] for row in listed) == names
    assert len({row["node_id"] for row in listed}) == HOSTS
    assert took < WITHIN
    assert not [err for _, err in ends if re.search("Traceback", err)]
    sys.stderr.write(f"{HOSTS} hosts in {took:.1f} s, {waited} of them waited\n")
