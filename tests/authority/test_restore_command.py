# SPDX-License-Identifier: MIT
"""C{gmesh restore}: it shows what it would do, and asks when other people may operate afterwards."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority.theft import Theft

from gmesh.cli import recovery
from gmesh.cli.main import main
from gmesh.trust.documents import Crl, Policy, Status

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def restoring(theft: Theft, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """An operator was removed after the backup; gives what runs the command on the stopped authority."""
    network = theft.network
    network.admin("DELETE", f"/admin/operators/{network.keys.operator.key_id}")
    network.admin("POST", "/admin/revocations", {"node": "pump-1"})
    network.clock.advance(2)
    files = [theft.held(kind) for kind in (Crl, Policy, Status)]
    network.stop()
    monkeypatch.setattr(recovery.time, "time", lambda: network.wall())
    monkeypatch.setattr(recovery.time, "sleep", network.clock.advance)

    def run(*options: str, typed: str | None = None) -> tuple[int, str, str]:
        stdin = io.StringIO(typed or "")
        stdin.isatty = lambda: typed is not None  # type: ignore[method-assign]  # a terminal, if somebody types
        monkeypatch.setattr(sys, "stdin", stdin)
        given = [
            word
            for name, path in zip(("crl", "policy", "status"), files, strict=True)
            for word in (f"--{name}", str(path))
        ]
        place = [] if network.engine is None else ["--database", network.engine._dsn]
        with pytest.raises(SystemExit) as ended:
            main(["restore", str(theft.backup), "--state", str(network.path), *place, *given, *options])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    yield run
    network.start()
    assert network.admin("GET", "/admin/operators").status == 200  # signed at once


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.iterdir() if file.is_file()}


def test_a_dry_run_shows_all_and_changes_nothing(theft: Theft, restoring: Command) -> None:
    """What would be taken in, which rows are borne out, who could operate; as text and as JSON."""
    before = contents(theft.network.path)
    code, out, _ = restoring("--dry-run")
    assert code == 0 and out.startswith("would be restored: epoch 744, 1 revocations taken in")
    assert "taken in: pump-1\n" in out and ": 3 rows after the backup, 3 borne out by heads of nodes" in out
    assert (
        out.count(theft.network.keys.operator.key_id) == 1 and out.count(theft.network.keys.admin.key_id) == 2
    )
    code, out, _ = restoring("--dry-run", "--json")
    told = json.loads(out)
    assert (code, told["taken_in"], told["lost"]) == (0, ["pump-1"], [])
    assert contents(theft.network.path) == before


def test_a2_other_operators_are_confirmed(theft: Theft, restoring: Command) -> None:
    """Without a terminal only with --yes; at one by hand, and no is no."""
    before = contents(theft.network.path)
    code, out, err = restoring()
    assert code == 1 and "give --yes" in err and "operators from now on:" in out
    code, out, err = restoring("--json")
    assert (code, out) == (1, "") and "give --yes" in err
    code, _, err = restoring(typed="n\n")
    assert code == 1 and "nothing was changed" in err
    assert contents(theft.network.path) == before
    code, out, _ = restoring(typed="y\n")
    assert code == 0 and out.endswith("restored\n")
    assert contents(theft.network.path) != before


def test_a24_a_fresh_host_is_told_what_it_does_not_know(theft: Theft, restoring: Command) -> None:
    """Without database, audit and epoch.json."""
    theft.network.lose_database()
    (theft.network.path / "audit.jsonl").unlink()
    code, out, _ = restoring("--yes")
    assert code == 0 and "nothing here tells of earlier restores: numbers of this epoch begin above " in out
    code, out, _ = restoring("--yes")
    assert code == 0 and "nothing here tells" not in out
