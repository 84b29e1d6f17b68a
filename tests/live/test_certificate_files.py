# SPDX-License-Identifier: MIT
"""TLS files that are renewed under real daemons, which are told so by SIGHUP."""

from __future__ import annotations

import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority.state_files import Keys, write_state
from daemon.certificate_files import endpoint_of, write_certificate

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", ["authority", "node"])
def test_d12_a_reload_serves_the_renewed_certificate(
    start: Callable[..., Any],
    enrol: Callable[..., Path],
    free_port: Callable[[], int],
    tmp_path: Path,
    kind: str,
) -> None:
    """The authority on its port, the node on that of its numbers; what cannot be used is told."""
    port, files = free_port(), tmp_path / "tls"
    files.mkdir()
    first = write_certificate(files, "first")
    if kind == "authority":
        write_state(tmp_path / "state", Keys(), int(time.time()))
        daemon = start("gmesh-authority", "--state", "state", "--listen", endpoint_of(files, port))
    else:
        daemon = start("gmesh-node", "--state", enrol("a", "anchor"), "--metrics", endpoint_of(files, port))
    daemon.wait_for("ready,|local API on")

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=60)

    assert served() == first
    second = write_certificate(files, "second")
    seen = len(daemon.log.splitlines())
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("certificate files of ssl:.* read", seen)
    assert served() == second
    (files / "tls.key").write_text("no key\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("goes on with the certificate it has", seen)
    assert served() == second
    daemon.stop()
