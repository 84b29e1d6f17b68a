# SPDX-License-Identifier: MIT
"""The doctor tries what is exposed, and says which port of a forward is not open."""

from __future__ import annotations

import socket
from pathlib import Path

from gmesh.cli.doctor_findings import Level
from gmesh.cli.doctor_gateways import exposures, forwards


def test_targets_are_tried(tmp_path: Path) -> None:
    """One that takes connections is well, by port and by path; one that does not fails, with why."""
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        found = exposures(
            [
                {"service": "web", "to": f"tcp:127.0.0.1:{port.getsockname()[1]}"},
                {"service": "db", "to": f"unix:{path}"},
                {"service": "ssh", "to": f"tcp:127.0.0.1:{closed}"},
                {"service": "plc", "to": f"unix:{tmp_path}/nothing"},
            ]
        )
    assert [each.level for each in found] == [Level.OK, Level.OK, Level.FAIL, Level.FAIL]
    assert "Connection refused" in found[2].detail and "ssh" in found[2].detail
    assert "No such file" in found[3].detail
    assert all(each.advice for each in found[2:])


def test_a_port_that_is_not_open_fails() -> None:
    """The daemon has tried it; what it said is passed on."""
    found = forwards(
        [
            {"listen": "tcp:2222", "to": "c:ssh", "trouble": None},
            {"listen": "tcp:22", "to": "c:ssh", "trouble": "cannot listen on tcp:22: Permission denied"},
        ]
    )
    assert [each.level for each in found] == [Level.OK, Level.FAIL]
    assert "Permission denied" in found[1].detail
