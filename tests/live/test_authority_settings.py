# SPDX-License-Identifier: MIT
"""What a real authority takes from its configuration file and its keys, and what it says of a reload."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority.state_files import Keys, write_state

pytestmark = pytest.mark.live


def test_b6_a_reload_says_that_credentials_stay(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd a new key takes a restart, and the line of the reload says so; else it does not."""
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    write_state(state, Keys(), int(time.time()))
    credentials.mkdir()
    for given in (False, True):
        if given:
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
            (state / "authority.key").rename(credentials / "authority_authority.key")
        daemon = start("gmesh-authority", "--state", state, "--listen", "tcp:0:interface=127.0.0.1")
        daemon.wait_for("ready,")
        daemon.signal(signal.SIGHUP)
        number = daemon.wait_for("reloaded: 1 signing keys")
        line = daemon.log.splitlines()[number - 1]
        assert ("a new one takes a restart" in line) == given
        daemon.stop()


def test_b22_the_authority_runs_from_its_file(start: Callable[..., Any], tmp_path: Path) -> None:
    """All that it needs stands there; a reload names what takes a restart."""
    write_state(tmp_path / "state", Keys(), int(time.time()))
    file = tmp_path / "authority.toml"
    text = 'state = "state"\nlisten = ["tcp:0:interface=127.0.0.1"]\nlog_format = "json"\n'
    file.write_text(text)
    daemon = start("gmesh-authority", "--config", file)
    daemon.wait_for("ready,")
    assert '{"' in daemon.log
    file.write_text(text + "connections = 3\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("reload: connections stays what it was: restart the authority to change it")
    daemon.stop()
