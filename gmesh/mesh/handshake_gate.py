# SPDX-License-Identifier: MIT
"""
What strangers may cost before they are judged: sockets half open, handshakes a second.

Asked before any Diffie-Hellman; the answer is the cause of the refusal, or None.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.limits import HandshakeLimits
from gmesh.token_bucket import TokenBucket

__all__ = ["HandshakeGate", "HandshakeSlot", "address_group", "address_network"]


def address_group(host: str) -> str:
    """What counts as one stranger: an IPv4 address, or the /64 an IPv6 host may roam in."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return address.exploded[:19]
    return str(address)


def address_network(host: str) -> str:
    """The network that one owner of strangers may hold: an IPv4 /24, an IPv6 /48 (RFC 6177, section 2)."""
    try:
        address = ip_address(address_group(host))
    except ValueError:
        return address_group(host)[:14]  # of an exploded /64
    return str(address).rpartition(".")[0]


class HandshakeGate:
    """
    Counts the half-open handshakes of one node and limits the rate of new ones.

    One object for all listeners.  Groups are those of L{address_group}; C{""} (a unix socket) has no limit
    of its own.  Whoever holds many addresses is counted by L{address_network} too, and where members
    came from lately a part of the rate is theirs alone.
    """

    def __init__(self, clock: IReactorTime, limits: HandshakeLimits | None = None) -> None:
        self._clock = clock
        self._limits = held = limits or HandshakeLimits()
        self._half_open: dict[str, int] = {}
        self._slots: dict[HandshakeSlot, None] = {}
        now = clock.seconds()
        self._common = TokenBucket(held.rate, held.burst, now)
        self._reserved = TokenBucket(held.rate_of_members, held.burst_of_members, now)
        self._addresses = _Buckets(held.rate_per_address, held.burst_per_address, held.addresses)
        self._networks = _Buckets(held.rate_per_network, held.burst_per_network, held.addresses)
        self._members: OrderedDict[str, None] = OrderedDict()

    @property
    def half_open(self) -> int:
        """How many handshakes are under way."""
        return len(self._slots)

    def enter(self, slot: HandshakeSlot, group: str) -> str | None:
        """
        A connection was accepted; when there are too many, the oldest gives way.

        @return: None if it may stay (then L{leave} follows), else the cause.
        """
        if group and self._half_open.get(group, 0) >= self._limits.half_open_per_address:
            return "half-open-limit-of-address"
        if len(self._slots) >= self._limits.half_open:
            oldest = next(iter(self._slots))
            oldest.leave()
            oldest.give_way()
        self._slots[slot] = None
        self._half_open[group] = self._half_open.get(group, 0) + 1
        return None

    def leave(self, slot: HandshakeSlot, group: str) -> None:
        """The connection that entered was judged, or is gone."""
        del self._slots[slot]
        left = self._half_open[group] - 1
        if left:
            self._half_open[group] = left
        else:
            del self._half_open[group]

    def begin(self, group: str, network: str = "") -> str | None:
        """A first message came: may it cost a Diffie-Hellman? @return: None if so, else the cause."""
        now = self._clock.seconds()
        if group and not self._addresses.of(group, now).take(now):
            return "handshake-rate-of-address"
        if group in self._members:
            return None if self._reserved.take(now) or self._common.take(now) else "handshake-rate"
        if network and not self._networks.of(network, now).take(now):
            return "handshake-rate-of-network"
        return None if self._common.take(now) else "handshake-rate"

    def member(self, group: str) -> None:
        """A node of the network was judged at this address."""
        self._members[group] = None
        self._members.move_to_end(group)
        if len(self._members) > self._limits.addresses:
            self._members.popitem(last=False)


class _Buckets:
    """A bucket for each name; those asked for last are remembered."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, now: float) -> TokenBucket:
        """That of C{name}."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return bucket


class HandshakeSlot:
    """
    One accepted connection among the half-open: taken, moved when its address turns out another, left.

    @param give_way: ends the connection, to make room for a newer one.
    """

    def __init__(self, gate: HandshakeGate, give_way: Callable[[], None]) -> None:
        self.give_way = give_way
        self._gate = gate
        self._group: str | None = None
        self._network = ""

    def take(self, host: str) -> str | None:
        """The connection comes from C{host}. @return: None if it may stay, else the cause."""
        group = address_group(host)
        if group == self._group:
            return None
        self.leave()
        cause = self._gate.enter(self, group)
        if cause is None:
            self._group, self._network = group, address_network(host)
        return cause

    @property
    def group(self) -> str:
        """The address it comes from, as L{address_group} names it."""
        return self._group or ""

    def begin(self) -> str | None:
        """As L{HandshakeGate.begin}."""
        return self._gate.begin(self.group, self._network)

    def judged(self) -> None:
        """A member was judged here."""
        if self._group:
            self._gate.member(self._group)
        self.leave()

    def leave(self) -> None:
        """It was judged, or is gone. May be called twice."""
        if self._group is not None:
            self._gate.leave(self, self._group)
            self._group = None
