# SPDX-License-Identifier: MIT
"""What the daemon dials with is what its configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from gmesh.errors import CarrierRefused, ConfigurationError
from gmesh.mesh.tls import TlsEndpoint
from gmesh.node.configuration import read_configuration
from gmesh.node.reach import carriers

STATE: dict[str, Any] = {"state": "/s"}


@pytest.mark.filterwarnings("ignore:Passing HostnameEndpoint:DeprecationWarning")  # of Twisted 24.11
def test_plain_and_tls() -> None:
    """An address says which; nothing else is needed."""
    made = carriers(MemoryReactorClock(), read_configuration(None, STATE))
    assert isinstance(made.endpoint("a.example:1"), HostnameEndpoint)
    assert isinstance(made.endpoint("tls://a.example"), TlsEndpoint)


def test_a_wrong_certificate_is_a_line_of_the_log_not_one_for_each_dial() -> None:
    """It names address and fault, and is spaced, for the other end decides how often it comes."""
    made = carriers(MemoryReactorClock(), read_configuration(None, STATE))
    with capturedLogs() as events:
        for _ in range(100):
            made.tls._warn("tls://a.example", "certificate of CN=x: it has expired")
    lines = [formatEvent(event) for event in events]
    assert "TLS at tls://a.example" in lines[0] and "CN=x: it has expired" in lines[0]
    assert len(lines) < 10


def test_options_of_tls(tmp_path: Path) -> None:
    """Pins may be written with colons; a file that holds none to trust ends the start."""
    pin = ":".join(["AB"] * 32)
    configuration = read_configuration(None, STATE | {"tls-pin": [pin], "tls-strict": True})
    assert configuration.tls_pin == ("ab" * 32,)
    assert carriers(MemoryReactorClock(), configuration).tls._strict
    with pytest.raises(ConfigurationError, match="is no pin"):
        read_configuration(None, STATE | {"tls-pin": ["ab"]})
    bad = read_configuration(None, STATE | {"tls-ca": str(tmp_path / "none.pem")})
    with pytest.raises(ConfigurationError, match=r"holds no certificates"):
        carriers(MemoryReactorClock(), bad)


def test_a_refusal_of_a_carrier_is_an_error_of_ours() -> None:
    """With a reason that C{gmesh doctor} knows."""
    assert CarrierRefused("tls-certificate", "x").reason == "tls-certificate"
