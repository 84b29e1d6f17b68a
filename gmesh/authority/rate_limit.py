# SPDX-License-Identifier: MIT
"""
Token buckets by address, key and invite, in tables that cannot grow.

An address is charged for what nobody known has signed, and for what turns out bad; a good signature of a
known key is charged to that key alone, so that no noise from its address can keep it out.
Tests: C{tests/authority/test_rate_limit.py}, C{tests/authority/test_noise.py}.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache

from gmesh.authority import limits
from gmesh.authority.problems import ProblemWithMembers
from gmesh.token_bucket import TokenBucket

__all__ = ["Buckets", "RateLimited", "RateLimiter", "RateLimits", "RequestRate", "Toll", "address_key"]


@dataclass(frozen=True, slots=True)
class RequestRate:
    """So many at once, so many each minute."""

    burst: int
    per_minute: float

    def __str__(self) -> str:
        return f"{self.per_minute:g}/{self.burst}"

    @classmethod
    def parse(cls, text: str) -> RequestRate:
        """C{PER_MINUTE} or C{PER_MINUTE/BURST}."""
        per_minute, _, burst = text.partition("/")
        try:
            rate = cls(int(burst or per_minute), float(per_minute))
        except ValueError:
            raise ValueError("must be PER_MINUTE or PER_MINUTE/BURST, for example 600/100") from None
        if rate.burst < 1 or not 0 < rate.per_minute < 1e9:
            raise ValueError("must be positive")
        return rate


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What one address and one key may do; roll-outs behind one address raise the first."""

    address: RequestRate = field(default_factory=lambda: RequestRate(200, 1200))
    key: RequestRate = field(default_factory=lambda: RequestRate(60, 300))
    failures: RequestRate = field(default_factory=lambda: RequestRate(10, 10))


class Buckets:
    """
    One rate for many names.

    @param seconds: monotonic time.
    @param capacity: names remembered; the least recently used is forgotten first.
    @ivar evicted: how many were forgotten.
    """

    def __init__(self, rate: RequestRate, seconds: Callable[[], float], capacity: int) -> None:
        self._rate = rate
        self._seconds = seconds
        self._capacity = capacity
        self._table: OrderedDict[Hashable, TokenBucket] = OrderedDict()
        self.evicted = 0

    def wait(self, name: Hashable) -> float:
        """Seconds until C{name} may go on; 0 now."""
        bucket = self._table.get(name)
        return 0.0 if bucket is None else bucket.wait(self._seconds())

    def take(self, name: Hashable) -> float:
        """Charge one. @return: 0, or the seconds to wait, and then nothing is charged."""
        now = self._seconds()
        bucket = self._table.get(name)
        if bucket is None:
            bucket = self._table[name] = TokenBucket(self._rate.per_minute / 60, self._rate.burst, now)
            if len(self._table) > self._capacity:
                self._table.popitem(last=False)
                self.evicted += 1
        else:
            self._table.move_to_end(name)
        return 0.0 if bucket.take(now) else bucket.wait(now)

    def full(self, name: Hashable) -> bool:
        """Whether nothing was charged to C{name} lately."""
        bucket = self._table.get(name)
        return bucket is None or bucket.full(self._seconds())

    def __len__(self) -> int:
        return len(self._table)


class RateLimiter:
    """What the server asks before it works on a request."""

    def __init__(self, rates: RateLimits, seconds: Callable[[], float]) -> None:
        self.addresses = Buckets(rates.address, seconds, limits.ADDRESSES_REMEMBERED)
        self.joins = Buckets(rates.address, seconds, limits.ADDRESSES_REMEMBERED)
        self.keys = Buckets(rates.key, seconds, limits.KEYS_REMEMBERED)
        self.failed_addresses = Buckets(rates.failures, seconds, limits.ADDRESSES_REMEMBERED)
        self.failed_invites = Buckets(rates.failures, seconds, limits.KEYS_REMEMBERED)
        self.refused = 0

    def charge_address(self, address: str) -> int:
        """Charge an address. @return: 0, or the seconds to wait, and then nothing is charged."""
        waiting = self.addresses.take(address)
        if waiting:
            self.refused += 1
        return math.ceil(waiting)

    def admit_join(self, address: str) -> None:
        """Charge an address for a join, for which other noise from there leaves room."""
        self._refuse_if(self.joins.take(address))

    def admit_invite(self, address: str, invite: str) -> None:
        """Before an invite is looked up: one that failed too often is C{rate-limited}."""
        self._refuse_if(self.failed_invites.wait((invite, address)))

    def admit_key(self, key_id: str) -> None:
        """Charge a key whose signature was good. @raise RateLimited: C{rate-limited}."""
        self._refuse_if(self.keys.take(key_id))

    def failed(self, address: str) -> None:
        """Count something bad. @raise RateLimited: for one of too many, and for nothing else."""
        self._refuse_if(self.failed_addresses.take(address))

    def invite_failed(self, address: str, invite: str) -> None:
        """Count a refused invite: against itself, and the first time against its address too."""
        if self.failed_invites.full((invite, address)):
            self.failed_addresses.take(address)
        self.failed_invites.take((invite, address))

    @property
    def evicted(self) -> int:
        """How many names were forgotten to make room."""
        tables = (self.addresses, self.joins, self.keys, self.failed_addresses, self.failed_invites)
        return sum(table.evicted for table in tables)

    def _refuse_if(self, waiting: float) -> None:
        if waiting:
            self.refused += 1
            raise RateLimited(math.ceil(waiting))


class Toll:
    """
    What a request costs the address it came from: nothing while it seems good, and at most one token.

    @ivar address: of the client.
    """

    __slots__ = ("_limiter", "_paid", "address")

    def __init__(self, limiter: RateLimiter, address: str) -> None:
        self.address = address
        self._limiter = limiter
        self._paid = False

    def charge(self) -> int:
        """Charge the address, unless that was done. @return: 0, or the seconds to wait."""
        if self._paid:
            return 0
        self._paid = True
        return self._limiter.charge_address(self.address)

    def pay(self) -> None:
        """The same. @raise RateLimited: when the address has nothing left."""
        waiting = self.charge()
        if waiting:
            raise RateLimited(waiting)


class RateLimited(ProblemWithMembers):
    """
    Too much from one address or key.

    @param retry_after: seconds.
    """

    def __init__(self, retry_after: int, what: str = "too many requests") -> None:
        super().__init__("rate-limited", f"{what}: wait {retry_after} s", retry_after=retry_after)
        self.retry_after = retry_after


@lru_cache(maxsize=limits.ADDRESSES_REMEMBERED // 16)
def address_key(host: str) -> str:
    """The name of an address in the table: itself, or its /64 for IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
