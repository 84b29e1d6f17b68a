# SPDX-License-Identifier: MIT
"""An authority whose signing key is sealed: it starts when it is given the pass phrase, and not else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live


def test_sealed_authority_key(
    gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Without the pass phrase the start ends with one line; with --passphrase-file the daemon works."""
    port = free_port()
    phrase = tmp_path / "phrase"
    phrase.touch(0o600)
    phrase.write_text("correct horse battery staple\n")
    gmesh("init", "net", "--network", "lab", "--authority-url", f"http://127.0.0.1:{port}")
    gmesh("key", "protect", "net/authority/authority.key", "--passphrase-file", phrase)
    options = ("--state", tmp_path / "net/authority", "--listen", f"tcp:{port}:interface=127.0.0.1")
    closed = start("gmesh-authority", *options)
    assert closed.wait() == 1
    assert "--passphrase-file" in closed.log and "Traceback" not in closed.log
    start("gmesh-authority", *options, "--passphrase-file", phrase).wait_for("ready")
    invited = gmesh("admin", "--operator", "net/operator", "invite", "--name", "a", "--role", "client")
    assert invited.stdout.startswith("gmesh-invite:")
