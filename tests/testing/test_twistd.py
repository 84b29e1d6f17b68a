# SPDX-License-Identifier: MIT
"""How a daemon is started: with this gmesh, in the foreground, without the user's settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gmesh.testing.twistd import environment, start_twistd, twistd


def test_environment_of_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon finds this gmesh, whatever the working directory, and none of the user's GMESH_ settings."""
    monkeypatch.setenv("GMESH_STATE", "/elsewhere")
    code = "import os, gmesh; print(gmesh.__file__, [n for n in os.environ if n.startswith('GMESH')])"
    log = tmp_path / "log"
    with log.open("wb") as output:
        assert start_twistd((), tmp_path, output, command=(sys.executable, "-c", code)).wait(180) == 0
    assert log.read_text() == f"{Path(sys.modules['gmesh'].__file__ or '').resolve()} []\n"


def test_the_paths_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has put on PYTHONPATH is found, after this gmesh; more can be set."""
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    ours = str(Path(sys.modules["gmesh"].__file__ or "").resolve().parents[1])
    assert environment(ZONE="9") == environment() | {"ZONE": "9"}
    assert environment()["PYTHONPATH"] == f"{ours}:/theirs"


def test_a_daemon_runs_what_it_is_told_to_run_first(tmp_path: Path) -> None:
    """twistd is in the foreground and knows both daemons; Python may run before it, in its process."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = twistd("print('before', flush=True)")
        assert start_twistd(["--help"], tmp_path, output, command=command).wait(180) == 0
    first, *rest = log.read_text().splitlines()
    assert first == "before"
    assert {"gmesh-node", "gmesh-authority"} <= {line.split()[0] for line in rest if line.split()}
    assert [path.name for path in tmp_path.iterdir()] == ["log"], "no pid file"
