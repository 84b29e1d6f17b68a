# SPDX-License-Identifier: MIT
"""
Our own record: what we say of our links, when, and under which sequence.

A neighbour keeps its place in its fragment while the link lives, so one change re-signs one
fragment.  A lost link is advertised at once while the burst lasts; a link that comes back soon after
it was lost must hold for a while first, unless it is the only one.  (A link without a history is
advertised at once: a fresh start has nothing to damp, spacing joins what comes up together.)

All fragments together have a rate in the long run, half of what other nodes take of one origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Protocol

from gmesh.errors import FrameRefused
from gmesh.routing.limits import (
    DOWN_BURST,
    DOWN_RATE,
    FIRST_DELAY,
    FLAP_MEMORY,
    LIFETIME,
    MAX_CAPABILITIES,
    MAX_FRAGMENTS,
    MAX_RECORD_LINKS,
    MAX_SEQUENCE,
    OWN_ANCHOR_RECORDS,
    OWN_RECORDS,
    REFRESH,
    REFRESH_SPREAD,
    SPACING_EVEN,
    SPACING_FIRST,
    SPACING_MAX,
    SPACING_QUIET,
    UP_STABLE,
)
from gmesh.routing.record import NodeRecord, RecordFlag, signing_input
from gmesh.routing.spacing import Spacing
from gmesh.token_bucket import TokenBucket

__all__ = ["Originator", "Signer"]


class Signer(Protocol):
    """As L{gmesh.interfaces.ISigner}: what a record needs of it."""

    @property
    def public(self) -> bytes:
        """Raw Ed25519 public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        ...


@dataclass(slots=True)
class _Link:
    cost: int
    fragment: int
    announce_at: float


@dataclass(slots=True)
class _Fragment:
    spacing: Spacing
    due: float | None = None
    refresh_at: float | None = None
    neighbours: set[bytes] = field(default_factory=set)


class Originator:
    """
    Own links in, own records out.

    @param sequence: the last one used, as persisted; persist L{Originator.sequence} behind each origination.
    @ivar network_id: the network of the records.
    @ivar unlisted: links that found no place in any fragment.
    """

    def __init__(
        self,
        network_id: bytes,
        signer: Signer,
        serial: Callable[[], int],
        random: Random,
        flags: RecordFlag,
        sequence: int = 0,
        now: float = 0.0,
    ) -> None:
        self.sequence = sequence
        self.unlisted = 0
        self.network_id = network_id
        self._signer = signer
        self._serial = serial
        self._random = random
        self._flags = flags
        self._capabilities: tuple[tuple[int, bytes], ...] = ()
        self._links: dict[bytes, _Link] = {}
        self._lost: dict[bytes, tuple[float, int]] = {}
        self._downs = TokenBucket(DOWN_RATE, DOWN_BURST, now)
        self._fragments: dict[int, _Fragment] = {}
        self._rate = OWN_ANCHOR_RECORDS if flags & RecordFlag.ANCHOR else OWN_RECORDS
        self._booked = now
        self._change(0, now)

    @property
    def public(self) -> bytes:
        """Raw Ed25519 public key that the records are signed with."""
        return self._signer.public

    @property
    def flags(self) -> RecordFlag:
        """What we say we are."""
        return self._flags

    @property
    def links(self) -> dict[bytes, int]:
        """Cost of every live link, announced or not yet."""
        return {handle: link.cost for handle, link in self._links.items()}

    def set_flags(self, flags: RecordFlag, now: float) -> None:
        """Advertise these flags at once: a node about to leave cannot wait for the spacing."""
        if flags != self._flags:
            self._flags = flags
            self._change(0, now)
            self._fragments[0].due = now
            self._booked -= 1 / self._rate.rate

    def set_capabilities(self, capabilities: tuple[tuple[int, bytes], ...], now: float) -> None:
        """
        Say from now on that we offer this.

        @raise FrameRefused: C{bad-capability}, when they would not fit beside a full list of links.
        """
        if sum(2 + len(value) for _, value in capabilities) > MAX_CAPABILITIES:
            raise FrameRefused("bad-capability", f"addresses and services exceed {MAX_CAPABILITIES} bytes")
        if capabilities != self._capabilities:
            self._capabilities = capabilities
            self._change(0, now)

    def sign_again(self, now: float) -> None:
        """Our certificate was renewed or our clock set: every record names the one and bears the other."""
        for index in list(self._fragments):
            self._change(index, now)

    def link_up(self, handle: bytes, cost: int, now: float) -> None:
        """A link exists."""
        if handle in self._links:
            self.set_cost(handle, cost, now)
            return
        lost = self._lost.get(handle)
        flapping = lost is not None and now - lost[0] < FLAP_MEMORY and bool(self._links)
        announce_at = now + UP_STABLE if flapping else now
        index = self._place()
        self._links[handle] = _Link(cost, index, announce_at)
        if index < 0:
            self.unlisted += 1
            return
        self._change(index, announce_at)
        self._fragments[index].neighbours.add(handle)

    def link_down(self, handle: bytes, now: float) -> None:
        """A link is gone."""
        link = self._links.pop(handle, None)
        if link is None:
            return
        self._remember(handle, link.fragment, now)
        if link.fragment < 0:
            self.unlisted -= 1
            return
        fragment = self._fragments[link.fragment]
        fragment.neighbours.discard(handle)
        self._change(link.fragment, now)
        if self._downs.take(now):
            fragment.due = now
        if len(self._links) == 1:
            self._hurry(next(iter(self._links)), now)

    def set_cost(self, handle: bytes, cost: int, now: float) -> None:
        """A link costs something else now."""
        link = self._links.get(handle)
        if link is not None and link.cost != cost:
            link.cost = cost
            if link.fragment >= 0:
                self._change(link.fragment, max(now, link.announce_at))

    def heard_own(self, fragment: int, sequence: int, now: float) -> None:
        """A valid record of ours with this sequence is about, which we do not remember: go above it."""
        if sequence >= MAX_SEQUENCE:
            return
        self.sequence = max(self.sequence, sequence)
        self._change(fragment, now)

    def next_due(self) -> float | None:
        """When L{originate} has something to do."""
        times = [
            when
            for item in self._fragments.values()
            for when in (item.due, item.refresh_at)
            if when is not None
        ]
        return max(min(times), self._free_at) if times else None

    @property
    def _free_at(self) -> float:
        """
        When one more record may be signed.

        Each books its share of time: the virtual scheduling of ITU-T I.371, which needs no rounding.
        """
        return self._booked - (self._rate.burst - 1) / self._rate.rate

    def originate(self, now: float, wall: float) -> list[NodeRecord]:
        """Sign every fragment that is due, as many as the rate allows: those that wait longest first."""
        waiting = sorted(
            (min(when for when in (item.due, item.refresh_at, inf) if when is not None), index)
            for index, item in self._fragments.items()
        )
        records = []
        for due, index in waiting:
            if due > now or self._free_at > now:
                break
            records.append(self._sign(index, self._fragments[index], now, wall))
        return records

    def _sign(self, index: int, item: _Fragment, now: float, wall: float) -> NodeRecord:
        self._booked = max(self._booked, now) + 1 / self._rate.rate
        self.sequence = min(max(self.sequence + 1, int(wall) << 20), MAX_SEQUENCE)
        links = []
        later: list[float] = []
        for handle in sorted(item.neighbours):
            link = self._links[handle]
            if link.announce_at <= now:
                links.append((handle, link.cost))
            else:
                later.append(link.announce_at)
        record = NodeRecord(
            network_id=self.network_id,
            node_key=self._signer.public,
            serial=self._serial(),
            fragment=index,
            sequence=self.sequence,
            issued_at=int(wall),
            lifetime=LIFETIME,
            flags=self._flags if index == 0 else RecordFlag(0),
            links=tuple(links),
            capabilities=self._capabilities if index == 0 else (),
        )
        if self._links or item.refresh_at is not None:  # a first record without links reaches no node
            item.spacing.acted(now)
        item.due = None
        for when in later:
            self._change(index, when)
        spread = self._random.uniform(-REFRESH_SPREAD, REFRESH_SPREAD)
        item.refresh_at = now + REFRESH + spread if index == 0 or item.neighbours else None
        return replace(record, signature=self._signer.sign(signing_input(record.encode_unsigned())))

    def fragment_of(self, handle: bytes) -> int:
        """Where a link is, or lately was, listed; 0 when that is not known."""
        link = self._links.get(handle)
        if link is not None:
            return max(link.fragment, 0)
        return max(self._lost.get(handle, (0.0, 0))[1], 0)

    def _remember(self, handle: bytes, fragment: int, now: float) -> None:
        self._lost.pop(handle, None)
        self._lost[handle] = (now, fragment)
        for key in list(self._lost):
            if now - self._lost[key][0] < FLAP_MEMORY:
                break
            del self._lost[key]

    def _place(self) -> int:
        most = MAX_FRAGMENTS if self._flags & RecordFlag.ANCHOR else 1
        for index in range(most):
            item = self._fragments.get(index)
            if item is None or len(item.neighbours) < MAX_RECORD_LINKS:
                return index
        return -1

    def _change(self, index: int, when: float) -> None:
        item = self._fragments.get(index)
        if item is None:
            spacing = Spacing(FIRST_DELAY, SPACING_FIRST, SPACING_EVEN, SPACING_MAX, SPACING_QUIET)
            item = self._fragments[index] = _Fragment(spacing)
        ready = item.spacing.ready_at(when)
        item.due = ready if item.due is None else min(item.due, ready)

    def _hurry(self, handle: bytes, now: float) -> None:
        link = self._links[handle]
        if link.announce_at > now and link.fragment >= 0:
            link.announce_at = now
            self._change(link.fragment, now)
