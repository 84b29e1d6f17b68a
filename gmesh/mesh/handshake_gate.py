# SPDX-License-Identifier: MIT
"""
What strangers may cost before they are judged: sockets half open, handshakes a second.

Asked before any Diffie-Hellman; the answer is the cause of the refusal, or None.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.limits import HandshakeLimits
from gmesh.token_bucket import TokenBucket

__all__ = ["HandshakeGate", "HandshakeSlot", "address_group"]


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


class HandshakeGate:
    """
    Counts the half-open handshakes of one node and limits the rate of new ones.

    One object for all listeners.  The groups are those of L{address_group}; C{""} (a unix
    socket) has no limit of its own.
    """

    def __init__(self, clock: IReactorTime, limits: HandshakeLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or HandshakeLimits()
        self._half_open: dict[str, int] = {}
        self._total = 0
        self._bucket = TokenBucket(self._limits.rate, self._limits.burst, clock.seconds())
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @property
    def half_open(self) -> int:
        """How many handshakes are under way."""
        return self._total

    def enter(self, group: str) -> str | None:
        """A connection was accepted. @return: None if it may stay (then L{leave} follows), else the cause."""
        if self._total >= self._limits.half_open:
            return "half-open-limit"
        if group and self._half_open.get(group, 0) >= self._limits.half_open_per_address:
            return "half-open-limit-of-address"
        self._total += 1
        self._half_open[group] = self._half_open.get(group, 0) + 1
        return None

    def leave(self, group: str) -> None:
        """The connection that entered was judged, or is gone."""
        self._total -= 1
        left = self._half_open[group] - 1
        if left:
            self._half_open[group] = left
        else:
            del self._half_open[group]

    def begin(self, group: str) -> str | None:
        """A first message came: may it cost a Diffie-Hellman? @return: None if so, else the cause."""
        now = self._clock.seconds()
        if group:
            bucket = self._buckets.get(group)
            if bucket is None:
                bucket = TokenBucket(self._limits.rate_per_address, self._limits.burst_per_address, now)
                self._buckets[group] = bucket
                if len(self._buckets) > self._limits.addresses:
                    self._buckets.popitem(last=False)
            self._buckets.move_to_end(group)
            if not bucket.take(now):
                return "handshake-rate-of-address"
        if not self._bucket.take(now):
            return "handshake-rate"
        return None


class HandshakeSlot:
    """One accepted connection among the half-open: taken, moved when its address turns out another, left."""

    def __init__(self, gate: HandshakeGate) -> None:
        self._gate = gate
        self._group: str | None = None

    def take(self, host: str) -> str | None:
        """The connection comes from C{host}. @return: None if it may stay, else the cause."""
        group = address_group(host)
        if group == self._group:
            return None
        self.leave()
        cause = self._gate.enter(group)
        if cause is None:
            self._group = group
        return cause

    def begin(self) -> str | None:
        """As L{HandshakeGate.begin}."""
        return self._gate.begin(self._group or "")

    def leave(self) -> None:
        """It was judged, or is gone. May be called twice."""
        if self._group is not None:
            self._gate.leave(self._group)
            self._group = None
