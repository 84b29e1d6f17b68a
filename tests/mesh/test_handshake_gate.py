# SPDX-License-Identifier: MIT
"""Who counts as one stranger, and how many strangers are remembered."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from gmesh.mesh.handshake_gate import HandshakeGate, address_group, address_network
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
        assert len(gate._addresses) <= 4
    assert causes == [None] * 20 + ["handshake-rate-of-address"] * 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.9", True),
        ("2001:db8:0:1::1", "2001:db8:0:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:1:1::1", False),
    ],
)
def test_who_is_one_network(one, other, same):
    """An IPv4 /24, an IPv6 /48."""
    assert (address_network(one) == address_network(other)) is same


def asked(gate, clock, hosts, seconds, each):
    """How often each of these, who ask so often a second, is let through."""
    passed = dict.fromkeys(hosts, 0)
    asking = [(host, address_group(host), address_network(host)) for host in hosts]
    for _ in range(seconds):
        for _ in range(each):
            for host, group, network in asking:
                passed[host] += gate.begin(group, network) is None
        clock.advance(1)
    return passed


def test_c13_an_owner_of_many_addresses_leaves_half_to_others():
    """Sixty /64 of one /48 at their limit; a new node elsewhere gets in whenever it asks."""
    clock = Clock()
    gate = HandshakeGate(clock)
    flood = [f"2001:db8:0:{number:x}::1" for number in range(60)]
    asked(gate, clock, flood, 60, 20)
    passed = asked(gate, clock, [*flood, "198.51.100.7"], 30, 20)
    assert passed["198.51.100.7"] == 600
    assert sum(passed.values()) - 600 <= 30 * 100 + 200


def test_c13_members_that_come_back_get_in_through_any_flood():
    """From everywhere, as often as it likes: where members were judged lately there is room for them."""
    clock = Clock()
    gate = HandshakeGate(clock)
    gate.member(address_group("198.51.100.7"))
    flood = [f"10.{number}.0.1" for number in range(250)]
    asked(gate, clock, flood, 20, 2)
    passed = asked(gate, clock, [*flood, "198.51.100.7"], 20, 2)
    assert passed["198.51.100.7"] == 40
    assert sum(passed.values()) < 0.6 * 20 * 2 * 250


def test_members_remembered_are_bounded():
    """The address seen longest ago goes first."""
    gate = HandshakeGate(Clock(), HandshakeLimits(addresses=3))
    for number in range(5):
        gate.member(f"192.0.2.{number}")
    assert list(gate._members) == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
