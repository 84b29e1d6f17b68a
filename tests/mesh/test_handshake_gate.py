# SPDX-License-Identifier: MIT
"""Who counts as one stranger, and how many strangers are remembered."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from gmesh.mesh.handshake_gate import HandshakeGate, address_group
from gmesh.mesh.limits import HandshakeLimits


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("", "", True),
    ],
)
def test_who_is_one_stranger(one, other, same):
    """An IPv4 address is one, however it is written; of IPv6 a host may use a whole /64."""
    assert (address_group(one) == address_group(other)) is same


def test_the_strangers_seen_last_are_remembered():
    """A flood of addresses is bounded in memory, and does not give the busy one its ration anew."""
    gate = HandshakeGate(
        Clock(), HandshakeLimits(burst=1e6, rate_per_address=0.001, burst_per_address=20, addresses=4)
    )
    causes = []
    for number in range(30):
        causes.append(gate.begin("busy"))
        assert gate.begin(f"once-{number}") is None
        assert len(gate._buckets) <= 4
    assert causes == [None] * 20 + ["handshake-rate-of-address"] * 10
